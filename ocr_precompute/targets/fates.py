"""Which polygons a training learns from, and why it does not learn from the others."""

from __future__ import annotations

import numpy as np

from ocr_precompute.parameters import Recipe
from ocr_precompute.samples import Fate, Polygons
from ocr_precompute.targets.collapse import collapsed
from ocr_precompute.targets.offsets import as_drawn, smaller_sides
from ocr_precompute.targets.shapes import boxes, measured


def outside_page(polygons: Polygons, page: np.ndarray) -> np.ndarray:
    """Whether each polygon lies wholly outside its image, bool (N,).

    page: width and height of the image, (2,) or of each polygon's image (2, N), in the same pixels.
    """
    low, high = boxes(polygons)
    limits = np.asarray(page, float).reshape(2, -1)
    return np.asarray(((high <= 0) | (low >= limits)).any(axis=0))


def polygon_fates(
    canonical: Polygons, outside: np.ndarray, size: tuple[int, int], recipe: Recipe
) -> tuple[np.ndarray, np.ndarray]:
    """What becomes of each polygon, uint8 (N,) of Fate; and the smaller side of its box, float64.

    canonical: in canonical pixels, points in float32. outside: whether it lies outside its image.
    size: canonical (H, W). The labels agree: what the shrink leaves something of is what trains.
    """
    drawn = as_drawn(canonical, size, recipe)
    shapes = measured(drawn)
    sides = smaller_sides(drawn, recipe) if recipe.turned_box else shapes.sides
    small = (sides < recipe.min_size) & (sides > 0)
    empty = ~small & ((shapes.areas < recipe.min_area) | (shapes.areas == 0))
    trains = ~(canonical.ignore | small | empty)
    left = np.flatnonzero(trains)
    trains[left[collapsed(drawn.chosen(left), recipe)]] = False
    if recipe.masks:  # what lies beyond the maps; stores of recipes without count it as it is drawn
        trains &= ~outside_page(drawn, np.array(size[::-1]))
    fates = np.select(
        [canonical.ignore, trains, outside, empty, small],
        [Fate.ANNOTATED, Fate.TRAINS, Fate.OUTSIDE, Fate.NO_AREA, Fate.SMALL],
        Fate.COLLAPSED,
    )
    return fates.astype(np.uint8), sides
