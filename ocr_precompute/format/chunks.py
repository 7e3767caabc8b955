"""Chunks: how one sample's array is compressed, protected by a checksum, and found in its file."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from crc32c import crc32c

from ocr_precompute.format.blosc import SHUFFLES, Packed, library
from ocr_precompute.parameters import Compression

_BLOSC_HEADER = struct.Struct("<4xIII")  # after 4 bytes of flags: raw, block and compressed bytes


def encode_chunk(array: np.ndarray, compression: Compression) -> bytes:
    """One sample's array as a chunk: blosc, then its crc32c (4 bytes, little endian).

    An array of (H, W, C), an image, is cut into blocks of `compression.block_rows` rows.
    """
    shuffle = SHUFFLES[shuffle_of(array.dtype, compression)]
    array = np.ascontiguousarray(array)
    block = block_bytes(array.shape, compression) if array.ndim == 3 else 0
    packed = library().compress(array, compression.cname, compression.clevel, shuffle, block)
    return with_checksum(packed)


def shuffle_of(dtype: np.dtype, compression: Compression) -> str:
    """How Blosc orders an array's bytes: single bytes are left as they are."""
    return compression.shuffle if dtype.itemsize > 1 else "noshuffle"


def block_bytes(shape: Sequence[int], compression: Compression) -> int:
    """Bytes of a Blosc block of an image of (H, W, C) bytes; 0 leaves it to Blosc."""
    return compression.block_rows * shape[1] * shape[2]


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


def decompress(chunks: Sequence[Packed], out: Sequence[np.ndarray]) -> None:
    """Decompress chunks, each into its array.

    out: for each chunk a contiguous, writeable array of the size that was compressed.
    Raises ChunkError if a chunk is damaged or holds another size; what the arrays hold is then
    undefined.
    """
    # The header says how much will be read and written: check it before it is believed.
    for position, (chunk, array) in enumerate(zip(chunks, out, strict=True)):
        data = chunk.data
        if len(data) < _BLOSC_HEADER.size:
            raise ChunkError(position, "chunk is too short")
        raw, _, compressed = _BLOSC_HEADER.unpack_from(data)
        if raw != array.nbytes or compressed != len(data):
            reason = "chunk does not hold one sample of the expected size"
            raise ChunkError(position, reason)
    position = library().decompress(chunks, out)
    if position >= 0:
        raise ChunkError(position, "chunk cannot be decompressed")
