"""Stages: each one's own time, waits apart, and sums over threads, processes and shards."""

from __future__ import annotations

import contextlib
import json
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import Dataset, run
from hypothesis import given
from hypothesis import strategies as st

from ocr_precompute.pipeline.build import build
from ocr_precompute.reading import handles
from ocr_precompute.reading.store import open_store
from ocr_precompute.runtime import stages
from ocr_precompute.runtime.stages import (
    Recorder,
    Times,
    Totals,
    add,
    count,
    everything,
    recorded_here,
    recording,
    stage,
    waited_for,
    waiting,
)
from ocr_precompute.settings import Settings


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stages, "_clock", clock)
    return clock


def seconds(times: dict[str, Times]) -> dict[str, float]:
    return {name: each.seconds for name, each in times.items()}


def test_a_stage_has_its_own_time_without_what_is_inside_it(clock: Clock) -> None:
    with recording() as recorded:
        with stage("labels"):
            clock.now += 1
            with stage("offset"):
                clock.now += 10
                with waiting("disk"):
                    clock.now += 100
                clock.now += 20
            clock.now += 2
            with stage("offset"):
                clock.now += 5
        clock.now += 1000  # of no stage
    totals = recorded.totals()
    assert seconds(totals.stages) == {"offset": 35, "labels": 3}
    assert seconds(totals.waits) == {"disk": 100}
    assert totals.stages["offset"].count == 2
    assert totals.stages["offset"].longest == 30
    assert totals.seconds == 38
    assert totals.shares() == {"offset": 35 / 38, "labels": 3 / 38}


def test_a_stage_that_fails_is_timed_and_what_is_around_it_goes_on(clock: Clock) -> None:
    with recording() as recorded, stage("outer"):
        with contextlib.suppress(OSError), stage("inner"):
            clock.now += 4
            raise OSError
        clock.now += 1
    assert seconds(recorded.totals().stages) == {"inner": 4, "outer": 1}


def test_results_that_are_waited_for(clock: Clock) -> None:
    def results() -> list[int]:
        for number in range(3):
            clock.now += 7
            yield number

    with recording() as recorded, stage("work"):
        for _ in waited_for(results(), "workers"):
            clock.now += 2
    assert seconds(recorded.totals().waits) == {"workers": 21}
    assert seconds(recorded.totals().stages) == {"work": 6}


def test_recordings_keep_to_themselves_and_can_be_added(clock: Clock) -> None:
    with recording() as outer:
        with stage("a"):
            clock.now += 1
            with recording() as inner, stage("b"):
                clock.now += 2
                count("rows", 3)
        assert seconds(outer.totals().stages) == {"a": 1}
        assert outer.totals().counts == {}
        add(pickle.loads(pickle.dumps(inner.totals())))
        add(inner.totals())
    totals = outer.totals()
    assert seconds(totals.stages) == {"a": 1, "b": 4}
    assert totals.stages["b"].count == 2
    assert totals.counts == {"rows": 6}
    assert totals + Totals() == Totals() + totals == totals


def test_threads_record_where_the_work_was_asked_for() -> None:
    def work(number: int) -> int:
        with stage("work"):
            count("numbers", number)
        return number

    with recording() as recorded, ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(recorded_here(work), range(500))) == 124750
    totals = recorded.totals()
    assert totals.stages["work"].count == 500
    assert totals.counts == {"numbers": 124750}


def test_the_process_knows_what_ended_threads_did_and_does_not_grow() -> None:
    def work() -> None:
        for _ in range(20):
            with stage("in threads"):
                pass

    before = everything().stages.get("in threads", Times()).count
    for _ in range(60):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert everything().stages["in threads"].count - before == 1200
    assert len(stages._recorders) <= threading.active_count() + 1


