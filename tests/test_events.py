"""Events: what was done when, within bounds, and as a trace on one clock."""

from __future__ import annotations

import json
import pickle
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_stages import Clock

from ocr_precompute.profiling.trace import trace_bytes, trace_events
from ocr_precompute.runtime import stages
from ocr_precompute.runtime.events import Event, Events, Stretch
from ocr_precompute.runtime.stages import add, recorded_here, recording, stage, waiting


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stages, "_clock", clock)
    return clock


def spans(stretches: tuple[Stretch, ...]) -> list[tuple[str, float, float, float]]:
    return [(e.name, e.start, e.end - e.start, e.own) for each in stretches for e in each.events]


def stretch(*events: Event, process: int = 1, clock: float = 0.0, thread: int = 1) -> Stretch:
    return Stretch(process, thread, "main", clock, events)


def event(start: float, seconds: float, name: str = "work", **more: Any) -> Event:
    return Event(name, False, start, start + seconds, seconds, **more)


def shown(*stretches: Stretch) -> list[dict[str, Any]]:
    return [each for each in trace_events(stretches) if each["ph"] == "X"]


def test_an_event_is_the_whole_of_a_stage_and_knows_its_own_time(clock: Clock) -> None:
    with recording(events=100) as recorded:
        with stage("labels"):
            clock.now += 1
            with stage("offset"):
                clock.now += 10
                with waiting("disk"):
                    clock.now += 100
            clock.now += 2
        with stage("pack"):
            clock.now += 4
    assert spans(recorded.stretches()) == [
        ("disk", 111, 100, 100),
        ("offset", 101, 110, 10),
        ("labels", 100, 113, 3),
        ("pack", 213, 4, 4),
    ]
    assert [e.waits for e in recorded.stretches()[0].events] == [True, False, False, False]
    assert recorded.totals().seconds == 17


def test_nobody_keeps_events_unless_somebody_asks() -> None:
    with recording() as recorded:
        recorded.about("a")
        with stage("work"):
            pass
        with recording(events=5) as inner, stage("work"):
            pass
        add(inner.totals(), inner.stretches())
    assert recorded.events is None
    assert recorded.stretches() == ()
    assert len(inner.stretches()[0].events) == 1
    assert recorded.totals().stages["work"].count == 2


def test_events_say_what_was_worked_on_and_who_did(clock: Clock) -> None:
    def work(name: str) -> None:
        with stage(name):
            pass

    with recording(events=100) as recorded:
        recorded.about("page.jpg")
        work("decode")
        with recording(events=100) as elsewhere:
            work("pack")
        add(elsewhere.totals(), pickle.loads(pickle.dumps(elsewhere.stretches())))
        with ThreadPoolExecutor(1, "reader") as pool:
            pool.submit(recorded_here(work), "read").result()
    mine, packed, read = recorded.stretches()
    assert [(e.name, e.about) for e in mine.events] == [("decode", "page.jpg")]
    assert (packed.kind, packed.thread) == ("pack", threading.get_native_id())
    assert (read.kind, read.process, read.name) == ("read", mine.process, "reader_0")
    assert read.thread != mine.thread


def test_what_is_around_others_is_kept_when_there_is_no_room(clock: Clock) -> None:
    with recording(events=3) as recorded, stage("shard"):
        for _ in range(10):
            with stage("decode"):
                clock.now += 1
    (found,) = recorded.stretches()
    assert [e.name for e in found.events] == ["decode", "decode", "shard"]
    assert found.lost == 8
    assert recorded.totals().stages["decode"].count == 10


