"""Labels drawn edge by edge with numpy, as published DBNet trainers do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pyclipper

from ocr_precompute.parameters import Recipe
from ocr_precompute.targets.maps import Targets

ToEdge = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def offset(polygon: np.ndarray, distance: float) -> list[np.ndarray]:
    """The polygon moved outwards by so many pixels: its parts, int32 (V, 2)."""
    clipper = pyclipper.PyclipperOffset()
    clipper.AddPath(polygon.tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return [np.array(part, np.int32) for part in clipper.Execute(distance)]


def offset_distance(polygon: np.ndarray, recipe: Recipe) -> float:
    """D = area * (1 - r^2) / perimeter, pixels; 0 for a polygon that is not drawn."""
    if (np.ptp(polygon, axis=0) < recipe.min_size).any():
        return 0.0
    if recipe.integer_vertices:
        contour = polygon.astype(np.int32)
        area = cv2.contourArea(contour)
        perimeter = cv2.arcLength(contour, True) + np.finfo(float).eps
    else:
        following = np.roll(polygon, -1, axis=0)
        perimeter = np.linalg.norm(following - polygon, axis=1).sum()
        (x, y), (next_x, next_y) = (polygon - polygon[0]).T, (following - polygon[0]).T
        area = abs((x * next_y - next_x * y).sum()) / 2
    if area < recipe.min_area:
        return 0.0
    return float(area * (1 - recipe.shrink_ratio**2) / perimeter) if perimeter else 0.0


def edge_distance(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of all pixels (x, y) to the edge from a to b.

    To the nearer end where the edge is seen under an acute angle, to its line elsewhere.
    """
    across, down = b - a
    squared_length = across**2 + down**2
    to_a = (x - a[0]) ** 2 + (y - a[1]) ** 2
    to_b = (x - b[0]) ** 2 + (y - b[1]) ** 2
    cross = across * (y - a[1]) - down * (x - a[0])
    to_line = np.abs(cross) / max(np.sqrt(squared_length), np.finfo(float).tiny)
    to_end = np.sqrt(np.minimum(to_a, to_b))
    distance: np.ndarray = np.where(to_a + to_b > squared_length, to_end, to_line)
    return distance


def edge_distance_by_cosines(
    x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """As edge_distance, from the angle at each pixel between the edge's ends."""
    squared_length = ((b - a) ** 2).sum()
    to_a = np.square(x - a[0]) + np.square(y - a[1])
    to_b = np.square(x - b[0]) + np.square(y - b[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = (to_a + to_b - squared_length) / (2 * np.sqrt(to_a * to_b))
        sine_squared = np.nan_to_num(1 - np.square(cosine))
        to_line = np.sqrt(np.maximum(to_a * to_b * sine_squared / squared_length, 0))
    distance: np.ndarray = np.where(cosine > 0, np.sqrt(np.fmin(to_a, to_b)), to_line)
    return distance


def raise_border(
    canvas: np.ndarray,
    polygon: np.ndarray,
    part: np.ndarray,
    distance: float,
    to_edge: ToEdge,
) -> None:
    """Raise the canvas to 1 - d / D in the box of a dilated part, in place."""
    height, width = canvas.shape
    x_min, y_min = np.maximum(part.min(axis=0), 0)
    x_max, y_max = np.minimum(part.max(axis=0), (width - 1, height - 1))
    if x_min > x_max or y_min > y_max:
        return
    y, x = np.mgrid[y_min : y_max + 1, x_min : x_max + 1].astype(np.float64)
    edges = zip(polygon, np.roll(polygon, -1, axis=0), strict=True)
    distances = np.stack([to_edge(x, y, a, b) for a, b in edges])
    nearest = np.clip(distances.min(axis=0) / distance, 0, 1)
    box = canvas[y_min : y_max + 1, x_min : x_max + 1]
    np.maximum(box, 1 - nearest, out=box)


def numpy_targets(
    polygons: Sequence[np.ndarray],
    ignore: Sequence[bool],
    side: int,
    recipe: Recipe,
    to_edge: ToEdge = edge_distance,
) -> Targets:
    """The four maps, the numpy way."""
    size = (side, side)
    prob, prob_mask = np.zeros(size, np.uint8), np.ones(size, np.uint8)
    thresh_mask = np.zeros(size, np.uint8) if recipe.masks else np.ones(size, np.uint8)
    canvas = np.zeros(size, np.float32)
    for original, ignored in zip(polygons, ignore, strict=True):
        polygon = original.astype(np.float64)
        if recipe.clip:
            polygon = np.clip(polygon, 0, side - 1)
        if recipe.integer_vertices:
            polygon = np.trunc(polygon)
        distance = 0.0 if ignored else offset_distance(polygon, recipe)
        shrunk = offset(polygon, -distance) if distance > 0 else []
        if recipe.masks and not shrunk:
            cv2.fillPoly(prob_mask, [polygon.astype(np.int32)], 0)
            continue
        if distance == 0:
            continue
        kept = None if recipe.every_part else 1
        for part in shrunk[:kept]:
            cv2.fillPoly(prob, [part], 1)
        for part in offset(polygon, distance)[:kept]:
            if recipe.masks:
                cv2.fillPoly(thresh_mask, [part], 1)
            raise_border(canvas, polygon, part, distance, to_edge)
    thresh = canvas * (recipe.thresh_max - recipe.thresh_min) + recipe.thresh_min
    return Targets(prob, prob_mask, thresh.astype(np.float32), thresh_mask)
