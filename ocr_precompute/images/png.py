"""PNG files, taken apart before a decoder sees them.

libpng writes its warnings to the error stream, without a file's name, and trusts the lengths that
chunks claim. So chunks are walked, checksums compared and pixel data inflated here; OpenCV's
decoder gets a file of the same pixels that leaves it nothing to complain of.
Source: the PNG specification, third edition (W3C 2025).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ocr_precompute.errors import ImageError
from ocr_precompute.images.headers import Header, damaged_header, exif_orientation

MAGIC = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_LONGEST_SIDE = 10**6  # libpng's own limit
_FILTERS = bytes(range(5))
_PIECE = 2**14  # bytes to inflate at once: they give 16 MB at most, whatever they claim
# Interlacing: first column, first row, steps to the right and down of each pass.
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


@dataclass(frozen=True)
class _Layout:
    """What the IHDR chunk says. bits: of a pixel."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @property
    def bits(self) -> int:
        return self.depth * _CHANNELS[self.colour]

    def rows(self) -> list[range]:
        """Where each row begins in the inflated data, with its filter byte; one range a pass.

        The stop of the last range is where the data ends.
        """
        passes = _ADAM7 if self.interlaced else ((0, 0, 1, 1),)
        starts: list[range] = []
        end = 0
        for left, top, right, down in passes:
            width, height = -(-(self.width - left) // right), -(-(self.height - top) // down)
            if width > 0 and height > 0:
                stride = 1 + -(-width * self.bits // 8)
                starts.append(range(end, end + stride * height, stride))
                end += stride * height
        return starts


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the content of each chunk, up to the end chunk.

    Raises ImageError if a chunk claims more than there is, or the end chunk is missing.
    """
    at = len(MAGIC)
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if not kind.isalpha():
            raise ImageError("is a damaged PNG (a chunk has no valid name); copy it again")
        left = len(data) - at - 12
        if length > left:
            raise ImageError(
                f"is a truncated PNG (its {kind.decode()} chunk claims {length} bytes, "
                f"{max(0, left)} are there); copy it again"
            )
        yield kind, at + 8, at + 8 + length
        if kind == b"IEND":
            return
        at += 12 + length
    raise ImageError("is a truncated PNG (its end chunk is missing); copy it again")


def _layout(kind: bytes, body: bytes) -> _Layout:
    if kind != b"IHDR" or len(body) != 13:
        raise damaged_header()
    width, height, depth, colour, packing, filtering, interlacing = struct.unpack(">IIBBBBB", body)
    sides = 0 < width <= _LONGEST_SIDE and 0 < height <= _LONGEST_SIDE
    if not sides or depth not in _DEPTHS.get(colour, ()) or packing or filtering or interlacing > 1:
        raise damaged_header()
    return _Layout(width, height, depth, colour, bool(interlacing))


def read_header(data: bytes) -> Header:
    """A PNG file's header, with all chunks walked.

    Raises ImageError if it is damaged, a chunk claims more than there is, or there is no end chunk.
    """
    layout: _Layout | None = None
    orientation = 1
    for kind, start, end in _chunks(data):
        if layout is None:
            layout = _layout(kind, data[start:end])
        elif kind == b"eXIf":
            orientation = exif_orientation(data[start:end])
    if layout is None:
        raise damaged_header()
    inflated = layout.rows()[-1].stop
    cost = 7 * layout.height * layout.width + inflated + inflated // 8
    return Header("PNG", layout.height, layout.width, cost, orientation)


def plain(data: bytes) -> bytearray:
    """A PNG file of the same pixels, of nothing but what decides them, and sound throughout.

    Pixel data is stored, not deflated again: that takes hardly longer than a copy. What follows the
    end chunk, or the pixels in the pixel data, is left out.
    Raises ImageError if the file is damaged.
    """
    header, palette = b"", b""
    pixels: list[memoryview] = []
    for kind, start, end in _chunks(data):
        if kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            if kind[:1].isupper():
                name = kind.decode()
                raise ImageError(f"is a PNG with an unknown chunk {name}; save it again as PNG")
            continue
        checksum = int.from_bytes(data[end : end + 4], "big")
        if zlib.crc32(memoryview(data)[start - 4 : end]) != checksum:
            name = kind.decode()
            raise ImageError(
                f"is a damaged PNG (the checksum of its {name} chunk is wrong); copy it again"
            )
        if kind == b"IHDR":
            header = header or data[start:end]
        elif kind == b"PLTE":
            palette = palette or data[start:end]
        elif kind == b"IDAT":
            pixels.append(memoryview(data)[start:end])
    layout = _layout(b"IHDR", header)
    out = bytearray(MAGIC)
    _append(out, b"IHDR", header)
    if layout.colour == 3:
        # As long as its indices can reach: those beyond a short palette are black.
        whole = 3 * 2**layout.depth
        _append(out, b"PLTE", palette[:whole].ljust(whole, b"\0"))
    _append_stored(out, pixels, layout)
    _append(out, b"IEND", b"")
    return out


def _append(out: bytearray, kind: bytes, body: bytes) -> None:
    out += len(body).to_bytes(4, "big") + kind + body
    out += zlib.crc32(kind + body).to_bytes(4, "big")


def _append_stored(out: bytearray, pixels: list[memoryview], layout: _Layout) -> None:
    """Inflate pixel data and append it as one chunk, stored."""
    rows = layout.rows()
    length, done = rows[-1].stop, 0
    deflate = zlib.compressobj(0)
    start = len(out)
    out += b"\0\0\0\0IDAT"
    for data in _inflated(pixels, length):
        filters = b"".join(data[_row_starts(row, done, len(data))] for row in rows)
        if filters.translate(None, _FILTERS):
            raise ImageError("is a damaged PNG (a row has an unknown filter); copy it again")
        done += len(data)
        out += deflate.compress(data)
    if done < length:
        raise ImageError(
            f"is a truncated PNG ({done} of {length} bytes of pixel data are there); copy it again"
        )
    out += deflate.flush()
    out[start : start + 4] = (len(out) - start - 8).to_bytes(4, "big")
    out += zlib.crc32(memoryview(out)[start + 4 :]).to_bytes(4, "big")


def _inflated(pixels: list[memoryview], length: int) -> Iterator[bytes]:
    """Pixel data inflated, piece by piece, up to the given length."""
    stream = zlib.decompressobj()
    for part in pixels:
        for at in range(0, len(part), _PIECE):
            try:
                data = stream.decompress(part[at : at + _PIECE])
            except zlib.error as error:
                reason = str(error).rpartition(": ")[2]
                raise ImageError(f"is a damaged PNG ({reason}); copy it again") from error
            yield data[:length]
            if stream.eof or len(data) > length:
                return
            length -= len(data)


def _row_starts(row: range, done: int, length: int) -> slice:
    """Which of `length` bytes, with `done` bytes before them, begin a row of that range."""
    first = row.start - done if row.start >= done else (row.start - done) % row.step
    return slice(first, max(0, min(length, row.stop - done)), row.step)
