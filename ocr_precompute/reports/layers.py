"""A sample's picture and label maps as small files for a page, padding cut off."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from dataclasses import dataclass

import cv2
import numpy as np

from ocr_precompute.samples import CanonicalSample

MAPS = ("prob", "prob_mask", "thresh", "thresh_mask")
# Of a pixel. More levels of the threshold map are not told apart, and take room.
_BITS = {"prob": 1, "prob_mask": 1, "thresh": 4, "thresh_mask": 1}

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
    jpeg = small_jpeg(sample.image[:height, :width], quality.picture, quality.jpeg)
    urls = {"picture": _data_url("image/jpeg", jpeg)}
    for name in MAPS:
        marked = _marked(name, getattr(sample, name)[:height, :width])
        if marked.any():
            png = _coloured(name, _fitted(marked, quality.maps))
            urls[name] = _data_url("image/png", png)
    return urls


def small_jpeg(image: np.ndarray, longest: int, quality: int) -> bytes:
    """A JPEG file of an image, uint8 (H, W, 3) RGB, shrunk so that no side is longer."""
    bgr = cv2.cvtColor(_fitted(image, longest), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


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


def _coloured(name: str, marked: np.ndarray) -> bytes:
    """A PNG file of one colour, opaque as far as marked."""
    *colour, most = _COLOURS[name]
    last = (1 << _BITS[name]) - 1
    opacity = bytes(round(most * level / last) for level in range(last + 1))
    levels = np.rint(marked * np.float32(last / 255)).astype(np.uint8)
    return indexed_png(levels, _BITS[name], bytes(colour) * (last + 1), opacity)


def indexed_png(levels: np.ndarray, bits: int, palette: bytes, opacity: bytes) -> bytes:
    """A PNG file of few colours.

    levels: uint8 (H, W), each a number of a colour. bits: 1, 2 or 4, of a pixel. palette: three
    bytes a colour. opacity: a byte a colour. OpenCV would write four bytes a pixel, and
    compress those.
    """
    height, width = levels.shape
    shifts = np.arange(bits - 1, -1, -1, dtype=np.uint8)
    spread = (levels[..., None] >> shifts & 1).reshape(height, width * bits)
    rows = np.packbits(spread, axis=1)
    lines = np.zeros((height, rows.shape[1] + 1), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = rows
    header = struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", palette),
        (b"tRNS", opacity),
        (b"IDAT", zlib.compress(lines.tobytes(), 6)),
        (b"IEND", b""),
    )
    written = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def _fitted(pixels: np.ndarray, longest: int) -> np.ndarray:
    """Pixels, shrunk so that no side is longer."""
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(pixels)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk: np.ndarray = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{b64encode(data).decode()}"
