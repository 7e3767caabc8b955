"""Charts as data: axes, curves and the table of the same numbers; the page's script draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ocr.reports.series import Points

MOST_ROWS = 200  # of a chart's table


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, with its ticks."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    unit: str = ""

    @classmethod
    def over(
        cls,
        label: str,
        values: Sequence[float],
        unit: str = "",
        least: float | None = 0.0,
        most: float | None = None,
    ) -> Axis:
        """An axis that holds the values, ending at ticks; from `least` and to `most` if given."""
        low = min([*values, *(() if least is None else (least,))], default=0.0)
        high = max([*values, *(() if most is None else (most,))], default=1.0)
        found = ticks(low, high)
        return cls(label, found[0], found[-1], found, unit)


@dataclass(frozen=True)
class Curve:
    """One curve of a chart; each has its own dash and colour, by its place."""

    name: str
    points: Points


@dataclass(frozen=True)
class Mark:
    """A point of a chart that is worth a word."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart. about: what it shows, in a sentence. steps: whether only points are drawn."""

    title: str
    about: str
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For the page."""
        head, rows = (self.head, self.rows) if self.head else self._table()
        return {
            "kind": "chart",
            "title": self.title,
            "about": self.about,
            "x": vars(self.x),
            "y": vars(self.y),
            "curves": [vars(curve) for curve in self.curves],
            "marks": [vars(mark) for mark in self.marks],
            "head": head,
            "rows": rows,
        }

    def _table(self) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """A row for each place where a curve has a point; of very many, an even choice."""
        places = sorted({x for curve in self.curves for x, _ in curve.points})
        every = math.ceil(len(places) / MOST_ROWS) or 1
        chosen = places[::-every][::-1]  # the last one is among them
        by_place = [dict(curve.points) for curve in self.curves]
        unit = f", {self.y.unit}" if self.y.unit else ""
        head = (self.x.label, *(curve.name + unit for curve in self.curves))
        rows = (
            (short(x), *(short(values[x]) if x in values else "" for values in by_place))
            for x in chosen
        )
        return head, tuple(rows)


def ticks(low: float, high: float, wanted: int = 5) -> tuple[float, ...]:
    """Round numbers, about so many, from at most `low` to at least `high`."""
    largest = max(abs(low), abs(high))
    if largest < 1e-100:
        low, high = 0.0, 1.0
    elif high - low <= 1e-6 * largest:  # no digits would tell ticks apart
        around = 0.5 if largest < 1000 else largest / 2
        low, high = low - around, high + around
    rough = (high - low) / wanted
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * size for size in (1, 2, 2.5, 5, 10) if unit * size >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(float(f"{number * step:.10g}") for number in range(first, last + 1))


def short(value: float) -> str:
    """A number in few characters."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def in_unit(points: Points, scale: Callable[[float], float]) -> Points:
    """The points, each value in another unit."""
    return tuple((x, scale(y)) for x, y in points)
