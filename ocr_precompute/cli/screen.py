"""What a person sees: progress and tables, all on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from ocr_precompute.errors import printable

if TYPE_CHECKING:
    from ocr_precompute.format.manifest import Damaged

_MOST_NAMES = 20  # of samples that are worth a line each


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """One line on stderr, as it is."""
    _console().print(Text(printable(message)))


def warn(message: str) -> None:
    """One line on stderr that is to be seen."""
    _console().print(Text(f"warning: {printable(message)}", style="bold yellow"))


def print_table(table: Table) -> None:
    """A table on stderr."""
    _console().print(table)


def add_row(table: Table, *cells: str) -> None:
    """Cells as they are: a store may come from elsewhere, with markup or escapes in its texts."""
    table.add_row(*(Text(printable(cell)) for cell in cells))


def byte_size(count: int) -> str:
    """Bytes for people, in powers of 1000."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} samples/s" if task.speed else "")


def progress_bar() -> Progress:
    """A bar on stderr, if that is a terminal; its tasks have a field `detail`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=_console(),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def copy_bar() -> Progress:
    """A bar of bytes on stderr, if that is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=_console(),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def print_damaged(damaged: Sequence[Damaged], prefix: str = "") -> None:
    """A line for each damaged image, up to a number that can be read."""
    for each in damaged[:_MOST_NAMES]:
        say(f"{prefix}{each.sample}: {each.damage}")
    if len(damaged) > _MOST_NAMES:
        say(f"{prefix}{len(damaged) - _MOST_NAMES} more images are damaged; --json lists all")
