"""Pixels of a page moved and recoloured, at the cost of what comes out and not of the page.

Of a page only its content is looked at, outside which it is black, and of that only the rectangle
that the result shows. Colours are OpenCV's, which compiled loops do not reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from ocr_precompute.augmentation.interpolation import GROUP, frame, interpolate
from ocr_precompute.runtime.compiled import compiled
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
    moved = Rectangle(*_reached(*origin, *size, matrix, *within))
    return moved if moved.left < moved.right and moved.top < moved.bottom else None


@compiled()
def _reached(
    left: int, top: int, height: int, width: int, matrix: np.ndarray, lower: int, right: int
) -> tuple[int, int, int, int]:
    """As `moved_rectangle`, of what may be empty."""
    ends = np.empty(4, np.int64)
    for axis, end in ((0, right), (1, lower)):
        across, down, shift = matrix[axis]
        x, y = across * (left - 1), down * (top - 1)
        wide, high = across * (width + 1), down * (height + 1)
        place = x + y + shift
        first = place + min(wide, 0.0) + min(high, 0.0)
        last = place + max(wide, 0.0) + max(high, 0.0)
        ends[axis] = int(min(max(np.floor(first), 0.0), 1e6))
        ends[axis + 2] = int(min(max(np.ceil(last) + 1, 0.0), float(end)))
    return ends[0], ends[1], ends[2], ends[3]


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
    pixels = _framed(page, source)
    (a, b, c), (d, e, f) = back.tolist()
    x, y = a * shown.left + b * shown.top + c, d * shown.left + e * shown.top + f
    origin = np.array([[a, b, x - pixels.left], [d, e, y - pixels.top]])
    warped = scratch("warped", (len(target), -(-target.shape[1] // GROUP) * GROUP, 3))
    interpolate(pixels.memory, pixels.across, pixels.size, origin, warped)
    if light is None:
        target[...] = warped[:, : target.shape[1]]
    else:
        lit(warped[:, : target.shape[1]], light, target)


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


class _Framed(NamedTuple):
    """Pixels of a page, from (left, top) on and of size (h, w), as `interpolate` takes them."""

    memory: np.ndarray
    across: int
    left: int
    top: int
    size: tuple[int, int]


def _framed(page: Page, source: Rectangle) -> _Framed:
    """Those pixels of the page's content, in memory that the next page of this thread overwrites.

    Whole rows where what lies beside them is black or not looked at; otherwise a copy.
    """
    (height, width), (end, across) = page.size, page.content
    left, right = max(source.left - _MARGIN, 0), min(source.right + _MARGIN, across)
    top, bottom = max(source.top - _MARGIN, 0), min(source.bottom + _MARGIN, end)
    first, last = top // page.step * page.step, min(-(-bottom // page.step) * page.step, height)
    if last - first >= _WORTH * height:
        first, last = 0, height
    memory, rows = frame("page rows", last - first, width)
    page.rows(first, last, rows)
    if across < width or (left > 0 and right < across):
        return _Framed(memory, width, 0, first, (min(last, end) - first, across))
    memory, copy = frame("part of page", bottom - top, right - left + 1)
    copy[:, :-1] = rows[top - first : bottom - first, left:right]
    copy[:, -1] = 0
    return _Framed(memory, right - left + 1, left, top, (bottom - top, right - left))
