"""What a speed belongs to: the processor, cores and GPUs that it was measured on."""

from __future__ import annotations

import platform
import re
from contextlib import suppress
from pathlib import Path

import joblib

from ocr_precompute.parameters import Frozen


class Machine(Frozen):
    """A processor by its name, the cores that a process may use, and the names of GPUs used."""

    processor: str
    cores: int
    gpus: tuple[str, ...] = ()

    def differences(self, other: Machine) -> list[str]:
        """What the other is that this is not, in words."""
        mine, others = dict(self), dict(other)
        return [
            f"{name} {_said(others[name])} instead of {_said(mine[name])}"
            for name in mine
            if mine[name] != others[name]
        ]


def _said(value: object) -> str:
    return (", ".join(value) or "none") if isinstance(value, tuple) else str(value)


def this_machine(gpus: tuple[str, ...] = ()) -> Machine:
    """The one this process runs on. gpus: the names of those that it uses."""
    return Machine(processor=_processor(), cores=joblib.cpu_count(), gpus=gpus)


def _processor() -> str:
    """The processor's name, as the system gives it."""
    with suppress(OSError):
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^model name\s*:\s*(.+)$", known, re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine() or "unknown"
