"""Shards that are open, of all splits of this process together: there may be only so many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from ocr_precompute.reading.opened import OpenedShard
from ocr_precompute.runtime.forks import undisturbed
from ocr_precompute.runtime.stages import count

try:
    import resource
except ImportError:  # Windows, where a map is no file of those that a process may open
    resource = None  # type: ignore[assignment]

_MOST = 2**15

Key = tuple[int, int]
"""A number of its own for each split, and the shard's in it."""


def most_open_files() -> int:
    """How many shards a process keeps open: half of the files that it may open.

    But no more than half of the maps that Linux lets a process have.
    """
    if resource is None:
        return _MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(_MOST, soft // 2) if soft != resource.RLIM_INFINITY else _MOST


class Handles:
    """Opened shards; the one that was not used for longest is closed when there are too many.

    Who reads one that is closed meanwhile reads on. One that is open is given without a lock.
    """

    def __init__(self, most: int = _MOST) -> None:
        """most: how many may be open, beside the bound of the process."""
        self._most = most
        self._held: OrderedDict[Key, OpenedShard] = OrderedDict()

    def get(self, key: Key, make: Callable[[], OpenedShard]) -> OpenedShard:
        """The shard of that key, opened if it is not. Raises as make does."""
        found = self._held.get(key)
        if found is None:
            count("handle misses")
            found = make()
            with undisturbed:
                self._held[key] = found
                while len(self._held) > max(1, min(self._most, most_open_files())):
                    self._held.popitem(last=False)
                    count("handle evictions")
        else:
            count("handle hits")
            try:  # noqa: SIM105 - suppress takes as long again as all of this
                self._held.move_to_end(key)
            except KeyError:  # closed meanwhile
                pass
        return found

    def held(self, split: int) -> list[OpenedShard]:
        """All shards of a split that are open."""
        held = list(self._held.items())  # at once: one that is given moves meanwhile
        return [shard for key, shard in held if key[0] == split]

    def close(self, split: int, shard: int | None = None) -> None:
        """Close all shards of a split, or one."""
        with undisturbed:
            for key in [key for key in list(self._held) if key[0] == split]:
                if shard is None or key[1] == shard:
                    del self._held[key]


HANDLES = Handles()

CACHED = Handles(64)
"""Shards in caches. What was deleted there takes its room on the disk until it is closed, and to
open one again takes 50 us."""
