"""The samples of a split: `split[0]`, `split.read([3, 1, 4], ("image", "prob"))`.

Chunks of shards as this version writes them are decompressed straight into the caller's arrays,
from the mapped file or from what a range request brought. A local shard of other codecs is read by
zarr-python, with the same result.
"""

from __future__ import annotations

import itertools
import logging
import operator
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, overload

import numpy as np

from ocr_precompute.augmentation.warping import Page
from ocr_precompute.errors import StoreError, one_line
from ocr_precompute.format.blocks import decompress_range
from ocr_precompute.format.blosc import Packed
from ocr_precompute.format.chunks import ChunkError, decompress
from ocr_precompute.format.manifest import Manifest, ShardEntry
from ocr_precompute.format.parts import SampleIndex
from ocr_precompute.format.records import Records, SampleRecord
from ocr_precompute.format.schema import MAPS
from ocr_precompute.format.shard import Bytes, ShardIndex, read_index
from ocr_precompute.images.decoding import fitted_size
from ocr_precompute.reading.ahead import ReadAhead
from ocr_precompute.reading.cache import BytesCache
from ocr_precompute.reading.foreign import ForeignShard
from ocr_precompute.reading.handles import CACHED, HANDLES
from ocr_precompute.reading.opened import OpenedShard, open_shard
from ocr_precompute.reading.shard_cache import ShardCache
from ocr_precompute.runtime.scratch import scratch
from ocr_precompute.runtime.stages import stage
from ocr_precompute.samples import CanonicalSample, Polygons
from ocr_precompute.storage.seam import Storage
from ocr_precompute.storage.store import sample_index, shard_name

log = logging.getLogger(__name__)
_NUMBERS = itertools.count()  # of splits, for what is open of them
_CHECKSUM, _DECOMPRESS = stage("checksum"), stage("decompress")

T = TypeVar("T")

MOST_CACHED = 2**26
"""Bytes of directories and records of shards that a split keeps in memory."""


_AHEAD = 8
"""Shards to be ahead of the window of shards whose samples are mixed."""


class DamagedShardError(StoreError):
    """A shard does not read well. shard: its number in the split."""

    def __init__(self, message: str, shard: int) -> None:
        super().__init__(message)
        self.shard = shard

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.shard)


