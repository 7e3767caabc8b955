"""Boxes, areas and perimeters of very many polygons at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ocr_precompute.runtime.compiled import compiled
from ocr_precompute.samples import Polygons


@dataclass(frozen=True, eq=False)
class Shapes:
    """Measures of polygons, pixels.

    low, high: float64 (2, N), x and y of the boxes' corners. areas, perimeters: float64 (N,).
    upright: bool (N,), whether it is a rectangle along the axes.
    """

    low: np.ndarray
    high: np.ndarray
    areas: np.ndarray
    perimeters: np.ndarray
    upright: np.ndarray

    @property
    def sides(self) -> np.ndarray:
        """The smaller side of each box, float64 (N,)."""
        smaller: np.ndarray = np.minimum(*(self.high - self.low))
        return smaller


def boxes(polygons: Polygons) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest x and y of each polygon, float64 (2, N) each."""
    return _boxes(np.ascontiguousarray(polygons.points, np.float64), polygons.starts)


@compiled()
def _boxes(points: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.empty((2, len(starts) - 1)), np.empty((2, len(starts) - 1))
    for number in range(len(starts) - 1):
        for axis in range(2):
            least = most = points[starts[number], axis]
            for i in range(starts[number] + 1, starts[number + 1]):
                least, most = min(least, points[i, axis]), max(most, points[i, axis])
            low[axis, number], high[axis, number] = least, most
    return low, high


def measured(polygons: Polygons) -> Shapes:
    """Measures of each polygon; areas by the shoelace formula, as absolute values."""
    points = np.ascontiguousarray(polygons.points, np.float64)
    return Shapes(*_boxes(points, polygons.starts), *_measured(points, polygons.starts))


@compiled()
def _measured(points: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = len(starts) - 1
    areas, perimeters, upright = np.empty(count), np.empty(count), np.empty(count, np.bool_)
    for number in range(count):
        first, last = starts[number], starts[number + 1]
        doubled, around, level = 0.0, 0.0, last - first == 4
        for i in range(first, last):
            # Relative to the first vertex: far from the origin the products would lose the area.
            x, y = points[i, 0] - points[first, 0], points[i, 1] - points[first, 1]
            after = i + 1 if i + 1 < last else first
            dx, dy = points[after, 0] - points[i, 0], points[after, 1] - points[i, 1]
            doubled += x * dy - dx * y
            around += np.sqrt(dx * dx + dy * dy)
            level &= dx * dy == 0
        areas[number], perimeters[number] = abs(doubled) / 2, around
        upright[number] = level and doubled != 0
    return areas, perimeters, upright


def areas_and_perimeters(polygons: Polygons) -> tuple[np.ndarray, np.ndarray]:
    """Area, by the shoelace formula, and perimeter of each polygon, float64 (N,) each.

    Sums are NumPy's, of which labels in stores have every bit; those of `measured` may differ in
    the last.
    """
    if not len(polygons.lengths):
        return np.zeros(0), np.zeros(0)
    points, starts = np.ascontiguousarray(polygons.points, np.float64), polygons.starts
    doubled, lengths = (np.add.reduceat(terms, starts[:-1]) for terms in _terms(points, starts))
    return np.abs(doubled) / 2, lengths


@compiled()
def _terms(points: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the edge after each vertex adds to twice its polygon's area, and to its perimeter."""
    doubled, lengths = np.empty(len(points)), np.empty(len(points))
    for number in range(len(starts) - 1):
        first, last = starts[number], starts[number + 1]
        # Relative to the first vertex: far from the origin the products would lose the area.
        left, top = points[first, 0], points[first, 1]
        for i in range(first, last):
            after = i + 1 if i + 1 < last else first
            (ax, ay), (bx, by) = points[i], points[after]
            dx, dy = bx - ax, by - ay
            doubled[i] = (ax - left) * (by - top) - (bx - left) * (ay - top)
            lengths[i] = np.sqrt(dx * dx + dy * dy)  # not hypot, whose last bit differs
    return doubled, lengths
