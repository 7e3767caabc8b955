"""What `performance.jsonl` and its like say: an epoch a line, a file a process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocr.reports.files import Lines, count, fields, items, json_object, many, number, text

FILE_NAME = "performance.jsonl"
MOST_PROCESSES = 64
MOST_EPOCHS = 10_000
_MOST_NAMES = 100  # of stages, of waits
_MOST_ALERTS = 200
_NAME = re.compile(r"performance(?:\.(\d{1,5}))?\.jsonl")


@dataclass(frozen=True)
class Epoch:
    """One epoch of one process.

    epoch: counted from 0. step: steps done at its end. values: figures by name, such as
    `samples_per_second`, `memory` in bytes or `resources/cpu_share`.
    """

    epoch: int
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Took:
    """How often a stage or wait came, its seconds in all, and the longest of an epoch's."""

    count: int = 0
    seconds: float = 0.0
    longest: float = 0.0


@dataclass(frozen=True)
class Alert:
    """An alert of one process. raised, over: seconds since the run began; None: not over."""

    process: int
    epoch: int
    rule: str
    detail: str
    raised: float | None
    over: float | None


@dataclass(frozen=True)
class Process:
    """All that one process has written of itself; sums are over all of its lines."""

    number: int
    epochs: tuple[Epoch, ...] = ()
    stages: Mapping[str, Took] = field(default_factory=dict)
    waits: Mapping[str, Took] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()
    sums: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def process_files(folder: Path) -> dict[int, Path]:
    """The files of the run's processes, by number. Raises OSError if the folder cannot be read."""
    found = {}
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match:
            found[int(match[1] or 0)] = path
    return dict(sorted(found.items()))


_SUMMED = (
    *("core_seconds", "cpu_seconds", "read_bytes", "written_bytes", "major_faults"),
    *("received_bytes", "sent_bytes", "gpu_seconds", "gpu_busy_seconds"),
)
_PEAKS = ("memory_peak", "memory_share", "processes", "gpu_memory_peak")
_KEPT = (
    *("samples_per_second", "loader_wait", "sync", "train_sample", "val_sample"),
    *("samples/train", "samples/val", "seconds/train", "seconds/wait", "seconds/val"),
    *("memory", "device_memory", "resources/cpu_share", "resources/gpu_share"),
    *(f"resources/{name}" for name in (*_SUMMED, *_PEAKS)),
)


def read_process(number_of: int, path: Path) -> Process:
    """What the file of a process says, as far as it can be read."""
    lines, bad, more, epochs = Lines(path), 0, 0, dict[int, Epoch]()
    stages: dict[str, Took] = {}
    waits: dict[str, Took] = {}
    sums: dict[str, float] = {}
    alerts: list[Alert] = []
    for line in lines:
        said = json_object(line)
        epoch, step = (count(fields(said).get(name)) for name in ("epoch", "step"))
        if said is None or epoch is None or step is None:
            bad += 1
            continue
        if len(epochs) >= MOST_EPOCHS and epoch not in epochs:
            more += 1
            continue
        values = _values(said)
        epochs[epoch] = Epoch(epoch, step, values)
        _add_times(stages, said.get("stages"))
        _add_times(waits, said.get("waits"))
        _add_sums(sums, values)
        new = items(said.get("alerts"), _MOST_ALERTS - len(alerts))
        alerts += [_alert(number_of, epoch, fields(alert)) for alert in new]
    notes = list(lines.notes)
    if bad:
        notes.append(f"{path.name}: {many(bad, 'line')} that say nothing of an epoch left out")
    if more:
        notes.append(
            f"{path.name}: {many(more, 'epoch')} beyond the first {MOST_EPOCHS:,} left out"
        )
    ordered = tuple(epochs[epoch] for epoch in sorted(epochs))
    return Process(number_of, ordered, stages, waits, tuple(alerts), sums, tuple(notes))


def _values(said: Mapping[str, Any]) -> dict[str, float]:
    named = {
        **fields(said.get("figures")),
        **{f"samples/{k}": v for k, v in fields(said.get("samples")).items()},
        **{f"seconds/{k}": v for k, v in fields(said.get("seconds")).items()},
        **{f"resources/{k}": v for k, v in fields(said.get("resources")).items()},
        "memory": said.get("memory"),
        "device_memory": said.get("device_memory"),
    }
    numbers = {name: number(named[name]) for name in _KEPT if name in named}
    return {name: value for name, value in numbers.items() if value is not None}


def _add_times(total: dict[str, Took], said: object) -> None:
    for name, times in fields(said).items():
        label, had = text(name, 60), fields(times)
        if not label or (label not in total and len(total) >= _MOST_NAMES):
            continue
        earlier = total.get(label, Took())
        total[label] = Took(
            earlier.count + (count(had.get("count")) or 0),
            earlier.seconds + (number(had.get("seconds")) or 0.0),
            max(earlier.longest, number(had.get("max")) or 0.0),
        )


def _add_sums(sums: dict[str, float], values: Mapping[str, float]) -> None:
    for name in ("samples/train", "samples/val", "seconds/train", "seconds/wait", "seconds/val"):
        if name in values:
            sums[name] = sums.get(name, 0.0) + values[name]
    for name in (f"resources/{name}" for name in _SUMMED):
        if name in values:
            sums[name] = sums.get(name, 0.0) + values[name]
    for name in ("memory", "device_memory", *(f"resources/{name}" for name in _PEAKS)):
        if name in values:
            sums[name] = max(sums.get(name, 0.0), values[name])


def _alert(process: int, epoch: int, said: Mapping[str, Any]) -> Alert:
    rule, detail = text(said.get("rule"), 60) or "unnamed", text(said.get("detail"), 400)
    return Alert(process, epoch, rule, detail, number(said.get("raised")), number(said.get("over")))
