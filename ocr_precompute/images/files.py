"""Image files: their bytes, within bounds, and what is wrong with them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from ocr_precompute.errors import ImageError, Problem
from ocr_precompute.images import jpeg
from ocr_precompute.images.decoding import check_image, memory_limit
from ocr_precompute.runtime.stages import stage

_BEGINNING = 1 << 18  # bytes


def read_image(path: Path, max_pixels: int) -> bytes:
    """An image file's bytes. Raises OSError if it cannot be read, ImageError if it is no image."""
    look_at(path, max_pixels)
    with stage("read"):
        return path.read_bytes()


def displayed_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """(height, width) in pixels of an image file as displayed, by its header.

    Of a JPEG file no more than its beginning is read, if that tells. Raises as read_image does.
    """
    look_at(path, max_pixels)
    with stage("read"), path.open("rb") as file:
        data = file.read(_BEGINNING)
        if data.startswith(jpeg.MAGIC):
            with suppress(ImageError):  # what comes before the size may be longer
                return check_image(data, max_pixels)
        data += file.read()
    return check_image(data, max_pixels)


def look_at(path: str | Path, max_pixels: int) -> os.stat_result:
    """The status of an image file, which is not opened. Raises as read_image does."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("is not a regular file; replace it")
    if status.st_size > memory_limit(max_pixels):
        raise ImageError("is larger than any image within the pixel limit; replace it")
    return status


def image_problem(path: str | Path, name: str, reason: str | OSError | ImageError) -> Problem:
    """What is wrong with the image file of a sample."""
    if isinstance(reason, OSError):
        reason = f"cannot be read: {reason.strerror or reason}; replace it"
    return Problem("image", str(path), "", str(reason), name)
