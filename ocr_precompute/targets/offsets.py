"""How far polygons are shrunk and dilated, by each recipe's rules, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import cv2
import numpy as np
import pyclipper

from ocr_precompute.parameters import Recipe
from ocr_precompute.samples import Polygons

# Vertices are held within this range (pixels). It is far beyond any image, while offsets still fit
# the integers of the clipping library, and filling, which walks every row of a polygon, takes 20 ms
# at the worst and not seconds.
_REACH = float(2**20)
_TINY = np.finfo(float).tiny


def as_drawn(polygons: Polygons, size: tuple[int, int], recipe: Recipe) -> Polygons:
    """Polygons in canonical pixels, size (H, W), with their vertices where the recipe has them."""
    low, high = (0.0, np.array(size[::-1]) - 1.0) if recipe.clip else (-_REACH, _REACH)
    points = np.clip(polygons.points.astype(np.float64), low, high)
    return replace(polygons, points=np.trunc(points) if recipe.integer_vertices else points)


def within_reach(polygons: Polygons) -> Polygons:
    """Polygons with their vertices where they are, as long as that can be drawn at all."""
    return replace(polygons, points=np.clip(polygons.points.astype(np.float64), -_REACH, _REACH))


def vanishes(polygon: np.ndarray, *distances: float) -> bool:
    """Whether the shrink leaves nothing of a polygon, float64 (V, 2).

    distances: pixels to shrink it by, of which one after the other is tried (see `Recipe.ratios`).
    """
    offset = _offset(polygon.tolist())
    return offset is None or not _shrunk(offset, distances)


def offset_distances(polygons: Polygons, recipe: Recipe) -> np.ndarray:
    """Offset D = area * (1 - r^2) / perimeter of each polygon, float64 (N,), pixels.

    0 for a polygon of no area, or with an area or box side below the recipe's: it is not drawn.
    Vertices are taken as they are: where the recipe clips them, they are clipped already.
    Source: Liao et al. 2020, section 3.4, after Vatti clipping.
    """
    areas, perimeters = _measures(polygons, recipe)
    drawn = (smaller_sides(polygons, recipe) >= recipe.min_size) & (areas >= recipe.min_area)
    drawn &= perimeters > 0
    distances = areas * (1 - recipe.shrink_ratio**2) / np.maximum(perimeters, _TINY)
    return np.where(drawn, distances, 0)


def border_distances(polygons: Polygons, recipe: Recipe) -> np.ndarray:
    """As `offset_distances`, for each polygon of any area that is not don't-care."""
    areas, perimeters = _measures(polygons, recipe)
    distances = areas * (1 - recipe.shrink_ratio**2) / np.maximum(perimeters, _TINY)
    return np.where((perimeters > 0) & ~polygons.ignore, distances, 0)


def shrink_distances(polygons: Polygons, distances: np.ndarray, recipe: Recipe) -> np.ndarray:
    """By how much each polygon is shrunk, float64 (N, K): K distances that are tried, pixels.

    distances: as `offset_distances` has them.
    """
    if recipe.whole_shrink:
        whole = replace(polygons, points=np.trunc(polygons.points))
        areas, perimeters = _measures(whole, recipe)
        exact = areas * (1 - recipe.shrink_ratio**2) / np.maximum(perimeters, _TINY)
        rounded: np.ndarray = np.floor(exact + 0.5)[:, None]
        return rounded
    if len(recipe.ratios) == 1:
        return distances[:, None]
    areas, perimeters = _measures(polygons, recipe)
    shares = 1 - np.square(recipe.ratios)
    shrinks: np.ndarray = areas[:, None] * shares / np.maximum(perimeters, _TINY)[:, None]
    return shrinks


def smaller_sides(polygons: Polygons, recipe: Recipe) -> np.ndarray:
    """The smaller side of each polygon's box, as the recipe has boxes, float64 (N,), pixels."""
    if not len(polygons.lengths):
        return np.zeros(0)
    if recipe.turned_box:
        points = polygons.points.astype(np.float32)
        corners = np.split(points, polygons.starts[1:-1])
        return np.array([min(cv2.minAreaRect(each)[1]) for each in corners], np.float64)
    starts = polygons.starts[:-1]
    low = np.minimum.reduceat(polygons.points, starts)
    high = np.maximum.reduceat(polygons.points, starts)
    sides: np.ndarray = (high - low).min(axis=1)
    return sides


