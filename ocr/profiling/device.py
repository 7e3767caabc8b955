"""What a GPU did with its time, from the events that torch.profiler saw of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Span = tuple[float, float]


@dataclass(frozen=True)
class DeviceSeconds:
    """Seconds of a GPU, on all of its streams; each moment counts once.

    computing: a kernel ran, or memory of the GPU was filled or copied within it. copying: nothing
    was computed, and bytes went from or to the host. synchronising: neither, and NCCL was at work,
    which runs while it waits for other processes. In what is left the GPU was idle.
    """

    computing: float
    copying: float = 0.0
    synchronising: float = 0.0

    @property
    def busy(self) -> float:
        """All of it."""
        return self.computing + self.copying + self.synchronising

    def times(self, factor: float) -> DeviceSeconds:
        """So many times as much."""
        return DeviceSeconds(
            factor * self.computing, factor * self.copying, factor * self.synchronising
        )


def device_seconds(events: Iterable[Any]) -> DeviceSeconds:
    """What the GPU did. events: as `torch.profiler.profile.events()` gives them."""
    spans: dict[str, list[Span]] = {"computing": [], "copying": [], "synchronising": []}
    for event in events:
        kind = _kind(event)
        if kind:
            microseconds = event.time_range
            spans[kind].append((microseconds.start / 1e6, microseconds.end / 1e6))
    computing = covered(spans["computing"])
    moved = covered(spans["computing"] + spans["copying"])
    busy = covered(spans["computing"] + spans["copying"] + spans["synchronising"])
    return DeviceSeconds(computing, moved - computing, busy - moved)


def _kind(event: Any) -> str | None:
    """A field of DeviceSeconds; None for what is no work of a GPU, such as an annotated range."""
    if event.device_type.name != "CUDA" or event.is_user_annotation:
        return None
    if event.name.startswith(("Memcpy HtoD", "Memcpy DtoH")):
        return "copying"
    return "synchronising" if event.name.startswith("nccl") else "computing"


def covered(spans: Iterable[Span]) -> float:
    """Seconds in which at least one span, (start, end), was under way."""
    total, last = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, last))
        last = max(last, end)
    return total
