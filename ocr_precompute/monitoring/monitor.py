"""A thread that looks at a run now and then: what it uses, and whether a rule holds."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ocr_precompute.errors import one_line
from ocr_precompute.monitoring.gpu import NoGpus
from ocr_precompute.monitoring.processes import Machine
from ocr_precompute.monitoring.resources import Reading, Resources, used
from ocr_precompute.monitoring.rules import Alarm, Alert, Observed, Rule, Work

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds from sample to sample, unless something else is asked for."""

_LINE_EVERY = 60.0  # seconds from line to line of the log
_ENDS_WITHIN = 10.0  # seconds that a sample may take while the run itself waits for it


@dataclass(frozen=True)
class Seen:
    """What a monitor knows.

    reading: the latest. latest: what was used up to it from the one before. total: since the run
    began. work: how far the run is. rate: samples per second since the sample before, or as it was
    when something was last done.
    """

    reading: Reading = field(default_factory=lambda: Reading(0.0))
    latest: Resources = field(default_factory=Resources)
    total: Resources = field(default_factory=Resources)
    work: Work = field(default_factory=Work)
    rate: float = 0.0
    alarm: Alarm = field(default_factory=Alarm)

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """All that were raised so far."""
        return self.alarm.alerts


class Sink(Protocol):
    """Where what was seen is shown. It may raise; it is asked no more then."""

    def open(self, seen: Callable[[], Seen]) -> None:
        """The run begins. seen: gives what is known at any time."""

    def show(self, seen: Seen) -> None:
        """There is a new sample."""

    def close(self, seen: Seen) -> None:
        """The run is over, and this is the last sample."""


class NoMonitor:
    """The twin that does nothing, for a run that nobody looks at."""

    def __enter__(self) -> NoMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def seen(self) -> Seen:
        """Nothing."""
        return Seen()

    def take(self) -> Resources | None:
        """What was used since this was last asked; None if that is not known."""
        return None

    def is_on(self, rule: str) -> bool:
        """Whether the alert of that rule holds."""
        return False

    def close(self) -> None:
        """End it; a second time does nothing."""


