"""What a build is bound by: the part of its time that is largest, why, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ocr_precompute.profiling.verdict import Verdict, gain_without, shares_told
from ocr_precompute.runtime.events import Stretch, on_one_clock
from ocr_precompute.runtime.stages import Totals

_SHARD = "other"  # the stage around all others of encoding a shard

# Stages of a worker that wait for a file system, as long as the processor has time left.
_FETCHING = ("read", "write", "copy")
# What one process does alone. It also waits for its threads, which look at images.
_ALONE = ("annotations", "scan", "plan", "publish")

_BUSY = 0.9  # share of the processor above which files are not what is waited for
_IDLE = 0.25  # share of the workers' time above which there are too few of them
_SHORT = 10.0  # seconds of a build that says little about a longer one

_MORE_CORES = (
    "more cores, with a worker for each, or more machines that build into one store",
    "a smaller canonical size (--size), if words stay large enough: `inspect` says which do",
)
PROCESSOR_TRY = {
    "decode": ("--decode reduced, which has large JPEGs shrunk while they are decoded",),
    "pack": ("a lower compression.clevel, or compression.cname lz4",),
    "offset": ("fewer vertices in polygons: each is shrunk and dilated",),
}
"""For a stage that takes most of the workers' time what to try before all else."""

TRY = {
    "processor": _MORE_CORES,
    "disk": (
        "images, and the store, on a faster disk, or on one each",
        "more workers (--jobs), which wait for a disk side by side",
    ),
    "workers": ("--jobs, which says how many; by default there is one for each core",),
    "scan": (
        "annotations in one JSON file, where they are in one file for each image",
        "images on a file system that answers quickly, if looking at them is what takes long",
        "nothing, if this was the first build: images that are known are not read again",
    ),
    "start-up": (
        "more samples in a build: workers start and load machine code once, however long it is",
        "fewer --jobs for so few samples, for each worker starts by itself",
    ),
}
"""For each bottleneck what to try, the most promising first."""

_SHORT_OF_MEMORY = (
    "more memory, for it was short and workers were ended for it",
    "fewer --jobs from the beginning, or a smaller max_pixels",
)

_ONE_BY_ONE = ("--backend loky, for sequential uses one core, whatever --jobs says",)


@dataclass(frozen=True)
class AtWork:
    """When workers were at work.

    workers: that encoded shards, threads or processes. starting: seconds from when it was known
    what there is to do until a worker began, their mean. idle: seconds that were lost because fewer
    worked than the build is worth while shards were left.
    """

    workers: int = 0
    starting: float = 0.0
    idle: float = 0.0

    @classmethod
    def of(cls, stretches: Sequence[Stretch], worth: int) -> AtWork:
        """As a trace shows it. stretches: first what the process that hands out shards did itself.
        worth: how many workers there might be.
        """
        shifts = on_one_clock(stretches)
        lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
        for each in (each for each in stretches if each.kind == _SHARD):
            shift, around = shifts[each.process], each.events[-1]
            run = around.start + shift, around.end + shift
            lanes.setdefault((each.process, each.thread), []).append(run)
        if not lanes:
            return cls()
        firsts = sorted(min(runs)[0] for runs in lanes.values())[:worth]
        ends = (event.end for event in stretches[0].events if event.name == "plan")
        planned = max((end for end in ends if end <= firsts[0]), default=firsts[0])
        runs = [run for lane in lanes.values() for run in lane]
        since, until = firsts[-1], max(start for start, _ in runs)  # when the last shard was taken
        busy = sum(max(0.0, min(end, until) - max(start, since)) for start, end in runs)
        idle = max(0.0, worth * (until - since) - busy) / worth if until > since else 0.0
        return cls(len(lanes), sum(firsts) / len(firsts) - planned, idle)


