"""Annotations of millions of images: files with a row for each, in order of names.

Since they are in order, what is said of any range of names is found by halving, without an index.
What rows are is said by a format: lines of JSON, or rows of Parquet.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ocr_precompute.annotations.folders import LARGEST_TEXT, open_bounded, text_files
from ocr_precompute.annotations.reading import Entry, Found
from ocr_precompute.errors import InputError, Problem


@dataclass(frozen=True)
class Part:
    """Rows of a file that follow each other.

    first, last: their first and last name. start, stop: where they lie in the file, in bytes or
    rows, as its format counts.
    """

    path: Path
    first: str
    last: str
    start: int
    stop: int


@dataclass(frozen=True)
class Parts:
    """The parts at a path in order of their names, which do not overlap.

    left_out: (path, reason) of entries of the folder that are none.
    """

    parts: tuple[Part, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class PartFormat:
    """How a format in sorted parts lies in files, and what understands a row.

    suffix: of its files in a folder. row: what messages call one. no_name: what is wrong with one
    that has no name.
    whole: the part that a file is, None if it holds nothing. narrowed: of a part only the rows from
    one name to another, both included. rows: where each row of a part is, and what it says, or what
    is wrong with it. These raise InputError for what cannot be read.
    understand: an image's entry, given its file, where in it the row is, its name and what it says.
    """

    suffix: str
    row: str
    no_name: str
    whole: Callable[[Path], Part | None]
    narrowed: Callable[[Part, str, str], Part]
    rows: Callable[[Part], Iterator[tuple[str, Any] | Problem]]
    understand: Callable[[str, str, str, dict[str, Any]], Entry | Problem]


def find_parts(path: Path, form: PartFormat) -> Parts:
    """The parts that a file is, or those below a folder; their first and last rows are read.

    Raises InputError if one cannot be read, or two overlap.
    """
    names, left_out = [path.name], list[tuple[str, str]]()
    folder = path.parent
    if path.is_dir():
        folder = path
        names, left_out = text_files(path, {form.suffix})
    parts: list[Part] = []
    problems: list[Problem] = []
    for name in names:
        try:
            part = form.whole(folder / name)
            parts += [part] if part else []
        except InputError as error:
            problems += error.problems
    parts.sort(key=lambda part: (part.first, part.last))
    problems += [
        problem_in(part.path, "", f"is not in order: it begins with {part.first!r} and ends with "
                   f"{part.last!r}; sort its {form.row}s by name")
        for part in parts
        if part.last < part.first
    ]  # fmt: skip
    problems += [] if problems else [_overlap(*two, form) for two in _overlapping(parts)]
    if problems:
        raise InputError(problems)
    return Parts(tuple(parts), tuple(left_out))


def _overlapping(parts: Sequence[Part]) -> Iterator[tuple[Part, Part]]:
    return ((a, b) for a, b in itertools.pairwise(parts) if b.first <= a.last)


def _overlap(one: Part, other: Part, form: PartFormat) -> Problem:
    reason = (
        f"begins with {other.first!r}, but {one.path} goes on to {one.last!r}: parts may not "
        f"overlap; sort the {form.row}s of both by name, and cut them anew"
    )
    return problem_in(other.path, "", reason)


def entries(part: Part, form: PartFormat) -> Iterator[Entry | Problem]:
    """What the rows of a part say; at the first that is out of order it ends with that problem.

    Raises InputError, where it happens, if the file cannot be read.
    """
    file, previous = str(part.path), ""
    for row in form.rows(part):
        if isinstance(row, Problem):
            yield row
            continue
        place, found = row
        if not (name := name_of(found)):
            yield problem_in(part.path, place, form.no_name)
            continue
        if name <= previous:
            yield problem_in(part.path, place, _out_of_order(name, previous, form.row))
            return
        previous = name
        yield form.understand(file, place, name, found)


def found_in(path: Path, form: PartFormat) -> Found:
    """All entries of all parts at a path. Raises InputError as find_parts does."""
    found = find_parts(path, form)
    rows = (entries(part, form) for part in found.parts)
    return Found(itertools.chain.from_iterable(rows), left_out=found.left_out)


def name_of(found: Any) -> str:
    """The name that a row says; empty if it says none."""
    name = found.get("name") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""


def _out_of_order(name: str, previous: str, row: str) -> str:
    if name == previous:
        return f"{name!r} is annotated twice; keep one of the {row}s"
    return f"{name!r} stands behind {previous!r}; sort the {row}s by name, as Python sorts texts"


def opened(path: Path) -> BinaryIO:
    """A file of a part, opened for reading. Raises InputError if it cannot be."""
    try:
        return open_bounded(path, LARGEST_TEXT)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; make it readable, or correct the path"
        raise InputError([problem_in(path, "", reason)]) from None
    except ValueError as error:
        raise InputError([problem_in(path, "", str(error))]) from None


def problem_in(path: Path, place: str, reason: str) -> Problem:
    """What is wrong with a file, or at a place in it."""
    return Problem("annotations", str(path), place, reason)
