"""Reading the counters of a process and all that it has started, of its machine and its GPUs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from ocr_precompute.monitoring.cgroup import Bound, cores, memory_groups
from ocr_precompute.monitoring.gpu import NoGpus
from ocr_precompute.monitoring.resources import Reading
from ocr_precompute.runtime.forks import undisturbed

if TYPE_CHECKING:
    import psutil

_RARER = 1000  # as long as it takes to look for new processes it is not done again


@dataclass(frozen=True)
class _Counters:
    """Of one process, or of several together: what only grows."""

    cpu: float = 0.0
    read: int = 0
    written: int = 0
    reads: int = 0
    writes: int = 0
    read_by_calls: int = 0
    major_faults: int = 0

    def __add__(self, other: _Counters) -> _Counters:
        return _Counters(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class Machine:
    """Reads counters. What a process did is not forgotten when it is gone, its last moments are.

    New processes are looked for in a thousandth of the time, however many the machine has.
    Raises OSError or psutil.Error if the system does not tell even what this process uses.
    """

    def __init__(self, folder: Path, gpus: NoGpus, apart: Collection[int] = ()) -> None:
        """folder: in the file system that the run writes to; it need not be there yet.

        apart: ids of processes that this one has started and that look at themselves.
        """
        with undisturbed:
            import psutil  # costs some ten milliseconds, which not every command is to pay

        self._psutil = psutil
        self._folder = folder.absolute()
        self._gpus, self._apart = gpus, frozenset(apart)
        self._self = psutil.Process()
        self._tree_found, self._look_again = [self._self], 0.0
        self._living: dict[tuple[int, float], _Counters] = {}
        self._gone = _Counters()
        self._size = psutil.virtual_memory().total
        self._groups = memory_groups(self._size)
        self._cores = self._usable_cores()

    def _usable_cores(self) -> float:
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        machine = allowed or self._psutil.cpu_count() or 1
        return min(float(machine), cores() or float(machine))

    def read(self) -> Reading:
        """The counters now."""
        living: dict[tuple[int, float], _Counters] = {}
        memory = 0
        for process in self._tree():
            with suppress(self._psutil.NoSuchProcess), process.oneshot():
                key = process.pid, process.create_time()
                found, own = self._counters(process)
                living[key], memory = found, memory + own
        for key in self._living.keys() - living.keys():
            self._gone += self._living[key]
        self._living = living
        counters = sum(living.values(), self._gone)
        bound = self._bound()
        received, sent = self._network()
        free, size = self._disk()
        return Reading(
            time=perf_counter(),
            cores=self._cores,
            processes=len(living),
            memory=memory,
            memory_used=bound.used,
            memory_size=bound.size,
            **vars(counters),
            received=received,
            sent=sent,
            disk_free=free,
            disk_size=size,
            gpus=self._gpus.read(),
        )

    def _tree(self) -> list[psutil.Process]:
        """The process and what it has started, as far as that is known.

        To find it takes a look at each process of the machine, which may have thousands.
        """
        started = perf_counter()
        if started >= self._look_again:
            with suppress(self._psutil.NoSuchProcess):  # one that ended meanwhile
                self._tree_found = [self._self, *self._own(self._self.children(recursive=True))]
            now = perf_counter()
            self._look_again = now + _RARER * (now - started)
        return self._tree_found

    def _own(self, started: list[psutil.Process]) -> list[psutil.Process]:
        """Those that are not apart, nor started by one that is, which comes before them."""
        apart, own = set(self._apart), []
        for process in started:
            if process.pid in apart or (apart and process.ppid() in apart):
                apart.add(process.pid)
            else:
                own.append(process)
        return own

    def _counters(self, process: psutil.Process) -> tuple[_Counters, int]:
        """Of one process, and bytes of memory that it has to itself."""
        times, memory = process.cpu_times(), process.memory_info()
        calls = {}
        with suppress(self._psutil.AccessDenied, AttributeError):  # another user's; not Linux
            io = process.io_counters()
            calls = {
                **{"read": io.read_bytes, "written": io.write_bytes},
                **{"reads": io.read_count, "writes": io.write_count},
                "read_by_calls": getattr(io, "read_chars", 0),
            }
        faults = _major_faults(process.pid)
        own = memory.rss - getattr(memory, "shared", 0)
        return _Counters(cpu=times.user + times.system, major_faults=faults, **calls), own

    def _bound(self) -> Bound:
        """What is nearest to being full, the machine or one of the cgroups."""
        memory = self._psutil.virtual_memory()
        bounds = [Bound(memory.total, memory.total - memory.available)]
        bounds += [bound for group in self._groups if (bound := group.bound())]
        return max(bounds, key=lambda bound: bound.share)

    def _network(self) -> tuple[int, int]:
        try:
            devices = self._psutil.net_io_counters(pernic=True, nowrap=False)
        except OSError:
            return 0, 0
        real = [count for name, count in devices.items() if name not in ("lo", "lo0")]
        return sum(c.bytes_recv for c in real), sum(c.bytes_sent for c in real)

    def _disk(self) -> tuple[int, int]:
        """Bytes free to this user, and in all; 0 and 0 if that is not known."""
        for folder in (self._folder, *self._folder.parents):
            with suppress(OSError):
                found = shutil.disk_usage(folder)
                return found.free, found.total
        return 0, 0


def _major_faults(process: int) -> int:
    """0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        after_name = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        return int(after_name[9])
    return 0
