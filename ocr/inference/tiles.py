"""Large pages by tiles that overlap: one probability map, put together from their middles.

Regions are found once in the whole map, so text that lies across the border of two tiles is one
region as any other. To merge the polygons of tiles instead would have to guess which halves belong
together, and each half would have been scored and dilated by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from ocr.inference.description import MULTIPLE
from ocr_precompute.images.decoding import fit_scale

Network = Callable[[np.ndarray], np.ndarray]
"""Probability maps, float32 (B, H, W) in 0 to 1, of images, uint8 (B, H, W, 3) RGB; H and W are
multiples of MULTIPLE."""

Tile = int | Literal["auto"] | None
"""Side, in pixels of the picture, of the square that a tile shows; none for no tiles; or auto."""

_TRIM = 64  # to what sizes are rounded up, as `data.trim` does by itself
_OVERLAP = 4  # of a tile's side, one part in so many
_LONG = 3.0  # times as long as a page of the canonical size's shape: then auto makes tiles
_WIDTH = 0.5  # share of the canonical size that its short side then fills: see docs/using.md


class Span(NamedTuple):
    """A tile along one axis, in pixels: it shows start to stop, of which first to last is kept."""

    start: int
    stop: int
    first: int
    last: int


def check_tile(tile: Tile) -> None:
    """Raises ValueError if there are no such tiles."""
    if tile is None or tile == "auto":
        return
    if isinstance(tile, bool) or not isinstance(tile, int) or tile < MULTIPLE:
        raise ValueError(
            f"tile is {tile!r}; it must be a number of pixels, at least {MULTIPLE}, or auto, or "
            "null for none"
        )


def tile_scale(original_size: tuple[int, int], size: tuple[int, int], tile: Tile) -> float | None:
    """Factor from a picture to what tiles of it show; None if it is looked at as a whole.

    original_size: (height, width) of the picture. size: canonical (H, W). A picture is looked at as
    a whole if it fits into one tile.
    """
    whole = fit_scale(original_size, size)
    if tile == "auto":
        filling = max(size[0] / original_size[0], size[1] / original_size[1])
        return _WIDTH * filling if filling > _LONG * whole else None
    scale = 0.0 if tile is None else fit_scale((tile, tile), size)
    return scale if scale > whole else None


def probabilities(image: np.ndarray, network: Network, size: tuple[int, int]) -> np.ndarray:
    """The network's probability map, float32 (h, w), of an image, uint8 (h, w, 3) RGB.

    size: as of `padded`.
    """
    height, width = image.shape[:2]
    return network(padded(image, size))[0, :height, :width]


def padded(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A batch of an image alone, uint8 (1, H, W, 3) RGB, as a network takes it.

    image: uint8 (h, w, 3) RGB. size: canonical (H, W), which it fits into. It is padded with black
    at the right and at the bottom, as a canonical image is, but no further than `data.trim` would.
    """
    height, width = image.shape[:2]
    batch = np.zeros((1, _rounded(height, size[0]), _rounded(width, size[1]), 3), np.uint8)
    batch[0, :height, :width] = image
    return batch


def _rounded(side: int, most: int) -> int:
    return min(-(-side // _TRIM) * _TRIM, -(-most // MULTIPLE) * MULTIPLE)


def stitched(page: np.ndarray, network: Network, size: tuple[int, int]) -> np.ndarray:
    """The probability map of a large page, uint8 (h, w) in 0 to 255.

    page: uint8 (h, w, 3) RGB, at the scale of the tiles. size: canonical (H, W), that of a tile.
    Tiles overlap by a quarter of their side. Each pixel is taken from the tile in whose middle it
    lies, an eighth of the side or more from any border but the page's: there the network sees as
    much around it as it needs. A tile's map is let go before the next is made.
    """
    height, width = page.shape[:2]
    whole = np.empty((height, width), np.uint8)
    sides = _tile_side(size[0]), _tile_side(size[1])
    for rows in spans(height, sides[0]):
        for columns in spans(width, sides[1]):
            whole[rows.first : rows.last, columns.first : columns.last] = _levels(
                page, network, rows, columns, sides
            )
    return whole


def _levels(
    page: np.ndarray, network: Network, rows: Span, columns: Span, sides: tuple[int, int]
) -> np.ndarray:
    """What is kept of a tile's map, uint8."""
    tile = page[rows.start : rows.stop, columns.start : columns.stop]
    kept = probabilities(tile, network, sides)[
        rows.first - rows.start : rows.last - rows.start,
        columns.first - columns.start : columns.last - columns.start,
    ]
    levels: np.ndarray = np.rint(255 * np.clip(np.nan_to_num(kept), 0, 1)).astype(np.uint8)
    return levels


def spans(length: int, side: int) -> list[Span]:
    """The tiles along an axis of so many pixels, in order.

    side: of a tile, a multiple of MULTIPLE, at least two. They begin at such multiples too, so that
    all see the same grid, and what they keep follows upon each other without a gap.
    """
    overlap = max(MULTIPLE, side // _OVERLAP // MULTIPLE * MULTIPLE)
    step = side - overlap
    count = max(1, -(-(length - overlap) // step))
    last = count - 1
    return [
        Span(
            start=number * step,
            stop=min(number * step + side, length),
            first=number * step + overlap // 2 if number else 0,
            last=(number + 1) * step + overlap // 2 if number < last else length,
        )
        for number in range(count)
    ]


def _tile_side(side: int) -> int:
    """Of a tile, by that of the canonical size: the largest that the network need not pad."""
    return max(2 * MULTIPLE, side // MULTIPLE * MULTIPLE)
