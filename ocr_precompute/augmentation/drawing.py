"""A varied sample drawn.

Whatever moves pixels moves the polygons too, and the maps are drawn again from them by the same
kernel that draws those of the store.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ocr_precompute.augmentation.placement import transformed, visible_polygons
from ocr_precompute.augmentation.warping import Page, draw_page
from ocr_precompute.format.schema import MAPS
from ocr_precompute.parameters import Recipe
from ocr_precompute.runtime.stages import stage
from ocr_precompute.targets.maps import Targets, draw_into

_LABELS = tuple(field for field in MAPS if field != "image")


def draw_varied(
    page: Page,
    matrix: np.ndarray,
    light: np.ndarray | None,
    recipe: Recipe,
    out: Mapping[str, np.ndarray],
) -> None:
    """Draw a page with its pixels and polygons moved, in other light.

    matrix, light: as `draw_page` takes them. out: the maps that are wanted, (H, W, ...) of what is
    to be drawn, contiguous, any content.
    """
    if "image" in out:
        with stage("warp"):
            draw_page(page, matrix, light, out["image"])
    wanted = [field for field in _LABELS if field in out]
    if not wanted:
        return
    with stage("labels"):
        height, width = out[wanted[0]].shape
        maps = {
            field: out[field] if field in out else np.empty((height, width), MAPS[field][0])
            for field in _LABELS
        }
        moved = visible_polygons(transformed(page.polygons, matrix), (height, width))
        draw_into(Targets(**maps), moved, recipe)
