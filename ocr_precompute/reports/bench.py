"""What the store saves: the live path against the store's, stage by stage, on one's own split."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from ocr_precompute.errors import InputError, PrecomputeError, Problem, StoreError
from ocr_precompute.format.chunks import decompress, strip_checksum
from ocr_precompute.format.schema import MAPS
from ocr_precompute.format.shard import MappedFile, ShardIndex, read_index
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.scan import read_source
from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import open_store
from ocr_precompute.reports.clock import rate, resident_memory, seconds_of
from ocr_precompute.runtime.opencv import single_thread
from ocr_precompute.samples import CanonicalSample, Polygons
from ocr_precompute.settings import Rules, Source
from ocr_precompute.storage.store import shard_path
from ocr_precompute.targets.sample import compute_sample

FIELDS = tuple(MAPS)
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
class BenchReport:
    """The two paths side by side. factor: how much faster the store is, on all threads."""

    split: str
    samples: int
    batch_size: int
    threads: int
    live: PathResult
    store: PathResult
    factor: float


@dataclass(frozen=True, eq=False)
class _Item:
    """One sample of both paths: where its source and its stored row are."""

    name: str
    index: int
    image: Path
    polygons: Polygons


@dataclass(frozen=True, eq=False)
class _Path:
    """What is measured of a path: its stages on one sample, a batch on many, and its files."""

    stages: Callable[[_Item, Callable[[str], None]], None]
    batch: Callable[[Sequence[_Item], Mapping[str, np.ndarray]], None]
    files: tuple[Path, ...]


def bench(
    store: Path,
    split_name: str,
    source: Source,
    *,
    samples: int = 64,
    batch_size: int = 16,
    threads: int = 1,
    max_pixels: int = 2**27,
    seconds: float = 1.0,
) -> BenchReport:
    """Measure both paths on samples spread over a split.

    seconds: how long each measurement goes on at least; the two paths take turns, and the median
    of three counts.
    Raises StoreError for an unknown split, InputError if its sources cannot be read or are no
    longer what the store was built from.
    """
    split = open_store(store).split(split_name)
    items = _items(split, source, samples)
    parameters = split.manifest.parameters
    paths = {"live": _live_path(items, parameters, max_pixels), "store": _store_path(split, items)}
    _check_equal(split, items, parameters, max_pixels)
    laps: dict[str, list[dict[str, float]]] = {name: [] for name in paths}
    rates: dict[str, list[float]] = {name: [] for name in paths}
    memory: dict[str, list[int]] = {name: [] for name in paths}
    with single_thread():
        for _ in range(_ROUNDS):
            for name, path in paths.items():
                laps[name].append(_time_stages(path, items, seconds / 2))
                found, growth = _time_batches(path, items, split, batch_size, threads, seconds)
                rates[name].append(found)
                memory[name] += [] if growth is None else [growth]
        cold = {
            name: _time_cold(path, items, split, batch_size, threads)
            for name, path in paths.items()
        }
    sample_bytes = sum(array.nbytes for array in _batch(split, 1).values())
    results = {
        name: PathResult(
            stages=tuple(
                Stage(stage, 1000 * statistics.median(lap[stage] for lap in laps[name]))
                for stage in laps[name][0]
            ),
            samples_per_second=statistics.median(rates[name]),
            megabytes_per_second=statistics.median(rates[name]) * sample_bytes / 1e6,
            cold_samples_per_second=cold[name],
            memory=max(memory[name], default=None),
            file_bytes=sum(file.stat().st_size for file in path.files),
        )
        for name, path in paths.items()
    }
    factor = results["store"].samples_per_second / results["live"].samples_per_second
    return BenchReport(split_name, len(items), batch_size, threads, **results, factor=factor)


def _items(split: Split, source: Source, samples: int) -> list[_Item]:
    """Samples spread over the split, with the annotation each was made from."""
    reading = read_source(source.ruled(Rules(), split.manifest.parameters.recipe))
    if not reading.annotations:
        nothing = _problem(source.annotations, "holds no annotated image")
        raise InputError(reading.problems or [nothing])
    annotated = {annotation.name: annotation.polygons for annotation in reading.annotations}
    spread = np.linspace(0, len(split) - 1, min(samples, len(split))).round().astype(int)
    names = split.names
    missing = [names[i] for i in spread if names[i] not in annotated]
    if missing:
        reason = f"does not annotate {missing[0]!r} any more"
        raise InputError([_problem(source.annotations, reason)])
    return [_Item(names[i], int(i), source.images / names[i], annotated[names[i]]) for i in spread]


def _problem(path: Path, reason: str) -> Problem:
    return Problem("annotations", str(path), "", f"{reason}; build the split again")


def _check_equal(
    split: Split, items: Sequence[_Item], parameters: Parameters, max_pixels: int
) -> None:
    """Both paths must give the same, or their speeds mean nothing."""
    for item in items[:8]:
        live, stored = _compute(item, parameters, max_pixels), split[item.index]
        for field in FIELDS:
            if getattr(live, field).tobytes() != getattr(stored, field).tobytes():
                reason = f"is no longer what the store was built from ({field} differs)"
                raise InputError([_problem(item.image, reason)])


def _compute(
    item: _Item,
    parameters: Parameters,
    max_pixels: int,
    lap: Callable[[str], None] = lambda stage: None,
) -> CanonicalSample:
    try:
        data = item.image.read_bytes()
        lap("read")
        return compute_sample(item.name, data, item.polygons, parameters, max_pixels, lap)
    except (OSError, PrecomputeError) as error:
        raise InputError([_problem(item.image, f"cannot be used: {error}")]) from error


# ------------------------------------------------------------------------------------- the paths


def _live_path(items: Sequence[_Item], parameters: Parameters, max_pixels: int) -> _Path:
    scratch = {f: np.empty((*parameters.size, *tail), d) for f, (d, tail) in MAPS.items()}

    def stages(item: _Item, lap: Callable[[str], None]) -> None:
        sample = _compute(item, parameters, max_pixels, lap)
        for field, array in scratch.items():
            array[...] = getattr(sample, field)
        lap("collate")

    def batch(chosen: Sequence[_Item], out: Mapping[str, np.ndarray]) -> None:
        for position, item in enumerate(chosen):
            sample = _compute(item, parameters, max_pixels)
            for field, array in out.items():
                array[position] = getattr(sample, field)

    return _Path(stages, batch, tuple(item.image for item in items))


def _store_path(split: Split, items: Sequence[_Item]) -> _Path:
    """The reader's own steps; chunks are decompressed into the batch, so collating is no step."""
    size = split.manifest.parameters.size
    scratch = {field: np.empty((*size, *tail), dtype) for field, (dtype, tail) in MAPS.items()}
    places = {item.index: split.locate(item.index) for item in items}
    shards: dict[str, tuple[MappedFile, ShardIndex]] = {}
    for entry, _ in places.values():
        path = shard_path(split.store, entry.key)
        try:
            file = MappedFile(path)
            shards[entry.key] = file, read_index(file)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: {error}; run `ocr-precompute verify`") from error

    def stages(item: _Item, lap: Callable[[str], None]) -> None:
        entry, row = places[item.index]
        file, index = shards[entry.key]
        chunks = {field: file.read(*index.span(field, row)) for field in FIELDS}
        lap("read")
        packed = [strip_checksum(chunk) for chunk in chunks.values()]
        lap("checksum")
        decompress(packed, [scratch[field] for field in chunks])
        lap("decompress")

    def batch(chosen: Sequence[_Item], out: Mapping[str, np.ndarray]) -> None:
        split.fill([item.index for item in chosen], out)

    used = {shard_path(split.store, key) for key in shards}
    return _Path(stages, batch, tuple(sorted(used)))


