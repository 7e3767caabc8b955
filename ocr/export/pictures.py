"""Pictures on which an exported model is compared with its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ocr.inference.description import MULTIPLE, Description
from ocr.inference.pages import read_page
from ocr.inference.tiles import padded
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.errors import InputError, Problem

_MOST_IMAGES = 16
_MOST_SIDE = 640  # pixels of those that are made


def made_pictures(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Batches of pages with text drawn on them, uint8 (B, H, W, 3) RGB, sides multiples of
    MULTIPLE: two of canonical size (H, W), or of 640 px, and single ones of other shapes.
    """
    random = np.random.default_rng(0)
    height, width = (min(_MOST_SIDE, -(-side // MULTIPLE) * MULTIPLE) for side in size)
    half = max(MULTIPLE, height // 2 // MULTIPLE * MULTIPLE)
    for shape in ((2, height, width), (1, half, width), (1, height, MULTIPLE), (1, 96, 160)):
        yield np.stack([_page(shape[1:], random) for _ in range(shape[0])])


def pictures_of(folder: Path, description: Description) -> Iterator[np.ndarray]:
    """The first images below a folder, at most 16, each a batch as the detector sees it.

    Raises InputError if there are none, or one of them cannot be read.
    """
    names = sorted(ImageNames(folder).names)[:_MOST_IMAGES]
    if not names:
        reason = "there is no image in this folder; name another"
        raise InputError([Problem("image", str(folder), "", reason)])
    for name in names:
        yield padded(read_page(folder / name, description, None).image, description.size)


def _page(size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Noisy paper with lines of dark text, uint8 (h, w, 3)."""
    height, width = size
    paper = random.integers(180, 256, (height, width, 3), np.uint8)
    for baseline in range(24, height, 32):
        text = "".join(map(chr, random.integers(48, 123, max(1, width // 24))))
        ink = random.integers(0, 90, 3).tolist()
        cv2.putText(paper, text, (8, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.7, ink, 2, cv2.LINE_AA)
    return paper
