"""What an image file says of itself, read without decoding anything: EXIF, TIFF, WebP and BMP."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ocr_precompute.errors import ImageError

Kind = Literal["JPEG", "PNG", "BMP", "WebP", "TIFF"]


@dataclass(frozen=True)
class Header:
    """What an image file's header says.

    height, width: in pixels as stored. cost: bytes of memory that decoding takes at most, beside
    the file's own bytes, as measured. orientation: EXIF's, from 1 (upright) to 8.
    """

    kind: Kind
    height: int
    width: int
    cost: int
    orientation: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the image as displayed."""
        return (self.width, self.height) if self.turned else (self.height, self.width)

    @property
    def turned(self) -> bool:
        """Whether the image is turned by a quarter for display."""
        return self.orientation >= 5


def damaged_header() -> ImageError:
    """The error that says that a header makes no sense."""
    return ImageError("has a damaged image header; replace the file")


# ------------------------------------------------------------------------------------ TIFF, EXIF

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _ORIENTATION, _CHANNELS = 256, 257, 258, 259, 274, 277
_STRIP_ROWS, _TILE_WIDTH, _TILE_HEIGHT, _SAMPLE_FORMAT = 278, 322, 323, 339
_INTEGERS = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4)}  # TIFF field types: BYTE, SHORT, LONG


def _directory(data: bytes) -> dict[int, int]:
    """The first value of each whole-number entry of the first directory of TIFF data (TIFF 6.0).

    Raises struct.error if the data ends too early.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    if not order:
        raise struct.error("no byte order")
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    values: dict[int, int] = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(order + "HHI", data, at)
        if kind not in _INTEGERS or not length:
            continue
        code, size = _INTEGERS[kind]
        if length * size > 4:
            (where,) = struct.unpack_from(order + "I", data, at + 8)
        else:
            where = at + 8
        values.setdefault(tag, struct.unpack_from(order + code, data, where)[0])
    return values


def exif_orientation(exif: bytes) -> int:
    """The orientation that EXIF data gives, 1 to 8; 1 if it gives none that makes sense."""
    try:
        orientation = _directory(exif).get(_ORIENTATION, 1)
    except struct.error:
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def tiff_header(data: bytes) -> Header:
    """A TIFF file's header. Raises ImageError if it is damaged, or of a kind that is not read."""
    if data[2:4] in (b"+\0", b"\0+"):
        raise ImageError("is a BigTIFF, which is not supported; convert it to TIFF or PNG")
    try:
        tags = _directory(data)
        height, width = tags[_HEIGHT], tags[_WIDTH]
    except (struct.error, KeyError) as error:
        raise damaged_header() from error
    bits, channels = tags.get(_BITS, 1), tags.get(_CHANNELS, 1)
    if tags.get(_SAMPLE_FORMAT, 1) == 3:
        raise ImageError(
            f"is a TIFF of {bits}-bit floating-point numbers, which is not supported; "
            "convert it to 8 or 16 bits"
        )
    if bits > 16:
        raise ImageError(f"is a TIFF of {bits} bits, which is not supported; convert it to 8 or 16")
    if _TILE_WIDTH in tags:
        # A decoder holds one tile, however little of the image lies in it.
        part = tags[_TILE_WIDTH] * tags.get(_TILE_HEIGHT, 0)
    else:
        part = width * min(height, tags.get(_STRIP_ROWS, height))
    cost = 7 * height * width + part * (4 + channels * max(1, bits // 8))
    orientation = tags.get(_ORIENTATION, 1)
    return Header("TIFF", height, width, cost, orientation if 1 <= orientation <= 8 else 1)


def tiff_holds_jpeg(data: bytes) -> bool:
    """Whether the pixels of a TIFF file are JPEG data."""
    return _directory(data).get(_COMPRESSION) in (6, 7)


# ------------------------------------------------------------------------------------- WebP, BMP


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each chunk of a WebP file that is all there."""
    at, end = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while at + 8 <= end:
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > end:
            return
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def webp_header(data: bytes) -> Header:
    """A WebP file's header. Raises ImageError if it is damaged or the file is cut short."""
    if data[8:12] != b"WEBP":
        raise ImageError("is a RIFF file, but no WebP image; replace it")
    claimed = 8 + int.from_bytes(data[4:8], "little")
    if claimed > len(data):
        raise ImageError(
            f"is a truncated WebP ({len(data)} of {claimed} bytes are there); copy it again"
        )
    kind, body = next(_riff_chunks(data), (b"", b""))
    if kind == b"VP8X" and len(body) >= 10:
        width = 1 + int.from_bytes(body[4:7], "little")
        height = 1 + int.from_bytes(body[7:10], "little")
    elif kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a" and len(body) >= 10:
        width = int.from_bytes(body[6:8], "little") & 0x3FFF
        height = int.from_bytes(body[8:10], "little") & 0x3FFF
    elif kind == b"VP8L" and body[:1] == b"\x2f" and len(body) >= 5:
        sides = int.from_bytes(body[1:5], "little")
        width, height = 1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF)
    else:
        raise damaged_header()
    animated = kind == b"VP8X" and body[0] & 2
    exif = next((b for k, b in _riff_chunks(data) if k == b"EXIF"), b"")
    orientation = exif_orientation(exif.removeprefix(b"Exif\0\0"))
    return Header("WebP", height, width, (12 if animated else 8) * height * width, orientation)


def bmp_header(data: bytes) -> Header:
    """A BMP file's header. Raises ImageError if it is damaged."""
    try:
        (length,) = struct.unpack_from("<I", data, 14)
        width, height = struct.unpack_from("<HH" if length == 12 else "<ii", data, 18)
    except struct.error as error:
        raise damaged_header() from error
    return Header("BMP", abs(height), width, 7 * abs(height) * abs(width))
