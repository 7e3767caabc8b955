"""A shard opened for reading: mapped, read over a network, or taken apart by zarr-python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ocr_precompute.format.chunks import ChunkError, strip_checksum
from ocr_precompute.format.records import Records
from ocr_precompute.format.schema import MAPS, RECORDS
from ocr_precompute.format.shard import (
    COLUMNS,
    MOST_RECORD,
    Bytes,
    MappedFile,
    ShardIndex,
    is_ours,
    read_records,
)
from ocr_precompute.parameters import Parameters
from ocr_precompute.reading.remote import RangedFile
from ocr_precompute.runtime.forks import undisturbed

_SPARE = 1000  # bytes that a chunk may have more than what is compressed in it


class OpenedShard(Protocol):
    """A shard opened for reading."""

    def read(
        self, row: int, out: Sequence[tuple[str, np.ndarray]], checksums: bool
    ) -> list[memoryview]:
        """Read maps of one sample into arrays, or return chunks to be decompressed into them."""

    def records(self) -> Records:
        """All but the maps. Raises ValueError if they are damaged."""


class IndexedShard:
    """A shard as this version writes it: chunks are ranges of bytes of its file."""

    def __init__(self, file: Bytes, index: ShardIndex, parameters: Parameters) -> None:
        self._file, self._index = file, index
        pixels = math.prod(parameters.size)
        self._most = sum(
            pixels * math.prod(tail) * dtype.itemsize + _SPARE for dtype, tail in MAPS.values()
        )

    def read(
        self, row: int, out: Sequence[tuple[str, np.ndarray]], checksums: bool
    ) -> list[memoryview]:
        """The chunks of the maps, without their checksums; read in one piece.

        Raises ChunkError if one does not match its checksum.
        """
        starts, stops = self._index.starts[row].tolist(), self._index.stops[row].tolist()
        columns = [COLUMNS[field] for field, _ in out]
        first, last = starts[min(columns)], stops[max(columns)]
        if last - first > self._most:
            raise ChunkError(0, "it claims to have more bytes than a sample may take")
        data = self._file.read(first, last)
        chunks = [data[starts[c] - first : stops[c] - first - 4] for c in columns]
        for position, column in enumerate(columns) if checksums else ():
            try:
                strip_checksum(data[starts[column] - first : stops[column] - first])
            except ValueError as error:
                raise ChunkError(position, str(error)) from error
        return chunks

    def records(self) -> Records:
        """All but the maps."""
        return read_records(self._file, self._index)


class ZarrShard:
    """A local shard as zarr-python reads it, with whatever codecs."""

    def __init__(self, path: Path, samples: int, parameters: Parameters) -> None:
        self._group = _open_zarr(path)
        self._samples, self._parameters = samples, parameters
        self._maps: dict[str, Any] = {}

    def read(
        self, row: int, out: Sequence[tuple[str, np.ndarray]], checksums: bool
    ) -> list[memoryview]:
        """Read maps of one sample; zarr-python always compares checksums."""
        for position, (field, array) in enumerate(out):
            try:
                array[...] = self._map(field)[row]
            except Exception as error:  # whatever a codec raises, the data is damaged
                raise ChunkError(position, str(error)) from error
        return []

    def records(self) -> Records:
        """All but the maps."""
        return Records.from_arrays({field: self._record(field) for field in RECORDS})

    def _map(self, field: str) -> Any:
        if field not in self._maps:
            dtype, tail = MAPS[field]
            shape = (*self._parameters.size, *tail)
            array = self._array(field)
            # What the metadata claims is not to be believed before it is allocated.
            if array.chunks != (1, *shape):
                raise ValueError("it is no array of one sample a chunk")
            if array.shape != (self._samples, *shape) or array.dtype != dtype:
                raise ValueError(f"it is an array of {array.shape} {array.dtype}")
            self._maps[field] = array
        return self._maps[field]

    def _record(self, field: str) -> np.ndarray:
        array = self._array(field)
        dtype, tail = RECORDS[field]
        if array.ndim != 1 + len(tail) or array.shape[1:] != tail or array.dtype != dtype:
            raise ValueError(f"{field} is an array of {array.shape} {array.dtype}")
        if array.nbytes > MOST_RECORD:
            raise ValueError(f"{field} claims to have {array.nbytes} bytes")
        return np.asarray(array[:])

    def _array(self, field: str) -> Any:
        array = self._group[field]
        # zarr-python takes zeros for a chunk that is missing.
        if array.size and array.nchunks_initialized != array.nchunks:
            raise ValueError(f"{field} lacks chunks")
        return array


def _open_zarr(path: Path) -> Any:
    with undisturbed:
        import zarr  # slow to import, and not needed for shards as they are written here

    store = zarr.storage.ZipStore(path, mode="r")
    return zarr.open_group(store, mode="r")


def open_shard(
    path: Path, samples: int, parameters: Parameters, known: Callable[[Bytes], ShardIndex]
) -> OpenedShard:
    """Open a shard of so many samples, behind a URL too.

    known: gives the index of a shard's file, and need not read it twice.
    Raises ValueError if it is damaged or another, OSError if it is missing.
    """
    file = MappedFile(path) if isinstance(path, Path) else RangedFile(path)
    try:
        index = known(file)
        ours = is_ours(file, index, parameters)
    except ValueError:
        ours = False
        if not isinstance(path, Path):
            raise
    if not ours:
        if isinstance(path, Path):
            return ZarrShard(path, samples, parameters)
        raise ValueError("it is not as this version writes shards, and read only from a folder")
    if index.samples != samples:
        raise ValueError(f"holds {index.samples} samples, not {samples} as the manifest says")
    return IndexedShard(file, index, parameters)
