"""What the store saves: the live path against the store's, stage by stage, on one's own split."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, pairwise
from typing import Any

import numpy as np

from ocr_precompute.augmentation import Augmentation
from ocr_precompute.baselines.reference import reference_seconds
from ocr_precompute.format.schema import MAPS
from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import open_store
from ocr_precompute.reports.contest import BenchReport, Contest, PathResult, Stage
from ocr_precompute.reports.memory import split_memory
from ocr_precompute.reports.paths import (
    FilePath,
    Item,
    check_equal,
    plain_paths,
    spread_items,
    varied_paths,
)
from ocr_precompute.runtime.clock import rate, resident_memory, seconds_of
from ocr_precompute.runtime.opencv import single_thread
from ocr_precompute.runtime.stages import recording
from ocr_precompute.settings import Source
from ocr_precompute.storage.seam import Storage

_VARIATION = Augmentation(rotation=5.0, scale=0.3, colour=0.2)  # as in configs/train.yaml


@dataclass(frozen=True)
class Subject:
    """A split to measure: its store, where it was built from, and the most pixels of an image."""

    store: Storage
    source: Source
    max_pixels: int = 2**27


@dataclass(frozen=True)
class Effort:
    """How a split is measured.

    samples: how many, spread over it. crop: side of the crops of varied samples, pixels; that of
    the canonical size, the shorter one, by default. seconds: how long each measurement goes on at
    least. rounds: turns of each path, whose median counts.
    """

    samples: int = 64
    batch_size: int = 16
    threads: int = 1
    crop: int | None = None
    seconds: float = 1.0
    rounds: int = 3


@dataclass(frozen=True, eq=False)
class Prepared:
    """A split opened, with the samples to measure and how they are measured."""

    name: str
    split: Split
    items: list[Item]
    max_pixels: int
    augmentation: Augmentation
    effort: Effort

    @property
    def conditions(self) -> dict[str, Any]:
        """What another one must have in common with this for their speeds to be compared.

        content: SHA-256 over the samples: names, image files and polygons.
        """
        return {
            "content": _content(self.items),
            "size": list(self.split.manifest.parameters.size),
            "samples": len(self.items),
            "batch_size": self.effort.batch_size,
            "threads": self.effort.threads,
            "crop": self.augmentation.crop,
        }

    def laps(self) -> tuple[dict[str, _Laps], dict[str, _Laps]]:
        """Both paths, of varied samples and as they are."""
        varied = varied_paths(self.split, self.items, self.max_pixels, self.augmentation)
        plain = plain_paths(self.split, self.items, self.max_pixels)
        kinds = [
            {name: _Laps(path, self.items) for name, path in paths.items()}
            for paths in (varied, plain)
        ]
        return kinds[0], kinds[1]


def bench(split_name: str, subject: Subject, effort: Effort) -> BenchReport:
    """Measure both paths on samples spread over a split. Raises as prepare and measure do."""
    return measure([prepare(split_name, subject, effort)])[0]


def prepare(split_name: str, subject: Subject, effort: Effort) -> Prepared:
    """Open a split, and see that both paths give the same.

    Raises StoreError for an unknown split, InputError if its sources cannot be read or are no
    longer what the store was built from, ValueError if crop is too small.
    """
    split = open_store(subject.store).split(split_name)
    augmentation = replace(_VARIATION, crop=effort.crop or min(split.manifest.parameters.size))
    items = spread_items(split, subject.source, effort.samples)
    check_equal(split, items, subject.max_pixels)
    return Prepared(split_name, split, items, subject.max_pixels, augmentation, effort)


def measure(prepared: Sequence[Prepared]) -> list[BenchReport]:
    """Measure both paths of each, all with the effort of the first; all of them take turns.

    Raises InputError for lost images.
    """
    effort = prepared[0].effort
    contests = [each.laps() for each in prepared]
    laps = [lap for pair in contests for by_name in pair for lap in by_name.values()]
    with single_thread():
        reference = [_round(laps, number, effort) for number in range(effort.rounds)]
        for lap in laps:
            lap.cold = _time_cold(lap.path, lap.items, effort)
    return [
        BenchReport(
            each.name,
            len(each.items),
            effort.batch_size,
            effort.threads,
            each.augmentation.crop or 0,
            varied=_contest(varied),
            plain=_contest(plain),
            memory=split_memory(each.split.storage, each.name),
            reference=tuple(reference),
        )
        for each, (varied, plain) in zip(prepared, contests, strict=True)
    ]


def _round(laps: Sequence[_Laps], number: int, effort: Effort) -> float:
    """All paths once, another one first each time; returns seconds of the fixed work."""
    seconds, first = reference_seconds(), number % len(laps)
    for lap in (*laps[first:], *laps[:first]):
        lap.add(effort)
    return seconds


def _contest(laps: Mapping[str, _Laps]) -> Contest:
    return Contest(**{name: lap.result() for name, lap in laps.items()})


def _content(items: Sequence[Item]) -> str:
    digest = hashlib.sha256()
    for item in items:
        image = hashlib.sha256(item.image.read_bytes()).hexdigest()
        digest.update(json.dumps([item.name, image, len(item.polygons.lengths)]).encode())
        for part in (item.polygons.points, item.polygons.lengths, item.polygons.ignore):
            digest.update(part.tobytes())
    return digest.hexdigest()


@dataclass(eq=False)
class _Laps:
    """What was seen of one path so far."""

    path: FilePath
    items: list[Item]
    stages: list[dict[str, float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    cold: float | None = None

    def add(self, effort: Effort) -> None:
        """A round."""
        self.stages.append(_time_stages(self.path, self.items, effort.seconds / 2))
        found, growth = _time_batches(self.path, self.items, effort)
        self.rates.append(found)
        self.memory += [] if growth is None else [growth]

    def result(self) -> PathResult:
        """Medians over rounds."""
        names = self.stages[0]
        return PathResult(
            stages=tuple(
                Stage(name, 1000 * statistics.median(lap.get(name, 0.0) for lap in self.stages))
                for name in names
            ),
            rates=tuple(self.rates),
            megabytes_per_second=statistics.median(self.rates) * _sample_bytes(self.path) / 1e6,
            cold_samples_per_second=self.cold,
            memory=max(self.memory, default=None),
            file_bytes=self.path.bytes,
        )


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
    effort: Effort,
) -> tuple[float, int | None]:
    """Samples a second in whole batches on threads, and the bytes the process grew by meanwhile."""
    before = resident_memory()
    grown = 0
    out = _batch(path, effort.batch_size)

    def passes(pool: ThreadPoolExecutor) -> Iterator[int]:
        nonlocal grown
        while True:
            for batch in _batches(items, effort.batch_size):
                _fill(path, pool, effort.threads, batch, out)
                grown = max(grown, (resident_memory() or 0) - (before or 0))
            yield len(items)

    with ThreadPoolExecutor(effort.threads) as pool:
        found = rate(passes(pool), effort.seconds)
    return found, grown if before is not None else None


def _time_cold(path: FilePath, items: Sequence[Item], effort: Effort) -> float | None:
    """Samples a second with files out of the page cache, as far as the system drops them."""
    if not hasattr(os, "posix_fadvise"):
        return None
    for file in path.files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    out = _batch(path, effort.batch_size)

    def whole_pass() -> None:
        for batch in _batches(items, effort.batch_size):
            _fill(path, pool, effort.threads, batch, out)

    with ThreadPoolExecutor(effort.threads) as pool:
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
