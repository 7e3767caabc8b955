"""Pixels of a page moved and recoloured, at the cost of what comes out and not of the page.

Of a page only its content is looked at, outside which it is black, and of that only the rectangle
that the result shows. Everything is OpenCV's: its warp takes a third of the time for four channels
that it takes for three, so the rectangle is given a fourth; a compiled loop over single pixels took
two to three times as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from ocr_precompute.runtime.scratch import scratch
from ocr_precompute.samples import Polygons

_MARGIN = 2  # pixels beyond those that a result shows: interpolation takes its neighbours
_WORTH = 0.8  # share of a page's rows from which all are read, straight and without a copy


@dataclass(frozen=True, eq=False)
class Page:
    """A whole sample, of which a part is to be used.

    polygons: points in canonical pixels. size: (H, W). content: (h, w), outside which the image is
    black. rows(start, stop, out): writes those rows of the image into out, uint8 (stop - start, W,
    3), contiguous. step: of how many rows, from the top, all are unpacked when one is.
    """

    polygons: Polygons
    size: tuple[int, int]
    content: tuple[int, int]
    rows: Callable[[int, int, np.ndarray], None]
    step: int = 1


def page_of(image: np.ndarray, polygons: Polygons, content: tuple[int, int]) -> Page:
    """The page of an image that is there, uint8 (H, W, 3), with content in (h, w) of it."""

    def rows(start: int, stop: int, out: np.ndarray) -> None:
        out[...] = image[start:stop]

    return Page(polygons, (image.shape[0], image.shape[1]), content, rows)


class Rectangle(NamedTuple):
    """Pixels from (left, top) up to, and without, (right, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.bottom - self.top, self.right - self.left


def moved_rectangle(
    size: tuple[int, int], matrix: np.ndarray, within: tuple[int, int], origin: tuple[int, int]
) -> Rectangle | None:
    """What pixels can reach when they are moved, by interpolation too.

    size: (H, W) of the pixels, which begin at origin, (left, top). matrix: (2, 3). within: (H, W)
    of what they are moved into. None if they reach nothing of it.
    """
    (height, width), (left, top) = size, origin
    (a, b, c), (d, e, f) = matrix.tolist()
    corners = [(x, y) for y in (top - 1, top + height) for x in (left - 1, left + width)]
    across = [a * x + b * y + c for x, y in corners]
    down = [d * x + e * y + f for x, y in corners]
    moved = Rectangle(
        max(math.floor(min(across)), 0),
        max(math.floor(min(down)), 0),
        min(math.ceil(max(across)) + 1, within[1]),
        min(math.ceil(max(down)) + 1, within[0]),
    )
    return moved if moved.left < moved.right and moved.top < moved.bottom else None


def draw_page(page: Page, matrix: np.ndarray, light: np.ndarray | None, out: np.ndarray) -> None:
    """The page with its pixels moved, interpolated bilinearly, black where it is not, recoloured.

    matrix: float64 (2, 3), from the page's pixels to those of out. light: as `lit` takes it, or
    None to keep colours. out: uint8 (H, W, 3), contiguous, any content.
    """
    size = out.shape[0], out.shape[1]
    shown = moved_rectangle(page.content, matrix, size, (0, 0))
    back = cv2.invertAffineTransform(matrix)
    source = shown and moved_rectangle(shown.size, back, page.content, (shown.left, shown.top))
    if shown is None or source is None:
        _fill_black([out], light)
        return
    if shown.size != size:
        beside = out[shown.top : shown.bottom]
        around = out[: shown.top], out[shown.bottom :]
        _fill_black([*around, beside[:, : shown.left], beside[:, shown.right :]], light)
    target = out[shown.top : shown.bottom, shown.left : shown.right]
    left, top, right, bottom = (
        max(source.left - _MARGIN, 0),
        max(source.top - _MARGIN, 0),
        min(source.right + _MARGIN, page.content[1]),
        min(source.bottom + _MARGIN, page.content[0]),
    )
    pixels = _rows(page, top, bottom)[:, left:right]
    (a, b, c), (d, e, f) = matrix.tolist()
    x, y = a * left + b * top + c - shown.left, d * left + e * top + f - shown.top
    _warp(pixels, np.array([[a, b, x], [d, e, y]]), light, target)


def lit(image: np.ndarray, light: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """An image in other light: every colour through an affine map.

    image: uint8 (H, W, 3). light: float64 (3, 4), of (red, green, blue, 1) to red, green and blue.
    out: where to write it, may be the image itself; a new array by default.
    """
    recoloured: np.ndarray = cv2.transform(image, light, dst=out)
    return recoloured


def _fill_black(parts: Sequence[np.ndarray], light: np.ndarray | None) -> None:
    """Fill parts of an image with what black becomes in that light."""
    black = np.zeros((1, 1, 3), np.uint8)
    colour = (black if light is None else lit(black, light))[0, 0].tolist()
    grey = len(set(colour)) == 1
    for part in parts:
        part[...] = colour[0] if grey else colour  # of which the last takes a hundred times as long


def _rows(page: Page, top: int, bottom: int) -> np.ndarray:
    """Those rows of the page, in memory that the next page of this thread overwrites."""
    height, width = page.size
    first, last = top // page.step * page.step, min(-(-bottom // page.step) * page.step, height)
    if last - first >= _WORTH * height:
        first, last = 0, height
    rows = scratch("page rows", (last - first, width, 3))
    page.rows(first, last, rows)
    return rows[top - first : bottom - first]


def _warp(
    pixels: np.ndarray, matrix: np.ndarray, light: np.ndarray | None, out: np.ndarray
) -> None:
    """Move, interpolate and recolour pixels, (h, w, 3), into all of out, (H, W, 3)."""
    height, width = out.shape[:2]
    four = scratch("warp of four", (*pixels.shape[:2], 4))
    cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA, dst=four)
    warped = scratch("warped", (height, width, 4))
    cv2.warpAffine(four, matrix, (width, height), dst=warped, flags=cv2.INTER_LINEAR)
    if light is None:
        cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)
        return
    three = scratch("three", (height, width, 3))
    cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=three)
    lit(three, light, out)