def test_later_work_of_a_kind_is_kept_without_detail_and_at_last_counted() -> None:
    def shard(start: float) -> Stretch:
        inside = event(start + 1, 2, "decode"), event(start + 4, 2, "decode")
        return stretch(*inside, event(start, 9, "shard"))

    events = Events(6)
    events.add(shard(10 * number) for number in range(12))
    events.add([stretch(event(0, 1, "look"))])
    _, *others = events.stretches()
    assert [len(each.events) for each in others] == [3, 3, 1, 1, 1, 1, 1, 1, 1]
    assert [each.kind for each in others] == ["shard"] * 8 + ["look"]
    assert sum(each.lost for each in events.stretches()) == 12 * 3 - 6 - 6
    beside = stretch(event(0, 1, "a"), event(2, 1, "in b"), event(2, 2, "b")).outermost()
    assert [e.name for e in beside.events] == ["a", "b"]


def test_processes_with_clocks_of_their_own_are_on_one() -> None:
    """Their clocks began at 1000 s and at 400 s of the day; the time of day was set meanwhile."""
    here = stretch(event(5.0, 10.0, "wait"), clock=1000.0)
    there = stretch(event(606.0, 3.0), process=2, clock=400.0, thread=7)
    later = stretch(event(610.0, 2.0), process=2, clock=4000.0, thread=7)
    found = [(e["pid"], e["tid"], e["ts"], e["dur"]) for e in shown(here, there, later)]
    assert found == [(1, 1, 0, 10e6), (2, 7, 1e6, 3e6), (2, 7, 5e6, 2e6)]


def test_names_of_processes_and_threads() -> None:
    given = [stretch(), stretch(event(1, 1), process=2, thread=5), stretch(event(3, 1), thread=9)]
    named = [e for e in trace_events(given) if e["ph"] == "M"]
    assert {(e["name"], e["pid"]): e["args"] for e in named if e["name"].startswith("process")} == {
        ("process_name", 1): {"name": "build"},
        ("process_sort_index", 1): {"sort_index": 0},
        ("process_name", 2): {"name": "worker 1"},
        ("process_sort_index", 2): {"sort_index": 1},
    }
    threads = [(e["pid"], e["tid"]) for e in named if e["name"] == "thread_name"]
    assert threads == [(1, 1), (2, 5), (1, 9)]


@pytest.mark.parametrize("name", ['a "b"\\', "\n\0</script>", "\u2028\udcff", "a" * 300, "☃"])
def test_odd_names_do_not_break_the_trace(name: str) -> None:
    given = Stretch(1, 1, name, 0.0, (event(1, 2, name, about=name),))
    document = json.loads(trace_bytes([given]))
    assert document["traceEvents"][-1]["args"]["of"] == name
    assert document["traceEvents"][-1]["name"] == name
    assert document["traceEvents"][2]["args"]["name"] == name


def test_a_trace_of_nothing_is_one_too() -> None:
    assert [e["ph"] for e in json.loads(trace_bytes([stretch()]))["traceEvents"]] == ["M"] * 3


STEPS = st.recursive(
    st.floats(0, 0.1), lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=30
)


@given(STEPS, st.floats(0, 1e6), st.floats(-1e5, 1e5))  # a trace of a day
def test_what_is_inside_comes_later_and_ends_no_later(steps: Any, now: float, ahead: float) -> None:
    clock = Clock()
    clock.now = now

    def go(steps: Any) -> None:
        with stage("step"):
            for step in steps if isinstance(steps, list) else ():
                go(step)
            clock.now += steps if isinstance(steps, float) else 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "_clock", clock)
        with recording(events=1000) as recorded:
            go(steps)
    mine = recorded.stretches()[0]
    there = Stretch(mine.process + 1, 1, "", mine.clock + ahead, mine.events)
    lanes = defaultdict(list)
    for each in shown(mine, there):
        lanes[each["pid"]].append((round(1000 * each["ts"]), round(1000 * each["dur"])))
    for lane in lanes.values():
        assert len(lane) == len(mine.events)
        assert all(a <= b for (a, _), (b, _) in pairwise(lane))
        around: list[int] = []
        for start, duration in lane:
            while around and around[-1] <= start and start + duration > around[-1]:
                around.pop()
            assert not around or start + duration <= around[-1]
            around.append(start + duration)
