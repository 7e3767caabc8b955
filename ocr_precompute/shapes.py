"""Boxes, areas and perimeters of very many polygons at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

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


def boxes(polygons: Polygons) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest x and y of each polygon, float64 (2, N) each."""
    low, high = np.empty((2, 2, len(polygons.lengths)))
    for which, corners in _columns(polygons):
        low[:, which], high[:, which] = corners.min(axis=0), corners.max(axis=0)
    return low, high


def measured(polygons: Polygons) -> Shapes:
    """Measures of each polygon; areas by the shoelace formula, as absolute values."""
    count = len(polygons.lengths)
    low, high = boxes(polygons)
    areas, perimeters = np.empty((2, count))
    upright = np.empty(count, bool)
    for which, corners in _columns(polygons):
        (x, y), (dx, dy) = (
            array.transpose(1, 0, 2)
            for array in (corners - corners[0], np.roll(corners, -1, axis=0) - corners)
        )
        areas[which] = np.abs((x * dy - dx * y).sum(axis=0)) / 2
        perimeters[which] = np.sqrt(dx * dx + dy * dy).sum(axis=0)
        upright[which] = (dx * dy == 0).all(axis=0) if len(corners) == 4 else False
    return Shapes(low, high, areas, perimeters, upright & (areas > 0))


def _columns(polygons: Polygons) -> Iterator[tuple[np.ndarray | slice, np.ndarray]]:
    """Polygons of the same number V of vertices together: which these are, and (V, 2, K) of them.

    Each step then is over many polygons; a step for each polygon would take ten times as long.
    """
    lengths, points = polygons.lengths, polygons.points
    numbers = np.unique(lengths).tolist()
    for vertices in numbers:
        if len(numbers) == 1:
            which: np.ndarray | slice = slice(None)
            corners = points.reshape(-1, vertices, 2)
        else:
            which = np.flatnonzero(lengths == vertices)
            corners = points[polygons.starts[which][:, None] + np.arange(vertices)]
        yield which, np.ascontiguousarray(corners.transpose(1, 2, 0), np.float64)
