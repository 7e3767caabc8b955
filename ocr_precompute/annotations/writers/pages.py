"""What is written of an image, and what a form has no words for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ocr_precompute.samples import Polygons

PLAIN = "text"
"""The label of a word that is nothing but a word; it says no more than none."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word to be written: [x, y] pairs in pixels, and what is known of it.

    label: what messages call it. of_class: None for one that is nothing but a word.
    """

    label: str
    points: list[list[float]]
    ignore: bool
    text: str | None
    of_class: str | None


@dataclass(frozen=True, eq=False)
class Page:
    """An image and its words, to be written.

    size: (height, width) in pixels as displayed. texts, classes: one for each polygon, or empty.
    turned: whether its EXIF says that it is shown another way round than it is stored.
    """

    name: str
    size: tuple[int, int]
    polygons: Polygons
    labels: Sequence[str]
    texts: Sequence[str | None] = ()
    classes: Sequence[str | None] = ()
    turned: bool = False

    def words(self) -> Iterator[Word]:
        """Each of them, in order."""
        nothing = (None,) * len(self.labels)
        for label, polygon, ignored, text, name in zip(
            self.labels,
            self.polygons.as_list(),
            self.polygons.ignore.tolist(),
            self.texts or nothing,
            self.classes or nothing,
            strict=True,
        ):
            points = [[whole(x), whole(y)] for x, y in polygon.tolist()]
            yield Word(label, points, ignored, text, None if name == PLAIN else name)


@dataclass(frozen=True)
class Loss:
    """Something of an annotation that a form cannot say, or says otherwise.

    what: the kind, as in `don't-care`. image, entry: where; entry is empty for a whole image.
    detail: what comes of it.
    """

    what: str
    image: str
    entry: str
    detail: str


@dataclass(frozen=True)
class AnnotationWriter:
    """A form that annotations are written in.

    name: what `--to` takes. summary: what it is, one line. is_folder: whether it is a folder of
    files. losses: what it cannot say of a page. write: writes all pages to a path that is not there
    yet; what a page loses is left out or said as `losses` has it.
    """

    name: str
    summary: str
    losses: Callable[[Page], Iterator[Loss]]
    write: Callable[[Path, Iterable[Page]], None]
    is_folder: bool = False


def whole(number: float) -> float:
    """The number, as an int where it is whole: files are shorter, and mean the same."""
    return int(number) if number.is_integer() else number


def flat(points: Sequence[Sequence[float]]) -> list[float]:
    """x, y, x, y."""
    return [number for point in points for number in point]


def bounds(points: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def compact(value: Any) -> str:
    """JSON on one line, letters of all alphabets as they are; lone surrogates are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def opened(path: Path) -> TextIO:
    """A new text file in UTF-8, with `\\n` at the end of lines."""
    return path.open("x", encoding="utf-8", newline="\n")


def write_items(file: TextIO, items: Iterable[str]) -> None:
    """Items of a JSON list or object, one a line."""
    for number, item in enumerate(items):
        file.write(f"{',' if number else ''}\n {item}")
