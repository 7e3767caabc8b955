"""Chunks: how one sample's array is compressed, protected by a checksum, and found in its file."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from crc32c import crc32c

from ocr_precompute.files import open_regular
from ocr_precompute.format.blosc import SHUFFLES, library
from ocr_precompute.parameters import Compression

_INDEX_ENTRY = 16  # bytes: offset and length of a chunk, both uint64
_BLOSC_HEADER = struct.Struct("<4xIII")  # after 4 bytes of flags: raw, block and compressed bytes


def encode_chunk(array: np.ndarray, compression: Compression) -> bytes:
    """One sample's array as a chunk: blosc, then its crc32c (4 bytes, little endian)."""
    shuffle = SHUFFLES[shuffle_of(array.dtype, compression)]
    array = np.ascontiguousarray(array)
    packed = library().compress(array, compression.cname, compression.clevel, shuffle)
    return with_checksum(packed)


def shuffle_of(dtype: np.dtype, compression: Compression) -> str:
    """How Blosc orders an array's bytes: single bytes are left as they are."""
    return compression.shuffle if dtype.itemsize > 1 else "noshuffle"


def with_checksum(data: bytes) -> bytes:
    """The bytes, then their crc32c."""
    checksum: int = crc32c(data)
    return data + checksum.to_bytes(4, "little")


def strip_checksum(data: bytes | memoryview) -> memoryview:
    """The bytes without their crc32c. Raises ValueError if it does not match."""
    view = memoryview(data)
    # It takes microseconds: giving the interpreter lock away for so long costs more than it gives.
    if len(view) < 4 or crc32c(view[:-4], gil_release_mode=0) != int.from_bytes(
        view[-4:], "little"
    ):
        raise ValueError("checksum mismatch: the data is damaged")
    return view[:-4]


class ChunkError(ValueError):
    """One of several chunks cannot be decompressed; `position` says which."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position


def decompress(packed: Sequence[bytes | memoryview], out: Sequence[np.ndarray]) -> None:
    """Decompress chunks, without their checksums, each into its array.

    out: for each chunk a contiguous, writeable array of the size that was compressed.
    Raises ChunkError if a chunk is damaged or holds another size; what the arrays hold is then
    undefined.
    """
    # The header says how much will be read and written: check it before it is believed.
    for position, (chunk, array) in enumerate(zip(packed, out, strict=True)):
        if len(chunk) < _BLOSC_HEADER.size:
            raise ChunkError(position, "chunk is too short")
        raw, _, compressed = _BLOSC_HEADER.unpack_from(chunk)
        if raw != array.nbytes or compressed != len(chunk):
            reason = "chunk does not hold one sample of the expected size"
            raise ChunkError(position, reason)
    position = library().decompress(packed, out)
    if position >= 0:
        raise ChunkError(position, "chunk cannot be decompressed")


class ChunkFile:
    """The chunks of one map array: its file, mapped, and the sharding index at its end.

    Holds no file handle of its own but the map's, which goes with the object; it can be used by
    several threads, and after a fork.
    Raises ValueError if the sharding index is damaged, OSError if there is no such regular file.
    """

    def __init__(self, path: Path, samples: int) -> None:
        with open_regular(path) as file:
            self.size = os.fstat(file.fileno()).st_size
            length = samples * _INDEX_ENTRY + 4
            if self.size < length:
                raise ValueError("file is shorter than its index")
            # A view, since slices of a map itself are copies.
            self._data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        index = np.frombuffer(strip_checksum(self._data[self.size - length :]), "<u8")
        offsets, lengths = index.reshape(samples, 2).T
        ends = np.cumsum(lengths)
        inside = (lengths < self.size).all()  # or sums could wrap around
        if not inside or ends[-1] + length != self.size or (offsets != ends - lengths).any():
            raise ValueError("sharding index does not cover the file")
        self._ends: list[int] = [0, *ends.tolist()]

    def chunk(self, row: int) -> memoryview:
        """The stored bytes of one sample's chunk, checksum included and not compared."""
        return self._data[self._ends[row] : self._ends[row + 1]]

    def packed(self, row: int, checksum: bool = True) -> memoryview:
        """One sample's chunk without its checksum, which is compared if so asked.

        Raises ValueError if it does not match.
        """
        chunk = self.chunk(row)
        return strip_checksum(chunk) if checksum else chunk[:-4]


def index_bytes(lengths: Sequence[int]) -> bytes:
    """The sharding index, with its crc32c, of chunks that follow each other from the file's start.

    lengths: bytes of each chunk.
    """
    sizes = np.array(lengths, "<u8")
    return with_checksum(np.stack([np.cumsum(sizes) - sizes, sizes], axis=1).tobytes())
