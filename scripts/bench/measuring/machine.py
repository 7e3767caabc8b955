"""Where a benchmark runs: the machine, versions of packages, the command."""

from __future__ import annotations

import datetime
import importlib.util
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2

from measuring.results import Environment

CORES = os.cpu_count() or 1


def environment(packages: Sequence[str]) -> Environment:
    """When and where this is measured, and with which of some packages."""
    versions = {"Python": platform.python_version()}
    for package in ("numpy", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    command = [Path(sys.argv[0]).name, *(_shortened(word) for word in sys.argv[1:])]
    return Environment(
        date=datetime.date.today().isoformat(),
        processor=_processor(),
        cores=f"{_usable_cores()} of {CORES} cores",
        system=platform.system(),
        versions=versions,
        command=shlex.join(command),
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return CORES


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _shortened(word: str) -> str:
    """An absolute path's last part: where a folder lies on one machine tells nobody anything."""
    return Path(word).name if word.startswith("/") else word


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    return importlib.util.find_spec(module) is not None


def one_core() -> None:
    """Keep this process, and the threads it will start, on one core."""
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def limit_open_files(number: int) -> None:
    """Let this process have so many files open, as far as it may."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
