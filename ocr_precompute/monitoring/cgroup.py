"""What the process's cgroups leave it of memory and processor, in either version of cgroups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")


@dataclass(frozen=True)
class Bound:
    """Memory that there is for some processes, and what they have taken of it, in bytes.

    Pages of files, which the system drops when it needs room, are not counted as taken.
    """

    size: int
    used: int

    @property
    def share(self) -> float:
        """What is taken, from 0 to 1."""
        return self.used / self.size if self.size else 0.0


@dataclass(frozen=True)
class MemoryGroup:
    """One cgroup that may bound memory. version: 1 or 2."""

    folder: Path
    version: int

    def bound(self) -> Bound | None:
        """What it bounds; None if it has no bound, or cannot be read."""
        names = ("memory.max", "memory.current")
        if self.version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        try:
            size, taken = ((self.folder / name).read_text().strip() for name in names)
            if size == "max":
                return None
            return Bound(int(size), max(0, int(taken) - self._files()))
        except (OSError, ValueError):
            return None

    def _files(self) -> int:
        """Bytes of files' pages. Raises OSError or ValueError."""
        prefix = "total_" if self.version == 1 else ""
        wanted = {f"{prefix}inactive_file", f"{prefix}active_file"}
        lines = (line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        return sum(int(value) for name, value in lines if name in wanted)


def memory_groups(size: int, root: Path = _ROOT) -> tuple[MemoryGroup, ...]:
    """The cgroups of this process, and those around them, that bound memory to less than `size`.

    size: bytes of the machine. root: the system's root folder.
    """
    return tuple(
        group
        for version, folder in _folders(root, "memory")
        if (bound := (group := MemoryGroup(folder, version)).bound()) and bound.size < size
    )


def cores(root: Path = _ROOT) -> float | None:
    """How many cores' time the process may use, which need not be whole; None: no bound."""
    found = [_quota(folder, version) for version, folder in _folders(root, "cpu")]
    return min((cores for cores in found if cores), default=None)


def _quota(folder: Path, version: int) -> float | None:
    try:
        if version == 2:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((folder / name).read_text().strip() for name in names)
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None


def _folders(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Version and folder of each cgroup that the process is in, the innermost first.

    A container may show paths that are the host's, of which it sees the end alone: then it sees
    its own cgroup where cgroups begin.
    """
    mounts = root / "sys" / "fs" / "cgroup"
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        version = 1 if controllers else 2
        tops = [mounts / controller] if controllers else [mounts, mounts / "unified"]
        for top in (top for top in tops if top.is_dir()):
            parts = [part for part in path.split("/") if part not in ("", "..")]
            while parts:
                if (folder := top.joinpath(*parts)).is_dir():
                    yield version, folder
                parts.pop()
            yield version, top
