"""A sample's picture and label maps as small files for a page, padding cut off."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

import cv2
import numpy as np

from ocr_precompute.samples import CanonicalSample

MAPS = ("prob", "prob_mask", "thresh", "thresh_mask")
_LEVELS = 8  # of the threshold map: more are not told apart, and take room

# Red, green, blue and opacity at most, of what each map marks.
_COLOURS = {
    "prob": (22, 163, 74, 150),
    "prob_mask": (220, 38, 38, 130),
    "thresh": (234, 120, 12, 210),
    "thresh_mask": (37, 99, 235, 110),
}


@dataclass(frozen=True)
class Quality:
    """How large and how good pictures are: longer sides in pixels at most, JPEG quality."""

    picture: int
    maps: int
    jpeg: int


QUALITIES = (
    Quality(1280, 800, 85),
    Quality(1024, 640, 82),
    Quality(800, 640, 78),
    Quality(640, 480, 72),
    Quality(480, 360, 65),
    Quality(320, 240, 55),
    Quality(160, 120, 45),
)
"""The best first."""


def layers(sample: CanonicalSample, content: tuple[int, int], quality: Quality) -> dict[str, str]:
    """The picture, and each map that marks anything, as data URLs.

    content: (height, width) of what is no padding. Maps are transparent but for what they mark:
    `prob_mask` where the loss does not look, the others where they are not at their least.
    """
    height, width = content
    picture = _fitted(sample.image[:height, :width], quality.picture)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality.jpeg])[1]
    urls = {"picture": _data_url("image/jpeg", jpeg)}
    for name in MAPS:
        marked = _marked(name, getattr(sample, name)[:height, :width])
        if marked.any():
            png = _coloured(name, _fitted(marked, quality.maps))
            urls[name] = _data_url("image/png", png)
    return urls


def _marked(name: str, values: np.ndarray) -> np.ndarray:
    """How much of each pixel is marked, uint8 of 0 to 255."""
    if name == "prob_mask":
        return np.where(values == 0, 255, 0).astype(np.uint8)
    if name != "thresh":
        return (values > 0).astype(np.uint8) * 255
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    return ((values - low) * (255 / (high - low))).astype(np.uint8)


def _coloured(name: str, marked: np.ndarray) -> np.ndarray:
    """A PNG file of one colour, opaque as far as marked."""
    red, green, blue, most = _COLOURS[name]
    levels = _LEVELS if name == "thresh" else 2
    steps = np.rint(marked / 255.0 * (levels - 1))
    opacity = np.rint(steps * (most / (levels - 1))).astype(np.uint8)
    picture = np.zeros((*marked.shape, 4), np.uint8)
    picture[opacity > 0, :3] = blue, green, red
    picture[..., 3] = opacity
    png: np.ndarray = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1]
    return png


def _fitted(pixels: np.ndarray, longest: int) -> np.ndarray:
    """Pixels, shrunk so that no side is longer."""
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(pixels)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk: np.ndarray = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _data_url(kind: str, data: np.ndarray) -> str:
    return f"data:{kind};base64,{b64encode(data.tobytes()).decode()}"
