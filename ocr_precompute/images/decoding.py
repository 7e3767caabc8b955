"""Image files to pixels: checked, decoded, upright, letterboxed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ocr_precompute.errors import ImageError
from ocr_precompute.images import jpeg, png
from ocr_precompute.images.apart import decode_apart
from ocr_precompute.images.headers import (
    Header,
    bmp_header,
    tiff_header,
    tiff_holds_jpeg,
    webp_header,
)
from ocr_precompute.runtime.opencv import without_log
from ocr_precompute.samples import Damage

if TYPE_CHECKING:
    from ocr_precompute.parameters import Decode

_READERS: dict[bytes, Callable[[bytes], Header]] = {
    jpeg.MAGIC: jpeg.read_header,
    png.MAGIC: png.read_header,
    b"BM": bmp_header,
    b"RIFF": webp_header,
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), tiff_header),
}
_COLOUR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_SPARE = 100_000_000  # bytes of memory that an image may take whatever the pixel limit


def memory_limit(max_pixels: int) -> int:
    """Bytes of memory that decoding an image may take, its file included."""
    return 12 * max_pixels + _SPARE


def read_header(data: bytes, max_pixels: int) -> Header:
    """Look at an image file without decoding it.

    Raises ImageError if it is no image, ends too early, has more than max_pixels pixels, or takes
    more memory to decode than memory_limit.
    """
    reader = next((r for magic, r in _READERS.items() if data.startswith(magic)), None)
    if reader is None:
        raise ImageError(
            "is not a JPEG, PNG, BMP, WebP or TIFF image, whatever its name says; replace it"
        )
    header = reader(data)
    if header.width <= 0 or header.height <= 0:
        raise ImageError("has a damaged image header; replace the file")
    if header.width * header.height > max_pixels:
        height, width = header.size
        raise ImageError(
            f"has {width} x {height} pixels, more than the limit of {max_pixels}; "
            "scale it down, or raise max_pixels if you trust it"
        )
    if (needed := len(data) + header.cost) > memory_limit(max_pixels):
        raise ImageError(
            f"takes {needed / 1e6:.0f} MB to decode, more than the limit of "
            f"{memory_limit(max_pixels) / 1e6:.0f} MB; save it again as a plain PNG, or raise "
            "max_pixels if you trust it"
        )
    return header


def check_image(data: bytes, max_pixels: int) -> tuple[int, int]:
    """(height, width) in pixels of an image as displayed. Raises ImageError as read_header."""
    return read_header(data, max_pixels).size


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image file's pixels: uint8 (h, w, 3), upright, in OpenCV's BGR order.

    size: original (height, width) as displayed, before the decoder shrank anything. damage: what
    the decoder warned of; None if of nothing.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    damage: Damage | None = None


def decode(data: bytes, size: tuple[int, int], mode: Decode, max_pixels: int) -> Decoded:
    """Decode an image file.

    size: canonical (H, W). mode: `exact` decodes every pixel; `reduced` lets the JPEG decoder
    shrink by 2, 4 or 8 while the result stays at least as large as its place in the canonical
    image.
    Alpha is dropped, grey and CMYK become RGB, 16 bits become 8. Nothing is written to the error
    stream.
    Raises ImageError as read_header does, and if nothing can be decoded.
    """
    header = read_header(data, max_pixels)
    factor, damage = 1, None
    if header.kind == "JPEG":
        if mode == "reduced":
            shrink = 1 / fit_scale(header.size, size)
            factor = next((k for k in (8, 4, 2) if k <= shrink), 1)
        if jpeg.HAS_DECODER:
            pixels, damage = jpeg.decode(data, header, factor)
        else:
            pixels = _opencv(data, factor)
    elif header.kind == "TIFF" and tiff_holds_jpeg(data):
        pixels, damage = _apart(data)
    else:
        pixels = _opencv(png.plain(data) if header.kind == "PNG" else data)
    if header.kind in ("JPEG", "PNG", "WebP"):  # OpenCV turns TIFF by itself
        pixels = _upright(pixels, header.orientation)
    if pixels.shape[:2] != tuple(-(-n // factor) for n in header.size):
        raise ImageError("has a header that contradicts its pixels; save it again")
    return Decoded(pixels, header.size, damage)


def _apart(data: bytes) -> tuple[np.ndarray, Damage | None]:
    """JPEG data in a TIFF file: pixels, and the words of libjpeg among those of libtiff."""
    pixels, lines = decode_apart(data)
    if pixels is None:
        raise ImageError(f"cannot be decoded ({lines[0]}); replace the file")
    words = [line.removeprefix("JPEGLib: ") for line in lines if line.startswith("JPEGLib: ")]
    return pixels, Damage(words[0]) if words else None


def _opencv(data: bytes | bytearray, factor: int = 1) -> np.ndarray:
    """Pixels as OpenCV decodes them, as stored. Raises ImageError.

    factor: 1, or of a JPEG 2, 4 or 8, by which the decoder shrinks.
    """
    flags = _COLOUR[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with without_log():
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded ({error.err}); replace the file") from error
    if pixels is None:
        raise ImageError("cannot be decoded: the file is damaged or cut short; copy it again")
    return pixels


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels turned as EXIF's orientation says (EXIF 2.32, 4.6.4 A)."""
    if orientation >= 5:
        pixels = cv2.transpose(pixels)
    if orientation in (3, 7):
        return cv2.flip(pixels, -1)
    if orientation in (2, 6):
        return cv2.flip(pixels, 1)
    return cv2.flip(pixels, 0) if orientation in (4, 8) else pixels


def fit_scale(original_size: tuple[int, int], size: tuple[int, int]) -> float:
    """Factor from original to canonical pixels, so that the image just fits in size (H, W)."""
    return min(size[0] / original_size[0], size[1] / original_size[1])


def fitted_size(original_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Height and width, in pixels, of an image scaled to fit into the canonical size (H, W)."""
    height, width = scaled_size(original_size, fit_scale(original_size, size))
    return min(height, size[0]), min(width, size[1])


def scaled_size(original_size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width, in whole pixels, of an image scaled by a factor; at least 1 each."""
    height, width = original_size
    return max(1, round(height * scale)), max(1, round(width * scale))


def letterbox(
    pixels: np.ndarray, original_size: tuple[int, int], size: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """Scale to fit, content at the top left, zero padding.

    pixels: uint8 (h, w, 3) BGR, possibly reduced by the decoder. original_size: (height, width)
    before any reduction. size: canonical (H, W).
    Returns uint8 (H, W, 3) RGB, and the factor from original to canonical pixels.
    """
    height, width = fitted_size(original_size, size)
    content = scaled(pixels, original_size, (height, width))
    image = np.zeros((*size, 3), np.uint8)
    image[:height, :width] = cv2.cvtColor(content, cv2.COLOR_BGR2RGB)
    return image, fit_scale(original_size, size)


def scaled(pixels: np.ndarray, original_size: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Pixels, uint8 (h, w, 3), brought to a size (height, width).

    original_size: (height, width) before any reduction by the decoder. Shrinking averages areas, so
    that thin strokes survive; enlarging is bilinear. So is what is left to do after the decoder has
    shrunk: by less than two it passes no pixel over, in a fifth of the time.
    """
    height, width = size
    shrinks = height < pixels.shape[0] or width < pixels.shape[1]
    little = pixels.shape[:2] != tuple(original_size) and 2 * height >= pixels.shape[0]
    bilinear = little or not shrinks
    return cv2.resize(
        pixels, (width, height), interpolation=cv2.INTER_LINEAR if bilinear else cv2.INTER_AREA
    )
