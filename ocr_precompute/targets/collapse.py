"""Which polygons are so thin that the shrink leaves nothing of them, for very many at once."""

from __future__ import annotations

import numpy as np

from ocr_precompute.parameters import Recipe
from ocr_precompute.samples import Polygons
from ocr_precompute.targets.offsets import offset_distances, shrink_distances, vanishes
from ocr_precompute.targets.shapes import measured

# Pixels. Offsetting rounds to whole pixels twice, by which something thin may vanish. Of 100,000
# random quads none vanished whose inner circle was more than 0.85 px larger than the offset.
_ROUNDING = 1.0


def collapsed(polygons: Polygons, recipe: Recipe) -> np.ndarray:
    """Whether the shrink leaves nothing of each polygon, bool (N,).

    polygons: as they are drawn (see `as_drawn`), each of some area, canonical pixels.
    An offset takes microseconds a polygon, so it is computed only where there is doubt. It cuts
    vertices to whole pixels first. What it leaves of a rectangle along the axes is known then; of
    any other polygon it leaves something if the largest circle inside is larger than the distance.
    That circle's radius is at least (L - sqrt(L^2 - 4 pi A)) / 2 pi for area A and perimeter L
    (Osserman 1979, "Bonnesen-style isoperimetric inequalities").
    Of several shrinks that are tried it is the last, which is the least, that decides.
    """
    whole = measured(polygons.with_points(np.trunc(polygons.points)))
    shapes = whole if recipe.whole_shrink else measured(polygons)
    perimeters = np.maximum(shapes.perimeters, np.finfo(float).tiny)
    distances = shapes.areas * (1 - recipe.ratios[-1] ** 2) / perimeters
    sure = np.ones(len(distances), bool)
    if recipe.whole_shrink:
        sure = np.abs(distances % 1 - 0.5) > 1e-6  # of what the distance is rounded to
        distances = np.floor(distances + 0.5)
    excess = whole.perimeters**2 - 4 * np.pi * whole.areas
    radii = (whole.perimeters - np.sqrt(np.maximum(excess, 0))) / (2 * np.pi)

    edges = np.stack([whole.low + distances, whole.high - distances])
    certain = sure & whole.upright & (np.abs(edges % 1 - 0.5) > 1e-6).all(axis=(0, 1))
    nothing: np.ndarray = certain & (np.rint(edges[0]) >= np.rint(edges[1])).any(axis=0)

    doubtful = np.flatnonzero(~(certain | (sure & (radii - distances >= _ROUNDING))))
    asked = polygons.chosen(doubtful)
    exact = offset_distances(asked, recipe)
    shrinks = shrink_distances(asked, exact, recipe).tolist()
    found = zip(doubtful, asked.as_list(), exact, shrinks, strict=True)
    for number, polygon, distance, tried in found:
        nothing[number] = distance <= 0 or vanishes(polygon, *tried)
    return nothing
