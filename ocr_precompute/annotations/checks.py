"""The checks that all annotations go through, whatever their format."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ocr_precompute.annotations.reading import Annotation, Entry, FlatWords, Note
from ocr_precompute.errors import Problem
from ocr_precompute.samples import Polygons
from ocr_precompute.settings import Rules

# Pixels. No image this tool accepts reaches so far; what lies beyond is a slip, not a polygon.
_FARTHEST = 1_000_000
_TOGETHER = 64  # images whose points are looked at in one go
_PLAIN_NAME = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")  # safe without a closer look


Checked = tuple[Annotation | None, list[Problem], list[Note]]
"""What comes of an entry: its annotation, what is wrong with it, what is worth saying."""


def is_plain(name: str) -> bool:
    """Whether a name needs no closer look: it is safe, and written in one way only."""
    return name.isascii() and _PLAIN_NAME.fullmatch(name) is not None


def unsafe(name: str) -> str:
    """Why an image name may not be used; empty if it may."""
    parts = PurePosixPath(name).parts
    if not parts or any(c < " " or c == "\x7f" for c in name):
        return "is not a usable file name; rename the image"
    if name.startswith("/") or ".." in parts or name[1:2] == ":":
        return "leaves the image folder; name images relative to --images, without '..'"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not a usable file name; rename the image"
    return ""


def check_entries(
    entries: Iterable[tuple[str, Entry]], rules: Rules, told: bool = False
) -> Iterator[Checked]:
    """For each entry its annotation, everything wrong with its words, and what became of those.

    entries: with the names of their images, checked and as they are on disk. told: keep what words
    say and what they are. The annotation is None if the image is to be left out.
    Datasets hold millions of words, and nearly all are good: one look at all points of many images
    takes a tenth of the time of a look at each word.
    """
    entries = iter(entries)
    while part := list(itertools.islice(entries, _TOGETHER)):
        whole = _all_good([entry for _, entry in part], rules)
        if whole is None and len(part) > 1:
            for each in part:
                yield from check_entries([each], rules, told)
        elif whole is None:
            yield _check_each(part[0][1], part[0][0], rules, told)
        else:
            for (name, entry), (polygons, labels) in zip(part, whole, strict=True):
                more = (entry.words.texts, entry.words.classes) if told else ((), ())
                size, digest = entry.declared_size, entry.digest
                yield Annotation(name, polygons, labels, size, *more, digest), [], []


def too_many(file: str, name: str, count: int, rules: Rules) -> Problem:
    """The problem with an image that has so many polygons."""
    reason = (
        f"has {count} polygons, more than the limit of {rules.max_polygons}; "
        "remove some, or raise max_polygons"
    )
    return Problem("image", file, name, reason, name)


def _all_good(
    entries: Sequence[Entry], rules: Rules
) -> list[tuple[Polygons, tuple[str, ...]]] | None:
    """The polygons and labels of all words of each entry; None if something may be wrong."""
    if any(entry.bad or len(entry) > rules.max_polygons for entry in entries):
        return None
    loose = [entry.words for entry in entries if not isinstance(entry.words, FlatWords)]
    flat = _flat(list(itertools.chain.from_iterable([words.points for words in loose])))
    if flat is None:
        return None
    ignore = itertools.chain.from_iterable([words.ignore for words in loose])
    together = Polygons(*flat, np.array(list(ignore), bool))
    parts = iter(together.cut([len(words.points) for words in loose]))
    found = [
        entry.words.polygons if isinstance(entry.words, FlatWords) else next(parts)
        for entry in entries
    ]
    everything = Polygons.joined(found) if len(loose) < len(entries) else together
    lengths = everything.lengths
    if len(lengths) and not 3 <= lengths.min() <= lengths.max() <= rules.max_vertices:
        return None
    if not (np.abs(everything.points) <= _FARTHEST).all():  # false for what is not finite, too
        return None
    return [
        (polygons, tuple(entry.words.labels))
        for polygons, entry in zip(found, entries, strict=True)
    ]


def _flat(words: list[Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Points and lengths of lists of [x, y] floats; None if they are not all that."""
    if not set(map(type, words)) <= {list}:
        return None
    lengths = list(map(len, words))
    pairs = list(itertools.chain.from_iterable(words))
    if not set(map(type, pairs)) <= {list}:
        return None
    numbers = list(itertools.chain.from_iterable(pairs))
    if not set(map(len, pairs)) <= {2} or not set(map(type, numbers)) <= {float}:
        return None
    return np.array(numbers, np.float64).reshape(-1, 2), np.array(lengths, np.int64)


