"""Shards fetched ahead of who reads them, in the order in which they will be wanted."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ocr_precompute.format.shard import Bytes

_THREADS = 8  # requests at once: of 10 MB each, more than fill 1 Gbit/s over 100 ms
_ORDINARY = 2**24  # bytes that a shard is taken for before one has come


class ReadAhead:
    """Threads that fetch the next shards; what they have got they hold until it is asked for.

    Nothing depends on them: who asks for a shard that has not come, or that could not be got, is
    told so and gets it by itself. For use in the process that made it.
    """

    def __init__(
        self,
        shards: Sequence[int],
        fetch: Callable[[int], Bytes | None],
        depth: int,
        most: int,
    ) -> None:
        """Begin.

        shards: in the order in which they will be wanted, each once. fetch: gives a shard, or None
        if somebody else is about to have it here. depth: how many shards to be ahead, and most: of
        how many bytes.
        """
        self._process = os.getpid()
        self._fetch, self._depth, self._most = fetch, depth, most
        self._coming = deque(shards)
        self._largest = 0
        self._under_way: dict[int, Future[Bytes | None]] = {}
        self._done: set[int] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="read-ahead")
        with self._lock:
            self._go_on()

    def take(self, shard: int) -> Bytes | None:
        """What has come of a shard, waited for if it is under way; None if nothing comes of it."""
        if os.getpid() != self._process:  # a fork has no threads, and may find the lock held
            return None
        with self._lock:
            self._done.add(shard)
            coming = self._under_way.get(shard)
            self._go_on()
        if coming is None:
            return None
        try:
            return coming.result()
        except Exception:  # whoever asks will see for themselves, and say so
            return None
        finally:
            with self._lock:
                self._under_way.pop(shard, None)
                self._go_on()

    def close(self) -> None:
        """Let go of all that nobody has asked for; what is under way comes to its end unseen."""
        with self._lock:
            self._coming.clear()
            self._under_way.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _go_on(self) -> None:
        while self._coming and len(self._under_way) < self._depth:
            ahead = self._bytes()
            if ahead and ahead + (self._largest or _ORDINARY) > self._most:
                return
            shard = self._coming.popleft()
            if shard not in self._done:
                self._under_way[shard] = self._pool.submit(self._get, shard)

    def _bytes(self) -> int:
        """Of all that is under way, about."""
        return len(self._under_way) * (self._largest or _ORDINARY)

    def _get(self, shard: int) -> Bytes | None:
        found = self._fetch(shard)
        if found is not None:
            self._largest = max(self._largest, found.size)
        return found
