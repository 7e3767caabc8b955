"""Polygons filled: in compiled code, to the pixel as OpenCV does it, or by OpenCV.

OpenCV draws the borders as lines, and fills what lies between. Of a polygon with one stretch in
every row that is the stretch from the first to the last pixel of its lines.
"""

from __future__ import annotations

import cv2
import numpy as np

from ocr_precompute.runtime.compiled import compiled


def fill(
    target: np.ndarray,
    vertices: np.ndarray,
    starts: np.ndarray,
    owners: np.ndarray,
    first: int,
    last: int,
    value: int,
) -> None:
    """Fill polygons one after the other, borders included.

    target: uint8 (H, W), contiguous. vertices: int32 (V, 2). starts: int64 (N + 1,), as Polygons
    has them. owners: int64 (N,); only polygons are filled that have one from first to last.
    """
    starts = starts.view()
    starts.flags.writeable = False  # as those of Polygons: compiled for no other
    left = _fill_rows(target, vertices, starts, owners, first, last, value)
    for number in left.tolist():
        cv2.fillPoly(target, [vertices[starts[number] : starts[number + 1]]], value)


@compiled()
def _fill_rows(
    target: np.ndarray,
    vertices: np.ndarray,
    starts: np.ndarray,
    owners: np.ndarray,
    begin: int,
    end: int,
    value: int,
) -> np.ndarray:
    """Fill those that lie in the image and have one stretch in every row; which not: int64 (K,)."""
    height, width = target.shape
    left, count = np.empty(len(owners), np.int64), 0
    low, high = np.empty(height, np.int64), np.empty(height, np.int64)
    for number in range(len(owners)):
        if not begin <= owners[number] < end:
            continue
        first, last = starts[number], starts[number + 1]
        if not _is_simple(vertices, first, last, height, width):
            left[count] = number
            count += 1
            continue
        top, bottom = vertices[first, 1], vertices[first, 1]
        for i in range(first, last):
            top, bottom = min(top, vertices[i, 1]), max(bottom, vertices[i, 1])
        for y in range(top, bottom + 1):
            low[y], high[y] = width, -1
        for i in range(first, last):
            before = i - 1 if i > first else last - 1
            ax, ay = int(vertices[before, 0]), int(vertices[before, 1])
            bx, by = int(vertices[i, 0]), int(vertices[i, 1])
            _draw_line(ax, ay, bx, by, low, high)
        for y in range(top, bottom + 1):
            target[y, low[y] : high[y] + 1] = value
    return left[:count]


@compiled()
def _is_simple(vertices: np.ndarray, first: int, last: int, height: int, width: int) -> bool:
    """Whether a polygon lies in the image, and goes to and fro only once along x, and along y."""
    for axis, limit in ((0, width), (1, height)):
        changes, start, before = 0, 0, 0
        for i in range(first, last):
            here = vertices[i, axis]
            step = here - vertices[i - 1 if i > first else last - 1, axis]
            if not 0 <= here < limit:
                return False
            if step:
                if not start:
                    start = before = step
                changes += (step > 0) != (before > 0)
                before = step
        if changes + ((start > 0) != (before > 0)) > 2:
            return False
    return last - first > 2


@compiled()
def _draw_line(ax: int, ay: int, bx: int, by: int, low: np.ndarray, high: np.ndarray) -> None:
    """Widen the stretches of rows, from low to high, by a line from left to right (Bresenham's)."""
    if bx < ax:
        ax, ay, bx, by = bx, by, ax, ay
    across, down, step = bx - ax, abs(by - ay), 1 if by > ay else -1
    long, short = max(across, down), min(across, down)
    x, y, error = ax, ay, long - 2 * short
    if down > across:  # a pixel in each row
        for _ in range(long + 1):
            low[y], high[y] = min(low[y], x), max(high[y], x)
            aside = error < 0
            error += 2 * long * aside - 2 * short
            x, y = x + aside, y + step
        return
    for x in range(ax, bx + 1):
        if error < 0 or x == bx:  # the last in its row
            low[y], high[y] = min(low[y], ax), max(high[y], x)
            ax, y, error = x + 1, y + step, error + 2 * long
        error -= 2 * short
