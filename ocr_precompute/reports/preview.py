"""Pictures of stored samples: image with its polygons, and the four label maps beside it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ocr_precompute.errors import StoreError
from ocr_precompute.files import safe_name, writing
from ocr_precompute.images.pictures import outlined, png_bytes
from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import open_store
from ocr_precompute.samples import CanonicalSample


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


def write_previews(
    store: Path, split_name: str, out: Path, count: int, names: list[str]
) -> list[Path]:
    """Write one PNG a sample into the folder out, and return their paths.

    names: which samples; if none are given, count samples spread over the split.
    Raises StoreError for an unknown split or sample, or if a picture cannot be written.
    """
    split = open_store(store).split(split_name)
    written = []
    for index in chosen_samples(split, count, names):
        sample = split[index]
        path = out / f"{index:06d}-{safe_name(sample.name)}.png"
        with writing(path):
            out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png_bytes(render(sample)))
        written.append(path)
    return written


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