@dataclass(frozen=True)
class Evidence:
    """What a build has done with its time.

    seconds: of its clock. totals: all stages and waits. tasks: those of encoding shards, of all
    workers together. worth: how many workers the work and the cores are worth. cores: that the
    build may use. processor: share of them that was used; None if nobody looked. short_of_memory:
    whether workers were ended for it. reduced: whether images are decoded at reduced scale already.
    sequential: whether shards are encoded one by one in any case.
    """

    seconds: float
    totals: Totals
    tasks: Totals
    at_work: AtWork
    worth: int
    cores: float
    processor: float | None = None
    short_of_memory: bool = False
    reduced: bool = False
    sequential: bool = False

    def parts(self) -> dict[str, float]:
        """Seconds of the build's clock by what bounded them, the longest first.

        What workers did side by side counts as the clock that it took; idle workers go apart.
        """
        alone = min(self.seconds, _of(self.totals, *_ALONE) + self._looking)
        reading = self._reading
        encoding = self.seconds - alone
        compiling = _of(self.tasks, "compile") / max(1, self.at_work.workers)
        starting = min(encoding, self.at_work.starting + compiling)
        fetching = (encoding - starting) * self._fetching_share
        computing = encoding - starting - fetching
        idle = min(self.at_work.idle, computing)
        found = {
            "scan": alone - reading,
            "disk": reading + fetching,
            "start-up": starting,
            "processor": computing - idle,
            "workers": idle,
        }
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    @property
    def _looking(self) -> float:
        waits = self.totals.waits
        return waits["threads"].seconds if "threads" in waits else 0.0

    @property
    def _files_wait(self) -> bool:
        return self.processor is None or self.processor < _BUSY

    @property
    def _reading(self) -> float:
        """Seconds of the scan in which its threads read files."""
        seen = {name: _of(self.totals, name) for name in ("look", "read", "digest")}
        seen |= {name: seen[name] - _of(self.tasks, name) for name in ("read", "digest")}
        took = sum(seen.values())
        return self._looking * seen["read"] / took if took and self._files_wait else 0.0

    @property
    def _fetching_share(self) -> float:
        took = self.tasks.seconds - _of(self.tasks, "compile")
        return _of(self.tasks, *_FETCHING) / took if took and self._files_wait else 0.0


def _of(totals: Totals, *names: str) -> float:
    return sum(totals.stages[name].seconds for name in names if name in totals.stages)


def verdict(seen: Evidence) -> Verdict | None:
    """What the largest part of the build's time is, and for encoding, why; None if nothing was
    encoded, for then there was nothing that could be bound by anything.
    """
    if not seen.tasks.stages:
        return None
    parts = seen.parts()
    encoding = parts["processor"] + parts["workers"]
    rivals = {name: parts[name] for name in ("scan", "disk", "start-up")} | {"processor": encoding}
    largest = max(rivals, key=rivals.__getitem__)
    without = rivals[largest]
    if largest == "processor" and parts["workers"] > _IDLE * encoding:
        largest, without = "workers", parts["workers"]
    share, gain = (part / seen.seconds for part in (parts[largest], without))
    told = [*shares_told(parts, "build", seen.seconds), *_told(seen)]
    return Verdict(largest, share, gain_without(gain), tuple(told), _advice(largest, seen))


def _told(seen: Evidence) -> list[str]:
    """Sentences about workers, stages, the processor, and how much a short build says."""
    name, seconds = _longest(seen)
    told = [
        f"of the workers' {seen.tasks.seconds:.2f} s the stage {name} took most, {seconds:.2f} s "
        f"({100 * seconds / (seen.tasks.seconds or 1.0):.0f} %)",
        f"shards were encoded by {_workers(seen.at_work.workers)}; the work and the cores are "
        f"worth {seen.worth}",
    ]
    if seen.short_of_memory:
        told.append("memory was short, and workers were ended for it")
    if seen.processor is not None:
        told.append(
            f"the processor was busy {100 * seen.processor:.0f} % of the {seen.cores:g} cores that "
            "the build may use"
        )
    if seen.seconds < _SHORT:
        told.append(
            f"the build took {seen.seconds:.1f} s only; what bounds a longer one may be something "
            "else"
        )
    return told


def _longest(seen: Evidence) -> tuple[str, float]:
    return max(
        ((name, times.seconds) for name, times in seen.tasks.stages.items()),
        key=lambda item: item[1],
    )


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number} workers"


def _advice(bottleneck: str, seen: Evidence) -> tuple[str, ...]:
    if bottleneck == "workers":
        if seen.short_of_memory:
            return _SHORT_OF_MEMORY
        if seen.sequential:
            return _ONE_BY_ONE
        more = (f"--jobs {seen.worth}",) if seen.at_work.workers < seen.worth else ()
        return (*more, *TRY["workers"])
    if bottleneck == "processor":
        name, _ = _longest(seen)
        first = () if name == "decode" and seen.reduced else PROCESSOR_TRY.get(name, ())
        return (*first, *_MORE_CORES)
    return TRY[bottleneck]
