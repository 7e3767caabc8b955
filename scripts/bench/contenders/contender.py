"""A format or loader, and how torch is fed by one.

A contender has

- `write(split, folder)`: the samples of a split, converted to its format;
- settings: dicts that `epochs` understands; `torch_threads` (1 if not given) goes to torch itself,
  whose threads are as often in the way of others as they help;
- `epochs(folder, setting, batch_size)`: an endless iterator of epochs, each an iterable of batches,
  dicts of torch tensors `image`, `prob`, `thresh`, in a new random order every epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from measuring.machine import CORES
from measuring.samples import FIELDS

from ocr_precompute.reading.split import Split

Setting = Mapping[str, Any]
Batch = Mapping[str, Any]
Arrays = dict[str, np.ndarray]
Epochs = Iterator[Iterable[Batch]]

WORKERS = (0, 1, 2, 4)


@dataclass(frozen=True)
class Contender:
    """One way to train from the samples.

    requires: module without which it cannot take part. reads: the store, the source images and
    annotations, or a folder of its own, which `write` fills.
    """

    name: str
    requires: str
    settings: Sequence[Setting]
    epochs: Callable[[Path, Setting, int], Epochs]
    write: Callable[[Split, Path], None] | None = None
    reads: Literal["own", "store", "source"] = "own"


def samples(split: Split) -> Iterator[Arrays]:
    """All samples in order, each a dict of (H, W, ...) arrays."""
    for index in range(len(split)):
        yield {field: array[0] for field, array in split.read([index], FIELDS).items()}


class OneByOne:
    """A map-style dataset of samples that are read one at a time and stacked by torch."""

    def __init__(self, length: int, read: Callable[[int], Arrays]) -> None:
        self._length, self._read = length, read

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Arrays:
        return self._read(index)


class BatchWise(OneByOne):
    """A map-style dataset that is asked for a whole batch, and gives it already stacked."""

    def __init__(self, length: int, read: Callable[[Sequence[int]], Arrays]) -> None:
        self._length, self._read_all = length, read

    def __getitems__(self, indices: Sequence[int]) -> Arrays:
        """The samples of one batch."""
        return self._read_all(indices)


def as_tensors(batch: Arrays) -> Batch:
    """Arrays as tensors, without a copy."""
    import torch

    return {field: torch.as_tensor(array) for field, array in batch.items()}


def stacked(rows: Sequence[Arrays]) -> Batch:
    """Samples as one batch, in shared memory where this is a worker process."""
    from torch.utils.data import default_collate

    batch: Batch = default_collate([as_tensors({f: row[f] for f in FIELDS}) for row in rows])
    return batch


def data_loader(dataset: OneByOne, workers: int, batch_size: int) -> Epochs:
    """Shuffled epochs of a map-style dataset through torch's DataLoader."""
    from torch.utils.data import DataLoader

    collate: Callable[[Any], Batch] = as_tensors if isinstance(dataset, BatchWise) else stacked
    loader: Any = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
    )
    return itertools.repeat(loader)


def with_workers(*settings: Setting) -> list[Setting]:
    """Every setting with every number of workers; without workers, with torch on all cores, too."""
    ways: list[Setting] = [{"workers": number} for number in WORKERS]
    ways.append({"workers": 0, "torch_threads": CORES})
    return [{**setting, **way} for setting in settings for way in ways]
