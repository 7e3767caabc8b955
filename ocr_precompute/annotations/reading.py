"""What annotations are, from the first look at a file to what a build may use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ocr_precompute.errors import Problem
from ocr_precompute.samples import Polygons

_LARGEST_SIDE = 1e9  # pixels; what is larger is a slip


def declared_size(height: Any, width: Any) -> tuple[int, int] | None:
    """An image's size as a file gives it, (height, width) in pixels; None if it is none."""
    for side in (height, width):
        if type(side) not in (int, float) or not 0 < side < _LARGEST_SIDE:
            return None
    return int(height), int(width)


@cache
def word_label(number: int) -> str:
    """What messages call a word that has but its number in the image; one text for all images."""
    return f"word {number}"


@dataclass(frozen=True, eq=False, slots=True)
class Words:
    """The words of one image as a file has them, column by column; packed after reading.

    labels: where each is, for messages. points: as found; if all is well a list of [x, y] floats,
    or an array. ignore: don't-care flags. texts: what each says, None where the file does not tell.
    classes: what each is, by the name of its category, label or tag. Both are empty for a format
    that knows nothing of the kind, and otherwise as long as the others.
    """

    labels: Sequence[str]
    points: list[Any]
    ignore: list[bool]
    texts: Sequence[str | None] = ()
    classes: Sequence[str | None] = ()


@dataclass(frozen=True, eq=False, slots=True)
class BadWord:
    """A word that a format cannot read: what it found of its points, and what is wrong.

    points: [x, y] pairs as far as they could be told. of_class: as in `Words`, if it is known.
    """

    label: str
    points: Any
    reason: str
    of_class: str | None = None


@dataclass(frozen=True, eq=False, slots=True)
class FlatWords:
    """The words of one image as arrays, for formats that need no look at each word.

    labels: of each word, for messages. polygons: points not yet checked. texts, classes: as in
    `Words`.
    """

    labels: tuple[str, ...]
    polygons: Polygons
    texts: Sequence[str | None] = ()
    classes: Sequence[str | None] = ()

    def as_words(self) -> Words:
        """The same words with an array of points each."""
        polygons, told = self.polygons, (self.texts, self.classes)
        return Words(self.labels, polygons.as_list(), polygons.ignore.tolist(), *told)


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """One annotated image as a format reads it.

    file: the annotation file, for messages. name: image file, relative to the image folder.
    words: those that could be parsed. bad: the others. declared_size: (height, width) in pixels, if
    the annotation gives it. alone: whether the file holds no other image, so that a message about a
    word need not say which. place: where in its file the image is, as `line 3`, if that helps.
    digest: SHA-256 of the image file's bytes, if the annotation gives it.
    """

    file: str
    name: str
    words: Words | FlatWords
    bad: Sequence[BadWord] = ()
    declared_size: tuple[int, int] | None = None
    alone: bool = False
    place: str = ""
    digest: bytes = b""

    def __len__(self) -> int:
        """How many words, the bad ones too."""
        return len(self.bad) + len(self.words.labels)


@dataclass(frozen=True, eq=False)
class Found:
    """What a format finds at a path; see `Reading` for left_out and warnings.

    entries: images in any order, and what is wrong with whole images or the whole; a generator,
    so that only few images are held as the file has them. What an image is annotated with counts
    for nothing if there is a problem with the image. warnings: may grow while entries are taken.
    """

    entries: Iterable[Entry | Problem]
    dialect: str = ""
    left_out: tuple[tuple[str, str], ...] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Annotation:
    """The checked annotation of one image: its name and polygons, original pixels.

    labels: what messages call each polygon, as `word 0001` or `line 3`.
    declared_size: (height, width) in pixels that the annotation gives for the image, if it does.
    texts, classes: of each polygon, as in `Words`, if they were asked for and the format has them.
    digest: SHA-256 that the annotation gives for the image file, if it does.
    """

    name: str
    polygons: Polygons
    labels: tuple[str, ...] = ()
    declared_size: tuple[int, int] | None = None
    texts: Sequence[str | None] = ()
    classes: Sequence[str | None] = ()
    digest: bytes = b""


@dataclass(frozen=True)
class Note:
    """Something about one image or word that is no error and yet not as its author wrote it.

    kind: `repaired` (a self-crossing quad, its corners put in order), `self-crossing` (a polygon
    left as it is), `tiny` (an image all of whose polygons are under 2 pixels), `kept-as-ignore`
    (what is left of a bad polygon, now don't-care), `unlabelled` (a bad polygon with too little
    left, so that its image holds text that nothing marks).
    entry: which word, as in messages; empty for a whole image.
    """

    kind: str
    sample: str
    entry: str
    detail: str


@dataclass(frozen=True, eq=False)
class Reading:
    """All that was understood of an annotation file or folder.

    format, dialect: what it was read as; dialect is empty for a format that has none.
    annotations: ordered by name. What becomes of bad polygons and bad images `Rules` say.
    problems: all that is wrong. notes: all that is no error but worth saying.
    unannotated: names of images below the image folder that nothing annotates, in order.
    left_out: (path, reason) of entries of a folder that are known not to be annotations.
    warnings: one line each about the whole, such as how lines of an uncertain dialect were read.
    """

    format: str
    annotations: list[Annotation]
    problems: list[Problem]
    dialect: str = ""
    notes: tuple[Note, ...] = ()
    unannotated: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def within(self, source: str) -> Reading:
        """The same, names beginning with that of the source."""

        def named(name: str) -> str:
            return f"{source}/{name}" if name else ""

        def moved(problem: Problem) -> Problem:
            entry = problem.entry
            entry = named(entry) if problem.sample and entry.startswith(problem.sample) else entry
            return replace(problem, sample=named(problem.sample), entry=entry)

        return replace(
            self,
            annotations=[replace(each, name=named(each.name)) for each in self.annotations],
            problems=[moved(problem) for problem in self.problems],
            notes=tuple(replace(note, sample=named(note.sample)) for note in self.notes),
            unannotated=tuple(map(named, self.unannotated)),
            left_out=tuple((named(path), reason) for path, reason in self.left_out),
        )


def joined(readings: Sequence[Reading]) -> Reading:
    """Readings whose names differ as one; a format and a dialect are named where all have it."""
    formats = {(reading.format, reading.dialect) for reading in readings}
    names = sorted({reading.format for reading in readings})
    return Reading(
        format=" and ".join(names),
        annotations=sorted(
            (each for reading in readings for each in reading.annotations),
            key=lambda each: each.name,
        ),
        problems=[problem for reading in readings for problem in reading.problems],
        dialect=readings[0].dialect if len(formats) == 1 else "",
        notes=tuple(
            sorted(
                (note for reading in readings for note in reading.notes),
                key=lambda note: (note.sample, note.kind),
            )
        ),
        unannotated=tuple(sorted(name for r in readings for name in r.unannotated)),
        left_out=tuple(sorted(each for r in readings for each in r.left_out)),
        warnings=tuple(line for reading in readings for line in reading.warnings),
    )
