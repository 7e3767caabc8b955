"""Batches under way: threads fill them ahead of whoever asks for them."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch

from ocr.datasets.buffers import BatchBuffers
from ocr.datasets.samples import SampleDataset
from ocr.datasets.tuning import Pace
from ocr_precompute.storage.faults import RemoteError

# The fields besides maps that have one shape for all.
_STACKED = {"matrix": (np.float64, (3, 3)), "original_size": (np.int64, (2,))}


class SampleError(RuntimeError):
    """A sample could not be loaded; names it. The reason is also the exception's cause."""


@dataclass(frozen=True, eq=False)
class _Batch:
    """A batch under way: its maps, the rest of each sample, and the work that fills both."""

    maps: dict[str, torch.Tensor]
    rest: list[dict[str, Any]]
    work: list[Future[None]]

    @property
    def ready(self) -> bool:
        return all(work.done() for work in self.work)


class _Threads:
    """A pool whose number of threads may change: those that are too many end with what they do."""

    def __init__(self, number: int) -> None:
        self._number = 0
        self._pools: list[ThreadPoolExecutor] = []
        self.resize(number)

    def resize(self, number: int) -> None:
        """Let so many threads do what is submitted from now on."""
        if number == self._number:
            return
        for pool in self._pools:
            pool.shutdown(wait=False)
        self._number = number
        self._pools.append(ThreadPoolExecutor(number, thread_name_prefix="batch-loader"))

    def submit(self, function: Callable[[slice], None], part: slice) -> Future[None]:
        """Have a part done."""
        return self._pools[-1].submit(function, part)

    def close(self) -> None:
        """Wait for what has begun; what has not will not."""
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)


def make_batches(
    dataset: SampleDataset,
    buffers: BatchBuffers,
    batches: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]],
    pace: Pace,
) -> Iterator[dict[str, Any]]:
    """The batches of samples of these indices, in order, each field's values by its name.

    sizes: height and width of each batch. pace: with how many threads, and how far ahead; it is
    told of each batch, and may change its mind. The batches stay the same.
    Raises SampleError when the batch of a bad sample is asked for, RemoteError where a store behind
    a URL is out of reach.
    """
    stop = threading.Event()
    threads = _Threads(pace.setting.threads)
    try:
        coming = (
            _start(
                threads,
                stop,
                dataset,
                indices.tolist(),
                buffers.take(len(indices), size),
                _parts(pace, len(batches) - number),
            )
            for number, (indices, size) in enumerate(zip(batches, sizes, strict=False))
        )
        pace.begin()
        under_way = deque(itertools.islice(coming, pace.setting.prefetch))
        while under_way:
            ready = sum(batch.ready for batch in under_way) / len(under_way)
            asked = perf_counter()
            first = _finish(dataset, under_way.popleft())
            pace.saw(len(first[dataset.fields[0]]), perf_counter() - asked, ready)
            threads.resize(pace.setting.threads)
            more = max(0, pace.setting.prefetch - len(under_way))
            under_way.extend(itertools.islice(coming, more))
            yield first
            del first  # or the batch would be held while the next is made
        pace.end()
    finally:  # also when the caller stops in the middle, or is interrupted
        stop.set()
        threads.close()


def _parts(pace: Pace, left: int) -> int:
    """Into how many tasks a batch is cut when so many are left of the epoch.

    As few as keep every thread busy, for the fewer there are, the less threads wait for each other;
    at the end of an epoch that takes more.
    """
    threads, prefetch = pace.setting.threads, pace.setting.prefetch
    return threads if left < threads else -(-threads // prefetch)


def _start(
    threads: _Threads,
    stop: threading.Event,
    dataset: SampleDataset,
    indices: list[int],
    maps: dict[str, torch.Tensor],
    parts: int,
) -> _Batch:
    arrays = {field: tensor.numpy() for field, tensor in maps.items()}
    rest: list[dict[str, Any]] = [{} for _ in indices]

    def fill(part: slice) -> None:
        if stop.is_set():
            return
        out = {field: array[part] for field, array in arrays.items()}
        try:
            rest[part] = dataset.fill(indices[part], out)
        except RemoteError:  # of no sample in particular
            raise
        except Exception as error:
            raise _sample_error(dataset, indices[part], error) from error

    parts = max(1, min(parts, len(indices)))
    bounds = [len(indices) * part // parts for part in range(parts + 1)]
    work = [threads.submit(fill, slice(*part)) for part in itertools.pairwise(bounds)]
    return _Batch(maps, rest, work)


def _sample_error(dataset: SampleDataset, indices: list[int], error: Exception) -> SampleError:
    """What goes wrong with a batch, as an error of the sample at fault."""
    for index in indices:
        try:
            dataset[index]
        except Exception as reason:
            failed = SampleError(f"sample {_name(dataset, index)}: {reason}")
            failed.__cause__ = reason
            return failed
    return SampleError(f"one of samples {indices}: {error}")


def _name(dataset: SampleDataset, index: int) -> str:
    try:
        return repr(dataset.names[index])
    except Exception:  # the names are damaged too; the error that is reported says how
        return f"number {index}"


def _finish(dataset: SampleDataset, batch: _Batch) -> dict[str, Any]:
    for work in batch.work:
        work.result()
    return {
        field: batch.maps[field] if field in batch.maps else _gathered(batch, field)
        for field in dataset.fields
    }


def _gathered(batch: _Batch, field: str) -> Any:
    values = [rest[field] for rest in batch.rest]
    if field not in _STACKED:
        return values
    dtype, shape = _STACKED[field]
    return torch.from_numpy(np.array(values, dtype).reshape(-1, *shape))
