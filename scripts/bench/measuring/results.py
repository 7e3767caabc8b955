"""What a benchmark found: a question, tables of figures with their units, and where they are from.

A result is data. It goes to a file as JSON, and is shown as Markdown: on a screen, and in documents
by scripts/make_tables.py. No benchmark makes a table in any other way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

Cell = int | float | str | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    unit: of its figures. digits: how many are shown after the point; None where rows differ in
    what they are, which shows three that count.
    """

    name: str
    unit: str = ""
    digits: int | None = None

    @property
    def head(self) -> str:
        """What stands over it."""
        return ", ".join(filter(None, (self.name, self.unit)))

    def shown(self, cell: Cell) -> str:
        """A cell of it, for people."""
        match cell:
            case None:
                return ""
            case float() if self.digits is None:
                return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
            case float():
                return f"{cell:,.{self.digits}f}"
            case int():
                return f"{cell:,}"
        return cell.replace("|", "\\|")


@dataclass(frozen=True)
class Table:
    """Columns, rows of as many cells each, and what they are of where a result has several.

    Raises ValueError for a row of another length, and for a figure that is none.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{row} has not a cell for each of {len(self.columns)} columns")
            for cell in row:
                if isinstance(cell, float) and not math.isfinite(cell):
                    raise ValueError(f"{row} has a figure that is not finite")

    def markdown(self) -> Iterator[str]:
        """Lines; columns of figures are aligned to the right."""
        words = [self._is_words(number) for number in range(len(self.columns))]
        yield _line(column.head for column in self.columns)
        yield "|" + "|".join("---" if each else "---:" for each in words) + "|"
        for row in self.rows:
            pairs = zip(self.columns, row, strict=True)
            yield _line(column.shown(cell) for column, cell in pairs)

    def cell(self, row: str, head: str) -> Cell:
        """What stands in the row of that first cell, under that head.

        Raises KeyError if there is no such row, ValueError if no such head.
        """
        heads = [column.head for column in self.columns]
        return {str(cells[0]): cells for cells in self.rows}[row][heads.index(head)]

    def _is_words(self, number: int) -> bool:
        return not any(isinstance(row[number], int | float) for row in self.rows)


def _line(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Environment:
    """When and where something was measured, with what, and by which command. cores: of how many.

    What is not known is empty.
    """

    date: str
    processor: str
    cores: str
    system: str
    versions: dict[str, str]
    command: str

    def markdown(self) -> Iterator[str]:
        """Lines of a list."""
        yield "- " + ", ".join(filter(None, (self.date, self.processor, self.cores, self.system)))
        if self.versions:
            yield "- " + ", ".join(f"{name} {number}" for name, number in self.versions.items())
        yield f"- `{self.command}`"


@dataclass(frozen=True)
class Result:
    """What a benchmark found.

    ratios: of figures in the tables, by what they are of. notes: how it was measured, where that
    follows from nothing else. absent: what has no rows, for it is not installed. holds: whether
    what is claimed is so, where a benchmark judges that.
    """

    name: str
    question: str
    environment: Environment
    tables: tuple[Table, ...]
    ratios: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    holds: bool = True

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.ratios.values())):
            raise ValueError(f"{self.ratios} has a figure that is not finite")

    def markdown(self) -> Iterator[str]:
        """Lines: where it is from, the tables, and ratios. The question is the reader's to ask."""
        yield from self.environment.markdown()
        yield from (f"- {note}" for note in self.notes)
        if self.absent:
            yield f"- left out, for they are not installed: {'; '.join(self.absent)}"
        for table in self.tables:
            yield ""
            if table.title:
                yield from (f"{table.title}:", "")
            yield from table.markdown()
        if self.ratios:
            yield ""
            yield from (f"- {name}: {ratio:.2f}" for name, ratio in self.ratios.items())

    def as_json(self) -> bytes:
        """The whole of it."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def read_result(path: Path) -> Result:
    """The result in a file. Raises ValueError, with the file's name, if it holds none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except ValueError as error:  # of msgspec as well
        raise ValueError(f"{path.name}: {error}") from error
