"""Memory that a thread uses again and again: fresh memory costs a page fault every 4 kB."""

from __future__ import annotations

import math
import threading

import numpy as np

_MOST_KEPT = 2**26  # bytes of one array that are kept for use again

_kept = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """A contiguous array of any content, which is this thread's until it asks for that name again.

    What is larger than 64 MB is new every time.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    held: np.ndarray | None = getattr(_kept, name, None)
    if held is None or len(held) < size:
        held = np.empty(size, np.uint8)
        if size <= _MOST_KEPT:
            setattr(_kept, name, held)
    return held[:size].view(dtype).reshape(shape)
