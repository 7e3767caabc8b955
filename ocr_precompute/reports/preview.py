"""Pictures of stored samples: image with its polygons and the four label maps; contact sheets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ocr_precompute.errors import StoreError
from ocr_precompute.files import replace_file, safe_name, writing
from ocr_precompute.images.pictures import outlined, png_bytes
from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import open_store
from ocr_precompute.reports.contact import ON_A_SHEET, sheet, tile
from ocr_precompute.samples import CanonicalSample
from ocr_precompute.storage.seam import Storage


def render(sample: CanonicalSample) -> np.ndarray:
    """One picture of a sample, uint8 (H, 5 W, 3) BGR.

    From left to right: image with polygons (don't-care in red), prob, prob_mask, thresh,
    thresh_mask.
    """
    picture = outlined(sample.image, sample.polygons, sample.ignore)
    maps = [
        sample.prob * 255,
        sample.prob_mask * 255,
        sample.thresh * 255,
        sample.thresh_mask * 255,
    ]
    grey = [cv2.cvtColor(m.astype(np.uint8), cv2.COLOR_GRAY2BGR) for m in maps]
    return np.hstack([picture, *grey])


@dataclass(frozen=True)
class Previews:
    """Files that were written: a picture for each sample, and contact sheets of them."""

    pictures: tuple[Path, ...]
    sheets: tuple[Path, ...]


def write_previews(
    store: Storage,
    split_name: str,
    out: Path,
    count: int,
    names: list[str],
    told: Callable[[str, int, int], None] = lambda *_: None,
) -> Previews:
    """Write one PNG for each sample into the folder out, and contact sheets, samples in order.

    names: which samples; if none are given, count samples spread over the split. told: hears how
    far it is.
    Raises StoreError for an unknown split or sample, or if a picture cannot be written.
    """
    split = open_store(store).split(split_name)
    chosen = chosen_samples(split, count, names)
    pictures: list[Path] = []
    sheets: list[Path] = []
    tiles: list[np.ndarray] = []
    for done, index in enumerate(chosen, 1):
        sample = split[index]
        pictures.append(out / f"{index:06d}-{safe_name(sample.name)}.png")
        _write(pictures[-1], render(sample))
        tiles.append(tile(sample))
        if len(tiles) == ON_A_SHEET or done == len(chosen):
            sheets.append(out / f"contact-sheet-{len(sheets) + 1:03d}.png")
            _write(sheets[-1], sheet(tiles))
            tiles.clear()
        told("drawing", done, len(chosen))
    return Previews(tuple(pictures), tuple(sheets))


def _write(path: Path, picture: np.ndarray) -> None:
    with writing(path):
        replace_file(path, png_bytes(picture))


def chosen_samples(split: Split, count: int, names: list[str]) -> list[int]:
    """Numbers of the samples of those names; if none are given, of count samples spread over it.

    Raises StoreError for an unknown name.
    """
    if not names:
        spread = np.linspace(0, len(split) - 1, min(count, len(split)))
        return [int(index) for index in spread.round()]
    places = {name: index for index, name in enumerate(split.names)}
    unknown = [name for name in names if name not in places]
    if unknown:
        raise StoreError(f"no sample {unknown[0]!r} in this split; `inspect` shows its size")
    return [places[name] for name in names]