class Split:
    """The samples of one published split, ordered by name.

    Can be pickled, used after a fork, and read by several threads at once. Files are opened when
    they are first read; the number of open ones is bounded, however many shards there are.
    """

    def __init__(
        self,
        storage: Storage,
        manifest: Manifest,
        *,
        checksums: bool = True,
        cache: ShardCache | None = None,
    ) -> None:
        self.manifest = manifest
        self.storage = storage
        self.cache = cache
        """Where whole shards are kept on this machine, if anywhere."""
        self._checksums = checksums
        self._handles = HANDLES if cache is None else CACHED
        self._ahead: tuple[ReadAhead, ...] = ()
        size = manifest.parameters.size
        self._shapes = {field: (*size, *tail) for field, (_, tail) in MAPS.items()}
        self._starts = [0, *itertools.accumulate(samples for _, samples in manifest.shards)]
        self._index: SampleIndex | None = None
        self._cache = BytesCache(MOST_CACHED)
        # Nothing here may take a lock that a fork could find held.
        self._number = next(_NUMBERS)
        weakref.finalize(self, self._handles.close, self._number).atexit = False

    def __repr__(self) -> str:
        height, width = self.manifest.parameters.size
        return f"Split({self.manifest.split!r}, {len(self)} samples of {height} x {width})"

    def close(self) -> None:
        """Close all files; they are opened again when they are read again."""
        self._handles.close(self._number)

    def __reduce__(self) -> tuple[Any, ...]:
        kept = partial(Split, checksums=self._checksums, cache=self.cache)
        return kept, (self.storage, self.manifest)

    @property
    def memory(self) -> dict[str, object]:
        """What it holds in memory, by what it is.

        manifest, names and sizes (empty until they are asked for) grow with the split; directories,
        records and handles, each of shards that were read, grow up to a bound.
        """
        known = self._index
        return {
            "manifest": (self.manifest, self._starts),
            "names": () if known is None else known.names,
            "sizes": () if known is None else known.sizes,
            "directories": self._cache.held("directory"),
            "records": self._cache.held("records"),
            "handles": self._handles.held(self._number),
        }

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """Every sample's name, in order. Raises StoreError if the manifest's parts are damaged."""
        return self._known().names

    def index(self, name: str) -> int:
        """The number of the sample of that name. Raises KeyError if there is none."""
        number = bisect_left(self.names, name)
        if number == len(self) or self.names[number] != name:
            raise KeyError(f"no sample {name!r} in split {self.manifest.split!r}")
        return number

    def content_sizes(self) -> np.ndarray:
        """Height and width of each sample's content, which lies at the top left: int32 (n, 2)."""
        canonical = self.manifest.parameters.size
        height, width = self._known().sizes.astype(np.int64).T
        pairs, which = np.unique(height << 32 | width, return_inverse=True)
        fitted = [fitted_size(divmod(pair, 2**32), canonical) for pair in pairs.tolist()]
        return np.array(fitted, np.int32).reshape(-1, 2)[which]

    def _known(self) -> SampleIndex:
        if self._index is None:
            self._index = sample_index(self.storage, self.manifest)
            log.debug("%r: names and sizes of all samples read", self)
        return self._index

    def __iter__(self) -> Iterator[CanonicalSample]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int | str) -> CanonicalSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[CanonicalSample]: ...
    def __getitem__(self, index: int | str | slice) -> CanonicalSample | list[CanonicalSample]:
        """One canonical sample, by number or name, or several.

        Raises IndexError, KeyError for an unknown name, or StoreError if its data is damaged.
        """
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        number = self.index(index) if isinstance(index, str) else index
        record = self.record(number)
        maps = {field: array[0] for field, array in self.read([number], tuple(MAPS)).items()}
        return CanonicalSample(
            name=record.name,
            polygons=record.polygons,
            ignore=record.ignore,
            fate=record.fate,
            matrix=record.matrix,
            original_size=record.original_size,
            damage=record.damage,
            **maps,
        )

    def record(self, index: int) -> SampleRecord:
        """All of one sample but its maps. Raises as indexing does."""
        shard, row = self._place(index)
        return self._records(shard)[row].copy()

    def page(self, index: int) -> Page:
        """One sample to use a part of; of its image only the rows that are asked for are unpacked.

        Its polygons are views of what the samples of a shard share, and must not be changed. Raises
        as indexing does, and so does reading those rows.
        """
        shard, row = self._place(index)
        records = self._records(shard)
        first, last = records.sample_offsets[row : row + 2]
        ends = records.polygon_offsets[first : last + 1]
        points = records.points[ends[0] : ends[-1]]
        polygons = Polygons(points, np.diff(ends), records.ignore[first:last])
        parameters, (height, width) = self.manifest.parameters, records.original_size[row].tolist()
        size, step = parameters.size, parameters.compression.block_rows or 1
        content = fitted_size((height, width), size)
        return Page(polygons, size, content, partial(self.read_rows, index, "image"), step)

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
        expected = (stop - start, *shape[1:])
        if found := _misfit(out, expected, dtype) or ("" if out.shape == expected else "smaller"):
            raise ValueError(
                f"out is not a contiguous, writeable array of {expected} {dtype}, but {found}"
            )
        shard, row = self._place(index)
        whole = scratch(f"split {field}", shape, dtype)  # what other tools wrote is read into it

        def unpack() -> None:
            with _CHECKSUM:
                chunks = self._read(shard, row, [(field, whole)])
            if not chunks:
                out[...] = whole[start:stop]
                return
            try:
                with _DECOMPRESS:
                    decompress_range(chunks[0].data, whole.nbytes, start * whole.strides[0], out)
            except ChunkError as error:
                raise self._damaged(shard, row, field, error) from error

        self._renewing(unpack)

    def read(
        self,
        indices: Sequence[int],
        fields: Sequence[str] = ("image", "prob"),
        out: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Maps of several samples at once.

        indices: in any order, repeats allowed. fields: any of image, prob, prob_mask, thresh,
        thresh_mask. out: for each field the array to read into, see `fill`.
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
        shape, first axis = the indices. It may have fewer rows and columns: then it takes the top
        left of the map. No two may share memory.
        """
        _check_fields(out)
        smaller = self._check_arrays(len(indices), out)
        if not smaller:
            self._fill(indices, out)
            return
        whole = {f: scratch(f"split {f}", (1, *self._shapes[f]), MAPS[f][0]) for f in smaller}
        for position, index in enumerate(indices):
            rows = {field: array[position : position + 1] for field, array in out.items()}
            self._fill([index], {**rows, **whole})
            for field, array in smaller.items():
                array[position] = whole[field][0, : array.shape[1], : array.shape[2]]

    @contextmanager
    def reading_ahead(self, indices: Sequence[int] | np.ndarray, window: int = 1) -> Iterator[None]:
        """Have shards fetched ahead of the samples that will be read within, in this order.

        window: of how many shards samples are mixed. Without a cache this does nothing.
        Raises StoreError if the cache has no room for what is under way.
        """
        if self.cache is None or not len(indices):
            yield
            return
        which = np.searchsorted(self._starts, indices, "right") - 1
        shards = which[np.sort(np.unique(which, return_index=True)[1])].tolist()
        depth = window + _AHEAD
        self._check_room(self.cache, shards[0], depth)
        ahead = ReadAhead(shards, partial(self._fetch, self.cache), depth, self.cache.most // 2)
        self._ahead = (*self._ahead, ahead)
        try:
            yield
        finally:
            self._ahead = tuple(other for other in self._ahead if other is not ahead)
            ahead.close()

    def _fetch(self, cache: ShardCache, shard: int) -> Bytes | None:
        return cache.open_unless_fetched(self.storage, self.manifest.shards[shard].key)

    def _check_room(self, cache: ShardCache, shard: int, depth: int) -> None:
        """Raises StoreError unless twice that depth of shards fits: those in use, and the next."""
        self._open(shard)
        size = cache.size(self.manifest.shards[shard].key) or 0
        shards = min(2 * depth, len(self.manifest.shards))
        if shards * size > cache.most:
            raise StoreError(
                f"{cache.folder}: cache_size is {cache.most} bytes, too small for the {shards} "
                f"shards of {size} bytes that are under way at once; give at least "
                f"{shards * size}, or mix samples of fewer shards"
            )

    def _renewing(self, work: Callable[[], T]) -> T:
        """What work gives; where shards in the cache are damaged, after they were fetched again."""
        renewed: frozenset[int] = frozenset()
        while True:
            try:
                return work()
            except DamagedShardError as error:
                self._renew(error, renewed)
                renewed |= {error.shard}

    def _renew(self, error: DamagedShardError, renewed: frozenset[int]) -> None:
        """Have a shard fetched again that is damaged in the cache. Raises the error otherwise."""
        if self.cache is None or error.shard in renewed:
            raise error
        key = self.manifest.shards[error.shard].key
        self._handles.close(self._number, error.shard)
        self._cache.forget("directory", (error.shard, self.cache.size(key)))
        try:
            self.cache.open(self.storage, key, doubted=True)
        except OSError:  # it is not there
            raise error from None

    def _fill(
        self,
        indices: Sequence[int],
        out: Mapping[str, np.ndarray],
        renewed: frozenset[int] = frozenset(),
    ) -> None:
        """Read whole maps into arrays that are known to fit.

        renewed: shards that have been fetched again for this.
        """
        if not out:
            for index in indices:
                self._place(index)
            return
        fields, arrays = list(out), [np.asarray(array) for array in out.values()]
        chunks: list[Packed] = []
        targets: list[np.ndarray] = []
        places: list[tuple[int, int, str]] = []
        try:
            with _CHECKSUM:
                for position, (shard, row) in enumerate([self._place(index) for index in indices]):
                    rows = [array[position] for array in arrays]
                    found = self._read(shard, row, list(zip(fields, rows, strict=True)))
                    if found:
                        chunks += found
                        targets += rows
                        places += [(shard, row, field) for field in fields]
            try:
                with _DECOMPRESS:
                    decompress(chunks, targets)
            except ChunkError as error:
                raise self._damaged(*places[error.position], error) from error
        except DamagedShardError as damaged:
            self._renew(damaged, renewed)
            self._fill(indices, out, renewed | {damaged.shard})

    def _read(self, shard: int, row: int, out: Sequence[tuple[str, np.ndarray]]) -> list[Packed]:
        """As OpenedShard.read. Raises StoreError if the sample is damaged."""
        opened = self._open(shard)
        try:
            return opened.read(row, out, self._checksums)
        except ChunkError as error:
            raise self._damaged(shard, row, out[error.position][0], error) from error
        except (OSError, ValueError) as error:  # such as what a server cuts short
            raise self._damaged(shard, row, "it", error) from error

    def _open(self, shard: int) -> OpenedShard:
        try:
            return self._handles.get((self._number, shard), lambda: self._open_anew(shard))
        except StoreError:
            raise
        except Exception as error:  # whatever a codec raises, the data is damaged
            raise self._unreadable(shard, error) from error

    def _open_anew(self, number: int) -> OpenedShard:
        """Open a shard; what is known of it is kept while its file is closed."""

        def known(file: Bytes) -> ShardIndex:
            return self._cache.get("directory", (number, file.size), lambda: read_index(file))

        entry, parameters = self.manifest.shards[number], self.manifest.parameters
        with stage("open"):
            shard = open_shard(self._file(number), entry.samples, parameters, known)
        if isinstance(shard, ForeignShard):
            at = self.storage.at(shard_name(entry.key))
            log.info("%s: not as this version writes shards, read by zarr-python", at)
        log.debug("shard %s: opened, %d samples", entry.key[:16], entry.samples)
        return shard

    def _file(self, number: int) -> Bytes:
        key = self.manifest.shards[number].key
        if self.cache is None:
            return self.storage.open(shard_name(key))
        for ahead in self._ahead:
            if found := ahead.take(number):
                return found
        return self.cache.open(self.storage, key)

    def _records(self, shard: int) -> Records:
        return self._cache.get(
            "records", shard, lambda: self._renewing(lambda: self._read_records(shard))
        )

    def _read_records(self, shard: int) -> Records:
        opened, samples = self._open(shard), self.manifest.shards[shard].samples
        try:
            with stage("records"):
                records = opened.records()
            if len(records.names) != samples:
                held = len(records.names)
                raise ValueError(f"holds {held} samples, not {samples} as the manifest says")
        except StoreError:
            raise
        except Exception as error:  # whatever a codec raises, the data is damaged
            raise self._unreadable(shard, error) from error
        return records

    def _check_arrays(self, samples: int, out: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Those of fewer rows or columns than their map.

        Raises ValueError unless compiled code may write into all.
        """
        smaller, apart = {}, True
        for field, array in out.items():
            dtype, shape = MAPS[field][0], (samples, *self._shapes[field])
            if array.__class__ is np.ndarray and array.shape == shape and array.dtype == dtype:
                flags = array.flags
                if flags.c_contiguous and flags.writeable:
                    apart &= flags.owndata
                    continue  # as nearly all are: the look below takes ten times as long
            apart = False
            if found := _misfit(array, shape, dtype):
                raise ValueError(
                    f"out[{field!r}] is not a contiguous, writeable array of {shape} {dtype}, "
                    f"but {found}"
                )
            if array.shape != shape:
                smaller[field] = array
        if apart and len({*map(id, out.values())}) == len(out):
            return smaller  # each is the memory that it was made with
        for (a, first), (b, second) in itertools.combinations(out.items(), 2):
            if np.may_share_memory(first, second):  # of contiguous arrays: do share
                raise ValueError(f"out[{a!r}] and out[{b!r}] share memory")
        return smaller

    def shape(self, field: str) -> tuple[int, ...]:
        """Shape of one sample's map: (H, W), or (H, W, 3) for the image."""
        return self._shapes[field]

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

    def _unreadable(self, shard: int, error: Exception) -> DamagedShardError:
        key = self.manifest.shards[shard].key
        reason = one_line(error)
        return DamagedShardError(
            f"shard {key}: cannot be read ({reason}); run `ocr-precompute verify`", shard
        )

    def _damaged(self, shard: int, row: int, field: str, error: Exception) -> DamagedShardError:
        return DamagedShardError(
            f"shard {self.manifest.shards[shard].key}: sample {self._name(shard, row)}: {field} "
            f"cannot be read ({one_line(error)}); run `ocr-precompute verify`",
            shard,
        )

    def _name(self, shard: int, row: int) -> str:
        """For messages: the sample's name, or its row if the names are damaged too."""
        try:
            return repr(self._records(shard).names[row])
        except StoreError:
            return f"in row {row}"


def _check_fields(fields: Iterable[str]) -> None:
    if unknown := [field for field in fields if field not in MAPS]:
        raise ValueError(f"unknown fields {unknown}; one of {', '.join(MAPS)}")


def _misfit(array: object, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Why an array cannot be read into; empty if it can be."""
    if not isinstance(array, np.ndarray):
        return f"of type {type(array).__name__}"
    fits = (
        array.ndim == len(shape)
        and all(0 < has <= all_ for has, all_ in zip(array.shape[1:3], shape[1:3], strict=True))
        and (array.shape[0], *array.shape[3:]) == (shape[0], *shape[3:])
    )
    if not fits or array.dtype != dtype:
        return f"of {array.shape} {array.dtype}"
    if not array.flags.c_contiguous:
        return "not contiguous"
    return "" if array.flags.writeable else "read-only"
