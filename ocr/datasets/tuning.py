"""How many threads, and how many batches ahead, a loader is best given: found while it runs.

A setting is judged by what counts, samples per second as the training takes them, over windows of
batches: more threads read faster, but on the same cores they slow the training itself. Two settings
are compared in turns, so that a machine that becomes slower meanwhile does not decide.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter, process_time

log = logging.getLogger(__name__)

_WAITING = 0.01  # of the time; below that, no loader however fast would be worth a thread more
_SATURATED = 0.97  # of the cores' time; above that, a thread more only takes it from another
_GAIN = 1.03  # more threads, or more batches ahead, must be worth that much
_LOSS = 0.98  # fewer threads may cost that much of the best rate seen
_TURNS = 3  # of each of two settings that are compared


@dataclass(frozen=True)
class Setting:
    """Threads that fill batches, and batches under way ahead of the one in use."""

    threads: int
    prefetch: int

    def __str__(self) -> str:
        plural = "s" if self.threads > 1 else ""
        return f"{self.threads} thread{plural}, {self.prefetch} batches ahead"


@dataclass(frozen=True)
class Window:
    """What was seen over some batches in a row, all made with one setting.

    samples: of these batches. seconds: from the end of the batch before to the end of the last, the
    training's own work in them included. waited: seconds in which the training waited for a batch.
    ready: mean share of the batches ahead that were ready when one was asked for. processor: share
    of the time of the cores this process may use that it did use; those of other processes of the
    training are not its to use.
    """

    samples: int
    seconds: float
    waited: float
    ready: float
    processor: float

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds

    @property
    def waiting(self) -> float:
        """Share of the time in which the training waited."""
        return self.waited / self.seconds


Search = Generator[Setting, Window, Setting]


def search(start: Setting, most: Setting, cores: int) -> Search:
    """Yields the setting to try next, is sent what was seen with it, and returns the one to keep.

    First more threads, as long as the training waits, the processor has time left, and it pays;
    where more do not pay, fewer, as long as they cost nothing; then what lies
    between. Then more batches ahead, where some are ready and others late.
    Threads beyond the cores pay where they wait for a disk or a network, and then well: they must
    be worth more than rates differ by from turn to turn.
    """
    best = Setting(min(start.threads, most.threads), max(2, min(start.prefetch, most.prefetch)))
    log.info("loader: begins with %s", best)
    seen = yield best
    grown = False
    while (reason := _why_more(seen)) and best.threads < most.threads:
        more = replace(best, threads=min(2 * best.threads, most.threads))
        gain, chance, tried = yield from _compared(more, best)
        if gain < _worth(more, cores, chance):
            log.info("loader: %s, but %s gives %+d %%", reason, more, round(100 * gain) - 100)
            break
        log.info("loader: %s; %s gives %+d %%", reason, more, round(100 * gain) - 100)
        best, seen, grown = more, tried, True
    fewest = best
    while not grown and fewest.threads > 1:
        fewer = replace(fewest, threads=fewest.threads // 2)
        gain, chance, tried = yield from _compared(fewer, best)
        log.info("loader: %s gives %+d %%", fewer, round(100 * gain) - 100)
        if gain < (_LOSS if fewest.threads <= cores else min(_LOSS, 1 - chance)):
            break
        fewest, seen = fewer, tried
        best = fewer if gain > 1 else best
    best = fewest
    best, seen = yield from _between(best, seen, most, cores)
    best, seen = yield from _further(best, seen, most)
    log.info("loader: stays with %s; waited for %.1f %% of the time", best, 100 * seen.waiting)
    return best


def _worth(more: Setting, cores: int, chance: float) -> float:
    """How many times the rate more threads must give."""
    return _GAIN if more.threads <= cores else max(_GAIN, 1 + chance)


Kept = Generator[Setting, Window, tuple[Setting, Window]]


def _between(best: Setting, seen: Window, most: Setting, cores: int) -> Kept:
    """What steps of twice and half have passed by: a thread for each core, and half as many more.

    More threads are kept if they pay, fewer if they are better.
    """
    for threads in (cores, best.threads * 3 // 2):
        other = replace(best, threads=min(threads, most.threads))
        if not best.threads / 2 < other.threads < 2 * best.threads or other == best:
            continue
        if other.threads > best.threads and not _why_more(seen):
            continue
        gain, chance, tried = yield from _compared(other, best)
        log.info("loader: %s gives %+d %%", other, round(100 * gain) - 100)
        if gain > (1 if other.threads < best.threads else _worth(other, cores, chance)):
            best, seen = other, tried
    return best, seen


def _further(best: Setting, seen: Window, most: Setting) -> Kept:
    """More batches ahead, as long as some are ready and others late, and it pays."""
    while (reason := _why_further(seen)) and best.prefetch < most.prefetch:
        further = replace(best, prefetch=min(2 * best.prefetch, most.prefetch))
        gain, _, tried = yield from _compared(further, best)
        log.info("loader: %s; %s gives %+d %%", reason, further, round(100 * gain) - 100)
        if gain < _GAIN:
            break
        best, seen = further, tried
    return best, seen


def _why_more(seen: Window) -> str:
    """Why more threads may pay, as a phrase; empty if they cannot."""
    if seen.waiting < _WAITING or seen.processor > _SATURATED:
        return ""
    return f"waited for {100 * seen.waiting:.0f} % of the time"


def _why_further(seen: Window) -> str:
    """Why more batches ahead may pay, as a phrase; empty if they cannot."""
    if seen.waiting < _WAITING or seen.ready < 0.25:
        return ""
    return f"waited for {100 * seen.waiting:.0f} % of the time while others were ready"


def _compared(
    new: Setting, old: Setting
) -> Generator[Setting, Window, tuple[float, float, Window]]:
    """How many times the old setting's rate the new one has, and what was last seen with it.

    Between them by how much the old one's rates differ, of their median.
    """
    rates: dict[Setting, list[float]] = {new: [], old: []}
    windows = {}
    for turn in range(_TURNS):
        for setting in (new, old) if turn % 2 == 0 else (old, new):
            windows[setting] = yield setting
            rates[setting].append(windows[setting].rate)
    usual = median(rates[old])
    return median(rates[new]) / usual, (max(rates[old]) - min(rates[old])) / usual, windows[new]


def advice(workers: int, waiting: float, cores: int) -> str:
    """What to try where a training waits for a DataLoader; empty if it hardly does.

    workers: its num_workers. waiting: share of the time. cores: that the process may use.
    """
    if waiting < _WAITING:
        return ""
    if workers < cores:
        more = f"num_workers={min(max(1, 2 * workers), cores)} and persistent_workers=True"
    else:
        more = "a larger prefetch_factor"
    return (
        f"waited {100 * waiting:.0f} % of the time for a DataLoader with num_workers={workers}: "
        f"try {more}, or ocr.datasets.BatchLoader, which finds the number of its threads"
    )


class Pace:
    """The setting that a loader works with: given once, it stays.

    setting: to use now. settled: whether it will stay.
    """

    def __init__(self, setting: Setting, *, settled: bool = True) -> None:
        self.setting, self.settled = setting, settled

    def begin(self) -> None:
        """An epoch begins."""

    def saw(self, samples: int, waited: float, ready: float) -> None:
        """A batch was handed out. waited: seconds for it. ready: share of those ahead of it."""

    def end(self) -> None:
        """An epoch is at its end."""


class TunedPace(Pace):
    """A setting that is searched for while batches are handed out, and stays once it is found.

    Batches that were under way when the setting changed count for neither, and the first ones of an
    epoch do not count.
    """

    _BATCHES = 8, 32  # fewest and most of a window
    _LAST = 4  # fewest of a window that the end of an epoch cuts short
    _SECONDS = 0.5  # of a window that has fewer batches than the most

    def __init__(self, start: Setting, most: Setting, cores: int) -> None:
        """Search from start on, up to most; cores: that this process may use."""
        self._search = search(start, most, cores)
        super().__init__(next(self._search), settled=False)
        self._cores = cores
        self.begin()

    def begin(self) -> None:
        """An epoch begins."""
        self._skip(self.setting.prefetch)

    def _skip(self, batches: int) -> None:
        """Start a window after so many batches more."""
        self._skipped, self._batches, self._samples = batches, 0, 0
        self._waited = self._ready = 0.0

    def saw(self, samples: int, waited: float, ready: float) -> None:
        """A batch was handed out. waited: seconds for it. ready: share of those ahead of it."""
        if self.settled:
            return
        if self._skipped:
            self._skipped -= 1
            self._since = perf_counter(), process_time()
            return
        self._batches += 1
        self._samples += samples
        self._waited += waited
        self._ready += ready
        fewest, most = self._BATCHES
        if self._batches >= most or (
            self._batches >= fewest and perf_counter() - self._since[0] >= self._SECONDS
        ):
            self._look()

    def end(self) -> None:
        """An epoch is at its end."""
        if not self.settled and self._batches >= self._LAST:
            self._look()

    def _look(self) -> None:
        seconds = perf_counter() - self._since[0]
        used = (process_time() - self._since[1]) / (seconds * self._cores)
        ready = self._ready / self._batches
        before = self.setting
        try:
            window = Window(self._samples, seconds, self._waited, ready, used)
            self.setting = self._search.send(window)
        except StopIteration as end:
            self.setting, self.settled = end.value, True
        self._skip(before.prefetch if self.setting != before else 0)
        self._since = perf_counter(), process_time()


def most_setting(cores: int, batch: int, memory: int) -> Setting:
    """The most threads and batches ahead that a search goes to.

    cores: that the process may use; waiting for a disk or a network pays threads beyond them.
    batch: bytes of one. memory: bytes that all under way, and the one in use, may take.
    """
    return Setting(max(8, 2 * cores), min(16, max(2, memory // batch - 1)))