def _check_each(entry: Entry, name: str, rules: Rules, told: bool) -> Checked:
    count = len(entry)
    if count > rules.max_polygons:
        return None, [too_many(entry.file, name, count, rules)], []
    words = entry.words.as_words() if isinstance(entry.words, FlatWords) else entry.words
    polygons: list[np.ndarray] = []
    ignore: list[bool] = []
    labels: list[str] = []
    kept: list[int] = []
    problems: list[Problem] = []
    notes: list[Note] = []
    for number, (label, points, ignored, reason) in enumerate(
        itertools.chain(
            zip(words.labels, words.points, words.ignore, itertools.repeat("")),
            ((bad.label, bad.points, True, bad.reason) for bad in entry.bad),
        )
    ):
        try:
            if reason:
                raise ValueError(reason)
            polygon = _check_points(points, rules.max_vertices)
        except ValueError as error:
            at = f"{entry.place} {label}" if entry.place else label
            where = at if entry.alone else f"{name}: {at}"
            problem = Problem("polygon", entry.file, where, str(error), name)
            problems += [problem] if problem not in problems[-1:] else []  # a key twice: once
            if rules.skip_bad != "polygon":
                continue
            remains, ignored = _remains(points, rules.max_vertices), True
            notes.append(_note(name, label, remains is not None))
            if remains is None:
                continue
            polygon = remains
        polygons.append(polygon)
        ignore.append(ignored)
        labels.append(label)
        kept.append(number)
    if problems and rules.skip_bad == "image":
        return None, [_left_out(problems)], []
    joined = Polygons.from_list(polygons, ignore)
    more = (_those(words.texts, kept), _those(words.classes, kept)) if told else ((), ())
    found = Annotation(name, joined, tuple(labels), entry.declared_size, *more, entry.digest)
    return found, problems, notes


def _those(column: Sequence[str | None], kept: list[int]) -> Sequence[str | None]:
    """Of a column the entries of those numbers; None of bad words, which come after the others."""
    return [column[n] if n < len(column) else None for n in kept] if column else ()


def _note(name: str, label: str, kept: bool) -> Note:
    if kept:
        return Note("kept-as-ignore", name, label, "is bad; what is left of it is don't care")
    detail = "is bad and too little is left of it: the image holds text that nothing marks"
    return Note("unlabelled", name, label, detail)


def _left_out(problems: list[Problem]) -> Problem:
    """One problem for an image that is left out for its polygons."""
    first = problems[0]
    more = f" (and {len(problems) - 1} more bad polygons)" if len(problems) > 1 else ""
    return Problem("image", first.file, first.entry, first.message + more, first.sample)


def _check_points(points: Any, max_vertices: int) -> np.ndarray:
    """Points as float64 (V, 2); raises ValueError saying what is wrong with them."""
    if points is None:
        raise ValueError("has no points; add or remove it")
    if isinstance(points, list | np.ndarray) and len(points) > max_vertices:
        raise ValueError(
            f"has {len(points)} points, more than the limit of {max_vertices}; "
            "correct it, or raise max_vertices"
        )
    try:
        array = np.array(points)
    except (ValueError, OverflowError):
        raise ValueError("points are not a list of [x, y] pairs; correct or remove it") from None
    if array.size and array.dtype.kind not in "iuf":
        raise ValueError("points are not all numbers; correct or remove it")
    if array.size == 0 or array.ndim != 2 or array.shape[1] != 2:
        raise ValueError("points are not a list of [x, y] pairs; correct or remove it")
    if len(array) < 3:
        raise ValueError(f"has {len(array)} points; a polygon needs at least 3")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError("has a coordinate that is not finite (NaN or infinity); correct it")
    if np.abs(array).max() > _FARTHEST:
        raise ValueError(f"has a coordinate beyond {_FARTHEST} pixels; correct it")
    return array


def _remains(points: Any, max_vertices: int) -> np.ndarray | None:
    """The good points of a bad polygon, or None if there are fewer than three.

    Of more than max_vertices the box around them.
    """
    if isinstance(points, np.ndarray):
        good = points[(np.abs(points) <= _FARTHEST).all(axis=1)]
    else:
        good = np.array([point for point in _listed(points) if _is_point(point)], np.float64)
    if len(good) < 3:
        return None
    if len(good) > max_vertices:
        (left, top), (right, bottom) = good.min(axis=0), good.max(axis=0)
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return good


def _listed(points: Any) -> Iterable[Any]:
    return points if isinstance(points, list) else ()


def _is_point(point: Any) -> bool:
    return (
        isinstance(point, list)
        and len(point) == 2
        and all(type(n) in (int, float) and math.isfinite(n) for n in point)
        and max(map(abs, point)) <= _FARTHEST
    )
