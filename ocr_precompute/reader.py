"""Reading a store: `open_store(path).split("val")[0]`."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ocr_precompute.errors import StoreError
from ocr_precompute.manifest import Manifest, ShardEntry
from ocr_precompute.samples import CanonicalSample
from ocr_precompute.shard import MAPS, Records, read_records
from ocr_precompute.store import check_store, read_manifest, shard_path, split_names

_OPEN_SHARDS = 64


def open_store(path: str | Path) -> Store:
    """Open a store for reading.

    Raises StoreError if there is none, or one of another format version.
    """
    return Store(Path(path))


class Store:
    """A store opened for reading."""

    def __init__(self, path: Path) -> None:
        check_store(path)
        self.path = path

    @property
    def splits(self) -> list[str]:
        """Names of the published splits."""
        return split_names(self.path)

    def split(self, name: str) -> Split:
        """A published split. Raises StoreError if there is none of that name."""
        manifest = read_manifest(self.path, name) if name in self.splits else None
        if manifest is None:
            known = ", ".join(self.splits) or "none"
            raise StoreError(f"{self.path}: no split {name!r} in this store; splits: {known}")
        return Split(self.path, manifest)


class Split:
    """The samples of one published split, ordered by name.

    Holds no open files between calls, and can be pickled.
    """

    def __init__(self, store: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._store = store
        self._starts = [0, *itertools.accumulate(shard.samples for shard in manifest.shards)]
        self._opened: OrderedDict[str, tuple[zarr.Group, Records]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": OrderedDict()}

    def __len__(self) -> int:
        return self._starts[-1]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every sample's name, in order."""
        shards = (_records(shard_path(self._store, entry.key)) for entry in self.manifest.shards)
        return tuple(name for records in shards for name in records.names)

    def __getitem__(self, index: int) -> CanonicalSample:
        """One canonical sample. Raises IndexError, or StoreError if its data is damaged."""
        entry, row = self._locate(index)
        record = self._open(entry)[1][row]
        maps = {field: self._map(entry, row, field) for field in MAPS}
        return CanonicalSample(
            name=record.name,
            polygons=[polygon.copy() for polygon in record.polygons],
            ignore=record.ignore.copy(),
            matrix=record.matrix.copy(),
            original_size=record.original_size,
            **maps,
        )

    def read(
        self, indices: Sequence[int], fields: Sequence[str] = ("image", "prob")
    ) -> dict[str, np.ndarray]:
        """Maps of several samples at once.

        indices: in any order, repeats allowed. fields: any of image, prob, prob_mask, thresh,
        thresh_mask.
        Returns one array a field, first axis = the indices; dtypes and shapes as in
        CanonicalSample. Raises IndexError, ValueError for an unknown field or samples of different
        sizes, StoreError if data is damaged.
        """
        unknown = [field for field in fields if field not in MAPS]
        if unknown:
            raise ValueError(f"unknown fields {unknown}; one of {', '.join(MAPS)}")
        located = [self._locate(index) for index in indices]
        height, width = self.manifest.parameters.size
        batch = {}
        for field in fields:
            dtype, tail = MAPS[field]
            batch[field] = np.empty((len(located), height, width, *tail), dtype)
            for position, (entry, row) in enumerate(located):
                batch[field][position] = self._map(entry, row, field)
        return batch

    def _locate(self, index: int) -> tuple[ShardEntry, int]:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"sample {index} of a split of {len(self)}")
        number = bisect_right(self._starts, position) - 1
        return self.manifest.shards[number], position - self._starts[number]

    def _open(self, entry: ShardEntry) -> tuple[zarr.Group, Records]:
        if entry.key not in self._opened:
            path = shard_path(self._store, entry.key)
            records = _records(path)
            if len(records.names) != entry.samples:
                raise StoreError(
                    f"shard {entry.key}: holds {len(records.names)} samples, not {entry.samples} "
                    "as the manifest says; run `ocr-precompute verify`"
                )
            self._opened[entry.key] = (zarr.open_group(path, mode="r"), records)
            if len(self._opened) > _OPEN_SHARDS:
                self._opened.popitem(last=False)
        self._opened.move_to_end(entry.key)
        return self._opened[entry.key]

    def _map(self, entry: ShardEntry, row: int, field: str) -> np.ndarray:
        group, records = self._open(entry)
        try:
            array = group[field]
            tail = (*self.manifest.parameters.size, *MAPS[field][1])
            # What the metadata claims is not to be believed before it is allocated.
            if not isinstance(array, zarr.Array) or array.chunks != (1, *tail):
                raise ValueError("it is no array of one sample a chunk")
            if array.shape != (entry.samples, *tail):
                raise ValueError(f"its shape is {array.shape}")
            return np.asarray(array[row])
        except Exception as error:  # whatever a codec raises, the data is damaged
            raise StoreError(
                f"shard {entry.key}: sample {records.names[row]!r}: {field} cannot be read "
                f"({' '.join(str(error).split())[:200]}); run `ocr-precompute verify`"
            ) from error


def _records(path: Path) -> Records:
    try:
        return read_records(path)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"shard {path.name}: cannot be read ({error}); run `ocr-precompute verify`"
        ) from error
