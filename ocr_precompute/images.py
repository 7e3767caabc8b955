"""Image files to pixels: checked, decoded, upright, letterboxed."""

from __future__ import annotations

import io

import cv2
import imagesize
import numpy as np

from ocr_precompute.config import Decode
from ocr_precompute.errors import ImageError

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_MAGIC = (_JPEG, _PNG, b"BM", b"RIFF", b"II*\0", b"MM\0*")
_REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
}


def check_image(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Look at an image file without decoding it.

    Returns (height, width) in pixels of the image as displayed (EXIF orientation applied).
    Raises ImageError if it is no image, is cut short, or has more than max_pixels pixels.
    """
    if not data.startswith(_MAGIC):
        raise ImageError(
            "is not a JPEG, PNG, BMP, WebP or TIFF image, whatever its name says; replace it"
        )
    try:
        width, height = imagesize.get(io.BytesIO(data))
    except Exception as error:  # the library parses hostile bytes: any failure means a bad header
        raise ImageError("has a damaged image header; replace the file") from error
    if width <= 0 or height <= 0:
        raise ImageError("has a damaged image header; replace the file")
    if width * height > max_pixels:
        raise ImageError(
            f"has {width} x {height} pixels, more than the limit of {max_pixels}; "
            "scale it down, or raise max_pixels if you trust it"
        )
    if data.startswith(_JPEG) and not _jpeg_is_complete(data):
        raise ImageError("is a truncated JPEG (its end marker is missing); copy it again")
    if data.startswith(_PNG) and b"IEND" not in data[-64:]:
        raise ImageError("is a truncated PNG (its end chunk is missing); copy it again")
    return height, width


def is_turned(data: bytes) -> bool:
    """Whether an image that check_image accepts is turned by a quarter for display (EXIF)."""
    shown = imagesize.get(io.BytesIO(data))
    stored = imagesize.get(io.BytesIO(data), exif_rotation=False)
    return bool(shown != stored)


def _jpeg_is_complete(data: bytes) -> bool:
    """Whether an end-of-image marker follows the first scan.

    Segments before the scan are stepped over, since an embedded thumbnail has an end of its own;
    inside entropy-coded data the marker cannot occur (ITU-T T.81, B.1.1.5).
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xDA:
            return data.find(b"\xff\xd9", at) >= 0
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def decode(
    data: bytes, size: tuple[int, int], mode: Decode, max_pixels: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels of an image file, upright.

    size: canonical (H, W). mode: `exact` decodes every pixel; `reduced` lets the JPEG decoder
    shrink by 2, 4 or 8 while the result stays at least as large as its place in the canonical
    image.
    Returns uint8 (h, w, 3) in OpenCV's BGR order, and the original (height, width) as displayed.
    Alpha is dropped, grey and CMYK become RGB, 16 bits become 8.
    Raises ImageError as check_image does, and if the content cannot be decoded.
    """
    header_size = check_image(data, max_pixels)
    factor = 1
    if mode == "reduced" and data.startswith(_JPEG):
        shrink = 1 / fit_scale(header_size, size)
        factor = next((k for k in _REDUCED if k <= shrink), 1)
    flags = _REDUCED.get(factor, cv2.IMREAD_COLOR)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded ({error.err}); replace the file") from error
    if pixels is None:
        raise ImageError("cannot be decoded: the file is damaged or cut short; copy it again")
    if factor == 1:
        return pixels, (pixels.shape[0], pixels.shape[1])
    if pixels.shape[:2] != tuple(-(-n // factor) for n in header_size):
        raise ImageError("has a header that contradicts its pixels; save it again")
    return pixels, header_size


def fit_scale(original_size: tuple[int, int], size: tuple[int, int]) -> float:
    """Factor from original to canonical pixels, so that the image just fits in size (H, W)."""
    return min(size[0] / original_size[0], size[1] / original_size[1])


def letterbox(
    pixels: np.ndarray, original_size: tuple[int, int], size: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """Scale to fit, content at the top left, zero padding.

    pixels: uint8 (h, w, 3) BGR, possibly reduced by the decoder. original_size: (height, width)
    before any reduction. size: canonical (H, W).
    Returns uint8 (H, W, 3) RGB, and the factor from original to canonical pixels. Shrinking
    averages areas, so that thin strokes survive; enlarging is bilinear. So is what is left to do
    after the decoder has shrunk: by less than two it passes no pixel over, in a fifth of the time.
    """
    scale = fit_scale(original_size, size)
    height, width = (
        min(limit, max(1, round(n * scale))) for n, limit in zip(original_size, size, strict=True)
    )
    shrinks = height < pixels.shape[0] or width < pixels.shape[1]
    little = pixels.shape[:2] != tuple(original_size) and 2 * height >= pixels.shape[0]
    bilinear = little or not shrinks
    content = cv2.resize(
        pixels, (width, height), interpolation=cv2.INTER_LINEAR if bilinear else cv2.INTER_AREA
    )
    image = np.zeros((*size, 3), np.uint8)
    image[:height, :width] = cv2.cvtColor(content, cv2.COLOR_BGR2RGB)
    return image, scale
