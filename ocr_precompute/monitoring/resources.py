"""What a run uses, as data: a reading of counters at an instant, and the difference of two."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """One GPU at an instant.

    name: as the driver numbers it. busy: share of the last moments in which it worked, from 0 to 1,
    whoever had it work. memory, memory_size: bytes taken by all processes, and bytes in all.
    """

    name: str
    busy: float
    memory: int
    memory_size: int


@dataclass(frozen=True)
class Reading:
    """The counters at an instant, of a process and all that it has started, unless said otherwise.

    time: seconds of a clock that never goes back. cores: that the process may use; not whole where
    a cgroup says so. cpu: seconds of processor. memory: bytes that processes have to themselves,
    without mapped files. memory_used, memory_size: bytes taken of and in what is nearest to being
    full, the machine or a cgroup, whoever took them; files that the system only keeps in memory for
    later are not counted. read, written: bytes from and to disks. reads, writes: calls, and
    read_by_calls the bytes that these reads gave, from wherever. major_faults: pages that had to
    come from a disk first. received, sent: bytes of the machine's network, without loopback.
    disk_free, disk_size: bytes of the file system that the run writes to.
    """

    time: float
    cores: float = 1.0
    cpu: float = 0.0
    processes: int = 1
    memory: int = 0
    memory_used: int = 0
    memory_size: int = 0
    read: int = 0
    written: int = 0
    reads: int = 0
    writes: int = 0
    read_by_calls: int = 0
    major_faults: int = 0
    received: int = 0
    sent: int = 0
    disk_free: int = 0
    disk_size: int = 0
    gpus: tuple[Gpu, ...] = ()

    @property
    def memory_share(self) -> float:
        """Share of the memory that can be used that is taken; 0 if it is not known."""
        return self.memory_used / self.memory_size if self.memory_size else 0.0

    @property
    def gpu_busy(self) -> float | None:
        """Mean share of the time in which GPUs worked; None without any."""
        return sum(gpu.busy for gpu in self.gpus) / len(self.gpus) if self.gpus else None


@dataclass(frozen=True)
class Resources:
    """What was used in a stretch of time; stretches that follow each other can be added.

    seconds: how long it was. core_seconds: that could have been used of the processor, and
    cpu_seconds that were. processes: most at a time. memory_peak: most bytes that they had to
    themselves, without mapped files, whenever somebody looked. memory_share: the largest share that
    was taken of what the machine and the cgroup have. read_bytes, written_bytes: from and to disks.
    reads, writes: calls. read_call_bytes: bytes that these reads gave, from wherever. major_faults:
    pages that had to come from a disk first. received_bytes, sent_bytes: of the machine's network,
    without loopback. gpu_seconds: in which GPUs were looked at, and gpu_busy_seconds in which they
    worked, both a mean over GPUs. gpu_memory_peak: most bytes taken on one, by all processes.
    """

    seconds: float = 0.0
    core_seconds: float = 0.0
    cpu_seconds: float = 0.0
    processes: int = 0
    memory_peak: int = 0
    memory_share: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0
    read_call_bytes: int = 0
    major_faults: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    gpu_seconds: float = 0.0
    gpu_busy_seconds: float = 0.0
    gpu_memory_peak: int = 0

    def __add__(self, later: Resources) -> Resources:
        mine, others = vars(self), vars(later)
        return Resources(
            **{
                name: max(mine[name], others[name]) if name in _PEAKS else mine[name] + others[name]
                for name in mine
            }
        )

    @property
    def cpu_share(self) -> float:
        """Mean share of the processor that was used, from 0 to 1."""
        return self.cpu_seconds / self.core_seconds if self.core_seconds else 0.0

    @property
    def mean_read(self) -> float:
        """Mean bytes of a read call; 0 if there was none."""
        return self.read_call_bytes / self.reads if self.reads else 0.0

    @property
    def gpu_share(self) -> float | None:
        """Mean share of the time in which GPUs worked; None if there is none."""
        return self.gpu_busy_seconds / self.gpu_seconds if self.gpu_seconds else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: all fields and means; what is of GPUs only where there is one."""
        plain = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
            if self.gpu_seconds or not name.startswith("gpu_")
        }
        plain |= {"cpu_share": round(self.cpu_share, 4), "mean_read": round(self.mean_read, 1)}
        share = self.gpu_share
        return plain if share is None else {**plain, "gpu_share": round(share, 4)}


_PEAKS = {"processes", "memory_peak", "memory_share", "gpu_memory_peak"}


def used(before: Reading, after: Reading) -> Resources:
    """What was used from one reading to a later one.

    A counter that went back, as a network device's does that is gone, counts as if it stood still.
    """
    seconds = max(0.0, after.time - before.time)

    def more(name: str) -> Any:
        return max(0, getattr(after, name) - getattr(before, name))

    return Resources(
        seconds=seconds,
        core_seconds=seconds * after.cores,
        cpu_seconds=float(more("cpu")),
        processes=max(before.processes, after.processes),
        memory_peak=max(before.memory, after.memory),
        memory_share=max(before.memory_share, after.memory_share),
        read_bytes=more("read"),
        written_bytes=more("written"),
        reads=more("reads"),
        writes=more("writes"),
        read_call_bytes=more("read_by_calls"),
        major_faults=more("major_faults"),
        received_bytes=more("received"),
        sent_bytes=more("sent"),
        gpu_seconds=seconds if after.gpus else 0.0,
        gpu_busy_seconds=seconds * (after.gpu_busy or 0.0),
        gpu_memory_peak=max((gpu.memory for gpu in after.gpus), default=0),
    )
