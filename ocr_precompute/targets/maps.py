"""Polygons to label maps: the science.

Probability and threshold maps of Differentiable Binarization, Liao et al. 2020 (arXiv 1911.08947),
section 3.4, in the recipes of `ocr_precompute.parameters.RECIPES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocr_precompute.parameters import RECIPES, Recipe
from ocr_precompute.runtime.compiled import compiled
from ocr_precompute.runtime.stages import stage
from ocr_precompute.samples import Polygons
from ocr_precompute.targets.filling import fill
from ocr_precompute.targets.offsets import (
    NOBODY,
    Parts,
    as_drawn,
    border_distances,
    dilated,
    offset_distances,
    outlines,
    within_reach,
)


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
    recipe: the name of one of RECIPES, or a Recipe. Inputs are not changed.
    Returns Targets. A polygon of no area, or of fewer than three vertices, draws no text.
    `dbnet` and `paddleocr` first move vertices that leave the image to its nearest pixel, for
    thresholds `dbnet` alone.
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
    draw_into([targets], [polygons], recipe)
    return targets


def draw_into(targets: Sequence[Targets], polygons: Sequence[Polygons], recipe: Recipe) -> None:
    """As draw_targets, over the maps of one or more images of one size.

    targets: contiguous, of the right dtypes, any content. The polygons of all images are offset at
    once, since a step of NumPy takes as long for those of one.
    """
    joined = Polygons.joined(polygons)
    height, width = targets[0].prob.shape
    drawn = as_drawn(joined, (height, width), recipe)
    distances = offset_distances(drawn, recipe)
    with stage("offset"):
        shrunk, wide = outlines(drawn, distances, recipe)
        edged, reaches = drawn, distances
        if recipe.early_thresh:
            edged = within_reach(joined)
            reaches = border_distances(edged, recipe)
            wide = dilated(edged, reaches)
    masked = np.arange(len(distances))
    masked[shrunk.owners] = NOBODY
    whole = Parts(drawn.points.astype(np.int32), drawn.starts, masked)
    last = 0
    for maps, each in zip(targets, polygons, strict=True):
        first, last = last, last + len(each.lengths)
        _draw_parts(maps.prob, 0, shrunk, first, last, 1)
        if recipe.masks:
            _draw_parts(maps.thresh_mask, 0, wide, first, last, 1)
            _draw_parts(maps.prob_mask, 1, whole, first, last, 0)
        else:
            maps.thresh_mask.fill(1)
            maps.prob_mask.fill(1)
        maps.thresh.fill(recipe.thresh_min)
        where = wide.vertices, wide.starts, wide.owners, first, last
        limits = recipe.thresh_min, recipe.thresh_max
        raise_thresholds(maps.thresh, edged.points, edged.starts, reaches, *where, *limits)


def _draw_parts(
    target: np.ndarray, ground: int, parts: Parts, first: int, last: int, value: int
) -> None:
    """Fill a map with ground, and the parts of the polygons first to last in it with a value."""
    target.fill(ground)
    fill(target, parts.vertices, parts.starts, parts.owners, first, last, value)


def compile_kernel() -> None:
    """Compile what is compiled, or load it from the disk's cache; else the first image pays."""
    square = np.array([[1.0, 1], [9, 1], [9, 9], [1, 9]])
    draw_targets(Polygons.from_list([square, square], [False, True]), (9, 9), RECIPES["dbnet"])


@compiled()
def raise_thresholds(
    thresh: np.ndarray,
    points: np.ndarray,
    starts: np.ndarray,
    distances: np.ndarray,
    vertices: np.ndarray,
    ends: np.ndarray,
    owners: np.ndarray,
    begin: int,
    end: int,
    low: float,
    high: float,
) -> None:
    """Raise the map to high - (high - low) * d / D, where d is the distance to a polygon's border.

    thresh: float32 (H, W), changed in place. points, starts: as Polygons has them. distances: D of
    each polygon. vertices, ends, owners: the dilated polygons, as Parts has them, in whose boxes
    the map may change; those of the polygons begin to end are drawn. As in the paper's release, d
    to an edge is that to its nearer end where the edge is seen under an acute angle, else that to
    its line. In a row only pixels within D of it are looked at.
    """
    width = thresh.shape[1]
    nearest = np.full(width, np.inf)  # squared distances in one row to one polygon
    for border in range(len(owners)):
        number = owners[border]
        if not begin <= number < end:
            continue
        x_min, x_max, y_min, y_max = _box(vertices, ends[border], ends[border + 1], *thresh.shape)
        first, last, reach = starts[number], starts[number + 1], distances[number]
        slope = (high - low) / reach
        for y in range(y_min, y_max + 1):
            left, right = width, -1
            for i in range(first, last):
                ax, ay = points[i - 1 if i > first else last - 1]
                bx, by = points[i]
                dx, dy = bx - ax, by - ay
                squared_length = dx * dx + dy * dy
                start, stop = _stretch(ax, ay, bx, by, y, reach)
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


@compiled()
def _box(
    vertices: np.ndarray, first: int, last: int, height: int, width: int
) -> tuple[int, int, int, int]:
    """The least and greatest x and y, in a map of that height and width, of vertices."""
    x_min, x_max, y_min, y_max = width, -1, height, -1
    for i in range(first, last):
        x_min, x_max = min(x_min, vertices[i, 0]), max(x_max, vertices[i, 0])
        y_min, y_max = min(y_min, vertices[i, 1]), max(y_max, vertices[i, 1])
    return max(x_min, 0), min(x_max, width - 1), max(y_min, 0), min(y_max, height - 1)


@compiled()
def _stretch(
    ax: float, ay: float, bx: float, by: float, y: int, reach: float
) -> tuple[float, float]:
    """From where to where pixels of a row are within reach of an edge's box, and of its line.

    To -2 if nowhere.
    """
    if y < min(ay, by) - reach or y > max(ay, by) + reach:
        return 0.0, -2.0
    dx, dy = bx - ax, by - ay
    start, stop = min(ax, bx) - reach, max(ax, bx) + reach
    if abs(dy) > 1e-6:
        middle = ax + dx * (y - ay) / dy
        half = reach * np.sqrt(dx * dx + dy * dy) / abs(dy)
        start, stop = max(start, middle - half), min(stop, middle + half)
    return start, stop
