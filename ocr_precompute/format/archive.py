"""A ZIP file whose bytes follow from the names and contents of its entries, and nothing else.

Entries are stored as they are, in the order in which they were added, with one fixed date. So where
everything lies follows from names and sizes, and a reader that knows the names takes the directory
apart in a few calls. Source of the layout: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12,
4.3.14 to 4.3.16 and 4.5.3.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

import numpy as np

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_WIDE_END = struct.Struct("<4sQ2H2L4Q")
_WIDE_LOCATOR = struct.Struct("<4sLQL")
_WIDE_FIELD = struct.Struct("<2HQ")
_VERSION, _WIDE_VERSION = 20, 45  # of the layout, that a reader must know
_DATE = 0x0021  # 1 January 1980, the first there is
_MOST, _MOST_ENTRIES = 0xFFFFFFFF, 0xFFFF  # what a field holds if the wide one is to be read
_CRC, _SIZE, _PLAIN_SIZE, _OFFSET = 16, 20, 24, 42  # places in an entry of the directory

END_BYTES = _WIDE_END.size + _WIDE_LOCATOR.size + _END.size
"""At most so many bytes follow the directory's entries."""


@dataclass(frozen=True, eq=False)
class Directory:
    """Where the entries of an archive lie.

    starts, sizes: int64 (N,), bytes from the start of the file, and bytes. crcs: uint32 (N,), the
    CRC-32 of each. start: where the directory itself begins.
    """

    starts: np.ndarray
    sizes: np.ndarray
    crcs: np.ndarray
    start: int


class ArchiveWriter:
    """Writes entries one after the other to a file that is at its start; `finish` ends it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._names: list[bytes] = []
        self._sizes: list[int] = []
        self._crcs: list[int] = []

    def add(self, name: str, data: bytes | memoryview) -> None:
        """Add an entry. Raises ValueError if it is larger than 4 GiB."""
        if len(data) >= _MOST:
            raise ValueError(f"{name} is larger than an entry may be")
        encoded, crc = name.encode(), zlib.crc32(data)
        self._file.write(local_header(encoded, len(data), crc))
        self._file.write(data)
        self._names.append(encoded)
        self._sizes.append(len(data))
        self._crcs.append(crc)

    def finish(self) -> None:
        """Write the directory."""
        sizes, crcs = np.array(self._sizes, np.int64), np.array(self._crcs, np.uint32)
        self._file.write(directory_bytes(tuple(self._names), sizes, crcs))


def archive_bytes(entries: Sequence[tuple[str, bytes]]) -> bytes:
    """A whole archive of these (name, content) entries."""
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    for name, data in entries:
        writer.add(name, data)
    writer.finish()
    return file.getvalue()


def local_header(name: bytes, size: int, crc: int) -> bytes:
    """What stands before an entry's content."""
    head = (b"PK\3\4", _VERSION, 0, 0, 0, _DATE, crc, size, size, len(name), 0)
    return _LOCAL.pack(*head) + name


def header_bytes(name: bytes) -> int:
    """Length of the local header of an entry."""
    return _LOCAL.size + len(name)


def directory_bytes(
    names: tuple[bytes, ...], sizes: np.ndarray, crcs: np.ndarray, wide: bool = False
) -> bytes:
    """The directory of an archive of these entries, and what ends the file.

    wide: with the fields for more than 4 GiB even if there is less; they come by themselves if they
    are needed.
    """
    shape = _shape(names, False)
    offsets = np.cumsum(sizes + shape.headers) - sizes - shape.headers
    start = int(sizes.sum() + shape.headers.sum())
    if wide or start >= _MOST or len(names) >= _MOST_ENTRIES:
        shape, wide = _shape(names, True), True
    entries = shape.template.copy()
    small = sizes.astype("<u4")
    for at, values in zip(shape.fields, (crcs, small, small, offsets), strict=True):
        width = at.shape[1]
        entries[at] = values.astype(f"<u{width}").view(np.uint8).reshape(-1, width)
    return entries.tobytes() + _end(len(names), len(entries), start, wide)


