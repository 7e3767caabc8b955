"""Which dialect a folder of ICDAR text files is in: judged over all of its lines."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocr_precompute.annotations.dialects import (
    DIALECTS,
    PREFERRED,
    Shape,
    fits,
    polygon_numbers,
    ranked,
    reads_alike,
    rivals,
    shape,
    split_line,
)
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.errors import Problem

_SHOWN = 3  # lines that a message quotes
_LONGEST_SHOWN = 60
_FEW = 0.01  # of a folder's lines
_MEASURED = 500  # images whose size is looked at
_TOLERANCE = 2.0  # pixels by which annotations reach over an image's edge


@dataclass(frozen=True, eq=False)
class TextFile:
    """A text file and the image it belongs to.

    shapes: those of its lines. skip: how many lines at its beginning are a header.
    """

    path: Path
    image: str
    text: str
    shapes: frozenset[Shape]
    skip: int

    def lines(self) -> list[tuple[int, str]]:
        """Lines that are not blank, with their numbers."""
        # Not str.splitlines: it also splits at characters that occur in transcriptions.
        lines = enumerate(self.text.split("\n"), 1)
        return [(n, line) for n, line in lines if line and not line.isspace()][self.skip :]


def choose_dialect(
    path: Path,
    files: Sequence[TextFile],
    shapes: Counter[Shape],
    hints: Counter[str],
    images: ImageNames,
    warnings: list[str],
) -> str | Problem:
    """The folder's dialect, or why there is no telling; says what is uncertain in warnings."""
    total = shapes.total()
    if not total:
        return "quad"
    ranking = ranked(shapes)
    broken, best = ranking[0]
    if broken > total / 2:
        reason = (
            f"is in no known dialect: {_quote(files, lambda line: not fits(best, line))}; "
            "correct it, or say which with --format "
            + ", ".join(f"icdar:{name} ({form})" for name, form in DIALECTS.items())
        )
        return Problem("annotations", str(path), "", reason)
    tied = [dialect for count, dialect in ranking[1:] if count == broken]
    others = rivals(best, tied, shapes)
    named = next((hint for hint, _ in hints.most_common() if hint in (best, *others)), None)
    if named:
        return named
    if (best, others) == ("ltrb", ["xywh"]):
        outside = _outside(files, images)
        if outside["ltrb"] != outside["xywh"]:
            return min(outside, key=outside.__getitem__)
    for other in others:
        listed = _quote(files, _differing(best, other))
        if (best, other) not in PREFERRED:
            reason = (
                f"lines may be {DIALECTS[best]} or {DIALECTS[other]}: {listed}; say which with "
                f"--format icdar:{best} or icdar:{other}"
            )
            return Problem("annotations", str(path), "", reason)
        warnings.append(
            f"{path}: read as {DIALECTS[best]}, though {DIALECTS[other]} fits too: {listed}; "
            f"say --format icdar:{other} if that is meant, else icdar:{best}"
        )
    odd = sum(n for line, n in shapes.items() if _is_other(best, line))
    if 0 < odd < total * _FEW:
        warnings.append(
            f"{path}: read as {DIALECTS[best]}, since {odd} of {total} lines have not 4 points: "
            f"{_quote(files, lambda line: _is_other(best, line))}; correct them if they are slips, "
            "else say --format icdar:polygon"
        )
    return best


def _differing(one: str, other: str) -> Callable[[Shape], bool]:
    return lambda line: not reads_alike(one, other, line)


def _is_other(dialect: str, line: Shape) -> bool:
    """Whether a line makes the folder one of polygons."""
    return dialect == "polygon" and fits(dialect, line) and polygon_numbers(line) != 8


def _examples(
    files: Sequence[TextFile], wanted: Callable[[Shape], bool]
) -> Iterator[tuple[str, str]]:
    """Places and texts of lines of such shapes, cut short."""
    for file in files:
        if any(map(wanted, file.shapes)):
            for number, line in file.lines():
                if wanted(shape(line)):
                    short = line if len(line) <= _LONGEST_SHOWN else line[:_LONGEST_SHOWN] + "..."
                    yield f"{file.path.name} line {number}", short.strip()


def _quote(files: Sequence[TextFile], wanted: Callable[[Shape], bool]) -> str:
    examples = itertools.islice(_examples(files, wanted), _SHOWN)
    return "; ".join(f"{where} {line!r}" for where, line in examples)


def _outside(files: Sequence[TextFile], images: ImageNames) -> dict[str, int]:
    """How many rectangles reach over the edge of their image in each of the two readings."""
    outside = {"ltrb": 0, "xywh": 0}
    for file in files[:_MEASURED]:
        try:
            height, width = images.size(file.image)
        except ValueError:
            continue  # said where images are looked at
        for _, line in file.lines():
            found = shape(line)
            if fits("ltrb", found) and fits("xywh", found):
                left, top, right, bottom = map(float, split_line("ltrb", line, found)[0])
                x, y = width + _TOLERANCE, height + _TOLERANCE
                outside["ltrb"] += right > x or bottom > y
                outside["xywh"] += left + right > x or top + bottom > y
    return outside
