"""A range of a compressed chunk, unpacked without the rest of it.

A chunk of Blosc 1 is a header, a table of where each block begins, and the blocks. Some of the
blocks behind a header and a table of their own are a chunk again, which Blosc itself unpacks,
whatever the codec.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from ocr_precompute.format.blosc import Packed
from ocr_precompute.format.chunks import ChunkError, decompress

_HEADER = struct.Struct("<BBBBIII")  # two versions, flags, itemsize; raw, block and packed bytes
_STORED = 0x02  # the flag of chunks that are not compressed; those have no table
_kept = threading.local()  # for blocks at the ends of ranges: fresh memory costs as much again
_MOST_KEPT = 2**19  # bytes a thread


def decompress_range(packed: bytes | memoryview, raw: int, start: int, out: np.ndarray) -> None:
    """Decompress a range of a chunk, without its checksum, into an array.

    raw: bytes of the whole chunk when unpacked. start: byte at which the range begins. out: a
    contiguous, writeable array of as many bytes as the range.
    Where items are single bytes, blocks outside the range are not looked at, and those that lie in
    it whole are unpacked straight into out. Other chunks are unpacked whole.
    Raises ChunkError if the chunk is damaged or holds another size, and what out holds is then
    undefined; ValueError if the range is not in the chunk.
    """
    target = out.reshape(-1).view(np.uint8)
    stop = start + len(target)
    if not 0 <= start <= stop <= raw:
        raise ValueError(f"bytes {start} to {stop} are not in a chunk of {raw}")
    view = memoryview(packed)
    table = _table(view, raw)
    if table is None:
        whole = np.empty(raw, np.uint8)
        decompress([Packed.of(view)], [whole])
        target[:] = whole[start:stop]
        return
    block, begins = table
    chunks: list[Packed] = []
    arrays: list[np.ndarray] = []
    beside: list[tuple[int, int, np.ndarray]] = []
    spare = _spare(2 * block)
    for first, last in _pieces(start, stop, raw, block):
        low, high = first * block, min(last * block, raw)
        chunks.append(Packed.of(_cut(view, begins, first, last, high - low, block)))
        if start <= low and high <= stop:
            arrays.append(target[low - start : high - start])
        else:
            arrays.append(spare[len(beside) * block :][: high - low])
            beside.append((low, high, arrays[-1]))
    decompress(chunks, arrays)
    for low, high, unpacked in beside:
        a, b = max(low, start), min(high, stop)
        target[a - start : b - start] = unpacked[a - low : b - low]


def _spare(size: int) -> np.ndarray:
    """So many bytes that this thread may write over, uint8."""
    if size > _MOST_KEPT:
        return np.empty(size, np.uint8)
    if not hasattr(_kept, "spare"):
        _kept.spare = np.empty(_MOST_KEPT, np.uint8)
    spare: np.ndarray = _kept.spare
    return spare


def _table(view: memoryview, raw: int) -> tuple[int, tuple[int, ...]] | None:
    """Bytes of a block, and where each begins and the last one ends.

    None if blocks cannot be told apart: items of several bytes, nothing compressed, or blocks that
    do not lie in order, as Blosc leaves them where it packs on several threads.
    Raises ChunkError if the table contradicts the chunk.
    """
    if len(view) < _HEADER.size:
        raise ChunkError(0, "chunk is too short")
    _, _, flags, itemsize, nbytes, block, size = _HEADER.unpack_from(view)
    if nbytes != raw or size != len(view):
        raise ChunkError(0, "chunk does not hold one sample of the expected size")
    if itemsize != 1 or flags & _STORED or not block:
        return None
    block = min(block, raw)
    blocks = -(-raw // block)
    end = _HEADER.size + 4 * blocks
    if end > len(view):
        raise ChunkError(0, "chunk is too short")
    begins = (*struct.unpack_from(f"<{blocks}I", view, _HEADER.size), len(view))
    if begins[0] < end or any(a >= b for a, b in pairwise(begins)):
        return None
    return block, begins


def _pieces(start: int, stop: int, raw: int, block: int) -> Iterator[tuple[int, int]]:
    """Blocks to unpack for a range of bytes: those it holds whole together, others by themselves.

    Yields the first block of a piece, and the one after its last.
    """
    first, last = start // block, -(-stop // block)
    if first < last and start % block:
        yield first, first + 1
        first += 1
    if first < last and stop % block and stop != raw:
        last -= 1
        yield last, last + 1
    if first < last:
        yield first, last


def _cut(
    view: memoryview, begins: Sequence[int], first: int, last: int, raw: int, block: int
) -> bytes:
    """A chunk of the blocks first to last of another; raw: its bytes when unpacked."""
    low, high, blocks = begins[first], begins[last], last - first
    shift = _HEADER.size + 4 * blocks - low
    table = struct.pack(f"<{blocks}I", *(begin + shift for begin in begins[first:last]))
    size = _HEADER.size + len(table) + high - low
    head = _HEADER.pack(*view[:4], raw, min(block, raw), size)
    return b"".join((head, table, view[low:high]))
