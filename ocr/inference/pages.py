"""A picture, from a file or an array, brought to the scale at which a network looks at it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ocr.inference.description import Description
from ocr.inference.postprocess import MOST_CANDIDATES, Detections, PostProcess
from ocr.inference.tiles import Network, Tile, probabilities, stitched, tile_scale
from ocr_precompute.errors import DamagedImageWarning, ImageError, InputError, printable
from ocr_precompute.images.decoding import (
    decode,
    fit_scale,
    fitted_size,
    read_header,
    scaled,
    scaled_size,
)
from ocr_precompute.images.files import image_problem, read_image
from ocr_precompute.remote_images import RemoteImage

MAX_PIXELS = 2**27
"""Pixels that a picture may have, and what is made of it for tiles."""


@dataclass(frozen=True, eq=False)
class Page:
    """What a network looks at: image, uint8 (h, w, 3) RGB; scale, from the picture to it; whether
    it is looked at by tiles; size, the canonical (H, W), of which a tile is.
    """

    image: np.ndarray
    scale: float
    tiled: bool
    size: tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """Height and width that a picture is brought to, the factor, and whether there are tiles."""

    size: tuple[int, int]
    scale: float
    tiled: bool


def read_page(path: Path | RemoteImage, description: Description, tile: Tile) -> Page:
    """The page of an image file, upright as EXIF says. Warns of damage.

    Raises InputError, naming the file, if it cannot be read or decoded, or has too many pixels.
    """
    try:
        data = read_image(path, MAX_PIXELS)
        plan = plan_of(read_header(data, MAX_PIXELS).size, description.size, tile)
        decoded = decode(data, plan.size, description.decode, MAX_PIXELS)
    except (OSError, ImageError) as error:
        raise InputError([image_problem(path, path.name, error)]) from error
    if decoded.damage:
        line = printable(f"{path}: {decoded.damage}")
        warnings.warn(line, DamagedImageWarning, stacklevel=3)
    image = cv2.cvtColor(scaled(decoded.pixels, decoded.size, plan.size), cv2.COLOR_BGR2RGB)
    return Page(image, plan.scale, plan.tiled, description.size)


def page_of(image: np.ndarray, description: Description, tile: Tile) -> Page:
    """The page of an array, uint8 (h, w, 3) RGB.

    Raises ValueError if it is none, ImageError if there are too many pixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        given = f"{image.dtype} {image.shape}"
        raise ValueError(f"the image is {given}; give uint8 (height, width, 3), in RGB")
    height, width = image.shape[:2]
    plan = plan_of((height, width), description.size, tile)
    pixels = scaled(np.ascontiguousarray(image), (height, width), plan.size)
    return Page(pixels, plan.scale, plan.tiled, description.size)


def map_of(page: Page, network: Network) -> np.ndarray:
    """The probability map of a page, float32 (h, w) in 0 to 1, or uint8 in 0 to 255 where it is put
    together from tiles.
    """
    looked_at = stitched if page.tiled else probabilities
    return looked_at(page.image, network, page.size)


def found_in(page: Page, prob: np.ndarray, read: PostProcess) -> Detections:
    """Text in a page, in pixels of the picture.

    prob: its map. read: how a map of canonical size is read; in a larger one as many more regions
    are looked at as it is larger.
    """
    if page.tiled:
        times = -(-prob.size // (page.size[0] * page.size[1]))
        most = min(times * read.max_candidates, MOST_CANDIDATES)
        read = replace(read, max_candidates=most)
    return read(prob).mapped(np.diag([1 / page.scale, 1 / page.scale, 1.0]))


def plan_of(original_size: tuple[int, int], size: tuple[int, int], tile: Tile) -> Plan:
    """What a picture is brought to.

    original_size: its (height, width). size: canonical (H, W).
    Raises ImageError if tiles of that size would make too many pixels of it.
    """
    scale = tile_scale(original_size, size, tile)
    if scale is None:
        return Plan(fitted_size(original_size, size), fit_scale(original_size, size), False)
    height, width = scaled_size(original_size, scale)
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"becomes {width} x {height} pixels by tiles of {tile}, more than the limit of "
            f"{MAX_PIXELS}; give larger tiles"
        )
    return Plan((height, width), scale, True)
