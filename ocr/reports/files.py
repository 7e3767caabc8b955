"""Files of a run folder, which may be cut short, huge, or not what their name says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.errors import one_line, printable
from ocr_precompute.files import open_regular

MOST_BYTES = 256_000_000  # that are read of a file of lines
MOST_LINE = 1_000_000  # bytes; longer lines are passed over
_MOST_NUMBER = 1e18


class Lines:
    """The whole lines of a text file, one at a time, and what was wrong with others.

    A last line without an end is left out: whoever writes it is not done with it, or never was.
    After the last line, `notes` has a sentence for each kind of trouble. Whatever the file holds,
    a line and no more of it is in memory at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[str]:
        """The lines, with their ends."""
        try:
            with open_regular(self._path) as file:
                yield from self._lines(file)
        except OSError as error:
            self._note(f"cannot be read ({error.strerror or one_line(error)})")

    def _lines(self, file: Any) -> Iterator[str]:
        left, long = MOST_BYTES, 0
        while line := file.readline(min(MOST_LINE, left)):
            left -= len(line)
            if line.endswith(b"\n"):
                yield line.decode("utf-8", "replace")
            elif len(line) == MOST_LINE:
                long += 1
                left -= _pass_over(file, left)
            elif left > 0:
                self._note("its last line is cut short, and left out")
            if left <= 0:
                self._note(f"is larger than {MOST_BYTES // 10**6} MB; the rest is left out")
                break
        if long:
            self._note(f"{many(long, 'line')} of over {MOST_LINE // 10**6} MB left out")

    def _note(self, what: str) -> None:
        self.notes.append(f"{self._path.name}: {what}")


def _pass_over(file: Any, most: int) -> int:
    """Read to the end of the line; gives the bytes that were read."""
    done = 0
    while done < most:
        part = file.readline(min(MOST_LINE, most - done))
        done += len(part)
        if not part or part.endswith(b"\n"):
            break
    return done


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The object that a JSON text is; None if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def number(value: object) -> float | None:
    """The value, if it is a number that can be drawn; otherwise None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not -_MOST_NUMBER < value < _MOST_NUMBER or not math.isfinite(value):
        return None
    return float(value)


def count(value: object) -> int | None:
    """The value, if it is a whole number of 0 or more; otherwise None."""
    found = number(value)
    return int(found) if found is not None and found >= 0 and found == int(found) else None


def text(value: object, most: int = 200) -> str:
    """What a string holds, in one line of so many characters; nothing, if it is none."""
    return one_line(printable(value[: 4 * most]), most) if isinstance(value, str) and value else ""


def fields(value: object) -> dict[str, Any]:
    """The value, if it is an object; otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object, most: int) -> list[Any]:
    """The first so many of the value, if it is a list; otherwise none."""
    return value[:most] if isinstance(value, list) else []


def many(number_of: int, noun: str) -> str:
    """A count with its noun."""
    return f"{number_of:,} {noun}{'' if number_of == 1 else 's'}"
