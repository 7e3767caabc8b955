"""torch.profiler over some steps: a trace to look at, and the operations that took longest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ocr.profiling.device import DeviceSeconds, device_seconds

_MOST_OPERATIONS = 12  # that a report lists


@dataclass(frozen=True)
class Operation:
    """An operation of PyTorch: how often it was called, and seconds of its own."""

    name: str
    calls: int
    seconds: float


@dataclass(frozen=True)
class Profiled:
    """What was seen over some steps.

    seconds: of the clock. operations: those that took longest, on the GPU if there is one. device:
    what the GPU did in a step, the mean of them; None on a CPU. trace: opens in Perfetto.
    """

    steps: int
    seconds: float
    operations: tuple[Operation, ...]
    device: DeviceSeconds | None
    trace: Path


class ProfiledWindow:
    """Profiles between `start` and `stop`."""

    def __init__(self, device: torch.device) -> None:
        self._on_device = device.type == "cuda"
        activities = [ProfilerActivity.CPU]
        activities += [ProfilerActivity.CUDA] if self._on_device else []
        self._profile = profile(activities=activities)
        self._since = 0.0

    def start(self) -> None:
        """Begin, once a GPU has done what it was handed before."""
        if self._on_device:
            torch.cuda.synchronize()
        self._profile.start()
        self._since = perf_counter()

    def stop(self, steps: int, trace: Path) -> Profiled:
        """End, and write the trace. steps: that were done. Raises OSError if it cannot be written.

        trace: a JSON file in Chrome's form.
        """
        if self._on_device:
            torch.cuda.synchronize()
        seconds = perf_counter() - self._since
        self._profile.stop()
        trace.parent.mkdir(parents=True, exist_ok=True)
        trace.touch()  # or the profiler would fail in silence where it cannot write
        self._profile.export_chrome_trace(str(trace))
        found = [self._operation(e) for e in self._profile.key_averages() if self._counts(e)]
        found.sort(key=lambda operation: -operation.seconds)
        device = None
        if self._on_device:
            events = self._profile.events()  # type: ignore[no-untyped-call]
            device = device_seconds(events).times(1 / max(1, steps))
        return Profiled(steps, seconds, tuple(found[:_MOST_OPERATIONS]), device, trace)

    def discard(self) -> None:
        """End without a result."""
        self._profile.stop()

    def _counts(self, event: Any) -> bool:
        """Whether it is an operation: the time of kernels stands with those that started them."""
        if not self._on_device:
            return True
        return event.device_type.name == "CPU" and not event.is_user_annotation

    def abandon(self) -> None:
        """End, and write nothing: a process that ends while it is profiled would crash."""
        self._profile.stop()

    def _operation(self, event: Any) -> Operation:
        microseconds = (
            event.self_device_time_total if self._on_device else event.self_cpu_time_total
        )
        return Operation(event.key, event.count, microseconds / 1e6)