def test_a_forked_process_begins_with_nothing() -> None:
    script = """
import os
from ocr_precompute.runtime.stages import everything, stage
with stage("before"):
    pass
with stage("around"):
    child = os.fork()
    if not child:
        with stage("in the child"):
            pass
if not child:
    os._exit(0 if list(everything().stages) == ["in the child", "around"] else 1)
assert os.waitpid(child, 0)[1] == 0
assert list(everything().stages) == ["before", "around"]
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@given(st.lists(st.floats(1e-7, 1e3), min_size=1), st.floats(0, 1))
def test_quantiles_are_right_to_an_eighth(durations: list[float], share: float) -> None:
    recorder = Recorder()
    for duration in durations:
        recorder.durations[(False, "work")].append(duration)
    found = recorder.totals().stages["work"].quantile(share)
    exact = float(np.quantile(durations, share, method="inverted_cdf"))
    assert found == pytest.approx(exact, rel=0.125)


DURATIONS = st.lists(st.tuples(st.sampled_from("ab"), st.floats(1e-7, 1e3)))


@given(DURATIONS, DURATIONS)
def test_what_came_later_is_the_difference(
    earlier: list[tuple[str, float]], later: list[tuple[str, float]]
) -> None:
    def recorded(recorder: Recorder, durations: list[tuple[str, float]]) -> Totals:
        for name, duration in durations:
            recorder.durations[(name == "b", name)].append(duration)
            recorder.count(name, 2)
        return recorder.totals()

    recorder = Recorder()
    before = recorded(recorder, earlier)
    found, alone = recorded(recorder, later) - before, recorded(Recorder(), later)
    assert found.counts == alone.counts
    for has, expected in ((found.stages, alone.stages), (found.waits, alone.waits)):
        assert set(has) == set(expected)
        for name, times in expected.items():
            assert (has[name].count, has[name].histogram) == (times.count, times.histogram)
            assert has[name].seconds == pytest.approx(times.seconds, abs=1e-9)
            assert times.longest <= has[name].longest * (1 + 1e-12) <= 1.25 * times.longest + 1e-9


def test_nothing_recorded_has_no_quantile_and_nothing_timed_is_nothing() -> None:
    assert Times().quantile(0.5) == 0
    recorder = Recorder()
    recorder.durations[(False, "work")].append(0.0)
    assert recorder.totals().stages["work"].quantile(0.5) == 0


@pytest.mark.parametrize(("backend", "jobs"), [("sequential", 1), ("threading", 2), ("loky", 2)])
def test_a_build_says_where_its_time_went_whoever_did_the_work(
    dataset: Dataset, settings: Settings, backend: str, jobs: int
) -> None:
    changed = {"backend": backend, "jobs": jobs}
    settings = settings.model_copy(update=changed)
    first = build("val", dataset.source, settings)
    counts = {name: times.count for name, times in first.recorded.stages.items()}
    counts.pop("compile", None)  # what this process and its workers had compiled before
    each = dict.fromkeys(("decode", "resize", "offset", "labels", "pack"), 24)
    shards = {"other": first.shards, "write": 24 + first.shards}
    read = {"read": 48, "digest": 48}  # once for the digest and once to be decoded
    once = dict.fromkeys(("annotations", "look", "scan", "plan", "publish"), 1)
    assert counts == {**each, **shards, **read, **once}
    assert all(times.seconds > 0 for times in first.recorded.stages.values())
    assert ("workers" in first.recorded.waits) == (backend != "sequential")

    dataset.points("page_007.jpg")[0][0] += 0.5
    dataset.save()
    after = build("val", dataset.source, settings)
    found = after.recorded.stages
    assert found["copy"].count == after.copied > 0
    assert found["decode"].count == found["pack"].count == 1

    nothing = build("val", dataset.source, settings)
    fresh = {"read", "digest"}  # of images that changed in the last seconds
    assert set(nothing.recorded.stages) - fresh - {"compile"} == set(once)


def test_the_command_says_where_the_time_went(dataset: Dataset, tmp_path: Path) -> None:
    flags = [*dataset.flags(), "--store", str(tmp_path / "store"), "--size", "64", "--jobs", "2"]
    done = run("build", "--json", *flags, cwd=tmp_path)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["stages"]["pack"]["count"] == 24
    assert set(report["stages"]["pack"]) == {"count", "seconds", "p50", "p95", "max"}
    assert report["waits"]["workers"]["count"] > 0
    assert "recorded" not in report
    assert "s of work: " in done.stderr


def test_reading_a_batch_is_two_stages_however_many_samples(
    dataset: Dataset, settings: Settings
) -> None:
    shards = build("val", dataset.source, settings).shards
    split = open_store(settings.store)["val"]
    with recording() as first:
        split.read(range(24), ("image", "prob", "thresh"))
    times = {name: each.count for name, each in first.totals().stages.items()}
    times.pop("compile", None)
    assert times == {"open": shards, "checksum": 1, "decompress": 1}
    counts = {"handle misses": shards, "handle hits": 24 - shards, "directory misses": shards}
    assert first.totals().counts == counts
    with recording() as again:
        split.record(3)
        split.record(4)
        split.close()
        split.read(range(24), ("image",))
    times = {name: each.count for name, each in again.totals().stages.items()}
    assert times == {"records": 1, "open": shards, "checksum": 1, "decompress": 1}
    counts = {"handle misses": shards, "handle hits": 25 - shards, "directory hits": shards}
    assert again.totals().counts == {**counts, "records misses": 1, "records hits": 1}


def test_what_is_closed_for_others_is_counted(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = build("val", dataset.source, settings).shards
    split = open_store(settings.store)["val"]
    monkeypatch.setattr(handles, "most_open_files", lambda: 1)
    with recording() as recorded:
        split.read(range(24), ("image",))
    assert recorded.totals().counts["handle evictions"] >= shards - 1 > 0
