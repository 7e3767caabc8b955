"""The one way a sample is computed: image bytes and polygons in, canonical sample out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ocr_precompute.images.decoding import decode, letterbox
from ocr_precompute.parameters import Parameters
from ocr_precompute.runtime.stages import stage
from ocr_precompute.samples import CanonicalSample, Damage, Polygons
from ocr_precompute.targets.fates import outside_page, polygon_fates
from ocr_precompute.targets.maps import draw_targets


@dataclass(frozen=True, eq=False)
class CanonicalImage:
    """An image at canonical size: uint8 (H, W, 3) RGB, content at the top left, zero padding.

    scale: from original to canonical pixels. original_size: (height, width) as displayed. damage:
    what the decoder warned of; None if of nothing.
    """

    image: np.ndarray
    scale: float
    original_size: tuple[int, int]
    damage: Damage | None

    @property
    def matrix(self) -> np.ndarray:
        """From canonical to original pixels, float64 (3, 3)."""
        return np.diag([1 / self.scale, 1 / self.scale, 1.0])


def canonical_image(
    data: bytes,
    parameters: Parameters,
    max_pixels: int,
) -> CanonicalImage:
    """Decode an image file and letterbox it. Arguments and errors as in compute_sample."""
    with stage("decode"):
        decoded = decode(data, parameters.size, parameters.decode, max_pixels)
    with stage("resize"):
        image, scale = letterbox(decoded.pixels, decoded.size, parameters.size)
    return CanonicalImage(image, scale, decoded.size, decoded.damage)


def compute_sample(
    name: str,
    data: bytes,
    polygons: Polygons,
    parameters: Parameters,
    max_pixels: int,
) -> CanonicalSample:
    """The canonical sample of one image file.

    This is the only way a sample is ever computed: `build` stores its result, `verify --recompute`
    and live training call it again.

    data: the image file's bytes. polygons: in pixels of the image as displayed.
    Raises ImageError if the image cannot be decoded or has more than max_pixels pixels.
    """
    page = canonical_image(data, parameters, max_pixels)
    with stage("labels"):
        canonical = polygons.scaled(page.scale)
        targets = draw_targets(canonical, parameters.size, parameters.recipe)
        outside = outside_page(polygons, np.array(page.original_size[::-1]))
        fate, _ = polygon_fates(canonical, outside, parameters.size, parameters.recipe)
    return CanonicalSample(
        name=name,
        image=page.image,
        prob=targets.prob,
        prob_mask=targets.prob_mask,
        thresh=targets.thresh,
        thresh_mask=targets.thresh_mask,
        polygons=canonical.as_list(),
        ignore=canonical.ignore,
        fate=fate,
        matrix=page.matrix,
        original_size=page.original_size,
        damage=page.damage,
    )