class Monitor(NoMonitor):
    """Looks at this process and all that it starts, within a `with`.

    Whatever fails here is one warning in the log, and the run goes on without it. In a forked child
    it does nothing.
    """

    def __init__(
        self,
        folder: Path,
        rules: Sequence[Rule],
        *,
        interval: float = INTERVAL,
        work: Callable[[], Work] = Work,
        gpus: NoGpus | None = None,
        apart: Collection[int] = (),
        sinks: Sequence[Sink] = (),
    ) -> None:
        """folder: what the run writes to. interval: seconds. work: says how far the run is.

        apart: ids of processes that this one has started and that look at themselves.
        """
        self._folder, self._interval, self._work = folder, interval, work
        self._gpus, self._apart = gpus or NoGpus(), apart
        self._sinks = list(sinks)
        self._seen = Seen(alarm=Alarm.of(rules))
        self._span = Resources()
        self._lock, self._process = threading.Lock(), os.getpid()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._machine: Machine | None = None
        self._began = self._said = 0.0

    def __enter__(self) -> Monitor:
        try:
            self._machine = Machine(self._folder, self._gpus, self._apart)
            reading = self._machine.read()
        except Exception as error:  # no /proc, not allowed: whatever keeps this from working
            self._give_up(error)
            return self
        self._began = self._said = reading.time
        self._seen = Seen(reading, work=self._work(), alarm=self._seen.alarm)
        self._each_sink(lambda sink: sink.open(lambda: self._seen))
        self._thread = threading.Thread(target=self._watch, name="monitor", daemon=True)
        self._thread.start()
        return self

    @property
    def seen(self) -> Seen:
        """What is known up to the latest sample."""
        return self._seen

    def is_on(self, rule: str) -> bool:
        """Whether the alert of that rule holds."""
        return rule in self._seen.alarm.on

    def take(self) -> Resources | None:
        """What was used since this was last asked; None if that is not known."""
        if self._machine is None or self._elsewhere:
            return None
        if not self._lock.acquire(timeout=_ENDS_WITHIN):  # a driver or a disk does not answer
            self._give_up(TimeoutError("the system does not say what is used"))
            return None
        try:
            self._sample(judged=False)
            taken, self._span = self._span, Resources()
        finally:
            self._lock.release()
        return taken

    def close(self) -> None:
        """Take a last sample, and end the thread and what is shown; a second time does nothing."""
        if self._thread is None or self._elsewhere:
            return
        thread, self._thread = self._thread, None
        self._ended.set()
        thread.join(_ENDS_WITHIN)
        if thread.is_alive() or not self._lock.acquire(timeout=_ENDS_WITHIN):
            return  # it hangs in a call of the system, and goes with the process
        try:
            self._sample(judged=False)
            self._each_sink(lambda sink: sink.close(self._seen))
            self._say()
        finally:
            self._lock.release()
            self._close_machine()

    @property
    def _elsewhere(self) -> bool:
        return os.getpid() != self._process

    def _watch(self) -> None:
        while not self._ended.wait(self._interval):
            with self._lock:
                self._sample(judged=True)
            if self._machine is None:
                return
            self._each_sink(lambda sink: sink.show(self._seen))
            if self._seen.reading.time - self._said >= _LINE_EVERY:
                self._say()

    def _sample(self, *, judged: bool) -> None:
        """judged: whether rules look at it too, for which it must come at the interval."""
        before, machine = self._seen, self._machine
        if machine is None:
            return
        try:
            reading, work = machine.read(), self._work()
        except Exception as error:
            self._give_up(error)
            return
        latest = used(before.reading, reading)
        rate, alarm = work.rate_since(before.work), before.alarm
        if judged:
            observed = Observed(
                memory=reading.memory_share,
                disk_free=reading.disk_free,
                disk_size=reading.disk_size,
                gpu=reading.gpu_busy,
                work=work,
            )
            alarm = before.alarm.after(observed, reading.time - self._began)
        self._span += latest
        rate = before.rate if rate is None else rate
        self._seen = Seen(reading, latest, before.total + latest, work, rate, alarm)
        _log_changes(before.alarm, alarm)

    def _each_sink(self, call: Callable[[Sink], None]) -> None:
        for sink in self._sinks[:]:
            try:
                call(sink)
            except Exception as error:
                self._sinks.remove(sink)
                log.warning("monitoring: %s; the run goes on without it", one_line(error))

    def _give_up(self, error: Exception) -> None:
        log.warning("monitoring: %s; the run goes on without it", one_line(error))
        self._machine = None
        if not isinstance(error, TimeoutError):  # or closing would wait for the same
            self._gpus.close()

    def _close_machine(self) -> None:
        self._machine = None
        self._gpus.close()

    def _say(self) -> None:
        self._said = self._seen.reading.time
        log.info("%s", resources_line(self._seen))


def resources_line(seen: Seen) -> str:
    """What the run uses now and has used, in a line for people."""
    total, reading = seen.total, seen.reading
    processes = "1 process" if reading.processes == 1 else f"{reading.processes} processes"
    return (
        f"{processes}, memory {reading.memory / 1e6:.0f} MB (most "
        f"{total.memory_peak / 1e6:.0f} MB, {reading.memory_share:.0%} of what there is is taken), "
        f"processor {total.cpu_share:.0%}, {total.read_bytes / 1e6:.0f} MB read and "
        f"{total.written_bytes / 1e6:.0f} MB written, {seen.rate:.1f} samples/s"
    )


def _log_changes(before: Alarm, after: Alarm) -> None:
    known = {(alert.rule, alert.raised): alert for alert in before.alerts}
    for alert in after.alerts:
        earlier = known.get((alert.rule, alert.raised))
        if earlier is None:
            log.warning("alert: %s: %s", alert.rule, alert.detail)
        elif earlier != alert:
            lasted = (alert.over or 0.0) - alert.raised
            log.warning("alert over: %s, after %.0f s", alert.rule, lasted)
