"""Options that compare speeds with others, and how a comparison is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ocr_precompute.baselines import DEFAULT_REGRESSION, LEAST_ROUNDS
from ocr_precompute.cli.screen import add_row, print_table, say
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.settings import check_local

if TYPE_CHECKING:
    from ocr_precompute.baselines.baseline import Baseline, Measuring
    from ocr_precompute.baselines.comparison import Comparison

_ROUNDS, _COMPARED_ROUNDS = 3, 9
_LIBRARIES = ("numpy", "opencv-python-headless", "numcodecs", "pyclipper", "numba")

RoundsOption = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        min=1,
        help=f"Turns of each path; {_ROUNDS} by default, {_COMPARED_ROUNDS} to save or compare.",
    ),
]
SaveOption = Annotated[
    Path | None, typer.Option("--save", help="Keep the speeds as a baseline, a JSON file.")
]
CompareOption = Annotated[
    Path | None, typer.Option("--compare", help="Compare with a baseline that was saved.")
]
AgainstOption = Annotated[
    Path | None,
    typer.Option("--against", help="Another configuration file, measured in turn with this one."),
]
MaxRegressionOption = Annotated[
    str | None,
    typer.Option(
        "--max-regression",
        help=f"Share of the speed that may be lost; {DEFAULT_REGRESSION:.0%} by default.",
    ),
]


@dataclass(frozen=True)
class Wish:
    """What is to be kept or compared with, and in how many rounds it is measured."""

    save: Path | None
    compare: Path | None
    against: Path | None
    max_regression: float
    rounds: int

    @classmethod
    def checked(
        cls,
        save: Path | None,
        compare: Path | None,
        against: Path | None,
        regression: str | None,
        rounds: int | None,
    ) -> Wish:
        """That of options. Raises InputError for some that do not fit."""
        from ocr_precompute.baselines.comparison import regression_share

        for path, option in ((save, "--save"), (compare, "--compare")):
            if path:
                check_local(path, option)
        if compare and against:
            raise _wrong("--compare and --against", "give one of them")
        if regression and not (compare or against):
            raise _wrong("--max-regression", "give --compare or --against too")
        share = regression_share(regression) if regression else DEFAULT_REGRESSION
        if not (save or compare or against):
            return cls(save, compare, against, share, rounds or _ROUNDS)
        if rounds and rounds < LEAST_ROUNDS:
            raise _wrong(f"--rounds {rounds}", f"give at least {LEAST_ROUNDS} to save or compare")
        return cls(save, compare, against, share, rounds or _COMPARED_ROUNDS)

    def saved(self, now: Measuring) -> Baseline | None:
        """The baseline to compare with. Raises InputError if it is not of the same work."""
        from ocr_precompute.baselines.baseline import check_comparable, read_baseline

        if self.compare is None:
            return None
        baseline = read_baseline(self.compare)
        check_comparable(self.compare, baseline, now)
        return baseline


def _wrong(entry: str, reason: str) -> InputError:
    return InputError([Problem("config", "command line", entry, reason)])


def measuring(conditions: Mapping[str, Any]) -> Measuring:
    """What `bench` is about to measure, and where."""
    from ocr_precompute.baselines.baseline import Measuring
    from ocr_precompute.baselines.machine import this_machine
    from ocr_precompute.baselines.reference import WORKLOAD

    return Measuring(
        kind="bench",
        machine=this_machine(),
        workload=WORKLOAD,
        conditions=dict(conditions),
        versions={name: version(name) for name in ("ocr-precompute", *_LIBRARIES)},
    )


def print_comparison(comparison: Comparison, what: str) -> None:
    """A table of ratios, and a line that says whether something is slower."""
    title = f"compared with {what}, 95 % interval"
    table = Table("samples/s", "before", "now", "ratio", "interval", "", title=title)
    for ratio in comparison.ratios:
        add_row(table, *ratio.cells(comparison.max_regression))
    print_table(table)
    say(comparison.line)
