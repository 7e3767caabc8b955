"""One shard on disk: a ZIP file that any Zarr v3 reader opens.

Nothing in it is compressed by ZIP. The chunks of a sample lie back to back, one chunk a map, so
that a sample is one range of bytes and can be copied from shard to shard; after the last sample
come the records, the metadata and the ZIP's directory, so that a shard is written in one go.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ocr_precompute.files import open_regular, temporary_name
from ocr_precompute.format.archive import (
    END_BYTES,
    ArchiveWriter,
    directory_length,
    entry_count,
    local_header,
    parse_directory,
)
from ocr_precompute.format.blosc import address_of
from ocr_precompute.format.chunks import strip_checksum, with_checksum
from ocr_precompute.format.keys import shard_key
from ocr_precompute.format.records import Records, SampleRecord
from ocr_precompute.format.schema import (
    MAPS,
    METADATA_NAMES,
    RECORDS,
    chunk_name,
    entry_names,
    map_metadata,
    record_name,
    samples_of,
    shard_metadata,
)
from ocr_precompute.parameters import Parameters

COLUMNS = {field: column for column, field in enumerate(MAPS)}
"""Where each map stands in a sample."""

MOST_RECORD = 2**29
"""Bytes of a record array; even the points of 4096 crowded pages take less."""

_MOST_SAMPLES = 2**16  # shards have a few thousand at most
_SPARE = 64  # bytes that a chunk may have more than what is compressed in it


class Bytes(Protocol):
    """A file of which any part can be read, wherever it lies."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    def read(self, start: int, stop: int) -> memoryview:
        """The bytes from start to stop. Raises OSError if they cannot be read."""


class MappedFile:
    """A regular file of this machine, mapped.

    Holds no file handle but the map's, which goes with the object; it can be used by several
    threads, and after a fork. Raises OSError if there is no such file, ValueError if it is empty.
    address: where it begins in memory.
    """

    def __init__(self, path: Path) -> None:
        with open_regular(path) as file:
            self.size = os.fstat(file.fileno()).st_size
            # A view, since slices of a map itself are copies.
            self._data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self.address = address_of(self._data)

    def read(self, start: int, stop: int) -> memoryview:
        """The bytes from start to stop, a view."""
        return self._data[start:stop]


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """Where everything lies in a shard's file.

    starts, stops: int64 (n, maps), of each sample's chunks, in the order of MAPS. records,
    metadata: (start, stop) of each record array and each metadata document. crcs: CRC-32 of all
    entries, in order.
    """

    starts: np.ndarray
    stops: np.ndarray
    records: Mapping[str, tuple[int, int]]
    metadata: Mapping[str, tuple[int, int]]
    crcs: np.ndarray

    @property
    def samples(self) -> int:
        """How many samples the shard holds."""
        return len(self.starts)

    def span(self, field: str, row: int) -> tuple[int, int]:
        """(start, stop) of one sample's chunk of a map."""
        column = COLUMNS[field]
        return int(self.starts[row, column]), int(self.stops[row, column])

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes, about."""
        return 2000 + self.starts.nbytes + self.stops.nbytes + self.crcs.nbytes


def read_index(file: Bytes) -> ShardIndex:
    """Where everything lies in a shard's file.

    Raises ValueError if it was not written by ShardWriter, or its directory is damaged.
    """
    end = file.read(max(0, file.size - END_BYTES), file.size)
    samples = samples_of(entry_count(end))
    if samples > _MOST_SAMPLES:
        raise ValueError(f"it claims to hold {samples} samples")
    names = entry_names(samples)
    tail = file.read(max(0, file.size - directory_length(names)), file.size)
    directory = parse_directory(tail, names, file.size)
    stops = directory.starts + directory.sizes
    chunks = samples * len(MAPS)
    spans = list(zip(directory.starts[chunks:].tolist(), stops[chunks:].tolist(), strict=True))
    return ShardIndex(
        directory.starts[:chunks].reshape(samples, -1),
        stops[:chunks].reshape(samples, -1),
        dict(zip(RECORDS, spans[: len(RECORDS)], strict=True)),
        dict(zip(METADATA_NAMES, spans[len(RECORDS) :], strict=True)),
        directory.crcs,
    )


def is_ours(file: Bytes, index: ShardIndex, parameters: Parameters) -> bool:
    """Whether the maps are as this version writes them with these parameters."""
    expected = {f: map_metadata(f, index.samples, parameters.canonical) for f in MAPS}
    spans = [index.metadata[f"{field}/zarr.json"] for field in MAPS]
    if [stop - start for start, stop in spans] != [len(data) for data in expected.values()]:
        return False
    first = spans[0][0]
    held = file.read(first, spans[-1][1])  # in one piece, for what lies between is short
    return all(
        held[start - first : stop - first] == data
        for (start, stop), data in zip(spans, expected.values(), strict=True)
    )


def check_sizes(index: ShardIndex, parameters: Parameters) -> None:
    """Raises ValueError if a chunk claims more bytes than a sample's map can take."""
    for field, (dtype, tail) in MAPS.items():
        most = math.prod((*parameters.size, *tail)) * dtype.itemsize + _SPARE
        column = COLUMNS[field]
        found = int((index.stops[:, column] - index.starts[:, column]).max())
        if found > most:
            raise ValueError(f"{field} claims to have {found} bytes per sample")


