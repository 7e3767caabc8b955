"""Times of functions that take turns, in milliseconds, and random places to read."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ocr_precompute.runtime.clock import seconds_of


def interleaved(
    functions: Mapping[str, Callable[[Any], Any]], arguments: Iterable[Any]
) -> dict[str, list[float]]:
    """Seconds each function takes for each argument; all functions in turn for one argument.

    A machine that is slow for a while is so for all of them. Which goes first changes every time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    for turn, argument in enumerate(arguments):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(seconds_of(partial(functions[name], argument)))
    return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of what was measured of each, in milliseconds."""
    return {name: 1e3 * statistics.median(times) for name, times in seconds.items()}


def random_indices(length: int, count: int, seed: int = 0) -> Iterator[int]:
    """Random indices below length."""
    return iter(np.random.default_rng(seed).integers(length, size=count).tolist())
