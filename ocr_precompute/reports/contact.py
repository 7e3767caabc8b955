"""Contact sheets: many samples on one picture, each with its name, padding cut off."""

from __future__ import annotations

import cv2
import numpy as np

from ocr_precompute.errors import printable
from ocr_precompute.images.decoding import fitted_size
from ocr_precompute.images.pictures import outlined
from ocr_precompute.samples import CanonicalSample, Fate

COLUMNS, ON_A_SHEET = 5, 60
_SIDE, _CAPTION, _GAP = 300, 52, 20  # pixels: of a tile, of the text below it, between tiles
_PAPER, _INK, _QUIET = (246, 246, 244), (30, 30, 30), (110, 110, 105)  # BGR
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def tile(sample: CanonicalSample) -> np.ndarray:
    """A sample and its caption, uint8 (_SIDE + _CAPTION, _SIDE, 3) BGR.

    Text that trains is outlined in green, don't-care and what else does not train in red.
    """
    height, width = fitted_size(sample.original_size, sample.image.shape[:2])
    scale = min(_SIDE / height, _SIDE / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    content = cv2.resize(sample.image[:height, :width], size, interpolation=method)
    idle = sample.fate != Fate.TRAINS
    picture = outlined(content, [polygon * scale for polygon in sample.polygons], idle)
    made = np.full((_SIDE + _CAPTION, _SIDE, 3), _PAPER, np.uint8)
    top = _SIDE - size[1]
    made[top:_SIDE, : size[0]] = picture
    _write(made, fitted_text(printable(sample.name), 0.5), _SIDE + 20, 0.5, _INK)
    _write(made, _counts(idle), _SIDE + 40, 0.42, _QUIET)
    return made


def sheet(tiles: list[np.ndarray]) -> np.ndarray:
    """Tiles in rows of COLUMNS, uint8 (H, W, 3) BGR. tiles: of one size, at least one."""
    height, width = tiles[0].shape[:2]
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    shape = (rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3)
    made = np.full(shape, _PAPER, np.uint8)
    for number, each in enumerate(tiles):
        row, column = divmod(number, columns)
        top, left = _GAP + row * (height + _GAP), _GAP + column * (width + _GAP)
        made[top : top + height, left : left + width] = each
    return made


def fitted_text(text: str, size: float) -> str:
    """The text as far as it fits below a tile: its beginning and its end.

    Letters that the font does not have become question marks.
    """
    text = text.encode("ascii", "replace").decode()[-1000:]
    kept = len(text)
    shown = text
    while kept > 4 and cv2.getTextSize(shown, _FONT, size, 1)[0][0] > _SIDE:
        kept -= 1
        shown = f"{text[: kept // 2]}...{text[len(text) - (kept + 1) // 2 :]}"
    return shown


def _counts(idle: np.ndarray) -> str:
    polygons = f"{len(idle)} polygon" + "s" * (len(idle) != 1)
    count = int(np.count_nonzero(idle))
    return f"{polygons}, {count} don't-care or not trained" if count else polygons


def _write(picture: np.ndarray, text: str, y: int, size: float, ink: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, (0, y), _FONT, size, ink, 1, cv2.LINE_AA)
