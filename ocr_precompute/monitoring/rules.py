"""What is worth an alert: rules over what was seen last, as data and pure functions.

A rule says of the latest window whether it holds, does not, or cannot tell. An alert is raised once
a rule has held in so many samples in a row, and is over once it has not held in as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Protocol

_RECENT = 60  # samples that rules may look back on
_MOST_RATES = 10_000  # earlier stretches that are remembered


@dataclass(frozen=True)
class Work:
    """How far a run is, as it counts it: all only grow.

    samples: done. seconds: of the time in which that was done, up to the last of them. waited:
    seconds of these in which the loop waited for the loader.
    """

    samples: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def rate_since(self, earlier: Work) -> float | None:
        """Samples a second since then; None if nothing was done."""
        seconds = self.seconds - earlier.seconds
        return (self.samples - earlier.samples) / seconds if seconds > 0 else None

    def waiting_since(self, earlier: Work) -> float | None:
        """Share of the time since then in which the loop waited; None if nothing was done."""
        seconds = self.seconds - earlier.seconds
        return (self.waited - earlier.waited) / seconds if seconds > 0 else None


@dataclass(frozen=True)
class Observed:
    """One sample of what rules look at.

    memory: share taken of what is nearest to being full, machine or cgroup. disk_free, disk_size:
    bytes. gpu: share of the time in which GPUs worked; None without any.
    """

    memory: float = 0.0
    disk_free: int = 0
    disk_size: int = 0
    gpu: float | None = None
    work: Work = Work()


@dataclass(frozen=True)
class Window:
    """What was observed last, the latest at the end, and samples per second of earlier stretches.

    begun: how far the work was when the stretch began that is not over yet. stretch: its least
    length, in seconds of work.
    """

    recent: tuple[Observed, ...] = ()
    rates: tuple[float, ...] = ()
    begun: Work = Work()
    stretch: float = 30.0

    def after(self, observed: Observed) -> Window:
        """The window, moved on by a sample."""
        recent = (*self.recent, observed)[-_RECENT:]
        if not self.recent:
            return replace(self, recent=recent, begun=observed.work)
        if observed.work.seconds - self.begun.seconds < self.stretch:
            return replace(self, recent=recent)
        rate = observed.work.rate_since(self.begun)
        rates = (*self.rates, rate or 0.0)[-_MOST_RATES:]
        return replace(self, recent=recent, rates=rates, begun=observed.work)

    @property
    def last(self) -> Observed:
        """The latest sample."""
        return self.recent[-1]

    def back(self, samples: int) -> Observed | None:
        """The sample so many before the latest; None if there are not as many."""
        return self.recent[-1 - samples] if samples < len(self.recent) else None

    def waiting(self, samples: int) -> float | None:
        """Share of the work since then in which the loop waited; None if that is not known."""
        earlier = self.back(samples)
        return None if earlier is None else self.last.work.waiting_since(earlier.work)


class Rule(Protocol):
    """What an alert is raised by. hold: samples in a row that decide."""

    @property
    def name(self) -> str:
        """Of the alert."""

    @property
    def hold(self) -> int:
        """Samples in a row after which an alert is raised, or over."""

    def holds(self, window: Window) -> bool | None:
        """Whether it does; None if the window does not tell, which changes nothing."""

    def detail(self, window: Window) -> str:
        """What there is to say while it holds, and what to do."""


@dataclass(frozen=True)
class MemoryShort:
    """More than a share of the memory of the machine, or of a cgroup, is taken."""

    share: float = 0.8
    hold: int = 3
    name: str = "memory"

    def holds(self, window: Window) -> bool | None:
        """See Rule."""
        return window.last.memory > self.share

    def detail(self, window: Window) -> str:
        """See Rule."""
        return f"{window.last.memory:.0%} of the memory of the machine or the cgroup is taken"


def _amount(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@dataclass(frozen=True)
class DiskNearlyFull:
    """Less is free than a share of the file system, and less than so many bytes."""

    share: float = 0.05
    bytes: int = 20_000_000_000
    hold: int = 3
    name: str = "disk"

    def holds(self, window: Window) -> bool | None:
        """See Rule."""
        seen = window.last
        if not seen.disk_size:
            return None
        return seen.disk_free < min(self.share * seen.disk_size, self.bytes)

    def detail(self, window: Window) -> str:
        """See Rule."""
        free, size = _amount(window.last.disk_free), _amount(window.last.disk_size)
        return f"{free} of {size} are free in the file system that is written to"


@dataclass(frozen=True)
class ThroughputDown:
    """The latest stretches of work were all slower, by a share, than the median of those before.

    baseline: samples per second to compare with instead of the run's own earlier ones. slow: how
    many stretches are the latest, and least: how many there must have been before for these to
    count.
    """

    share: float = 0.3
    baseline: float | None = None
    slow: int = 2
    least: int = 4
    hold: int = 3
    name: str = "throughput"

    def _expected(self, window: Window) -> float | None:
        if self.baseline is not None:
            return self.baseline
        earlier = window.rates[: -self.slow]
        return median(earlier) if len(earlier) >= self.least else None

    def holds(self, window: Window) -> bool | None:
        """See Rule."""
        expected = self._expected(window)
        if expected is None or len(window.rates) < self.slow:
            return None
        return max(window.rates[-self.slow :]) < (1 - self.share) * expected

    def detail(self, window: Window) -> str:
        """See Rule."""
        of = "the baseline's" if self.baseline is not None else "the median of"
        expected = self._expected(window) or 0.0
        end = "" if self.baseline is not None else " before"
        return f"{window.rates[-1]:.1f} samples/s, {of} {expected:.1f}{end}"


@dataclass(frozen=True)
class LoaderWaiting:
    """The training loop waits for batches for more than a share of its time.

    over: samples that the share is taken over; a single wait is in it for as long, so `hold` is
    more.
    """

    share: float = 0.1
    over: int = 10
    hold: int = 15
    name: str = "loader"

    def holds(self, window: Window) -> bool | None:
        """See Rule."""
        waiting = window.waiting(self.over)
        return None if waiting is None else waiting > self.share

    def detail(self, window: Window) -> str:
        """See Rule."""
        waiting = window.waiting(self.over) or 0.0
        return f"{waiting:.0%} of the training is waiting for the loader; raise data.threads"


@dataclass(frozen=True)
class GpuStarved:
    """GPUs work for less than a share of the time while the loop waits for batches.

    waiting: share of the time for which it does. over, hold: as in LoaderWaiting.
    """

    share: float = 0.5
    waiting: float = 0.05
    over: int = 10
    hold: int = 15
    name: str = "gpu"

    def _busy(self, window: Window) -> float | None:
        busy = [seen.gpu for seen in window.recent[-self.over :] if seen.gpu is not None]
        return sum(busy) / len(busy) if len(busy) == self.over else None

    def holds(self, window: Window) -> bool | None:
        """See Rule."""
        busy, waiting = self._busy(window), window.waiting(self.over)
        if busy is None or waiting is None:
            return None
        return busy < self.share and waiting > self.waiting

    def detail(self, window: Window) -> str:
        """See Rule."""
        return f"the GPU works {self._busy(window) or 0.0:.0%} of the time and waits for batches"


@dataclass(frozen=True)
class Alert:
    """That a rule held.

    raised, over: seconds after the beginning of the run; `over` is None while it holds. detail:
    what there was to say when it was raised.
    """

    rule: str
    raised: float
    detail: str
    over: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        over = None if self.over is None else round(self.over, 1)
        return {**vars(self), "raised": round(self.raised, 1), "over": over}


@dataclass(frozen=True)
class Watch:
    """One rule, and how often in a row it was otherwise than its alert says.

    on: whether its alert holds.
    """

    rule: Rule
    on: bool = False
    streak: int = 0

    def after(self, window: Window) -> Watch:
        """The same, one sample later."""
        holds = self.rule.holds(window)
        if holds is None:
            return self
        if holds == self.on:
            return replace(self, streak=0)
        if self.streak + 1 < self.rule.hold:
            return replace(self, streak=self.streak + 1)
        return replace(self, on=holds, streak=0)


@dataclass(frozen=True)
class Alarm:
    """All rules of a run, what they have seen, and the alerts that were raised so far."""

    watches: tuple[Watch, ...] = ()
    window: Window = Window()
    alerts: tuple[Alert, ...] = ()

    @classmethod
    def of(cls, rules: Sequence[Rule], stretch: float = 30.0) -> Alarm:
        """That of a run that begins. stretch: see Window."""
        return cls(tuple(Watch(rule) for rule in rules), Window(stretch=stretch))

    @property
    def on(self) -> tuple[str, ...]:
        """The rules whose alerts hold."""
        return tuple(watch.rule.name for watch in self.watches if watch.on)

    def after(self, observed: Observed, now: float) -> Alarm:
        """The same, one sample later. now: seconds after the beginning of the run."""
        window = self.window.after(observed)
        watches = tuple(watch.after(window) for watch in self.watches)
        alerts = self.alerts
        for before, watch in zip(self.watches, watches, strict=True):
            name = watch.rule.name
            if watch.on and not before.on:
                alerts = (*alerts, Alert(name, now, watch.rule.detail(window)))
            if before.on and not watch.on:
                alerts = tuple(
                    replace(each, over=now) if each.rule == name and each.over is None else each
                    for each in alerts
                )
        return Alarm(watches, window, alerts)


def rules_of_a_build() -> tuple[Rule, ...]:
    """What a build is watched by."""
    return MemoryShort(), DiskNearlyFull(), ThroughputDown(share=0.5)


def rules_of_a_training(baseline: float | None = None, share: float = 0.3) -> tuple[Rule, ...]:
    """What a training is watched by.

    baseline: samples per second that it is expected to do. share: of these that may be lost.
    """
    throughput = ThroughputDown(share, baseline)
    return MemoryShort(), DiskNearlyFull(), throughput, LoaderWaiting(), GpuStarved()
