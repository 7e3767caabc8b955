"""Measuring: seconds and rates of functions that take turns, and the memory of this process."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None  # type: ignore[assignment]


def seconds_of(function: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def median_seconds(function: Callable[[], object], times: int = 3) -> float:
    """Seconds that a call takes, the median of some."""
    return statistics.median(seconds_of(function) for _ in range(times))


def in_turn(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    told: Callable[[str, float], None] = lambda name, seconds: None,
) -> dict[str, list[float]]:
    """Seconds that each function takes in each round, one after the other.

    A machine that is slow for a while is so for all of them. Which goes first changes every round.
    told: called with what has just been measured.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(seconds_of(functions[name]))
            told(name, seconds[name][-1])
    return seconds


def rate(counts: Iterable[int], seconds: float) -> float:
    """How many come a second, until they end or so many seconds are over."""
    done, started = 0, time.perf_counter()
    for count in counts:
        done += count
        if time.perf_counter() - started >= seconds:
            break
    return done / (time.perf_counter() - started)


def starved() -> float:
    """Seconds in which this thread could have run so far, and had no processor.

    By Linux's scheduler (the run delay in schedstat); 0.0 where the system does not say.
    """
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def resident_memory() -> int | None:
    """Bytes of this process's own memory, without mapped files; None if the system is silent."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    return None


def peak_memory() -> int:
    """Most bytes of memory that this process has taken so far, mapped files included.

    What getrusage says is at least the peak of the process that started this one. 0 where the
    system does not say.
    """
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def major_faults() -> int:
    """Pages for which this process has waited for a disk; 0 where the system does not say."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_majflt
