"""A training's run folder: all that its files say, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ocr.reports import metrics, performance, validation
from ocr.reports.files import fields, json_object, text
from ocr.reports.metrics import Curves, Epochs, read_curves
from ocr.reports.performance import Process, process_files, read_process
from ocr.reports.validation import Validated, read_validations
from ocr_precompute.errors import PrecomputeError, one_line, printable
from ocr_precompute.files import read_bounded

RECORD, CONFIG = "run.json", "config.yaml"
_MOST_RECORD, _MOST_CONFIG = 1_000_000, 200_000  # bytes
_EVENTS = "events.out.tfevents."  # how TensorBoard's files begin


class RunError(PrecomputeError):
    """There is no run to report on; `str()` is one line that says what to do."""


@dataclass(frozen=True)
class Record:
    """What a training noted of itself.

    state: `running`, `finished`, `interrupted`, or nothing if it did not say. begun, ended: dates
    as text. versions, machine, data: names and values to show.
    """

    state: str = ""
    begun: str = ""
    ended: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """All that a run folder says.

    config: the text of `config.yaml`; settings: what of it can be understood. logger: whether
    `metrics.csv` is there, or TensorBoard's files, or neither. notes: what is wrong with any file.
    """

    name: str
    curves: Curves
    processes: tuple[Process, ...]
    validated: Validated | None
    record: Record
    config: str
    settings: Mapping[str, Any]
    logger: str
    notes: tuple[str, ...]

    @property
    def epochs(self) -> Epochs:
        """Where steps lie in epochs."""
        ends = dict(self.curves.ends)
        for process in self.processes[:1]:
            ends |= {epoch.epoch: epoch.step for epoch in process.epochs}
        return Epochs.of(ends)


def read_run(folder: Path) -> Run:
    """All that a run folder says.

    Raises RunError if it is no folder, cannot be read, or holds nothing of a training.
    """
    try:
        files = process_files(folder)
        validated, notes = read_validations(folder)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise RunError(f"{folder}: {reason}; name the folder of a training's run") from error
    if not files and not names & {metrics.FILE_NAME, validation.FILE_NAME, RECORD, CONFIG}:
        raise RunError(_nothing(folder, names))
    known = dict(list(files.items())[: performance.MOST_PROCESSES])
    if len(files) > len(known):
        notes.append(f"of {len(files)} processes the first {len(known)} are shown")
    processes = tuple(read_process(number, path) for number, path in known.items())
    has_table = metrics.FILE_NAME in names
    curves = read_curves(folder / metrics.FILE_NAME) if has_table else Curves()
    record, config, more = _record(folder, names), "", [*curves.notes]
    if CONFIG in names:
        config, said = _text(folder / CONFIG, _MOST_CONFIG)
        more += said
    settings, said = _settings(config)
    for process in processes:
        more += process.notes
    events = any(name.startswith(_EVENTS) for name in names)
    return Run(
        name=_name(folder),
        curves=curves,
        processes=processes,
        validated=validated,
        record=record,
        config=config,
        settings=settings,
        logger="csv" if has_table else "tensorboard" if events else "",
        notes=(*notes, *more, *said),
    )


def _nothing(folder: Path, names: set[str]) -> str:
    runs = sorted(name for name in names if name.startswith("version_"))
    runs.sort(key=lambda name: (len(name), name))
    if runs:
        return (
            f"{folder}: is not a run but holds some; name one of them, such as {folder / runs[-1]}"
        )
    wanted = f"{metrics.FILE_NAME}, {performance.FILE_NAME}, {validation.FILE_NAME} or {CONFIG}"
    return f"{folder}: holds nothing of a training ({wanted}); name the folder of a run"


def _name(folder: Path) -> str:
    return printable("/".join(folder.resolve().parts[-2:]).lstrip("/"))


def _record(folder: Path, names: set[str]) -> Record:
    if RECORD not in names:
        return Record()
    said, _ = _text(folder / RECORD, _MOST_RECORD)
    found = fields(json_object(said))
    state, begun, ended = (text(found.get(name), 60) for name in ("state", "begun", "ended"))
    versions, machine, data = (_shown(found.get(name)) for name in ("versions", "machine", "data"))
    return Record(state, begun, ended, versions, machine, data)


def _shown(said: object) -> dict[str, str]:
    shown = {text(name, 60): text(str(value)) for name, value in list(fields(said).items())[:50]}
    return {name: value for name, value in shown.items() if name and value}


def _text(path: Path, most: int) -> tuple[str, list[str]]:
    """A small text file; and why there is none."""
    try:
        return read_bounded(path, most).decode("utf-8", "replace"), []
    except OSError as error:
        return "", [f"{path.name}: cannot be read ({error.strerror or one_line(error)})"]


def _settings(config: str) -> tuple[dict[str, Any], list[str]]:
    """What a configuration says, if it is plain: Lightning writes no aliases, which can explode."""
    problem = [f"{CONFIG}: is no configuration that can be understood; it is shown as it is"]
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(config)):
            return {}, problem
        found = yaml.safe_load(config) if config else {}
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, problem
    return (found, []) if isinstance(found, dict) else ({}, problem)
