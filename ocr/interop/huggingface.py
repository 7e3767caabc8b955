"""Hugging Face `datasets`: a stream of samples, in parts that workers share among themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from ocr.datasets import StoreDataset
from ocr.datasets.samples import TRAINING
from ocr.packages import imported

_AT_ONCE = 16  # samples that are decompressed in one call


def iterable_dataset(
    store: str | Path, split: str, fields: Sequence[str] = TRAINING, parts: int | None = None
) -> Any:
    """A split as a `datasets.IterableDataset` of dicts of fields, as SampleDataset has them.

    parts: stretches that workers and processes can share; by default the store's shards, so that
    no two open one file.
    Raises PrecomputeError if `datasets` is not installed, StoreError as StoreDataset does,
    ValueError for an unknown field or a bad number of parts.
    """
    stretches = stretches_of(StoreDataset(store, split, fields), parts)
    settings = {"store": str(store), "split": split, "fields": tuple(fields)}
    stream = imported("datasets", "datasets").IterableDataset
    return stream.from_generator(samples, gen_kwargs={**settings, "stretches": stretches})


def stretches_of(dataset: StoreDataset, parts: int | None = None) -> list[tuple[int, int]]:
    """Where each part begins and ends: together every sample once. As iterable_dataset."""
    if parts is None:
        bounds = [0, *accumulate(shard.samples for shard in dataset.split.manifest.shards)]
    elif 1 <= parts <= len(dataset):
        bounds = [len(dataset) * part // parts for part in range(parts + 1)]
    else:
        raise ValueError(f"parts is {parts}; it must be from 1 to {len(dataset)}, the samples")
    return list(pairwise(bounds))


def samples(
    store: str, split: str, fields: tuple[str, ...], stretches: list[tuple[int, int]]
) -> Iterator[dict[str, Any]]:
    """The samples of these stretches, in order. Raises StoreError if data is damaged."""
    dataset = StoreDataset(store, split, fields)
    for start, stop in stretches:
        for first in range(start, stop, _AT_ONCE):
            yield from dataset.__getitems__(range(first, min(first + _AT_ONCE, stop)))