def parse_directory(tail: bytes | memoryview, names: tuple[bytes, ...], size: int) -> Directory:
    """The directory of an archive that `ArchiveWriter` has written.

    tail: the last bytes of the file, the whole directory at least. names: of the entries it must
    have. size: of the file.
    Raises ValueError if it is not that: of another writer, damaged, or cut short.
    """
    count = len(names)
    wide = len(tail) >= _END.size and bytes(tail[-6:-2]) == b"\xff" * 4
    shape = _shape(names, wide)
    length = len(shape.template)
    end = _WIDE_END.size + _WIDE_LOCATOR.size + _END.size if wide else _END.size
    start = size - length - end
    if start < 0 or len(tail) < length + end:
        raise ValueError("it is too short for its directory")
    if bytes(tail[len(tail) - end :]) != _end(count, length, start, wide):
        raise ValueError("the end of its directory is not what was written")
    entries = np.frombuffer(tail, np.uint8, length, len(tail) - length - end)
    crcs, small, plain = (entries.take(at).view("<u4")[:, 0] for at in shape.fields[:3])
    offsets = entries.take(shape.fields[3]).view("<u8" if wide else "<u4")[:, 0].astype(np.int64)
    sizes = small.astype(np.int64)
    starts = np.cumsum(sizes + shape.headers) - sizes
    rest = entries.copy()
    rest[shape.changing] = 0
    if (
        int(starts[-1] + sizes[-1]) != start
        or not np.array_equal(small, plain)
        or not np.array_equal(offsets, starts - shape.headers)
        or not np.array_equal(rest, shape.template)
    ):
        raise ValueError("its directory is not what was written")
    return Directory(starts, sizes, crcs, start)


def entry_count(tail: bytes | memoryview) -> int:
    """How many entries a file says it has, of which these are the last END_BYTES or all of it.

    Raises ValueError if it does not end as an archive without a comment does.
    """
    if len(tail) < _END.size or bytes(tail[-_END.size :][:4]) != b"PK\5\6":
        raise ValueError("it does not end as an archive does")
    count = int(_END.unpack(tail[-_END.size :])[4])
    if count == _MOST_ENTRIES and len(tail) >= END_BYTES:
        count = int(_WIDE_END.unpack(tail[-END_BYTES:][: _WIDE_END.size])[7])
    return count


def directory_length(names: tuple[bytes, ...]) -> int:
    """At most so many bytes at the end of a file are the directory of entries with these names."""
    return len(_shape(names, True).template) + END_BYTES


@dataclass(frozen=True, eq=False)
class _Shape:
    """A directory but for what depends on contents.

    headers: int64 (N,), bytes of each local header. template: uint8, zeros in place of CRC, sizes
    and offset. fields: where the bytes of these four lie in it, int64 (N, 4), of the offset (N, 8)
    if wide. changing: all of these, int64 (M,).
    """

    headers: np.ndarray
    template: np.ndarray
    fields: tuple[np.ndarray, ...]
    changing: np.ndarray


@lru_cache(maxsize=256)  # shards are of a few lengths, again and again
def _shape(names: tuple[bytes, ...], wide: bool) -> _Shape:
    extra = _WIDE_FIELD.pack(1, 8, 0) if wide else b""
    version, offset = (_WIDE_VERSION, _MOST) if wide else (_VERSION, 0)
    entries = [
        _CENTRAL.pack(
            *(b"PK\1\2", version, version, 0, 0, 0, _DATE, 0, 0, 0),
            *(len(name), len(extra), 0, 0, 0, 0, offset),
        )
        + name
        + extra
        for name in names
    ]
    ends = np.cumsum([len(entry) for entry in entries])
    places = ends - np.array([len(entry) for entry in entries])
    fields = (
        *((places + at)[:, None] + np.arange(4) for at in (_CRC, _SIZE, _PLAIN_SIZE)),
        (ends - 8)[:, None] + np.arange(8) if wide else (places + _OFFSET)[:, None] + np.arange(4),
    )
    return _Shape(
        headers=np.array([header_bytes(name) for name in names], np.int64),
        template=np.frombuffer(b"".join(entries), np.uint8),
        fields=fields,
        changing=np.concatenate([at.ravel() for at in fields]),
    )


def _end(count: int, length: int, start: int, wide: bool) -> bytes:
    """What follows the directory's entries. length, start: their bytes, and where they begin."""
    if not wide:
        return _END.pack(b"PK\5\6", 0, 0, count, count, length, start, 0)
    versions = (_WIDE_VERSION, _WIDE_VERSION)
    size = _WIDE_END.size - 12  # of what follows this field
    wide_end = _WIDE_END.pack(b"PK\6\6", size, *versions, 0, 0, count, count, length, start)
    locator = _WIDE_LOCATOR.pack(b"PK\6\7", 0, start + length, 1)
    most = (_MOST_ENTRIES, _MOST_ENTRIES, _MOST, _MOST)
    return wide_end + locator + _END.pack(b"PK\5\6", 0, 0, *most, 0)
