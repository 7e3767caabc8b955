"""Polygons to label maps: the science.

Probability and threshold maps of Differentiable Binarization, Liao et al. 2020 (arXiv 1911.08947),
section 3.4, in the two recipes of `ocr_precompute.config.Recipe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numba
import numpy as np
import pyclipper

from ocr_precompute.config import RECIPES, Recipe

# Vertices are held within this range (pixels). It is far beyond any image, while offsets still fit
# the integers of the clipping library, and filling, which walks every row of a polygon, takes 20 ms
# at the worst and not seconds.
_REACH = float(2**20)


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
    Returns Targets. A polygon of no area, or of fewer than three vertices, draws nothing.
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
        if not np.isfinite(array).all():
            raise ValueError(f"polygon {number}: has a coordinate that is not finite")
    height, width = (size, size) if isinstance(size, int) else size
    return draw_targets(arrays, ignore, (int(height), int(width)), recipe)


def draw_targets(
    polygons: Sequence[np.ndarray],
    ignore: Sequence[bool] | np.ndarray,
    size: tuple[int, int],
    recipe: Recipe,
) -> Targets:
    """As make_targets, for input that is already checked."""
    prob = np.zeros(size, np.uint8)
    prob_mask = np.ones(size, np.uint8)
    thresh_mask = np.zeros(size, np.uint8) if recipe.masks else np.ones(size, np.uint8)
    closeness = np.zeros(size, np.float64)
    for polygon, ignored in zip(polygons, ignore, strict=True):
        if len(polygon) < 3:
            continue
        vertices = np.clip(polygon.astype(np.float64), -_REACH, _REACH)
        if recipe.integer_vertices:
            vertices = np.trunc(vertices)
        distance = offset_distance(vertices, recipe)
        drawn = not ignored and np.ptp(vertices, axis=0).min() >= recipe.min_size and distance > 0
        shrunk = _offset(vertices, -distance) if drawn else []
        if recipe.masks and not shrunk:
            cv2.fillPoly(prob_mask, [vertices.astype(np.int32)], 0)
            continue
        if not drawn:
            continue
        for part in shrunk if recipe.every_part else shrunk[:1]:
            cv2.fillPoly(prob, [part], 1)
        dilated = _offset(vertices, distance)
        for part in dilated if recipe.every_part else dilated[:1]:
            if recipe.masks:
                cv2.fillPoly(thresh_mask, [part], 1)
            x_min, y_min = np.maximum(part.min(axis=0), 0)
            x_max, y_max = np.minimum(part.max(axis=0), (size[1] - 1, size[0] - 1))
            raise_closeness(closeness, vertices, distance, x_min, y_min, x_max, y_max)
    thresh = closeness * (recipe.thresh_max - recipe.thresh_min) + recipe.thresh_min
    return Targets(prob, prob_mask, thresh.astype(np.float32), thresh_mask)


def offset_distance(vertices: np.ndarray, recipe: Recipe) -> float:
    """Offset D = area * (1 - r^2) / perimeter in pixels; 0 for a polygon of no area.

    vertices: float64 (V, 2). Source: Liao et al. 2020, section 3.4, after Vatti clipping.
    """
    if recipe.integer_vertices:  # this recipe's labels were drawn with OpenCV's own measures
        contour = vertices.astype(np.int32)
        area = cv2.contourArea(contour)
        perimeter = cv2.arcLength(contour, True) + np.finfo(float).eps
    else:
        following = np.roll(vertices, -1, axis=0)
        area = abs(polygon_area(vertices))
        perimeter = np.hypot(*(following - vertices).T).sum()
    return float(area * (1 - recipe.shrink_ratio**2) / perimeter) if perimeter > 0 else 0.0


def polygon_area(vertices: np.ndarray) -> float:
    """Signed area of a polygon (V, 2) in square pixels (the shoelace formula)."""
    x, y = np.asarray(vertices, np.float64).T
    # Relative to the first vertex: far from the origin the products would lose the area.
    x, y = x - x[0], y - y[0]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _offset(vertices: np.ndarray, distance: float) -> list[np.ndarray]:
    """Offset a polygon by distance pixels (negative: inwards).

    Returns the parts that remain, each int32 (V, 2), none if the polygon collapses.
    """
    offset = pyclipper.PyclipperOffset()
    try:
        offset.AddPath(vertices.tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    except pyclipper.ClipperException:  # all vertices fall on one point
        return []
    return [np.array(part, np.int32) for part in offset.Execute(distance)]


@numba.njit(cache=True, nogil=True)
def raise_closeness(
    canvas: np.ndarray,
    vertices: np.ndarray,
    reach: float,
    x_min: int,
    y_min: int,
    x_max: int,
    y_max: int,
) -> None:
    """Raise the canvas to 1 - d / reach, where d is the distance to the polygon's border.

    canvas: float64 (H, W), changed in place, only in x_min..x_max, y_min..y_max (inclusive).
    vertices: float64 (V, 2). reach: pixels; farther pixels are left alone.
    As in the paper's release, d to an edge is the distance to the nearer end wherever the edge is
    seen under an acute angle, and to the edge's line elsewhere.
    """
    if not reach > 0 or x_max < x_min or y_max < y_min:
        return
    limit = reach * reach
    nearest = np.full((y_max - y_min + 1, x_max - x_min + 1), np.inf)
    for i in range(len(vertices)):
        ax, ay = vertices[i - 1]
        bx, by = vertices[i]
        dx, dy = bx - ax, by - ay
        squared_length = dx * dx + dy * dy
        x_from = max(x_min, int(np.floor(min(ax, bx) - reach)))
        x_to = min(x_max, int(np.ceil(max(ax, bx) + reach)))
        y_from = max(y_min, int(np.floor(min(ay, by) - reach)))
        y_to = min(y_max, int(np.ceil(max(ay, by) + reach)))
        for y in range(y_from, y_to + 1):
            for x in range(x_from, x_to + 1):
                to_a = (x - ax) * (x - ax) + (y - ay) * (y - ay)
                to_b = (x - bx) * (x - bx) + (y - by) * (y - by)
                if to_a + to_b > squared_length or squared_length == 0.0:
                    squared = min(to_a, to_b)
                else:
                    cross = dx * (y - ay) - dy * (x - ax)
                    squared = cross * cross / squared_length
                if squared < nearest[y - y_min, x - x_min]:
                    nearest[y - y_min, x - x_min] = squared
    for y in range(y_min, y_max + 1):
        for x in range(x_min, x_max + 1):
            squared = nearest[y - y_min, x - x_min]
            if squared < limit:
                closeness = 1.0 - np.sqrt(squared) / reach
                if closeness > canvas[y, x]:
                    canvas[y, x] = closeness
