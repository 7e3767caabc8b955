"""What `bench` has measured, as data: two paths side by side, varied and as stored."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from ocr_precompute.reports.memory import SplitMemory


@dataclass(frozen=True)
class Stage:
    """One step of a path and what it takes, on one thread: milliseconds per sample."""

    name: str
    milliseconds: float


@dataclass(frozen=True)
class PathResult:
    """One way from files to batches.

    stages: one sample after the other on one thread, files in the page cache. rates: whole batches
    on all threads, samples per second, of each round. megabytes_per_second: of maps as they are
    delivered, 10^6 bytes. cold_samples_per_second: once, with files out of the page cache; None
    where the system cannot drop them. memory: bytes the process grew by at most; None where the
    system does not say. file_bytes: of the files that are read.
    """

    stages: tuple[Stage, ...]
    rates: tuple[float, ...]
    megabytes_per_second: float
    cold_samples_per_second: float | None
    memory: int | None
    file_bytes: int

    @property
    def samples_per_second(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.rates)

    @property
    def milliseconds(self) -> float:
        """All stages together, a sample, on one thread."""
        return sum(stage.milliseconds for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "samples_per_second": self.samples_per_second}


@dataclass(frozen=True)
class Contest:
    """The two paths side by side."""

    live: PathResult
    store: PathResult

    @property
    def factor(self) -> float:
        """How many times as fast the store is, on all threads."""
        return self.store.samples_per_second / self.live.samples_per_second

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        live, store = self.live.as_dict(), self.store.as_dict()
        return {"live": live, "store": store, "factor": self.factor}


@dataclass(frozen=True)
class BenchReport:
    """What was measured.

    varied: samples as a training takes them: a crop of so many pixels, turned, scaled and
    recoloured, its labels drawn anew. plain: samples as they are stored. memory: of the opened
    split. reference: seconds of the fixed work in each round.
    """

    split: str
    samples: int
    batch_size: int
    threads: int
    crop: int
    varied: Contest
    plain: Contest
    memory: SplitMemory
    reference: tuple[float, ...]

    @property
    def rates(self) -> dict[str, tuple[float, ...]]:
        """Samples a second of each round, by what gave them."""
        return {
            f"{kind}, {name}": result.rates
            for kind, contest in (("varied", self.varied), ("as stored", self.plain))
            for name, result in (("live", contest.live), ("store", contest.store))
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        varied, plain = self.varied.as_dict(), self.plain.as_dict()
        return {**asdict(self), "varied": varied, "plain": plain}
