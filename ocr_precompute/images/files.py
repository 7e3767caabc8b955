"""Image files: their bytes, within bounds, and what is wrong with them."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from ocr_precompute.errors import ImageError, Problem
from ocr_precompute.images import jpeg
from ocr_precompute.images.decoding import check_image, memory_limit
from ocr_precompute.remote_images import RemoteImage, Stamp
from ocr_precompute.runtime.stages import stage

_BEGINNING = 1 << 18  # bytes
_TOO_LARGE = "is larger than any image within the pixel limit; replace it"


def read_image(path: Path | RemoteImage, max_pixels: int) -> bytes:
    """An image file's bytes. Raises OSError if it cannot be read, ImageError if it is no image."""
    if isinstance(path, RemoteImage):
        return read_stamped(path, max_pixels)[0]
    look_at(path, max_pixels)
    with stage("read"):
        return path.read_bytes()


def read_stamped(image: RemoteImage, max_pixels: int) -> tuple[bytes, Stamp]:
    """An object's bytes and its stamp. Raises as read_image does, StoreError as its reader."""
    try:
        with stage("read"):
            return image.read_stamped(memory_limit(max_pixels))
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ImageError(_TOO_LARGE) from None
        raise


def displayed_size(path: Path | RemoteImage, max_pixels: int) -> tuple[int, int]:
    """(height, width) in pixels of an image file as displayed, by its header.

    Of a JPEG file no more than its beginning is read, if that tells; of an object all is. Raises as
    read_image does.
    """
    if isinstance(path, RemoteImage):
        return check_image(read_image(path, max_pixels), max_pixels)
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
    check_length(status.st_size, max_pixels)
    return status


def check_length(length: int, max_pixels: int) -> None:
    """Raises ImageError for so many bytes of a file, if no image has them."""
    if length > memory_limit(max_pixels):
        raise ImageError(_TOO_LARGE)


def image_problem(
    path: str | Path | RemoteImage, name: str, reason: str | OSError | ImageError
) -> Problem:
    """What is wrong with the image file of a sample."""
    if isinstance(reason, OSError):
        reason = f"cannot be read: {reason.strerror or reason}; replace it"
    return Problem("image", str(path), "", str(reason), name)
