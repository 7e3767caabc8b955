"""A fixed work, timed beside whatever is measured: how fast the machine itself is at the time."""

from __future__ import annotations

import hashlib
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import joblib
import numpy as np

from ocr_precompute.runtime.clock import median_seconds

WORKLOAD = "1"  # another one when the work below is changed: times of two cannot be compared
_HASHED = 8_000_000  # bytes a pass
_COPIED = 32_000_000


def reference_seconds() -> float:
    """Seconds that the fixed work takes on all cores that this process may use; some 0.1 s.

    Hashing (arithmetic), unpacking (branches) and copying (memory), none of which depends on
    anything of this package. The median of three passes.
    """
    cores = joblib.cpu_count()
    packed = _packed()
    copies = [(np.ones(_COPIED, np.uint8), np.empty(_COPIED, np.uint8)) for _ in range(cores)]

    def work(core: int) -> None:
        source, target = copies[core]
        hashlib.sha256(source[:_HASHED].data)
        zlib.decompress(packed)
        np.copyto(target, source)

    with ThreadPoolExecutor(cores) as pool:
        return median_seconds(lambda: list(pool.map(work, range(cores))))


@cache
def _packed() -> bytes:
    """Eight megabytes of numbers that look like chance, and compress by half."""
    numbers = np.arange(_HASHED, dtype=np.uint32) * np.uint32(2654435761) >> np.uint32(28)
    return zlib.compress(numbers.astype(np.uint8).tobytes(), 1)
