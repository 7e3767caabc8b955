"""Where time goes: each stage of a run counted and timed, without the stages inside it.

    with stage("decode"):
        ...

A stage's time is its own: while another stage runs inside it, on the same thread, its clock stands
still. Time in which nothing is done is a wait, and kept apart. `count` counts what takes no time of
its own. All of it is recorded for the thread that does it, without a lock: `recording` gives what
this thread did within, `everything` what all threads of the process did outside of that. Totals can
be pickled and added, so those of many processes are sums. A recording that asks for events also
says when each stage began and how long it took in all.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter as _clock
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ocr_precompute.runtime.events import Events, Stretch
from ocr_precompute.runtime.forks import in_children, undisturbed

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_PARTS = 4  # of each doubling of a duration, in histograms
_LEAST = 1e-9  # seconds; all that is shorter falls into one class
_MOST_NEW = 512  # durations of a stage that are not sorted into classes yet


@dataclass(frozen=True)
class Times:
    """How long a stage took: seconds in all, the longest, and durations by class.

    histogram: how many durations fall into each class, of which there are four to a doubling.
    """

    count: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    histogram: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, durations: Sequence[float]) -> Times:
        """Those of durations in seconds."""
        if not durations:
            return cls()
        values = np.array(durations)
        parts, doublings = np.frexp(np.maximum(values, _LEAST))  # 0.5 <= part < 1
        classes = _PARTS * doublings + (2 * _PARTS * parts).astype(int) - _PARTS
        numbers, counts = np.unique(classes, return_counts=True)
        histogram = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
        return cls(len(durations), float(values.sum()), float(values.max()), histogram)

    def __add__(self, other: Times) -> Times:
        return Times(
            self.count + other.count,
            self.seconds + other.seconds,
            max(self.longest, other.longest),
            _summed(self.histogram, other.histogram),
        )

    def __sub__(self, earlier: Times) -> Times:
        """What came after an earlier state of the same; the longest to a quarter, then."""
        histogram = {
            number: more
            for number, times in self.histogram.items()
            if (more := times - earlier.histogram.get(number, 0))
        }
        longest = min(_end(max(histogram)), self.longest) if histogram else 0.0
        count, seconds = self.count - earlier.count, self.seconds - earlier.seconds
        return Times(count, seconds, longest, histogram)

    def quantile(self, share: float) -> float:
        """Seconds below which that share of the durations lies, to an eighth; 0 if there is none.

        share: from 0 to 1.
        """
        below = 0
        for number in sorted(self.histogram):
            below += self.histogram[number]
            if below >= share * self.count:
                return min(_middle(number), self.longest)
        return 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON; all but `count` in seconds."""
        return {
            "count": self.count,
            "seconds": round(self.seconds, 6),
            "p50": round(self.quantile(0.5), 9),
            "p95": round(self.quantile(0.95), 9),
            "max": round(self.longest, 9),
        }


@dataclass(frozen=True)
class Totals:
    """What was recorded: stages and waits by name, and counts by name."""

    stages: Mapping[str, Times] = field(default_factory=dict)
    waits: Mapping[str, Times] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            _summed(self.stages, other.stages),
            _summed(self.waits, other.waits),
            _summed(self.counts, other.counts),
        )

    def __sub__(self, earlier: Totals) -> Totals:
        """What came after an earlier state of the same, without what did not go on."""
        stages, waits = (
            {name: times - had.get(name, Times()) for name, times in has.items()}
            for has, had in ((self.stages, earlier.stages), (self.waits, earlier.waits))
        )
        counts = {name: n - earlier.counts.get(name, 0) for name, n in self.counts.items()}
        return Totals(
            {name: times for name, times in stages.items() if times.count},
            {name: times for name, times in waits.items() if times.count},
            {name: number for name, number in counts.items() if number},
        )

    @property
    def seconds(self) -> float:
        """Of all stages together, without waits."""
        return sum(times.seconds for times in self.stages.values())

    def shares(self) -> dict[str, float]:
        """What share of these seconds each stage took, the largest first."""
        by_time = sorted(self.stages.items(), key=lambda item: -item[1].seconds)
        return {name: times.seconds / (self.seconds or 1.0) for name, times in by_time}

    def as_dict(self) -> dict[str, Any]:
        """For JSON: see Times."""
        return {
            "stages": {name: times.as_dict() for name, times in self.stages.items()},
            "waits": {name: times.as_dict() for name, times in self.waits.items()},
            "counts": dict(self.counts),
        }


