"""Polygons to label maps: the science.

Probability and threshold maps of Differentiable Binarization, Liao et al. 2020 (arXiv 1911.08947),
section 3.4, in the two recipes of `ocr_precompute.parameters.Recipe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import cv2
import numpy as np
import pyclipper

from ocr_precompute.parameters import RECIPES, Recipe
from ocr_precompute.runtime.compiled import compiled
from ocr_precompute.runtime.stages import stage
from ocr_precompute.samples import Polygons

# Vertices are held within this range (pixels). It is far beyond any image, while offsets still fit
# the integers of the clipping library, and filling, which walks every row of a polygon, takes 20 ms
# at the worst and not seconds.
_REACH = float(2**20)
_TINY = np.finfo(float).tiny


@dataclass(frozen=True, eq=False)
class Targets:
    """The four label maps of one image, all (H, W).

    prob: uint8, 1 inside shrunk polygons. prob_mask: uint8, 0 where the loss must not look.
    thresh: float32 in [thresh_min, thresh_max]. thresh_mask: uint8, 1 inside dilated polygons.
    """

    prob: np.ndarray
    prob_mask: np.ndarray
    thresh: np.ndarray
    thresh_mask: np.ndarray


def make_targets(
    polygons: Sequence[np.ndarray],
    ignore: Sequence[bool] | np.ndarray,
    size: int | tuple[int, int],
    recipe: str | Recipe = "dbnet",
) -> Targets:
    """Label maps of one image's polygons.

    polygons: a list of (V, 2) arrays, xy in canonical pixels; they may leave the image.
    ignore: (N,) don't-care flags. size: (H, W), or one number for a square.
    recipe: `seed`, `dbnet`, or a Recipe. Inputs are not changed.
    Returns Targets. A polygon of no area, or of fewer than three vertices, draws no text.
    `dbnet` first moves vertices that leave the image to its nearest pixel, as the authors' release.
    Raises ValueError if a polygon is not (V, 2) or not finite, if there is not one flag a polygon,
    or if the recipe is unknown.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"unknown recipe {recipe!r}; one of {', '.join(RECIPES)}")
        recipe = RECIPES[recipe]
    if len(polygons) != len(ignore):
        raise ValueError(f"{len(polygons)} polygons but {len(ignore)} ignore flags")
    arrays = [np.asarray(polygon, np.float64) for polygon in polygons]
    for number, array in enumerate(arrays):
        if array.ndim != 2 or array.shape[1] != 2:
            raise ValueError(f"polygon {number}: expected shape (V, 2), got {array.shape}")
    pairs = [(a, bool(i)) for a, i in zip(arrays, ignore, strict=True) if len(a) >= 3]
    drawn = Polygons.from_list([a for a, _ in pairs], [i for _, i in pairs])
    if sum(map(len, arrays)) != len(drawn.points) or not np.isfinite(drawn.points).all():
        for number, array in enumerate(arrays):
            if not np.isfinite(array).all():
                raise ValueError(f"polygon {number}: has a coordinate that is not finite")
    height, width = (size, size) if isinstance(size, int) else size
    return draw_targets(drawn, (int(height), int(width)), recipe)


def draw_targets(polygons: Polygons, size: tuple[int, int], recipe: Recipe) -> Targets:
    """As make_targets, for polygons that are already checked, each of three vertices or more."""
    prob, prob_mask, thresh_mask = (np.empty(size, np.uint8) for _ in range(3))
    targets = Targets(prob, prob_mask, np.empty(size, np.float32), thresh_mask)
    draw_into(targets, polygons, recipe)
    return targets


def draw_into(targets: Targets, polygons: Polygons, recipe: Recipe) -> None:
    """As draw_targets, over the maps of targets: contiguous, of the right dtypes, any content."""
    size = targets.prob.shape[0], targets.prob.shape[1]
    targets.prob.fill(0)
    targets.prob_mask.fill(1)
    targets.thresh_mask.fill(0 if recipe.masks else 1)
    targets.thresh.fill(recipe.thresh_min)
    polygons = as_drawn(polygons, size, recipe)
    points, distances, starts = polygons.points, offset_distances(polygons, recipe), polygons.starts
    pixels, nodes, ends = points.astype(np.int32), points.tolist(), starts.tolist()
    with stage("offset"):
        outlines = [
            _outlines(nodes[ends[number] : ends[number + 1]], 0.0 if ignored else distance, recipe)
            for number, (distance, ignored) in enumerate(
                zip(distances.tolist(), polygons.ignore.tolist(), strict=True)
            )
        ]
    borders: list[tuple[int, ...]] = []
    for number, (shrunk, dilated) in enumerate(outlines):
        if recipe.masks and not shrunk:
            cv2.fillPoly(targets.prob_mask, [pixels[ends[number] : ends[number + 1]]], 0)
        for part in shrunk:
            cv2.fillPoly(targets.prob, [part], 1)
        for part in dilated:
            if recipe.masks:
                cv2.fillPoly(targets.thresh_mask, [part], 1)
            borders.append((number, *cv2.boundingRect(part)))
    where = np.array(borders, np.int64).reshape(-1, 5)
    low, high = recipe.thresh_min, recipe.thresh_max
    raise_thresholds(targets.thresh, points, starts, distances, where, low, high)


def as_drawn(polygons: Polygons, size: tuple[int, int], recipe: Recipe) -> Polygons:
    """Polygons in canonical pixels, size (H, W), with their vertices where the recipe has them."""
    low, high = (0.0, np.array(size[::-1]) - 1.0) if recipe.clip else (-_REACH, _REACH)
    points = np.clip(polygons.points.astype(np.float64), low, high)
    return replace(polygons, points=np.trunc(points) if recipe.integer_vertices else points)


