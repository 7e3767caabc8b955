"""What formats in XML share: files that are told by their roots, numbers in attributes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import text_files
from ocr_precompute.annotations.gathering import Gathered, Word
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.reading import Entry, Found, declared_size
from ocr_precompute.annotations.xml_files import Element
from ocr_precompute.errors import InputError, Problem

_LONGEST = 1 << 22  # characters of a list of numbers
_SHOWN = 40
_LONGEST_LABEL = 60
_NUMBERS = re.compile(r"[-+0-9.eE,;()\s]*+", re.ASCII)
_PLAIN = re.compile(r"-?[0-9]{1,12}+(?:\.[0-9]{1,24}+)?+", re.ASCII)
_BETWEEN = re.compile(r"[,;()\s]++", re.ASCII)


def fit_of_root(look: Look, *roots: str, mark: str = "") -> Fit:
    """Whether a file, or most XML files of a folder, have one of these roots and begin with a mark.

    mark: stands in the beginning, wherever.
    """
    files = look.files(".xml")
    fitting = sum(file.root in roots and mark in file.text for file in files)
    return Fit.YES if 2 * fitting > len(files) else Fit.NO


Read = Callable[[Path, str, Counter[str]], Iterable[Entry | Problem]]
"""What is in a file, given its path and its name without suffix; counts what needs a warning."""


def found_in_files(
    path: Path,
    roots: Iterable[str],
    read: Read,
    dialect: str = "",
    suffixes: Iterable[str] = (".xml",),
) -> Found:
    """What is read of the file at a path, or of each file of a folder that has one of these roots.

    Files of another root are left out; such as have none are not, so that what is wrong is said.
    """
    folder, names, left_out = path.parent, [path.name], list[tuple[str, str]]()
    if path.is_dir():
        folder, known = path, {"", *roots}
        names, left_out = text_files(path, set(suffixes))
        found = {name: Look(path / name).root for name in names}
        names = [name for name in names if found[name] in known]
        left_out += [
            (name, f"is of another kind: its root is {root[:_SHOWN]!r}")
            for name, root in found.items()
            if root not in known
        ]
    warnings: list[str] = []

    def entries() -> Iterator[Entry | Problem]:
        counts: Counter[str] = Counter()
        for name in names:
            try:
                yield from read(folder / name, os.path.splitext(name)[0], counts)
            except InputError as error:
                yield from error.problems
        warnings.extend(f"{path}: {count} {what}" for what, count in sorted(counts.items()))

    return Found(entries(), dialect, tuple(sorted(left_out)), warnings)


def count_without(root: Element, holder: str, unit: str) -> int:
    """How many elements of the one name in a root have none of the other in them, however deep."""
    count = units = 0
    waiting = [(root, -1)]  # and how many units came before, of what is left rather than entered
    while waiting:
        element, before = waiting.pop()
        if before >= 0:
            count += units == before
            continue
        units += element.name == unit
        if element.name == holder:
            waiting.append((element, units))
        waiting += [(each, -1) for each in element.children()]
    return count


T = TypeVar("T")


def gather_units(
    units: Iterable[tuple[str, T]], level: str, understand: Callable[[T], Word]
) -> Gathered:
    """The words that units of a page are, such as its lines; one that says ### is don't-care.

    units: each with its id, or nothing. understand: raises ValueError if one has no outline.
    """
    words = Gathered()
    for number, (name, unit) in enumerate(units, 1):
        label = f"{level} {name or number}"[:_LONGEST_LABEL]
        try:
            points, ignored, text, of_class = understand(unit)
        except ValueError as error:
            words.fail(label, error)
        else:
            ignored = ignored or (text is not None and is_dont_care(text))
            words.add(label, points, ignored, text, of_class)
    return words


# ------------------------------------------------------------------------------ numbers


def numbers_of(element: Element, *names: str) -> list[float]:
    """Attributes as numbers. Raises ValueError naming one that is none."""
    return [number(element.attributes.get(name), name) for name in names]


def number(text: str | None, what: str) -> float:
    """The number that a text is. Raises ValueError, saying of what, if it is none."""
    if text is not None and _PLAIN.fullmatch(text):  # as nearly all are
        return float(text)
    if text is None:
        raise ValueError(f"has no {what}; add it or remove it all")
    values = number_list(text, what)
    if len(values) != 1:
        raise ValueError(f"its {what} is {text[:_SHOWN]!r}, not a number; correct or remove it")
    return values[0]


def number_list(text: str, what: str) -> list[float]:
    """The numbers in a text, between which are spaces, commas, semicolons or brackets.

    Raises ValueError, saying of what, if anything else is.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"its {what} is over {_LONGEST >> 20} million characters; correct it")
    fields = _BETWEEN.split(text) if _NUMBERS.fullmatch(text) else ["?"]
    try:
        return [float(each) for each in fields if each]
    except ValueError:
        reason = f"its {what} is {text[:_SHOWN]!r}, which is no numbers; correct or remove it"
        raise ValueError(reason) from None


def outline(text: str, what: str) -> list[list[float]]:
    """The points of a text, x and y in turn, each once where it is repeated.

    Raises ValueError, saying of what, if they are no pairs of numbers.
    """
    values = number_list(text, what)
    if len(values) % 2:
        raise ValueError(f"its {what} has {len(values)} numbers, which are no pairs; correct it")
    return unrepeated([values[i : i + 2] for i in range(0, len(values), 2)])


def unrepeated(points: list[list[float]]) -> list[list[float]]:
    """A polygon's points without those that repeat the one before, or at the end the first."""
    found = [point for i, point in enumerate(points) if not i or point != points[i - 1]]
    return found[:-1] if len(found) > 1 and found[0] == found[-1] else found


def size_of(element: Element, height: str, width: str) -> tuple[int, int] | None:
    """An image's size from two attributes, (height, width) in pixels; None if they are none."""
    try:
        return declared_size(*numbers_of(element, height, width))
    except ValueError:
        return None
