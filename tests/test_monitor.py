"""The monitor's thread: what it tells, that it never stands in the way, and that it ends."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ocr_precompute.monitoring import monitor as monitoring
from ocr_precompute.monitoring.monitor import Monitor, NoMonitor, Seen
from ocr_precompute.monitoring.processes import Machine
from ocr_precompute.monitoring.resources import Reading
from ocr_precompute.monitoring.rules import MemoryShort, Work

SOON = 0.001  # seconds from sample to sample
PATIENCE = 60.0  # seconds after which a test fails


class Samples:
    """A sink that counts samples, which a test can wait for."""

    def __init__(self, until: Callable[[Seen], bool] = lambda seen: True) -> None:
        self.opened = self.closed = 0
        self.shown: list[Seen] = []
        self._until, self.reached = until, threading.Event()

    def open(self, seen: Callable[[], Seen]) -> None:
        self.opened += 1

    def show(self, seen: Seen) -> None:
        self.shown.append(seen)
        if self._until(seen):
            self.reached.set()

    def close(self, seen: Seen) -> None:
        self.closed += 1
        self.last = seen


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "monitor"]


def test_it_samples_until_the_run_is_over(tmp_path: Path) -> None:
    samples = Samples(lambda seen: seen.total.seconds > 0)
    with Monitor(tmp_path, [], interval=SOON, sinks=[samples]) as monitor:
        assert threads() == ["monitor"]
        assert samples.reached.wait(PATIENCE)
        assert monitor.seen.reading.processes >= 1
    assert threads() == []
    assert (samples.opened, samples.closed) == (1, 1)
    assert samples.last == monitor.seen
    assert monitor.seen.total.memory_peak > 1_000_000
    assert monitor.seen.total.seconds >= samples.shown[0].total.seconds
    monitor.close()
    assert samples.closed == 1


def test_what_was_used_is_taken_piece_by_piece(tmp_path: Path) -> None:
    with Monitor(tmp_path, [], interval=3600) as monitor:
        first, second = monitor.take(), monitor.take()
    assert first is not None
    assert second is not None
    assert 0 < first.seconds + second.seconds <= monitor.seen.total.seconds
    assert NoMonitor().take() is None


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every reading say that memory is nearly gone."""
    read = Machine.read
    monkeypatch.setattr(
        Machine, "read", lambda self: replace(read(self), memory_used=95, memory_size=100)
    )


def test_alerts_are_logged_once_and_can_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full(monkeypatch)
    samples = Samples(lambda seen: seen.work.samples > 9)
    done = iter(range(1_000_000))
    work = lambda: Work(next(done), 1.0)  # noqa: E731
    rules = [MemoryShort()]
    with Monitor(tmp_path, rules, interval=SOON, work=work, sinks=[samples]) as monitor:
        assert samples.reached.wait(PATIENCE)
        assert monitor.is_on("memory")
        assert not monitor.is_on("disk")
    told = "alert: memory: 95% of the memory of the machine or the cgroup is taken"
    assert [record.message for record in caplog.records] == [told]
    assert [alert.rule for alert in monitor.seen.alerts] == ["memory"]


def test_rules_look_at_samples_at_the_interval_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(monkeypatch)
    with Monitor(tmp_path, [MemoryShort()], interval=3600) as monitor:
        for _ in range(9):
            monitor.take()
    assert monitor.seen.alerts == ()


def refused(*_: object) -> Reading:
    raise PermissionError(13, "Permission denied", "/proc/1/stat")


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_system_that_tells_nothing_is_one_warning(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read, calls = Machine.read, []

    def failing(self: Machine) -> Reading:
        calls.append(self)
        return read(self) if len(calls) <= after else refused()

    monkeypatch.setattr(Machine, "read", failing)
    with Monitor(tmp_path, [], interval=SOON) as monitor:
        if monitor._thread is not None:
            monitor._thread.join(PATIENCE)
        assert monitor.take() is None
    assert threads() == []
    (record,) = caplog.records
    assert "monitoring: [Errno 13] Permission denied: '/proc/1/stat'" in record.message
    assert "the run goes on without it" in record.message


@pytest.mark.parametrize("name", ["open", "show", "close"])
def test_a_sink_that_fails_is_one_warning(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = Samples(), Samples(lambda seen: len(whole.shown) > 3)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken, name, fail)
    with Monitor(tmp_path, [], interval=SOON, sinks=[broken, whole]):
        assert whole.reached.wait(PATIENCE)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "No space left on device" in caplog.text
    assert whole.closed == 1


def test_it_ends_with_a_run_that_fails(tmp_path: Path) -> None:
    for error in (ValueError, KeyboardInterrupt):
        samples = Samples()
        with pytest.raises(error), Monitor(tmp_path, [], interval=SOON, sinks=[samples]):
            raise error
        assert threads() == []
        assert samples.closed == 1


def test_a_system_that_does_not_answer_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(monitoring, "_ENDS_WITHIN", SOON)
    read, hung, answers = Machine.read, threading.Event(), threading.Event()

    def waiting(self: Machine) -> Reading:
        if threading.current_thread().name == "monitor":
            hung.set()
            assert answers.wait(PATIENCE)
        return read(self)

    monkeypatch.setattr(Machine, "read", waiting)
    with Monitor(tmp_path, [], interval=SOON) as monitor:
        thread = monitor._thread
        assert hung.wait(PATIENCE)
        assert monitor.take() is None
        assert monitor.take() is None
    answers.set()
    assert thread is not None
    thread.join(PATIENCE)
    assert threads() == []
    assert len(caplog.records) == 1
    assert "the system does not say what is used" in caplog.text


@pytest.mark.proc
def test_threads_and_open_files_do_not_grow(tmp_path: Path) -> None:
    def counted() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    def once() -> None:
        samples = Samples(lambda seen: len(samples.shown) > 2)
        with Monitor(tmp_path, [MemoryShort()], interval=SOON, sinks=[samples]):
            assert samples.reached.wait(PATIENCE)

    once()
    before = counted()
    for _ in range(10):
        once()
    assert counted() == before


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_leaves_it_alone(tmp_path: Path) -> None:
    samples = Samples()
    with Monitor(tmp_path, [], interval=SOON, sinks=[samples]) as monitor:
        assert samples.reached.wait(PATIENCE)
        with monitor._lock:  # as it may be, in the thread that a child does not have
            child = os.fork()
            if child == 0:
                taken = monitor.take()
                monitor.close()
                os._exit(0 if taken is None and not samples.closed else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert samples.closed == 1


def test_a_line_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ocr_precompute")
    monkeypatch.setattr(monitoring, "_LINE_EVERY", 0.0)
    samples = Samples(lambda seen: len(samples.shown) > 3)
    with Monitor(tmp_path, [], interval=SOON, sinks=[samples]):
        assert samples.reached.wait(PATIENCE)
    lines = [record.message for record in caplog.records]
    assert len(lines) > 3
    assert all(re.match(r"(1 process|\d+ processes), memory .* samples/s$", line) for line in lines)
    assert {record.levelno for record in caplog.records} == {logging.INFO}