def vanishes(polygon: np.ndarray, distance: float) -> bool:
    """Whether the shrink by distance pixels leaves nothing of a polygon, float64 (V, 2)."""
    offset = _offset(polygon.tolist())
    return offset is None or not offset.Execute(-distance)


def compile_kernel() -> None:
    """Compile what is compiled, or load it from the disk's cache; else the first image pays."""
    nothing = Polygons.from_list([], [])
    draw_targets(nothing, (1, 1), RECIPES["dbnet"])


def offset_distances(polygons: Polygons, recipe: Recipe) -> np.ndarray:
    """Offset D = area * (1 - r^2) / perimeter of each polygon, float64 (N,), pixels.

    0 for a polygon of no area, or with an area or box side below the recipe's: it is not drawn.
    Vertices are taken as they are: where the recipe clips them, they are clipped already.
    Source: Liao et al. 2020, section 3.4, after Vatti clipping.
    """
    if not len(polygons.lengths):
        return np.zeros(0)
    points, starts = polygons.points, polygons.starts
    if recipe.integer_vertices:  # this recipe's labels were drawn with OpenCV's own measure
        contours = np.split(points.astype(np.int32), starts[1:-1])
        perimeters = np.array([cv2.arcLength(c, True) for c in contours]) + np.finfo(float).eps
    else:
        edges = polygons.following() - points
        # Not np.hypot, whose last bit differs from one mathematics library to the next.
        perimeters = np.add.reduceat(np.sqrt((edges * edges).sum(axis=1)), starts[:-1])
    low = np.minimum.reduceat(points, starts[:-1])
    high = np.maximum.reduceat(points, starts[:-1])
    areas = np.abs(polygons.areas())
    drawn = ((high - low).min(axis=1) >= recipe.min_size) & (areas >= recipe.min_area)
    drawn &= perimeters > 0
    return np.where(drawn, areas * (1 - recipe.shrink_ratio**2) / np.maximum(perimeters, _TINY), 0)


def _outlines(
    vertices: list[list[float]], distance: float, recipe: Recipe
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The parts to draw of a polygon that is shrunk by distance pixels, and dilated by it.

    None at distance 0; and none dilated where the recipe masks what the shrink leaves nothing of.
    """
    offset = _offset(vertices) if distance > 0 else None
    shrunk = _parts(offset, -distance) if offset else []
    dilated = _parts(offset, distance) if offset and (shrunk or not recipe.masks) else []
    most = None if recipe.every_part else 1
    return shrunk[:most], dilated[:most]


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


@compiled()
def raise_thresholds(
    thresh: np.ndarray,
    points: np.ndarray,
    starts: np.ndarray,
    distances: np.ndarray,
    borders: np.ndarray,
    low: float,
    high: float,
) -> None:
    """Raise the map to high - (high - low) * d / D, where d is the distance to a polygon's border.

    thresh: float32 (H, W), changed in place. points, starts: as Polygons has them. distances: D of
    each polygon. borders: int64 (B, 5), polygon number and x, y, width, height of the box it may
    change. As in the paper's release, d to an edge is that to its nearer end where the edge is seen
    under an acute angle, else that to its line. In a row only pixels within D of it are looked at.
    """
    height, width = thresh.shape
    nearest = np.full(width, np.inf)  # squared distances in one row to one polygon
    for border in range(len(borders)):
        number, x_min, y_min, across, down = borders[border]
        x_max, y_max = min(x_min + across, width) - 1, min(y_min + down, height) - 1
        x_min, y_min = max(x_min, 0), max(y_min, 0)
        first, last, reach = starts[number], starts[number + 1], distances[number]
        slope = (high - low) / reach
        for y in range(y_min, y_max + 1):
            left, right = width, -1
            for i in range(first, last):
                ax, ay = points[i - 1 if i > first else last - 1]
                bx, by = points[i]
                if y < min(ay, by) - reach or y > max(ay, by) + reach:
                    continue
                dx, dy = bx - ax, by - ay
                squared_length = dx * dx + dy * dy
                start, stop = min(ax, bx) - reach, max(ax, bx) + reach
                if abs(dy) > 1e-6:  # where this row is within reach of the edge's line
                    middle = ax + dx * (y - ay) / dy
                    half = reach * np.sqrt(squared_length) / abs(dy)
                    start, stop = max(start, middle - half), min(stop, middle + half)
                x_from, x_to = max(x_min, int(np.floor(start))), min(x_max, int(np.ceil(stop)))
                if x_from > x_to:
                    continue
                left, right = min(left, x_from), max(right, x_to)
                above_a, above_b, cross = (y - ay) * (y - ay), (y - by) * (y - by), dx * (y - ay)
                inverse = 1.0 / squared_length if squared_length > 1e-300 else 0.0
                from_a, from_b = x_from - ax, x_from - bx
                part = nearest[x_from : x_to + 1]
                for i_x in range(len(part)):
                    along_a, along_b = from_a + i_x, from_b + i_x
                    to_a, to_b = along_a * along_a + above_a, along_b * along_b + above_b
                    to_line = cross - dy * along_a
                    to_line *= to_line * inverse
                    to_end = to_a if to_a < to_b else to_b
                    squared = to_end if to_a + to_b > squared_length else to_line
                    part[i_x] = squared if squared < part[i_x] else part[i_x]
            if left <= right:
                row, part = thresh[y, left : right + 1], nearest[left : right + 1]
                for i_x in range(len(part)):
                    value = np.float32(high - np.sqrt(part[i_x]) * slope)
                    row[i_x] = value if value > row[i_x] else row[i_x]
                    part[i_x] = np.inf
