"""Sorted parts that are files with one JSON object per line; see `sorted_parts`.

What is found by halving are places in the file, and from each the line that begins next.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from ocr_precompute.annotations.json_files import decoded
from ocr_precompute.annotations.sorted_parts import Part, name_of, opened, problem_in
from ocr_precompute.errors import InputError, Problem, one_line

NO_NAME = 'must be a JSON object with a "name"; correct or remove it'
"""What is wrong with a line that has no name."""

_END = 1 << 16  # bytes of a file's end that are looked at first


def whole(path: Path) -> Part | None:
    """The part that a file is, in bytes; None if it holds nothing. Raises InputError."""
    with opened(path) as file:
        size = file.seek(0, 2)
        start, first = _line_from(file, 0, size)
        if not first:
            return None
        last = _last_line(file, size)
    begins, ends = _name(first), _name(last)
    if not begins or not ends:
        which = "last" if begins else "first"
        raise InputError([problem_in(path, f"{which} line", NO_NAME)])
    return Part(path, begins, ends, start, size)


def narrowed(part: Part, first: str, last: str) -> Part:
    """Of a part only the lines from one name to another, both included. Raises InputError."""
    with opened(part.path) as file:
        start = _place(file, part, lambda name: name >= first)
        stop = _place(file, part, lambda name: name > last)
    return replace(part, first=first, last=last, start=start, stop=stop)


def rows(part: Part) -> Iterator[tuple[str, Any] | Problem]:
    """What each line of a part holds that is not blank, and where it is if the part is whole.

    Raises InputError, where it happens, if the file cannot be read.
    """
    for number, line in enumerate(_lines(part), 1):
        if not line or line.isspace():
            continue
        place = f"line {number}" if part.start == 0 else ""
        try:
            yield place, decoded(line.decode("utf-8-sig"))
        except ValueError as error:
            reason = f"is not valid JSON: {one_line(error)}; correct or remove it"
            yield problem_in(part.path, place, reason)


def _lines(part: Part) -> Iterator[bytes]:
    with opened(part.path) as file:
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
        while line and not name:
            start, line = _line_from(file, start + len(line), high)
            name = _name(line)
        if not name or wanted(name):
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


def _name(line: bytes) -> str:
    try:
        return name_of(json.loads(line.decode("utf-8-sig")) if line else None)
    except (ValueError, RecursionError):
        return ""
