"""Alerts: rules over made-up samples, raised once and over once."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ocr_precompute.monitoring.rules import (
    Alarm,
    Alert,
    DiskNearlyFull,
    GpuStarved,
    LoaderWaiting,
    MemoryShort,
    Observed,
    Rule,
    ThroughputDown,
    Window,
    Work,
)


def seen(rule: Rule, samples: Iterable[Observed], stretch: float = 30.0) -> Alarm:
    """What a rule makes of samples that come once a second."""
    alarm = Alarm.of([rule], stretch)
    for second, observed in enumerate(samples):
        alarm = alarm.after(observed, float(second))
    return alarm


def memory(*shares: float) -> list[Observed]:
    return [Observed(memory=share) for share in shares]


def test_an_alert_is_raised_once_and_over_once() -> None:
    rule = MemoryShort()
    assert seen(rule, memory(0.9, 0.9)).alerts == ()
    raised = seen(rule, memory(0.5, 0.81, 0.85, 0.9, 0.99, 0.99))
    detail = "90% of the memory of the machine or the cgroup is taken"
    assert raised.alerts == (Alert("memory", 3.0, detail),)
    assert raised.on == ("memory",)
    over = seen(rule, memory(0.9, 0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 0.5))
    assert over.alerts == (Alert("memory", 2.0, detail, over=6.0),)
    assert over.on == ()
    twice = seen(rule, memory(*[0.9] * 3, *[0.1] * 3, *[0.9] * 3))
    assert [(alert.raised, alert.over) for alert in twice.alerts] == [(2.0, 5.0), (8.0, None)]
    shown = {"rule": "memory", "raised": 2.0, "over": 5.0, "detail": detail}
    assert twice.alerts[0].as_dict() == shown
    assert twice.alerts[1].as_dict() == {**shown, "raised": 8.0, "over": None}


def test_single_spikes_say_nothing() -> None:
    assert seen(MemoryShort(), memory(*[0.1, 0.95, 0.95] * 50)).alerts == ()
    up = memory(*[0.9] * 3, *[0.9, 0.1, 0.1] * 50)
    assert seen(MemoryShort(), up).on == ("memory",)  # nor that it is over


@pytest.mark.parametrize(
    ("free", "size", "on"),
    [
        (10e9, 1000e9, True),
        (30e9, 1000e9, False),  # of a large disk so much is enough
        (10e9, 50e9, False),
        (1e9, 50e9, True),
        (0, 0, False),  # not known
    ],
)
def test_a_disk_that_is_nearly_full(free: float, size: float, on: bool) -> None:
    samples = [Observed(disk_free=int(free), disk_size=int(size))] * 5
    alarm = seen(DiskNearlyFull(), samples)
    assert alarm.on == (("disk",) if on else ())


def test_what_is_said_of_a_disk() -> None:
    samples = [Observed(disk_free=9_500_000, disk_size=2 * 10**9)] * 3
    (alert,) = seen(DiskNearlyFull(), samples).alerts
    assert alert.detail == "9.5 MB of 2.0 GB are free in the file system that is written to"


def working(*rates: float, waiting: float = 0.0, gpu: float | None = None) -> list[Observed]:
    """Samples of seconds in which so many samples were done; None: nothing was being done."""
    work, samples = Work(), []
    for rate in rates:
        if rate is not None:
            waited = work.waited + waiting
            work = Work(work.samples + int(rate), work.seconds + 1, waited)
        samples.append(Observed(gpu=gpu, work=work))
    return samples


def test_throughput_is_compared_with_the_runs_own_median() -> None:
    rule = ThroughputDown()
    steady = [100] * 300
    assert seen(rule, working(*steady, *[80] * 120)).alerts == ()
    assert seen(rule, working(*steady, *[0] * 25, *steady)).alerts == ()  # one stretch is no trend
    down = seen(rule, working(*steady, *[60] * 75))
    (alert,) = down.alerts
    assert down.on == ("throughput",)
    assert 300 < alert.raised < 375
    assert alert.detail == "60.0 samples/s, the median of 100.0 before"
    assert seen(rule, working(*steady, *[60] * 75, *[95] * 75)).on == ()
    few = [100] * 90  # three stretches are too few to go by
    assert seen(rule, working(*few, *[10] * 20)).alerts == ()


def test_throughput_is_compared_with_a_baseline_that_is_given() -> None:
    rule = ThroughputDown(baseline=100.0)
    down = seen(rule, working(*[60] * 70))
    assert [alert.detail for alert in down.alerts] == ["60.0 samples/s, the baseline's 100.0"]
    assert seen(rule, working(*[80] * 300)).alerts == ()


def test_time_without_work_does_not_count_as_slow() -> None:
    nothing: list[float] = [None] * 200  # type: ignore[list-item]
    samples = working(*[100] * 200, *nothing, *[100] * 200)
    for rule in (ThroughputDown(), ThroughputDown(baseline=100.0), LoaderWaiting()):
        assert seen(rule, samples).alerts == ()


def test_a_loop_that_waits_for_its_loader() -> None:
    waiting = seen(LoaderWaiting(), working(*[10] * 40, waiting=0.2))
    assert [alert.detail for alert in waiting.alerts] == [
        "20% of the training is waiting for the loader; raise data.threads"
    ]
    assert seen(LoaderWaiting(), working(*[10] * 40, waiting=0.05)).alerts == ()
    once = working(*[10] * 20)
    late = [
        Observed(work=Work(o.work.samples, o.work.seconds + 5, 5.0))
        for o in working(*[10] * 60)[20:]
    ]
    assert seen(LoaderWaiting(), [*once, *late]).alerts == ()  # the first batch of an epoch


@pytest.mark.parametrize(
    ("gpu", "waiting", "on"),
    [(0.2, 0.3, True), (0.9, 0.3, False), (0.2, 0.0, False), (None, 0.3, False)],
)
def test_a_gpu_that_waits_for_batches(gpu: float | None, waiting: float, on: bool) -> None:
    alarm = seen(GpuStarved(), working(*[10] * 40, waiting=waiting, gpu=gpu))
    assert alarm.on == (("gpu",) if on else ())


def test_a_window_does_not_grow_for_ever() -> None:
    window = Window(stretch=1.0)
    for observed in working(*[1] * 500):
        window = window.after(observed)
    assert len(window.recent) == 60
    assert len(window.rates) == 499
    assert window.back(59) is window.recent[0]
    assert window.back(60) is None
