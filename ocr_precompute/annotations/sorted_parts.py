"""Annotations of millions of images: files with a JSON object a line, in order of names.

Since they are in order, what is said of any range of names is found by halving, without an index.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from ocr_precompute.annotations.folders import LARGEST_TEXT, open_bounded, text_files
from ocr_precompute.annotations.json_files import decoded
from ocr_precompute.annotations.reading import Entry
from ocr_precompute.errors import InputError, Problem, one_line

SUFFIX = ".jsonl"
_NO_NAME = 'must be a JSON object with a "name"; correct or remove it'
_END = 1 << 16  # bytes of a file's end that are looked at first


@dataclass(frozen=True)
class Part:
    """Lines of a file that follow each other.

    first, last: their first and last name. start, stop: where they lie in the file, bytes.
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


Understand = Callable[[str, str, str, dict[str, Any]], Entry | Problem]
"""An image's entry, given its file, where in it the line is, its name and what the line says."""


def find_parts(path: Path) -> Parts:
    """The parts that a file is, or those below a folder; their first and last lines are read.

    Raises InputError if one cannot be read, or two overlap.
    """
    names, left_out = [path.name], list[tuple[str, str]]()
    folder = path.parent
    if path.is_dir():
        folder = path
        names, left_out = text_files(path, {SUFFIX})
    parts: list[Part] = []
    problems: list[Problem] = []
    for name in names:
        try:
            parts += _whole(folder / name)
        except InputError as error:
            problems += error.problems
    parts.sort(key=lambda part: (part.first, part.last))
    problems += [
        _problem(part.path, "", f"is not in order: it begins with {part.first!r} and ends with "
                 f"{part.last!r}; sort its lines by name")
        for part in parts
        if part.last < part.first
    ]  # fmt: skip
    problems += itertools.starmap(_overlap, _overlapping(parts) if not problems else ())
    if problems:
        raise InputError(problems)
    return Parts(tuple(parts), tuple(left_out))


def _overlapping(parts: Sequence[Part]) -> Iterator[tuple[Part, Part]]:
    return ((a, b) for a, b in itertools.pairwise(parts) if b.first <= a.last)


def _overlap(one: Part, other: Part) -> Problem:
    reason = (
        f"begins with {other.first!r}, but {one.path} goes on to {one.last!r}: parts may not "
        "overlap; sort the lines of both by name, and cut them anew"
    )
    return _problem(other.path, "", reason)


def _whole(path: Path) -> list[Part]:
    """The one part that a file is, or none if it holds nothing."""
    with _opened(path) as file:
        size = file.seek(0, 2)
        start, first = _line_from(file, 0, size)
        if not first:
            return []
        last = _last_line(file, size)
    begins, ends = _name(first), _name(last)
    if begins is None or ends is None:
        which = "first" if begins is None else "last"
        raise InputError([_problem(path, f"{which} line", _NO_NAME)])
    return [Part(path, begins, ends, start, size)]


def narrowed(part: Part, first: str, last: str) -> Part:
    """Of a part only the lines from one name to another, both included. Raises InputError."""
    with _opened(part.path) as file:
        start = _place(file, part, lambda name: name >= first)
        stop = _place(file, part, lambda name: name > last)
    return replace(part, first=first, last=last, start=start, stop=stop)


def entries(part: Part, understand: Understand) -> Iterator[Entry | Problem]:
    """What the lines of a part say; at the first that is out of order it ends with that problem.

    Raises InputError, where it happens, if the file cannot be read.
    """
    file, previous = str(part.path), ""
    for number, line in enumerate(_lines(part), 1):
        if not line or line.isspace():
            continue
        place = f"line {number}" if part.start == 0 else ""
        try:
            found = decoded(line.decode("utf-8-sig"))
        except ValueError as error:
            reason = f"is not valid JSON: {one_line(error)}; correct or remove it"
            yield _problem(part.path, place, reason)
            continue
        name = found.get("name") if isinstance(found, dict) else None
        if not isinstance(name, str) or not name:
            yield _problem(part.path, place, _NO_NAME)
            continue
        if name <= previous:
            yield _problem(part.path, place, _out_of_order(name, previous))
            return
        previous = name
        yield understand(file, place, name, found)


def _out_of_order(name: str, previous: str) -> str:
    if name == previous:
        return f"{name!r} is annotated twice; keep one of the lines"
    return f"{name!r} stands behind {previous!r}; sort the lines by name, as Python sorts texts"


def _lines(part: Part) -> Iterator[bytes]:
    with _opened(part.path) as file:
        file.seek(part.start)
        left = part.stop - part.start
        while left > 0 and (line := file.readline(left)):
            left -= len(line)
            yield line


def _place(file: BinaryIO, part: Part, wanted: Callable[[str], bool]) -> int:
    """Where the first line of a part begins whose name is wanted; all that follow are, too."""
    low, high = part.start, part.stop
    while low < high:
        middle = (low + high) // 2
        start, line = _line_from(file, middle, high)
        name = _name(line)
        while line and name is None:
            start, line = _line_from(file, start + len(line), high)
            name = _name(line)
        if name is None or wanted(name):
            high = middle
        else:
            low = start + len(line)
    return _line_from(file, low, part.stop)[0]


def _line_from(file: BinaryIO, place: int, stop: int) -> tuple[int, bytes]:
    """The first line that begins at a place or behind it, and is not blank, and where it begins.

    Nothing, and stop, if there is none before stop.
    """
    file.seek(max(0, place - 1))
    if place and file.read(1) != b"\n":
        place += len(file.readline())
    while place < stop and (line := file.readline()):
        if not line.isspace():
            return place, line
        place += len(line)
    return stop, b""


def _last_line(file: BinaryIO, size: int) -> bytes:
    length = _END
    while True:
        file.seek(max(0, size - length))
        data = file.read().rstrip()
        if b"\n" in data or length >= size:
            return data.rpartition(b"\n")[2]
        length *= 8


def _name(line: bytes) -> str | None:
    try:
        found = json.loads(line.decode("utf-8-sig")) if line else None
    except (ValueError, RecursionError):
        return None
    name = found.get("name") if isinstance(found, dict) else None
    return name if isinstance(name, str) and name else None


def _opened(path: Path) -> BinaryIO:
    try:
        return open_bounded(path, LARGEST_TEXT)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; make it readable, or correct the path"
        raise InputError([_problem(path, "", reason)]) from None
    except ValueError as error:
        raise InputError([_problem(path, "", str(error))]) from None


def _problem(path: Path, place: str, reason: str) -> Problem:
    return Problem("annotations", str(path), place, reason)