def _measures(polygons: Polygons, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Area and perimeter of each polygon, float64 (N,) each."""
    if not len(polygons.lengths):
        return np.zeros(0), np.zeros(0)
    points, starts = polygons.points, polygons.starts
    if recipe.integer_vertices:  # this recipe's labels were drawn with OpenCV's own measure
        contours = np.split(points.astype(np.int32), starts[1:-1])
        perimeters = np.array([cv2.arcLength(c, True) for c in contours]) + np.finfo(float).eps
    else:
        edges = polygons.following() - points
        # Not np.hypot, whose last bit differs from one mathematics library to the next.
        perimeters = np.add.reduceat(np.sqrt((edges * edges).sum(axis=1)), starts[:-1])
    return np.abs(polygons.areas()), perimeters


def all_outlines(
    polygons: Polygons, distances: np.ndarray, recipe: Recipe
) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """The parts to draw of each polygon, as it is drawn: shrunk and dilated.

    distances: as `offset_distances` has them.
    """
    nodes, ends = polygons.points.tolist(), polygons.starts.tolist()
    shrinks = shrink_distances(polygons, distances, recipe).tolist()
    return [
        _outlines(nodes[ends[number] : ends[number + 1]], distance, shrinks[number], recipe)
        for number, distance in enumerate(np.where(polygons.ignore, 0.0, distances).tolist())
    ]


def _outlines(
    vertices: list[list[float]], distance: float, shrinks: Sequence[float], recipe: Recipe
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The parts to draw of a polygon that is shrunk by distances, and dilated by one.

    None at distance 0; and none dilated where the recipe masks what the shrink leaves nothing of,
    or draws thresholds first.
    """
    offset = _offset(vertices) if distance > 0 else None
    shrunk = _shrunk(offset, shrinks) if offset else []
    wanted = offset and not recipe.early_thresh and (shrunk or not recipe.masks)
    dilated = _parts(offset, distance) if offset and wanted else []
    most = None if recipe.every_part else 1
    return shrunk[: None if recipe.shrink_again else most], dilated[:most]


def first_dilated(polygons: Polygons, distances: np.ndarray) -> list[list[np.ndarray]]:
    """The part to draw of each polygon that is dilated by its distance; none at distance 0."""
    nodes, ends = polygons.points.tolist(), polygons.starts.tolist()
    found: list[list[np.ndarray]] = []
    for number, distance in enumerate(distances.tolist()):
        offset = _offset(nodes[ends[number] : ends[number + 1]]) if distance > 0 else None
        found.append(_parts(offset, distance)[:1] if offset else [])
    return found


def _shrunk(offset: pyclipper.PyclipperOffset, distances: Sequence[float]) -> list[np.ndarray]:
    """What is left after the first shrink that leaves one part, or else after the last."""
    parts: list[np.ndarray] = []
    for distance in distances:
        parts = _parts(offset, -distance)
        if len(parts) == 1:
            break
    return parts


def _offset(vertices: list[list[float]]) -> pyclipper.PyclipperOffset | None:
    """A polygon ready to be offset; None if all its vertices fall on one point."""
    offset = pyclipper.PyclipperOffset()
    try:
        offset.AddPath(vertices, pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    except pyclipper.ClipperException:
        return None
    return offset


def _parts(offset: pyclipper.PyclipperOffset, distance: float) -> list[np.ndarray]:
    """What a polygon becomes when it is offset by distance pixels (negative: inwards).

    Returns the parts that remain, each int32 (V, 2), none if the polygon collapses.
    """
    return [
        np.fromiter(chain.from_iterable(part), np.int32, 2 * len(part)).reshape(-1, 2)
        for part in offset.Execute(distance)
    ]  # np.array takes twice as long
