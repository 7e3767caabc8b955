"""The one way a sample is computed: image bytes and polygons in, canonical sample out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ocr_precompute.images.decoding import decode, letterbox
from ocr_precompute.parameters import Parameters
from ocr_precompute.samples import CanonicalSample, Polygons
from ocr_precompute.targets.fates import outside_page, polygon_fates
from ocr_precompute.targets.maps import draw_targets


def compute_sample(
    name: str,
    data: bytes,
    polygons: Polygons,
    parameters: Parameters,
    max_pixels: int,
    lap: Callable[[str], None] = lambda stage: None,
) -> CanonicalSample:
    """The canonical sample of one image file.

    This is the only way a sample is ever computed: `build` stores its result, `verify --recompute`
    and live training call it again.

    data: the image file's bytes. polygons: in pixels of the image as displayed. lap: called at the
    end of each stage with its name: decode, resize, labels.
    Raises ImageError if the image cannot be decoded or has more than max_pixels pixels.
    """
    decoded = decode(data, parameters.size, parameters.decode, max_pixels)
    lap("decode")
    image, scale = letterbox(decoded.pixels, decoded.size, parameters.size)
    lap("resize")
    canonical = polygons.scaled(scale)
    targets = draw_targets(canonical, parameters.size, parameters.recipe)
    outside = outside_page(polygons, np.array(decoded.size[::-1]))
    fate, _ = polygon_fates(canonical, outside, parameters.size, parameters.recipe)
    lap("labels")
    return CanonicalSample(
        name=name,
        image=image,
        prob=targets.prob,
        prob_mask=targets.prob_mask,
        thresh=targets.thresh,
        thresh_mask=targets.thresh_mask,
        polygons=canonical.as_list(),
        ignore=canonical.ignore,
        fate=fate,
        matrix=np.diag([1 / scale, 1 / scale, 1.0]),
        original_size=decoded.size,
        damage=decoded.damage,
    )
