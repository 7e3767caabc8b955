"""A shard opened for reading: mapped, read over a network, or taken apart by zarr-python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ocr_precompute.format.blosc import Packed, address_of
from ocr_precompute.format.chunks import ChunkError, strip_checksum
from ocr_precompute.format.records import Records
from ocr_precompute.format.shard import (
    COLUMNS,
    Bytes,
    MappedFile,
    ShardIndex,
    check_sizes,
    is_ours,
    read_records,
)
from ocr_precompute.parameters import Parameters
from ocr_precompute.reading.foreign import ForeignShard


class OpenedShard(Protocol):
    """A shard opened for reading."""

    def read(
        self, row: int, out: Sequence[tuple[str, np.ndarray]], checksums: bool
    ) -> list[Packed]:
        """Read maps of one sample into arrays, or return chunks to be decompressed into them."""

    def records(self) -> Records:
        """All but the maps. Raises ValueError if they are damaged."""


class IndexedShard:
    """A shard as this version writes it: chunks are ranges of bytes of its file."""

    def __init__(self, file: Bytes, index: ShardIndex) -> None:
        self._file, self._index = file, index
        self._begin = file.address if isinstance(file, MappedFile) else None

    def read(
        self, row: int, out: Sequence[tuple[str, np.ndarray]], checksums: bool
    ) -> list[Packed]:
        """The chunks of the maps, without their checksums; read in one piece.

        Raises ChunkError if one does not match its checksum.
        """
        starts, stops = self._index.starts[row].tolist(), self._index.stops[row].tolist()
        columns = [COLUMNS[field] for field, _ in out]
        first, last = starts[min(columns)], stops[max(columns)]
        data = self._file.read(first, last)
        address = address_of(data) if self._begin is None else self._begin + first
        chunks = []
        for position, column in enumerate(columns):
            begin = starts[column] - first
            chunk = data[begin : stops[column] - first]
            try:
                plain = strip_checksum(chunk) if checksums else chunk[:-4]
            except ValueError as error:
                raise ChunkError(position, str(error)) from error
            chunks.append(Packed(plain, address + begin))
        return chunks

    def records(self) -> Records:
        """All but the maps."""
        return read_records(self._file, self._index)


def open_shard(
    file: Bytes, samples: int, parameters: Parameters, known: Callable[[Bytes], ShardIndex]
) -> OpenedShard:
    """Open a shard of so many samples, wherever it lies.

    known: gives the index of a shard's file, and need not read it twice.
    Raises ValueError if it is damaged or another.
    """
    mapped = isinstance(file, MappedFile)
    try:
        index = known(file)
        ours = is_ours(file, index, parameters)
    except ValueError:
        ours = False
        if not mapped:
            raise
    if not ours:
        if mapped:
            return ForeignShard(file, samples, parameters)
        raise ValueError("it is not as this version writes shards, and read only from a folder")
    if index.samples != samples:
        raise ValueError(f"holds {index.samples} samples, not {samples} as the manifest says")
    check_sizes(index, parameters)
    return IndexedShard(file, index)
