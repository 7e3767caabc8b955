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
        edges = np.concatenate([corners[1:], corners[:1]]) - corners
        # Relative to the first vertex: far from the origin the products would lose the area.
        (x, y), (dx, dy) = (corners - corners[0]).swapaxes(0, 1), edges.swapaxes(0, 1)
        areas[which] = np.abs((x * dy - dx * y).sum(axis=0)) / 2
        perimeters[which] = np.sqrt(dx * dx + dy * dy).sum(axis=0)
        upright[which] = (dx * dy == 0).all(axis=0) & (len(corners) == 4)
    return Shapes(low, high, areas, perimeters, upright & (areas > 0))


def _columns(polygons: Polygons) -> Iterator[tuple[np.ndarray | slice, np.ndarray]]:
    """Polygons of the same number V of vertices together: which these are, and (V, 2, K) of them.

    Each step then is over many polygons; a step for each polygon would take ten times as long.
    """
    lengths, points = polygons.lengths, polygons.points
    alike = len(lengths) > 0 and bool((lengths == lengths[0]).all())
    for vertices in [int(lengths[0])] if alike else np.unique(lengths).tolist():
        if alike:
            which: np.ndarray | slice = slice(None)
            corners = points.reshape(-1, vertices, 2)
        else:
            which = np.flatnonzero(lengths == vertices)
            corners = points[polygons.starts[which][:, None] + np.arange(vertices)]
        yield which, corners.transpose(1, 2, 0).astype(np.float64, order="C")