# ------------------------------------------------------------------------------------ the clock


def _time_stages(path: _Path, items: Sequence[_Item], seconds: float) -> dict[str, float]:
    """Seconds a sample in each stage: the mean over samples, seen for so long at least."""
    spent: dict[str, list[float]] = {}
    last = 0.0

    def lap(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        spent.setdefault(stage, []).append(now - last)
        last = time.perf_counter()

    path.stages(items[0], lap)
    spent.clear()
    started = time.perf_counter()
    while True:
        for item in items:
            last = time.perf_counter()
            path.stages(item, lap)
        if time.perf_counter() - started >= seconds:
            return {stage: statistics.mean(times) for stage, times in spent.items()}


def _time_batches(
    path: _Path,
    items: Sequence[_Item],
    split: Split,
    batch_size: int,
    threads: int,
    seconds: float,
) -> tuple[float, int | None]:
    """Samples a second in whole batches on threads, and the bytes the process grew by meanwhile."""
    before = resident_memory()
    grown = 0
    out = _batch(split, batch_size)

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
    path: _Path, items: Sequence[_Item], split: Split, batch_size: int, threads: int
) -> float | None:
    """Samples a second with files out of the page cache, as far as the system drops them."""
    if not hasattr(os, "posix_fadvise"):
        return None
    for file in path.files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    out = _batch(split, batch_size)

    def whole_pass() -> None:
        for batch in _batches(items, batch_size):
            _fill(path, pool, threads, batch, out)

    with ThreadPoolExecutor(threads) as pool:
        return len(items) / seconds_of(whole_pass)


def _fill(
    path: _Path,
    pool: ThreadPoolExecutor,
    threads: int,
    batch: Sequence[_Item],
    out: dict[str, np.ndarray],
) -> None:
    bounds = [len(batch) * part // threads for part in range(threads + 1)]
    parts = [slice(*part) for part in pairwise(bounds)]
    for _ in pool.map(partial(_fill_part, path, batch, out), parts):
        pass


def _fill_part(
    path: _Path, batch: Sequence[_Item], out: Mapping[str, np.ndarray], part: slice
) -> None:
    path.batch(batch[part], {field: array[part] for field, array in out.items()})


def _batch(split: Split, samples: int) -> dict[str, np.ndarray]:
    return {f: np.empty((samples, *split.shape(f)), MAPS[f][0]) for f in FIELDS}


def _batches(items: Iterable[_Item], batch_size: int) -> Iterator[list[_Item]]:
    remaining = iter(items)
    while batch := list(islice(remaining, batch_size)):
        yield batch
