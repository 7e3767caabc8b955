"""Memory of this process and of all that it has started, as far as the system shows it."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Iterator
from pathlib import Path


def process_tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def used_memory() -> int | None:
    """Private and shared bytes of this process and its children; None where /proc does not tell."""
    total = 0
    for process in process_tree(os.getpid()):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        values = {line.split(":")[0]: line.split() for line in lines[1:]}
        if "Pss_Anon" in values:
            total += 1024 * sum(int(values[name][1]) for name in ("Pss_Anon", "Pss_Shmem"))
    return total or None


def peak_memory(batches: Iterator[object]) -> int | None:
    """The most memory seen between some batches; not timed, since looking takes long."""
    seen = []
    for _ in range(5):
        collections.deque(itertools.islice(batches, 4), maxlen=0)
        seen.append(used_memory())
    return max((size for size in seen if size is not None), default=None)
