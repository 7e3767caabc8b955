"""OpenCV's process-wide settings, changed for a while and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2

from ocr_precompute.runtime.forks import undisturbed

_SILENT = 0  # of OpenCV's log levels

# For each scope that is open, the setting as it was before the first.
_threads: list[int] = []
_log_levels: list[int] = []


@contextmanager
def single_thread() -> Iterator[None]:
    """Keep OpenCV on one thread within, while other threads or processes are the parallel part."""
    with _held(1, cv2.getNumThreads, cv2.setNumThreads, _threads):
        yield


@contextmanager
def without_log() -> Iterator[None]:
    """Keep OpenCV's log silent within: it cannot name the file that it complains of."""
    log = getattr(cv2.utils, "logging", cv2)  # where OpenCV 5 keeps it, and where 4 does
    with _held(_SILENT, log.getLogLevel, log.setLogLevel, _log_levels):
        yield


@contextmanager
def _held(
    value: int, get: Callable[[], int], put: Callable[[int], object], nested: list[int]
) -> Iterator[None]:
    """Hold a setting at a value within; afterwards it is as before.

    The setting is the process's: scopes of several threads may overlap in any way, and the last one
    that ends puts it back.
    """
    with undisturbed:
        before = nested[0] if nested else get()
        nested.append(before)
        if before != value:
            put(value)
    try:
        yield
    finally:
        with undisturbed:
            nested.pop()
            if not nested and before != value:
                put(before)
