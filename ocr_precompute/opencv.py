"""OpenCV on one thread, for as long as other threads or processes are the parallel part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from ocr_precompute.forks import undisturbed

_nested: list[int] = []  # for each scope that is open, the number of threads before the first


@contextmanager
def single_thread() -> Iterator[None]:
    """Keep OpenCV on one thread within; afterwards it has as many as before.

    The number is the process's: scopes of several threads may overlap in any way, and the last one
    that ends puts it back.
    """
    with undisturbed:
        before = _nested[0] if _nested else cv2.getNumThreads()
        _nested.append(before)
        if before != 1:
            cv2.setNumThreads(1)
    try:
        yield
    finally:
        with undisturbed:
            _nested.pop()
            if not _nested and before != 1:
                cv2.setNumThreads(before)
