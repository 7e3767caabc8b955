"""Reading a store: `open_store(path).split("val")[0]`.

Local shards as this version writes them are mapped, and their chunks are decompressed straight into
the caller's arrays. A map array of another codec or on another file system is read by zarr-python,
with the same result.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import operator
import os
import resource
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ocr_precompute.errors import StoreError, one_line
from ocr_precompute.files import inside, read_bounded
from ocr_precompute.format.blocks import decompress_range
from ocr_precompute.format.chunks import ChunkError, ChunkFile, decompress
from ocr_precompute.format.manifest import Manifest, ShardEntry
from ocr_precompute.format.shard import (
    MAPS,
    MOST_RECORD,
    RECORDS,
    Records,
    SampleRecord,
    map_file,
    map_metadata,
    read_record,
    read_records,
    record_metadata,
)
from ocr_precompute.parameters import Parameters
from ocr_precompute.reading.remote import Access, RemoteError, remote_folder
from ocr_precompute.runtime.forks import undisturbed
from ocr_precompute.samples import CanonicalSample, Polygons
from ocr_precompute.storage.store import check_store, published, shard_path, split_names

_MOST_METADATA = 2**20  # bytes of a zarr.json
_OPEN_RECORDS = 64  # shards whose records are kept in memory


def open_store(path: str | Path, *, checksums: bool = True, timeout: float = 60.0) -> Store:
    """Open a store for reading.

    path: a folder, or the URL of one (`s3://bucket/store`; needs the `remote` extra).
    checksums: whether every chunk's crc32c is compared when it is read; it costs about 3 % of the
    time. timeout: seconds that one request to a URL may take.
    Raises StoreError if there is no store, it is out of reach, or of another format version.
    """
    folder = remote_folder(path) if isinstance(path, str) and "://" in path else Path(path)
    return Store(folder, checksums=checksums, timeout=timeout)


class Store:
    """A store opened for reading."""

    def __init__(self, path: Path, *, checksums: bool = True, timeout: float = 60.0) -> None:
        self.path = path
        self._checksums = checksums
        self._access = Access(path, timeout)
        self._access.ask(lambda: check_store(path))

    @property
    def splits(self) -> list[str]:
        """Names of the published splits."""
        return self._access.ask(lambda: split_names(self.path))

    def split(self, name: str) -> Split:
        """A published split. Raises StoreError if there is none of that name."""
        manifest = self._access.ask(lambda: published(self.path, name))
        return Split(self.path, manifest, checksums=self._checksums, timeout=self._access.limit)


class Split:
    """The samples of one published split, ordered by name.

    Can be pickled, used after a fork, and read by several threads at once. Files are opened when
    they are first read; the number of open ones is bounded, however many shards there are.
    """

    def __init__(
        self, store: Path, manifest: Manifest, *, checksums: bool = True, timeout: float = 60.0
    ) -> None:
        self.manifest = manifest
        self.store = store
        self._checksums = checksums
        self._access = Access(store, timeout)
        self._starts = [0, *itertools.accumulate(shard.samples for shard in manifest.shards)]
        self._names: tuple[str, ...] | None = None
        # Caches of functions, not of methods, so that they go when the split goes. They take no
        # lock that a fork could find held, and neither may anything else here.
        opened = partial(_open_map, store, manifest)
        self._maps = lru_cache(maxsize=most_open_maps())(opened)
        self._shard_records = lru_cache(maxsize=_OPEN_RECORDS)(partial(_open_records, store))

    def __reduce__(self) -> tuple[Any, ...]:
        made = partial(Split, checksums=self._checksums, timeout=self._access.limit)
        return made, (self.store, self.manifest)

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """Every sample's name, in order."""
        if self._names is None:
            shards = (
                self._access.ask(partial(_open_records, self.store, entry))
                for entry in self.manifest.shards
            )
            self._names = tuple(name for records in shards for name in records.names)
        return self._names

    def __getitem__(self, index: int) -> CanonicalSample:
        """One canonical sample. Raises IndexError, or StoreError if its data is damaged."""
        record = self.record(index)
        maps = {field: array[0] for field, array in self.read([index], tuple(MAPS)).items()}
        return CanonicalSample(
            name=record.name,
            polygons=record.polygons,
            ignore=record.ignore,
            matrix=record.matrix,
            original_size=record.original_size,
            damage=record.damage,
            **maps,
        )

    def record(self, index: int) -> SampleRecord:
        """All of one sample but its maps. Raises as indexing does."""
        entry, row = self.locate(index)
        return self._records(entry)[row].copy()

    def placed_polygons(self, index: int) -> tuple[Polygons, np.ndarray, tuple[int, int]]:
        """One sample's polygons, its matrix and its original size, without a copy.

        Polygons: float32 points in canonical pixels; the rest as in CanonicalSample. All arrays are
        views of what the samples of a shard share, and must not be changed. Raises as indexing.
        """
        entry, row = self.locate(index)
        records = self._records(entry)
        first, last = records.sample_offsets[row : row + 2]
        ends = records.polygon_offsets[first : last + 1]
        points = records.points[ends[0] : ends[-1]]
        height, width = records.original_size[row].tolist()
        polygons = Polygons(points, np.diff(ends), records.ignore[first:last])
        return polygons, records.matrix[row], (height, width)

    def read_rows(self, index: int, field: str, start: int, stop: int, out: np.ndarray) -> None:
        """Read the pixel rows start to stop of one sample's map, and unpack little more than those.

        out: contiguous, writeable array of (stop - start, W) or, of the image, (stop - start, W, 3)
        and the map's dtype.
        Raises IndexError, ValueError for an unknown field, for rows that are not in the map or for
        an array that does not fit, StoreError if data is damaged.
        """
        _check_fields([field])
        dtype, shape = MAPS[field][0], self.shape(field)
        if not 0 <= start <= stop <= shape[0]:
            raise ValueError(f"rows {start} to {stop} of {shape[0]}")
        if found := _misfit(out, (stop - start, *shape[1:]), dtype):
            raise ValueError(
                f"out is not a contiguous, writeable array of {(stop - start, *shape[1:])} "
                f"{dtype}, but {found}"
            )
        shard, row = self._place(index)
        try:
            # What comes too late over a network is not written into out.
            came = np.empty_like(out) if self._access.is_remote else out
            self._access.ask(
                lambda: self._maps(shard, field).read_rows(row, start, came, self._checksums)
            )
            if came is not out:
                out[...] = came
        except RemoteError:
            raise
        except Exception as error:  # whatever a codec raises, the data is damaged
            raise self._damaged(field, shard, row, error) from error

    def read(
        self,
        indices: Sequence[int],
        fields: Sequence[str] = ("image", "prob"),
        out: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Maps of several samples at once.

        indices: in any order, repeats allowed. fields: any of image, prob, prob_mask, thresh,
        thresh_mask. out: for each field the array to read into, of the result's shape and dtype,
        contiguous and writeable; no two may share memory.
        Returns one array a field, first axis = the indices; dtypes and shapes as in
        CanonicalSample. Raises IndexError, ValueError for an unknown field or an array in out that
        does not fit, StoreError if data is damaged.
        """
        _check_fields(fields)
        if out is None:
            batch = {
                field: np.empty((len(indices), *self.shape(field)), MAPS[field][0])
                for field in fields
            }
            self._fill(indices, batch)
            return batch
        if missing := [field for field in fields if field not in out]:
            raise ValueError(f"out holds no array for {', '.join(missing)}")
        batch = {field: out[field] for field in fields}
        self.fill(indices, batch)
        return batch

    def fill(self, indices: Sequence[int], out: Mapping[str, np.ndarray]) -> None:
        """Read maps of samples into arrays; raises as `read` does.

        out: for each map the array to read it into: contiguous, writeable, of the map's dtype and
        shape, first axis = the indices. No two may share memory.
        """
        _check_fields(out)
        self._check_arrays(len(indices), out)
        self._fill(indices, out)

    def _fill(self, indices: Sequence[int], out: Mapping[str, np.ndarray]) -> None:
        rows = [self._place(index) for index in indices]
        places = [(field, shard, row) for field in out for shard, row in rows]
        targets = [target for array in out.values() for target in array.view(np.ndarray)]
        waiting = []
        for position, ((field, shard, row), target) in enumerate(zip(places, targets, strict=True)):
            try:
                packed = self._read_map(shard, field, row, target)
            except RemoteError:
                raise
            except Exception as error:  # whatever a codec raises, the data is damaged
                raise self._damaged(*places[position], error) from error
            if packed is not None:
                waiting.append((position, packed))
        try:
            decompress([packed for _, packed in waiting], [targets[at] for at, _ in waiting])
        except ChunkError as error:
            raise self._damaged(*places[waiting[error.position][0]], error) from error

    def _read_map(self, shard: int, field: str, row: int, target: np.ndarray) -> memoryview | None:
        """As _MapReader.read; what comes too late over a network is not written into target."""
        if not self._access.is_remote:
            return self._maps(shard, field).read(row, target, self._checksums)
        came = np.empty_like(target)
        self._access.ask(lambda: self._maps(shard, field).read(row, came, self._checksums))
        target[...] = came
        return None

    def _records(self, entry: ShardEntry) -> Records:
        return self._access.ask(lambda: self._shard_records(entry))

    def _check_arrays(self, samples: int, out: Mapping[str, np.ndarray]) -> None:
        """Raises ValueError unless compiled code may write into the arrays."""
        for field, array in out.items():
            dtype, shape = MAPS[field][0], (samples, *self.shape(field))
            if found := _misfit(array, shape, dtype):
                raise ValueError(
                    f"out[{field!r}] is not a contiguous, writeable array of {shape} {dtype}, "
                    f"but {found}"
                )
        for (a, first), (b, second) in itertools.combinations(out.items(), 2):
            if np.may_share_memory(first, second):  # of contiguous arrays: do share
                raise ValueError(f"out[{a!r}] and out[{b!r}] share memory")

    def shape(self, field: str) -> tuple[int, ...]:
        """Shape of one sample's map: (H, W), or (H, W, 3) for the image."""
        return (*self.manifest.parameters.size, *MAPS[field][1])

    def locate(self, index: int) -> tuple[ShardEntry, int]:
        """The shard that holds a sample, and its row there. Raises IndexError."""
        shard, row = self._place(index)
        return self.manifest.shards[shard], row

    def _place(self, index: int) -> tuple[int, int]:
        index = operator.index(index)
        position = index + self._starts[-1] if index < 0 else index
        if not 0 <= position < self._starts[-1]:
            raise IndexError(f"sample {index} of a split of {len(self)}")
        shard = bisect_right(self._starts, position) - 1
        return shard, position - self._starts[shard]

    def _damaged(self, field: str, shard: int, row: int, error: Exception) -> StoreError:
        entry = self.manifest.shards[shard]
        return StoreError(
            f"shard {entry.key}: sample {self._name(entry, row)}: {field} cannot be read "
            f"({one_line(error)}); run `ocr-precompute verify`"
        )

    def _name(self, entry: ShardEntry, row: int) -> str:
        """For messages: the sample's name, or its row if the names are damaged too."""
        try:
            return repr(self._records(entry).names[row])
        except StoreError:
            return f"in row {row}"


def _check_fields(fields: Iterable[str]) -> None:
    if unknown := [field for field in fields if field not in MAPS]:
        raise ValueError(f"unknown fields {unknown}; one of {', '.join(MAPS)}")


def _misfit(array: object, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Why an array cannot be read into; empty if it can be."""
    if not isinstance(array, np.ndarray):
        return f"of type {type(array).__name__}"
    if (array.shape, array.dtype) != (shape, dtype):
        return f"of {array.shape} {array.dtype}"
    if not array.flags.c_contiguous:
        return "not contiguous"
    return "" if array.flags.writeable else "read-only"


class _MapReader(Protocol):
    def read(self, row: int, out: np.ndarray, checksum: bool) -> memoryview | None:
        """Read one sample's array into out, or return what is still to be decompressed into it."""

    def read_rows(self, row: int, start: int, out: np.ndarray, checksum: bool) -> None:
        """Read as many rows of pixels of one sample's array as out has, from start."""


class _MappedMap:
    """One map array in a mapped file, just as this version writes it."""

    def __init__(self, path: Path, samples: int, sample_bytes: int) -> None:
        self._file, self._sample_bytes = ChunkFile(path, samples), sample_bytes

    def read(self, row: int, out: np.ndarray, checksum: bool) -> memoryview | None:
        """The sample's chunk, which has to be decompressed into out."""
        return self._file.packed(row, checksum)

    def read_rows(self, row: int, start: int, out: np.ndarray, checksum: bool) -> None:
        """Decompress the blocks that hold the rows."""
        packed = self._file.packed(row, checksum)
        decompress_range(packed, self._sample_bytes, start * out.strides[0], out)


class _ZarrMap:
    """One map array as zarr-python reads it: any codec, any file system."""

    def __init__(self, shard: Path, field: str, samples: int, parameters: Parameters) -> None:
        array = _open_zarr(shard / field)
        dtype, tail = MAPS[field]
        shape = (*parameters.size, *tail)
        # What the metadata claims is not to be believed before it is allocated.
        if array.chunks != (1, *shape):
            raise ValueError("it is no array of one sample a chunk")
        if array.shape != (samples, *shape) or array.dtype != dtype:
            raise ValueError(f"it is an array of {array.shape} {array.dtype}")
        self._array = array

    def read(self, row: int, out: np.ndarray, checksum: bool) -> memoryview | None:
        """Read one sample's array into out; zarr-python always compares checksums."""
        out[...] = self._array[row]
        return None

    def read_rows(self, row: int, start: int, out: np.ndarray, checksum: bool) -> None:
        """Read rows of pixels into out; zarr-python unpacks all of them."""
        out[...] = self._array[row, start : start + len(out)]


def _open_zarr(path: Path) -> Any:
    with undisturbed:
        import zarr  # slow to import, and not needed for local stores

    for file in inside(path) if isinstance(path, Path) else ():
        if not (file.is_file() or file.is_dir()):  # zarr-python would wait for a pipe
            raise ValueError(f"{file.name} is not a regular file")
    options = getattr(path, "storage_options", None)
    return zarr.open_array(str(path), mode="r", storage_options=dict(options) if options else None)


def _open_map(store: Path, manifest: Manifest, number: int, field: str) -> _MapReader:
    """A map array of a shard: mapped if it is local and just as this version writes it."""
    entry, parameters = manifest.shards[number], manifest.parameters
    shard = shard_path(store, entry.key)
    metadata = map_metadata(field, entry.samples, parameters.size, parameters.compression)
    if isinstance(shard, Path) and _is(shard / field / "zarr.json", metadata):
        dtype, tail = MAPS[field]
        sample_bytes = dtype.itemsize * math.prod((*parameters.size, *tail))
        return _MappedMap(shard / map_file(field), entry.samples, sample_bytes)
    return _ZarrMap(shard, field, entry.samples, parameters)


def _is(path: Path, data: bytes) -> bool:
    """Whether a file holds just these bytes. Raises OSError if it is no regular file."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.getsize(path) == len(data) and read_bounded(path, len(data)) == data
    return False


def _open_records(store: Path, entry: ShardEntry) -> Records:
    shard = shard_path(store, entry.key)
    try:
        try:
            records = read_records(shard)
        except (OSError, ValueError):
            records = Records.from_arrays({field: _record(shard, field) for field in RECORDS})
    except Exception as error:  # whatever a codec raises, the data is damaged
        raise StoreError(
            f"shard {entry.key}: cannot be read ({one_line(error)}); run `ocr-precompute verify`"
        ) from error
    if len(records.names) != entry.samples:
        raise StoreError(
            f"shard {entry.key}: holds {len(records.names)} samples, not {entry.samples} "
            "as the manifest says; run `ocr-precompute verify`"
        )
    return records


def _record(shard: Path, field: str) -> np.ndarray:
    """A record array of any codec. One as this version writes it is read as such: zarr-python takes
    zeros for a file that is missing.
    """
    metadata = read_bounded(shard / field / "zarr.json", _MOST_METADATA)
    ours = False
    with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
        ours = metadata == record_metadata(field, json.loads(metadata)["shape"][0])
    return read_record(shard, field) if ours else _zarr_record(shard, field)


def _zarr_record(shard: Path, field: str) -> np.ndarray:
    array = _open_zarr(shard / field)
    dtype, tail = RECORDS[field]
    if array.ndim != 1 + len(tail) or array.shape[1:] != tail or array.dtype != dtype:
        raise ValueError(f"{field} is an array of {array.shape} {array.dtype}")
    if array.nbytes > MOST_RECORD:
        raise ValueError(f"{field} claims to have {array.nbytes} bytes")
    return np.asarray(array[:])


def most_open_maps() -> int:
    """How many map arrays one split keeps open: a quarter of the files a process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(4096, soft // 4) if soft != resource.RLIM_INFINITY else 4096