def check_whole(file: Bytes) -> None:
    """Raises ValueError unless a shard's file came as a whole: every checksum in it is compared.

    So does one that was not written by ShardWriter.
    """
    index = read_index(file)
    spans = [
        *zip(index.starts.ravel().tolist(), index.stops.ravel().tolist(), strict=True),
        *index.records.values(),
    ]
    for start, stop in spans:
        strip_checksum(file.read(start, stop))


def read_record(file: Bytes, index: ShardIndex, field: str) -> np.ndarray:
    """One record array. Raises ValueError if it is damaged."""
    start, stop = index.records[field]
    if stop - start > MOST_RECORD:
        raise ValueError(f"{field} claims to have {stop - start} bytes")
    return _decoded(field, file.read(start, stop))


def _decoded(field: str, data: memoryview) -> np.ndarray:
    dtype, tail = RECORDS[field]
    return np.frombuffer(bytes(strip_checksum(data)), dtype).reshape(-1, *tail)


def read_records(file: Bytes, index: ShardIndex) -> Records:
    """All record arrays, read in one piece.

    Raises ValueError if one is damaged, or they contradict each other.
    """
    spans = index.records
    first = min(start for start, _ in spans.values())
    last = max(stop for _, stop in spans.values())
    if last - first > MOST_RECORD:
        raise ValueError(f"the records claim to have {last - first} bytes")
    data = file.read(first, last)
    arrays = {
        f: _decoded(f, data[start - first : stop - first]) for f, (start, stop) in spans.items()
    }
    return Records.from_arrays(arrays)


def entry_faults(file: Bytes, index: ShardIndex, first: int = 0) -> list[str]:
    """What is wrong with entries: a content that is not of the directory's checksum, or what stands
    between contents. first: number of the first entry that is looked at.
    """
    spans = [
        *zip(index.starts.ravel().tolist(), index.stops.ravel().tolist(), strict=True),
        *index.records.values(),
        *index.metadata.values(),
    ]
    entries = zip(entry_names(index.samples), spans, index.crcs.tolist(), strict=True)
    faults = []
    for name, (start, stop), crc in itertools.islice(entries, first, None):
        header = local_header(name, stop - start, crc)
        if crc != zlib.crc32(file.read(start, stop)):
            faults.append(f"{name.decode()}: the directory has another checksum")
        elif file.read(start - len(header), start) != header:
            faults.append(f"{name.decode()}: its header is not what was written")
    return faults


def shard_fault(file: Bytes, key: str) -> str:
    """What is wrong with a shard of that key, to its last byte; empty if nothing is.

    What it holds is compared with the checksums in it and with its key, and not decompressed.
    """
    try:
        index = read_index(file)
        records = read_records(file, index)
    except ValueError as error:
        return str(error)
    if shard_key(records.names, records.keys) != key:
        return "the names and geometry hashes in the shard do not add up to its key"
    return "; ".join(entry_faults(file, index)[:1])


@dataclass(frozen=True, eq=False)
class StoredShard:
    """A finished shard, opened to copy rows from or to check."""

    file: Bytes
    index: ShardIndex
    records: Records

    @classmethod
    def open(cls, file: Bytes) -> StoredShard:
        """Open a shard. Raises ValueError if it is damaged."""
        index = read_index(file)
        return cls(file, index, read_records(file, index))

    def row(self, row: int) -> tuple[dict[str, bytes], SampleRecord]:
        """One sample: its encoded chunks by map, checksums compared, and its record.

        Raises ValueError if it is damaged.
        """
        spans = {field: self.index.span(field, row) for field in MAPS}
        first = min(start for start, _ in spans.values())
        data = self.file.read(first, max(stop for _, stop in spans.values()))
        chunks = {
            f: bytes(data[start - first : stop - first]) for f, (start, stop) in spans.items()
        }
        for chunk in chunks.values():
            strip_checksum(chunk)
        return chunks, self.records[row]


class ShardWriter:
    """Writes one shard, row by row, under a temporary name; whoever gives it its own moves it away.

    workspace: a folder for the temporary name. Only one sample is held in memory at a time. Used as
    a context manager, it removes what it wrote, if that is still there, at the end.
    """

    def __init__(self, key: str, workspace: Path) -> None:
        self._path = workspace / temporary_name(key[:16])
        self._rows = 0

    def __enter__(self) -> ShardWriter:
        self._file = self._path.open("xb")
        self._archive = ArchiveWriter(self._file)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # closing flushes, and the disk may be full
            self._file.close()
        self._path.unlink(missing_ok=True)

    def append(self, chunks: Mapping[str, bytes]) -> None:
        """Add one row: an encoded chunk for each map."""
        for field in MAPS:
            self._archive.add(chunk_name(field, self._rows), chunks[field])
        self._rows += 1

    def finish(self, records: Records, parameters: Parameters) -> Path:
        """Write records, metadata and directory, and flush all to disk; gives the file's path."""
        arrays = records.arrays()
        for field, array in arrays.items():
            data = np.ascontiguousarray(array, RECORDS[field][0]).tobytes()
            self._archive.add(record_name(field), with_checksum(data))
        lengths = {field: len(array) for field, array in arrays.items()}
        for name, data in shard_metadata(lengths, parameters).items():
            self._archive.add(name, data)
        self._archive.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._path
