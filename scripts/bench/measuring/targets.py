"""Figures beside what they should be, and where they come from."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

from measuring.command import parsed, say
from measuring.results import Cell, Column, Result, Table

COLUMNS = (
    Column("what is compared"),
    Column("target"),
    Column("figure"),
    Column("unit"),
    Column("reached"),
    Column("measured by"),
    Column("why it falls short, and what was tried"),
)


@dataclass(frozen=True)
class Figure:
    """A figure, and what it should be.

    command: what measures it. target: in words; empty where there is none. least, most: between
    which it is reached. why: what there is to say of it where it is not reached, or has no target.
    """

    what: str
    figure: float
    unit: str
    command: str
    target: str = ""
    least: float = -math.inf
    most: float = math.inf
    why: str = ""

    def cells(self) -> tuple[Cell, ...]:
        """Its row."""
        reached = self.least <= self.figure <= self.most
        said = ("yes" if reached else "no") if self.target else ""
        why = "" if said == "yes" else self.why
        return self.what, self.target, self.figure, self.unit, said, f"`{self.command}`", why


def figures_table(figures: Iterable[Figure]) -> Table:
    """A row for each figure; tells each as it comes."""
    rows = []
    for figure in figures:
        say(f"{figure.what}: {figure.figure:.3g} {figure.unit}")
        rows.append(figure.cells())
    return Table(COLUMNS, tuple(rows))


def found_by(script: str, given: list[str], *words: object) -> tuple[Result, str]:
    """What a script of this folder finds, in this process, and the command that finds it.

    given: where images are, and the like, which the command does not repeat.
    """
    module, own = import_module(script), [str(word) for word in words]
    say(f"{script}.py")
    return module.measure(parsed(module.parser(), [*given, *own])), f"{script}.py {shlex.join(own)}"


def number(table: Table, row: str, head: str) -> float:
    """A figure of a table."""
    found = table.cell(row, head)
    if not isinstance(found, int | float):
        raise TypeError(f"{row}, {head}: {found!r} is no figure")
    return float(found)
