"""How far polygons are shrunk and dilated, by each recipe's rules, and what becomes of them.

Clipper offsets them, but for those whose vertices compiled code finds as certainly, and sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np
import pyclipper

from ocr_precompute.parameters import Recipe
from ocr_precompute.samples import Polygons
from ocr_precompute.targets.convex import offset_convex
from ocr_precompute.targets.shapes import areas_and_perimeters, boxes

# Vertices are held within this range (pixels). It is far beyond any image, while offsets still fit
# the integers of the clipping library, and filling, which walks every row of a polygon, takes 20 ms
# at the worst and not seconds.
_REACH = float(2**20)
_TINY = np.finfo(float).tiny


def as_drawn(polygons: Polygons, size: tuple[int, int], recipe: Recipe) -> Polygons:
    """Polygons in canonical pixels, size (H, W), with their vertices where the recipe has them."""
    low, high = (0.0, np.array(size[::-1]) - 1.0) if recipe.clip else (-_REACH, _REACH)
    points = np.clip(polygons.points.astype(np.float64), low, high)
    return polygons.with_points(np.trunc(points) if recipe.integer_vertices else points)


def within_reach(polygons: Polygons) -> Polygons:
    """Polygons with their vertices where they are, as long as that can be drawn at all."""
    return polygons.with_points(np.clip(polygons.points.astype(np.float64), -_REACH, _REACH))


def vanishes(polygon: np.ndarray, *distances: float) -> bool:
    """Whether the shrink leaves nothing of a polygon, float64 (V, 2).

    distances: pixels to shrink it by, of which one after the other is tried (see `Recipe.ratios`).
    """
    offset = _offset(polygon.tolist())
    return offset is None or not _first_whole(offset, [-distance for distance in distances])


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
        whole = polygons.with_points(np.trunc(polygons.points))
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
    low, high = boxes(polygons)
    sides: np.ndarray = np.minimum(*(high - low))
    return sides


def _measures(polygons: Polygons, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Area and perimeter of each polygon, float64 (N,) each."""
    areas, perimeters = areas_and_perimeters(polygons)
    if recipe.integer_vertices:  # this recipe's labels were drawn with OpenCV's own measure
        contours = np.split(polygons.points.astype(np.int32), polygons.starts[1:-1])
        perimeters = np.array([cv2.arcLength(c, True) for c in contours if len(c)])
        perimeters += np.finfo(float).eps
    return areas, perimeters


NOBODY = -1
"""In place of a polygon's number: the part is not drawn."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What polygons become when they are offset.

    vertices: int32 (V, 2), of one part after the other. starts: int64 (K + 1,), where each part's
    begin, and where the last one's end. owners: int64 (K,), the polygons' numbers.
    """

    vertices: np.ndarray
    starts: np.ndarray
    owners: np.ndarray


def outlines(polygons: Polygons, distances: np.ndarray, recipe: Recipe) -> tuple[Parts, Parts]:
    """The parts to draw of all polygons, as they are drawn: shrunk and dilated.

    distances: as `offset_distances` has them. None of a polygon that is don't-care or at distance
    0; none dilated where the recipe masks what the shrink leaves nothing of, or draws thresholds
    first.
    """
    drawn = ~polygons.ignore & (distances > 0)
    shrinks = shrink_distances(polygons, distances, recipe)
    most = None if recipe.every_part else 1
    kept = None if recipe.shrink_again else most
    shrunk = _offset_all(polygons, np.where(drawn[:, None], -shrinks, 0), drawn, kept)
    if recipe.masks:
        left = np.zeros(len(drawn), bool)
        left[shrunk.owners] = True
        drawn &= left
    if recipe.early_thresh:
        drawn[:] = False
    return shrunk, dilated(polygons, np.where(drawn, distances, 0), most)


def dilated(polygons: Polygons, distances: np.ndarray, most: int | None = 1) -> Parts:
    """The parts to draw of polygons that are dilated by their distances; none at distance 0.

    most: of one polygon; None: all.
    """
    return _offset_all(polygons, distances[:, None], distances > 0, most)


def _offset_all(
    polygons: Polygons, distances: np.ndarray, drawn: np.ndarray, most: int | None
) -> Parts:
    """At most so many parts of each polygon that is drawn.

    distances: float64 (N, K), negative: inwards; the first that leaves one part counts, or else the
    last. The parts of polygons that only Clipper can offset come last.
    """
    first = np.where(drawn, distances[:, 0], 0)
    points = np.ascontiguousarray(polygons.points)  # compiled for no other
    vertices, starts = offset_convex(points, polygons.starts, first)
    done = starts[1:] > starts[:-1]
    owners = np.flatnonzero(done)
    starts = np.concatenate([starts[:1], starts[1:][done]])
    left = np.flatnonzero(drawn & ~done).tolist()
    if not left:
        return Parts(vertices, starts, owners)
    ends = polygons.starts
    more: list[tuple[int, np.ndarray]] = []
    for number in left:
        offset = _offset(polygons.points[ends[number] : ends[number + 1]].tolist())
        parts = _first_whole(offset, distances[number].tolist()) if offset else []
        more += [(number, part) for part in parts[:most]]
    sizes = [len(part) for _, part in more]
    return Parts(
        np.concatenate([vertices, *(part for _, part in more)]),
        np.concatenate([starts, starts[-1] + np.cumsum(sizes, dtype=np.int64)]),
        np.concatenate([owners, np.array([number for number, _ in more], np.int64)]),
    )


def _first_whole(offset: pyclipper.PyclipperOffset, distances: Sequence[float]) -> list[np.ndarray]:
    """What is left at the first distance that leaves one part, or else at the last."""
    parts: list[np.ndarray] = []
    for distance in distances:
        parts = _parts(offset, distance)
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
