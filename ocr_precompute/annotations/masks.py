"""Outlines of masks that are stored as runs of pixels, column by column, as COCO has them."""

from __future__ import annotations

from typing import Any

import numpy as np

_MOST_PIXELS = 1 << 26
_LONGEST = 60  # bits of a run
_SMOOTH = 1.0  # half pixels that an outline may be off, so that slanting edges are no stairs


class BadMask(ValueError):
    """A mask that cannot be read; says why."""


def mask_outlines(mask: dict[str, Any]) -> list[np.ndarray]:
    """The outer outline of each piece of a mask, clockwise along pixels' edges: float64 (V, 2).

    mask: `size` is [height, width], `counts` runs of pixels without and with it in turn, as numbers
    or as COCO packs them into a text. Holes are filled. Raises BadMask.
    """
    import cv2  # seldom needed here

    height, width = _size(mask.get("size"))
    ends = np.cumsum(_runs(mask.get("counts")))
    if not len(ends) or ends[-1] != height * width:
        covered = int(ends[-1]) if len(ends) else 0
        raise BadMask(f"its mask has {covered} pixels where {height} x {width} are declared")
    first, last = np.append(ends, ends[-1])[: len(ends) // 2 * 2].reshape(-1, 2).T
    first, last = first[last > first], last[last > first]
    if not len(first):
        raise BadMask("its mask is empty")
    left, right = int(first[0]) // height, int(last[-1] - 1) // height + 1
    change = np.zeros((right - left) * height + 1, np.int8)
    np.add.at(change, first - left * height, 1)
    np.add.at(change, last - left * height, -1)
    pixels = np.cumsum(change[:-1], dtype=np.int8).reshape(-1, height).T
    rows = np.flatnonzero(pixels.any(axis=1))
    top = int(rows[0])
    # Twice as large, a contour through the centres of pixels tells where their edges are.
    large = pixels[top : rows[-1] + 1].repeat(2, axis=0).repeat(2, axis=1).view(np.uint8)
    contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    smooth = [cv2.approxPolyDP(each, _SMOOTH, True) for each in contours]
    simple = [
        (few if len(few) > 2 else each)[:, 0]  # of a line of pixels two points would be left
        for few, each in zip(smooth, contours, strict=True)
    ]
    return [
        np.roll((each[::-1] + 1) // 2 + np.array([left, top]), 1, axis=0).astype(np.float64)
        for each in simple
    ]


def _size(size: Any) -> tuple[int, int]:
    if not isinstance(size, list) or len(size) != 2:
        raise BadMask("its mask has no size")
    sides = [side for side in size if type(side) in (int, float) and 0 < side <= _MOST_PIXELS]
    if len(sides) != 2 or sides[0] * sides[1] > _MOST_PIXELS:
        raise BadMask(f"its mask is not of 1 to {_MOST_PIXELS} pixels")
    return int(sides[0]), int(sides[1])


def _runs(counts: Any) -> np.ndarray:
    """The lengths of runs, int64 (N,)."""
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(
        type(run) in (int, float) and 0 <= run <= _MOST_PIXELS for run in runs
    ):
        raise BadMask("its mask's counts are no lengths")
    return np.array(runs, np.int64)


def _unpacked(text: str) -> list[int]:
    """Numbers of five bits a character, the lowest first; from the fourth on as differences.

    Source: the COCO API's rleFrString.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > _LONGEST:
            raise BadMask("its mask's counts are no text that COCO writes")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise BadMask("its mask's counts are cut off")
    return runs
