"""What the store saves: the live path against the store's, stage by stage, on one's own split."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from ocr_precompute.augmentation import Augmentation
from ocr_precompute.format.schema import MAPS
from ocr_precompute.reading.store import open_store
from ocr_precompute.reports.clock import rate, resident_memory, seconds_of
from ocr_precompute.reports.paths import (
    FilePath,
    Item,
    check_equal,
    plain_paths,
    spread_items,
    varied_paths,
)
from ocr_precompute.runtime.opencv import single_thread
from ocr_precompute.runtime.stages import recording
from ocr_precompute.settings import Source

_VARIATION = Augmentation(rotation=5.0, scale=0.3, colour=0.2)  # as in configs/train.yaml
_ROUNDS = 3


@dataclass(frozen=True)
class Stage:
    """One step of a path and what it takes, on one thread: milliseconds a sample."""

    name: str
    milliseconds: float


@dataclass(frozen=True)
class PathResult:
    """One way from files to batches.

    stages: one sample after the other on one thread, files in the page cache. samples_per_second,
    megabytes_per_second: whole batches on all threads; of maps as they are delivered, 10^6 bytes.
    cold_samples_per_second: the same, once, with files out of the page cache; None where the system
    cannot drop them. memory: bytes the process grew by at most; None where the system does not say.
    file_bytes: of the files that are read.
    """

    stages: tuple[Stage, ...]
    samples_per_second: float
    megabytes_per_second: float
    cold_samples_per_second: float | None
    memory: int | None
    file_bytes: int

    @property
    def milliseconds(self) -> float:
        """All stages together, a sample, on one thread."""
        return sum(stage.milliseconds for stage in self.stages)


@dataclass(frozen=True)
class Contest:
    """The two paths side by side. factor: how much faster the store is, on all threads."""

    live: PathResult
    store: PathResult
    factor: float


@dataclass(frozen=True)
class BenchReport:
    """What was measured.

    varied: samples as a training takes them: a crop of so many pixels, turned, scaled and
    recoloured, its labels drawn anew. plain: samples as they are stored.
    """

    split: str
    samples: int
    batch_size: int
    threads: int
    crop: int
    varied: Contest
    plain: Contest


def bench(
    store: Path,
    split_name: str,
    source: Source,
    *,
    samples: int = 64,
    batch_size: int = 16,
    threads: int = 1,
    crop: int | None = None,
    max_pixels: int = 2**27,
    seconds: float = 1.0,
) -> BenchReport:
    """Measure both paths on samples spread over a split.

    crop: side of the crops of varied samples; that of the canonical size, the shorter one, by
    default. seconds: how long each measurement goes on at least; the two paths take turns, and the
    median of three counts.
    Raises StoreError for an unknown split, InputError if its sources cannot be read or are no
    longer what the store was built from, ValueError if crop is too small.
    """
    split = open_store(store).split(split_name)
    augmentation = replace(_VARIATION, crop=crop or min(split.manifest.parameters.size))
    items = spread_items(split, source, samples)
    check_equal(split, items, max_pixels)
    clock = partial(_contest, items=items, batch_size=batch_size, threads=threads, seconds=seconds)
    return BenchReport(
        split_name,
        len(items),
        batch_size,
        threads,
        augmentation.crop or 0,
        varied=clock(varied_paths(split, items, max_pixels, augmentation)),
        plain=clock(plain_paths(split, items, max_pixels)),
    )


def _contest(
    paths: Mapping[str, FilePath],
    items: Sequence[Item],
    batch_size: int,
    threads: int,
    seconds: float,
) -> Contest:
    """Both paths measured in turn."""
    laps: dict[str, list[dict[str, float]]] = {name: [] for name in paths}
    rates: dict[str, list[float]] = {name: [] for name in paths}
    memory: dict[str, list[int]] = {name: [] for name in paths}
    with single_thread():
        for _ in range(_ROUNDS):
            for name, path in paths.items():
                laps[name].append(_time_stages(path, items, seconds / 2))
                found, growth = _time_batches(path, items, batch_size, threads, seconds)
                rates[name].append(found)
                memory[name] += [] if growth is None else [growth]
        cold = {name: _time_cold(path, items, batch_size, threads) for name, path in paths.items()}
    results = {
        name: PathResult(
            stages=tuple(
                Stage(stage, 1000 * statistics.median(lap.get(stage, 0.0) for lap in laps[name]))
                for stage in laps[name][0]
            ),
            samples_per_second=statistics.median(rates[name]),
            megabytes_per_second=statistics.median(rates[name]) * _sample_bytes(path) / 1e6,
            cold_samples_per_second=cold[name],
            memory=max(memory[name], default=None),
            file_bytes=sum(file.stat().st_size for file in path.files),
        )
        for name, path in paths.items()
    }
    factor = results["store"].samples_per_second / results["live"].samples_per_second
    return Contest(**results, factor=factor)


def _time_stages(path: FilePath, items: Sequence[Item], seconds: float) -> dict[str, float]:
    """Seconds a sample in each stage: the mean over samples, seen for so long at least."""
    out = {field: array[0] for field, array in _batch(path, 1).items()}
    path.fill(items[0], out)
    done = 0

    def passes() -> Iterator[int]:
        nonlocal done
        while True:
            for item in items:
                path.fill(item, out)
            done += len(items)
            yield len(items)

    with recording() as recorded:
        rate(passes(), seconds)
    return {name: times.seconds / done for name, times in recorded.totals().stages.items()}


def _time_batches(
    path: FilePath,
    items: Sequence[Item],
    batch_size: int,
    threads: int,
    seconds: float,
) -> tuple[float, int | None]:
    """Samples a second in whole batches on threads, and the bytes the process grew by meanwhile."""
    before = resident_memory()
    grown = 0
    out = _batch(path, batch_size)

    def passes(pool: ThreadPoolExecutor) -> Iterator[int]:
        nonlocal grown
        while True:
            for batch in _batches(items, batch_size):
                _fill(path, pool, threads, batch, out)
                grown = max(grown, (resident_memory() or 0) - (before or 0))
            yield len(items)

    with ThreadPoolExecutor(threads) as pool:
        found = rate(passes(pool), seconds)
    return found, grown if before is not None else None


def _time_cold(
    path: FilePath, items: Sequence[Item], batch_size: int, threads: int
) -> float | None:
    """Samples a second with files out of the page cache, as far as the system drops them."""
    if not hasattr(os, "posix_fadvise"):
        return None
    for file in path.files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    out = _batch(path, batch_size)

    def whole_pass() -> None:
        for batch in _batches(items, batch_size):
            _fill(path, pool, threads, batch, out)

    with ThreadPoolExecutor(threads) as pool:
        return len(items) / seconds_of(whole_pass)


def _fill(
    path: FilePath,
    pool: ThreadPoolExecutor,
    threads: int,
    batch: Sequence[Item],
    out: dict[str, np.ndarray],
) -> None:
    bounds = [len(batch) * part // threads for part in range(threads + 1)]
    parts = [slice(*part) for part in pairwise(bounds)]
    for _ in pool.map(partial(_fill_part, path, batch, out), parts):
        pass


def _fill_part(
    path: FilePath, batch: Sequence[Item], out: Mapping[str, np.ndarray], part: slice
) -> None:
    path.batch(batch[part], {field: array[part] for field, array in out.items()})


def _batch(path: FilePath, samples: int) -> dict[str, np.ndarray]:
    return {
        field: np.empty((samples, *path.size, *tail), dtype)
        for field, (dtype, tail) in MAPS.items()
    }


def _sample_bytes(path: FilePath) -> int:
    return sum(array.nbytes for array in _batch(path, 1).values())


def _batches(items: Iterable[Item], batch_size: int) -> Iterator[list[Item]]:
    remaining = iter(items)
    while batch := list(islice(remaining, batch_size)):
        yield batch
