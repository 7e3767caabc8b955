"""Varied samples drawn.

Whatever moves pixels moves the polygons too, and the maps are drawn again from them by the same
kernel that draws those of the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ocr_precompute.augmentation.placement import transformed, visible_polygons
from ocr_precompute.augmentation.warping import Page, draw_page
from ocr_precompute.format.schema import MAPS
from ocr_precompute.parameters import Recipe
from ocr_precompute.runtime.stages import stage
from ocr_precompute.targets.maps import Targets, draw_into

_LABELS = tuple(field for field in MAPS if field != "image")


class Varied(NamedTuple):
    """A page whose pixels and polygons move, in other light.

    matrix, light: as `draw_page` takes them.
    """

    page: Page
    matrix: np.ndarray
    light: np.ndarray | None


def draw_varied(
    samples: Sequence[Varied], recipe: Recipe, out: Sequence[Mapping[str, np.ndarray]]
) -> None:
    """Draw samples of one size.

    out: of each the maps that are wanted, the same of all, (H, W, ...) of what is to be drawn,
    contiguous, any content.
    """
    for sample, maps in zip(samples, out, strict=True):
        if "image" in maps:
            with stage("warp"):
                draw_page(sample.page, sample.matrix, sample.light, maps["image"])
    wanted = [field for field in _LABELS if out and field in out[0]]
    if not wanted:
        return
    with stage("labels"):
        height, width = out[0][wanted[0]].shape
        unwanted = {
            field: np.empty((height, width), MAPS[field][0])
            for field in _LABELS
            if field not in wanted
        }
        targets = [Targets(**unwanted, **{field: maps[field] for field in wanted}) for maps in out]
        moved = [
            visible_polygons(transformed(page.polygons, matrix), (height, width))
            for page, matrix, _ in samples
        ]
        draw_into(targets, moved, recipe)
