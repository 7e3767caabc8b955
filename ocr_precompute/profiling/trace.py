"""Events as a trace in Chrome's form, which Perfetto shows: a lane for each thread."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ocr_precompute.runtime.events import Event, Stretch, on_one_clock

_NANOSECONDS = 1_000_000_000


def trace_bytes(stretches: Sequence[Stretch]) -> bytes:
    """The trace as JSON, an event a line. stretches: first one of the process that asked for it."""
    short = json.JSONEncoder(separators=(",", ":"))
    lines = ",\n".join(short.encode(event) for event in trace_events(stretches))
    return f'{{"displayTimeUnit": "ms", "traceEvents": [\n{lines}\n]}}\n'.encode()


def trace_events(stretches: Sequence[Stretch]) -> Iterator[dict[str, Any]]:
    """Names of processes and threads, then all events, in microseconds since the first of them.

    What is inside an event comes after it, and ends no later to the nanosecond.
    """
    shifts = on_one_clock(stretches)
    first = min(
        (event.start + shifts[each.process] for each in stretches for event in each.events),
        default=0.0,
    )
    yield from _names(stretches)
    for each in stretches:
        yield from _placed(each, shifts[each.process] - first)


def _names(stretches: Sequence[Stretch]) -> Iterator[dict[str, Any]]:
    processes: set[int] = set()
    threads: set[tuple[int, int]] = set()
    for each in stretches:
        if each.process not in processes:
            name = f"worker {len(processes)}" if processes else "build"
            yield _about("process_name", each, 0, {"name": name})
            yield _about("process_sort_index", each, 0, {"sort_index": len(processes)})
            processes.add(each.process)
        if (each.process, each.thread) not in threads:
            yield _about("thread_name", each, each.thread, {"name": each.name})
            threads.add((each.process, each.thread))


def _about(name: str, each: Stretch, thread: int, said: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": each.process, "tid": thread, "args": said}


def _placed(each: Stretch, shift: float) -> Iterator[dict[str, Any]]:
    """Events of a thread, outer ones first. shift: seconds that are added to their starts."""
    for event, start, end in sorted(_ended(each.events, shift), key=lambda e: (e[1], -e[2])):
        said: dict[str, Any] = {"own": round(1e6 * event.own, 3)}
        yield {
            "name": event.name,
            "cat": "wait" if event.waits else "stage",
            "ph": "X",
            "pid": each.process,
            "tid": each.thread,
            "ts": start / 1000,
            "dur": (end - start) / 1000,
            "args": {**said, "of": event.about} if event.about else said,
        }


def _ended(events: Iterable[Event], shift: float) -> Iterator[tuple[Event, int, int]]:
    """Events with start and end in whole nanoseconds: rounded alike, so that they stay nested.

    Those that end last come first, so that of two that are alike the outer one stays first.
    """
    for event in reversed(tuple(events)):
        start, end = event.start + shift, event.end + shift
        yield event, round(start * _NANOSECONDS), round(end * _NANOSECONDS)
