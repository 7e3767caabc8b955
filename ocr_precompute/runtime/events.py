"""What threads did and when: stages and waits as events, for whoever asked for a trace.

Every process has its own clock, so events go with what leads from it to the time of day. They are
kept up to a number; after that of each stretch of work only what is not inside anything else, and
at last nothing but how many there were.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ocr_precompute.runtime.forks import undisturbed

MOST = 50_000
"""Events in all their detail that a trace keeps of each kind of work, unless told otherwise."""


class Event(NamedTuple):
    """A stage, or a wait, from its start to its end.

    start, end: seconds of the process's clock. own: seconds that it took without the stages inside
    it. about: what was worked on, such as a sample's name; may be empty.
    """

    name: str
    waits: bool
    start: float
    end: float
    own: float
    about: str = ""


@dataclass(frozen=True)
class Stretch:
    """What one thread did in one go, in the order in which it ended.

    process, thread: the system's numbers of them. name: of the thread. clock: what added to a start
    gives the time of day, in seconds. lost: how many events more there were.
    """

    process: int
    thread: int
    name: str
    clock: float
    events: tuple[Event, ...]
    lost: int = 0

    @property
    def kind(self) -> str:
        """The name of the stage around all others, which ends last."""
        return self.events[-1].name if self.events else ""

    def outermost(self) -> Stretch:
        """The same without events that are inside others; these count as lost."""
        kept: list[Event] = []
        for event in reversed(self.events):
            if not kept or event.start < kept[-1].start:
                kept.append(event)
        lost = self.lost + len(self.events) - len(kept)
        return replace(self, events=tuple(reversed(kept)), lost=lost)


class Events:
    """Collects what the thread that makes it does, and what was collected elsewhere.

    about: what is worked on now.
    """

    def __init__(self, most: int) -> None:
        """most: of each kind of stretch in detail; as many again without what is inside others."""
        self.most, self.about = most, ""
        self._process, self._thread = os.getpid(), threading.get_native_id()
        self._name = threading.current_thread().name
        self._own: list[Event] = []
        self._others: list[Stretch] = []
        self._kept: dict[str, int] = {}
        self._lost = 0

    def append(self, name: str, waits: bool, start: float, end: float, own: float) -> None:
        """A stage or a wait has ended."""
        event = Event(name, waits, start, end, own, self.about)
        if len(self._own) < self.most:
            self._own.append(event)
            return
        self._lost += 1
        if start <= self._own[-1].start:  # what is around the others is worth more than the last
            self._own[-1] = event

    def add(self, stretches: Iterable[Stretch]) -> None:
        """Add what was collected elsewhere; from any thread."""
        with undisturbed:
            for stretch in stretches:
                kind, had = stretch.kind, self._kept.get(stretch.kind, 0)
                if had + len(stretch.events) > self.most:
                    stretch = stretch.outermost()
                if had + len(stretch.events) > 2 * self.most:
                    self._lost += stretch.lost + len(stretch.events)
                    continue
                self._kept[kind] = had + len(stretch.events)
                self._others.append(stretch)

    def stretches(self) -> tuple[Stretch, ...]:
        """All that was collected, first what the thread itself did."""
        with undisturbed:
            clock, own, lost = _offset(), tuple(self._own), self._lost
            mine = Stretch(self._process, self._thread, self._name, clock, own, lost)
            return (mine, *self._others)


def _offset() -> float:
    """What leads from this process's clock to the time of day, in seconds.

    Of a few readings the one that was interrupted least.
    """
    found = []
    for _ in range(3):
        before, now, after = time.perf_counter(), time.time(), time.perf_counter()
        found.append((after - before, now - (before + after) / 2))
    return min(found)[1]


def on_one_clock(stretches: Sequence[Stretch]) -> dict[int, float]:
    """What to add to the starts of each process to have them on the clock of the first stretch.

    A process's clock is what its first stretch says, so that its events keep their order even if
    somebody sets the time of day meanwhile.
    """
    shifts: dict[int, float] = {}
    for stretch in stretches:
        shifts.setdefault(stretch.process, stretch.clock - stretches[0].clock)
    return shifts