def _summed(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> dict[Any, Any]:
    return {**a, **{key: a[key] + value if key in a else value for key, value in b.items()}}


def _end(number: int) -> float:
    doublings, part = divmod(number, _PARTS)
    return math.ldexp((part + 1 + _PARTS) / (2 * _PARTS), doublings)


def _middle(number: int) -> float:
    doublings, part = divmod(number, _PARTS)
    return math.ldexp((part + 0.5 + _PARTS) / (2 * _PARTS), doublings)


class Recorder:
    """What one thread records. Any thread may ask for its totals.

    durations: seconds, by whether they are a wait and the name, in lists to append to. They are
    kept as they are until somebody asks, or sorts those of a kind because there are some hundred:
    to sort each one in when it comes would take as long as the rest of a stage. events: None unless
    somebody wants them.
    """

    def __init__(self, events: int = 0) -> None:
        """events: the most of each kind of work to keep; 0: none. To be made by its thread."""
        self.events = Events(events) if events else None
        self.durations: defaultdict[tuple[bool, str], list[float]] = defaultdict(list)
        self._sorted: dict[tuple[bool, str], Times] = {}
        self._counts: dict[str, int] = {}
        self._other = Totals()

    def sort(self, kind: tuple[bool, str]) -> Times:
        """Sort durations of a kind into classes. Returns all of that kind so far."""
        with undisturbed:
            durations = self.durations[kind][:]
            del self.durations[kind][: len(durations)]  # the thread may have added more meanwhile
            found = self._sorted.get(kind, Times()) + Times.of(durations)
            self._sorted[kind] = found
            return found

    def count(self, name: str, number: int) -> None:
        """Add to a count."""
        self._counts[name] = self._counts.get(name, 0) + number

    def add(self, totals: Totals, stretches: Iterable[Stretch] = ()) -> None:
        """Add what was recorded elsewhere; from any thread."""
        with undisturbed:
            self._other += totals
        if self.events is not None:
            self.events.add(stretches)

    def about(self, name: str) -> None:
        """Say what is worked on from now on, for events."""
        if self.events is not None:
            self.events.about = name

    def stretches(self) -> tuple[Stretch, ...]:
        """The events so far; nothing if they were not wanted."""
        return () if self.events is None else self.events.stretches()

    def waited(self, name: str) -> float:
        """Seconds of that wait so far, without what was recorded elsewhere."""
        kind = True, name
        return self.sort(kind).seconds if kind in self.durations else 0.0

    def totals(self) -> Totals:
        """All that was recorded so far."""
        kinds: tuple[dict[str, Times], dict[str, Times]] = {}, {}
        for waited, name in list(self.durations):
            kinds[waited][name] = self.sort((waited, name))
        return Totals(*kinds, dict(self._counts)) + self._other


class _State:
    """What a thread is in the midst of: when its innermost stage began, and how long those took
    that were inside it; and the same of the stages around it, the outermost first.
    """

    __slots__ = ("around", "began", "inside", "recorder")

    def __init__(self) -> None:
        self.began = self.inside = 0.0
        self.around: list[tuple[float, float]] = []
        self.recorder = Recorder()
        _register(self.recorder)


class _Here(threading.local):
    def __init__(self) -> None:
        self.state = _State()


_recorders: list[tuple[threading.Thread, Recorder]] = []
_ended = Recorder()  # of threads that have ended


def _register(recorder: Recorder) -> None:
    with undisturbed:
        _recorders.append((threading.current_thread(), recorder))
        for thread, other in _recorders[:]:
            if not thread.is_alive():
                _recorders.remove((thread, other))
                _ended.add(other.totals())


_here = _Here()


def _begin_anew() -> None:
    """In a child process, whose totals are not to hold what its parent did before."""
    global _ended
    _recorders.clear()
    _ended = Recorder()
    around = len(_here.state.around)
    _here.state = _State()
    now = _here.state.began = _clock()
    _here.state.around = [(now, 0.0)] * around  # stages that the child may still leave


in_children(_begin_anew)


class stage:
    """Time what is done within as a stage of that name."""

    __slots__ = ("_kind",)
    _waits = False

    def __init__(self, name: str) -> None:
        self._kind = self._waits, name

    def __enter__(self) -> None:
        state, now = _here.state, _clock()
        state.around.append((state.began, state.inside))
        state.began, state.inside = now, 0.0

    def __exit__(self, *_: object) -> None:
        state, now = _here.state, _clock()
        began, recorder = state.began, state.recorder
        seconds = now - began
        own = seconds - state.inside
        state.began, inside = state.around.pop()
        state.inside = inside + seconds
        durations = recorder.durations[self._kind]
        durations.append(own)
        if len(durations) >= _MOST_NEW:
            recorder.sort(self._kind)
        if recorder.events is not None:
            waits, name = self._kind
            recorder.events.append(name, waits, began, now, own)


class waiting(stage):
    """Time what is done within as a wait of that name."""

    __slots__ = ()
    _waits = True


def waited_for(results: Iterable[T], name: str) -> Iterator[T]:
    """The results, the time until each comes as a wait of that name."""
    coming = iter(results)
    with suppress(StopIteration):
        while True:
            with waiting(name):
                result = next(coming)
            yield result
            del result  # or it would be held while the next is made


def count(name: str, number: int = 1) -> None:
    """Add to the count of that name."""
    _here.state.recorder.count(name, number)


@contextmanager
def recording(events: int = 0) -> Iterator[Recorder]:
    """Record what this thread does within by itself, and not with all that the process does.

    events: the most events to keep of each kind of work; 0: none.
    """
    state, recorder = _here.state, Recorder(events)
    before, state.recorder = state.recorder, recorder
    try:
        yield recorder
    finally:
        state.recorder = before


def waited_here(name: str) -> float:
    """Seconds that this thread has waited so far in waits of that name."""
    return _here.state.recorder.waited(name)


def add(totals: Totals, stretches: Iterable[Stretch] = ()) -> None:
    """Add what was recorded elsewhere, as in a worker, to what this thread records."""
    _here.state.recorder.add(totals, stretches)


def recorded_here(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which on whatever thread it is called records with the thread that asks now."""
    recorder = _here.state.recorder
    events = recorder.events.most if recorder.events else 0

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with recording(events) as elsewhere:
            try:
                return function(*args, **kwargs)
            finally:
                recorder.add(elsewhere.totals(), elsewhere.stretches())

    return call


def everything() -> Totals:
    """What all threads of this process have recorded so far, but for what is in a `recording`."""
    with undisturbed:
        found = _ended.totals()
        for _, recorder in _recorders:
            found += recorder.totals()
        return found
