"""The curves in `metrics.csv`, which Lightning's CSVLogger writes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from ocr.reports.files import Lines, many
from ocr.reports.series import Points, Thinned

FILE_NAME = "metrics.csv"
LOSSES = ("train/loss", "train/prob_loss", "train/thresh_loss", "train/binary_loss")
SCORES = ("val/hmean", "val/precision", "val/recall")
_END = "time/samples_per_second"  # logged when an epoch is over
_COLUMNS = ("epoch", "step", _END, *LOSSES, *SCORES)
_MOST_EPOCHS = 100_000


@dataclass(frozen=True)
class Curves:
    """What was logged over a training.

    points: of each name, (steps done, value), in order. ends: steps done at the end of each epoch
    that is over, counted from 0. width: values of which a point of a loss is the mean, at most.
    notes: what is wrong with the file, a sentence each.
    """

    points: Mapping[str, Points] = field(default_factory=dict)
    ends: Mapping[int, int] = field(default_factory=dict)
    width: int = 1
    notes: tuple[str, ...] = ()


def read_curves(path: Path) -> Curves:
    """The curves of a `metrics.csv`, as far as it can be read."""
    series = {name: Thinned() for name in (*LOSSES, *SCORES)}
    ends: dict[int, int] = {}
    lines, bad = Lines(path), 0
    notes: list[str] = []
    try:
        for row in _rows(lines):
            step, epoch = _number(row, "step"), _number(row, "epoch")
            if step is None or step < 0:
                bad += 1
                continue
            for name, points in series.items():
                value = _number(row, name)
                if value is not None:
                    points.add(step + 1, value)
            if row.get(_END) and epoch is not None and len(ends) < _MOST_EPOCHS:
                ends[int(epoch)] = int(step) + 1
    except csv.Error as error:
        notes.append(f"{path.name}: is no table, or not to its end ({error})")
    notes += lines.notes
    if bad:
        notes.append(f"{path.name}: {many(bad, 'row')} without a step left out")
    for name, points in series.items():
        if points.lost:
            notes.append(f"{name} was not a finite number {many(points.lost, 'time')}")
    found = {name: points.points() for name, points in series.items()}
    width = max(points.width for points in series.values())
    return Curves({name: has for name, has in found.items() if has}, ends, width, tuple(notes))


def _rows(lines: Lines) -> Iterator[Mapping[str, str]]:
    """The cells of each row that are of interest."""
    header: list[str] = []
    for row in csv.reader(lines):
        if not header:
            header = row
            places = {name: header.index(name) for name in _COLUMNS if name in header}
            if "step" not in places:
                raise csv.Error("there is no column named step")
        elif row != header and len(row) <= len(header):
            yield {name: row[place] for name, place in places.items() if place < len(row)}


def _number(row: Mapping[str, str], name: str) -> float | None:
    """The number in a cell, which may be infinite or NaN; None if the cell holds something else."""
    try:
        return float(row.get(name) or "x")
    except ValueError:
        return None


@dataclass(frozen=True)
class Epochs:
    """Where steps lie in epochs. unit: `epoch`, or `step` where nothing says how long one is."""

    known: tuple[tuple[int, int], ...] = ()  # epochs done, steps done
    length: float = 0.0

    @classmethod
    def of(cls, ends: Mapping[int, int]) -> Epochs:
        """From the steps that were done at the end of each epoch, counted from 0."""
        known = [(epoch + 1, step) for epoch, step in sorted(ends.items())]
        if known and known[0][0] == 1:
            known.insert(0, (0, 0))
        lengths = [
            (later[1] - earlier[1]) / (later[0] - earlier[0]) for earlier, later in pairwise(known)
        ]
        length = median(lengths) if lengths else 0.0
        return cls(tuple(known), length) if length > 0 else cls()

    @property
    def unit(self) -> str:
        """What `place` counts in."""
        return "epoch" if self.known else "step"

    def place(self, steps: float) -> float:
        """Epochs done after so many steps, in parts too; the steps, if that is not known."""
        if not self.known:
            return steps
        epochs, done = next((k for k in reversed(self.known) if k[1] <= steps), self.known[0])
        return epochs + (steps - done) / self.length

    def placed(self, points: Sequence[tuple[float, float]]) -> Points:
        """Points by steps, moved to their places."""
        return tuple((round(self.place(x), 4), y) for x, y in points)
