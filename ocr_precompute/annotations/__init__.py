"""Annotation formats: one module each, found by being in this package.

A format module has

- `recognises(path) -> bool`: whether the file or folder at path looks like this format;
- `read(path, images) -> Iterator[Entry | Problem]`: its images in any order, with raw points.

Points are checked here, once for all formats; a format reports only what it cannot parse.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import pkgutil
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from ocr_precompute.errors import InputError, Problem
from ocr_precompute.samples import Polygons

# Pixels. No image this tool accepts reaches so far; what lies beyond is a slip, not a polygon.
_FARTHEST = 1_000_000
_PLAIN_NAME = re.compile(r"\w[\w.-]*")  # safe without a closer look


@dataclass(frozen=True)
class Entry:
    """One annotated image as a format reads it.

    file: the annotation file, for messages. name: image file, relative to the image folder.
    words: (label for messages, points as found, ignore) of each polygon.
    """

    file: str
    name: str
    words: list[tuple[str, Any, bool]]


class AnnotationFormat(Protocol):
    """What a format module offers."""

    __name__: str

    def recognises(self, path: Path) -> bool:
        """Whether the file or folder at path looks like this format."""

    def read(self, path: Path, images: Path) -> Iterator[Entry | Problem]:
        """The images annotated at path; images is the folder that names are relative to."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """The checked annotation of one image: its name and polygons, original pixels.

    declared_size: (height, width) in pixels that the annotation gives for the image, if it does.
    """

    name: str
    polygons: Polygons
    declared_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Note:
    """Something about one image or word that is no error and yet not as its author wrote it.

    kind: what, as a fixed word such as `repaired`; see `read_annotations`. entry: which word, as in
    messages; empty for a whole image.
    """

    kind: str
    sample: str
    entry: str
    detail: str


@dataclass(frozen=True, eq=False)
class Reading:
    """All that was understood of an annotation file or folder.

    format, dialect: what it was read as; dialect is empty for a format that has none.
    annotations: ordered by name, a bad polygon left out of its image and a bad image left out.
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


def format_names() -> list[str]:
    """Every annotation format there is, by its module's name."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def read_annotations(path: Path, images: Path, format_name: str = "auto") -> Reading:
    """All annotated images, and everything wrong with them or worth saying.

    path: annotation file or folder. images: folder that image names are relative to.
    Raises InputError if there is nothing at path, or no format fits.
    """
    module = _format(path, format_name)
    found: dict[str, Annotation] = {}
    problems: list[Problem] = []
    with _no_collector():
        for entry in module.read(path, images):
            if isinstance(entry, Problem):
                problems.append(entry)
            elif (reason := _unsafe(entry.name)) or entry.name in found:
                reason = reason or "is annotated twice; keep one of the entries"
                problems.append(Problem("image", entry.file, entry.name, reason, entry.name))
            else:
                polygons, bad = _check_words(entry)
                found[entry.name] = Annotation(entry.name, polygons)
                problems += bad
    return Reading(
        module.__name__.rpartition(".")[2], [found[name] for name in sorted(found)], problems
    )


@contextmanager
def _no_collector() -> Iterator[None]:
    """Keep the garbage collector from looking for cycles in what was parsed: there are none.

    It would look at every list again and again while they pile up, for four fifths of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _format(path: Path, name: str) -> AnnotationFormat:
    if not path.exists():
        reason = "there is no such annotation file or folder; correct the path"
        raise InputError([Problem("annotations", str(path), "", reason)])
    known = format_names()
    if name != "auto" and name not in known:
        reason = f"format {name!r} is unknown; one of auto, {', '.join(known)}"
        raise InputError([Problem("annotations", str(path), "", reason)])
    for candidate in known if name == "auto" else [name]:
        module: AnnotationFormat = importlib.import_module(f"{__name__}.{candidate}")
        if name != "auto" or module.recognises(path):
            return module
    reason = f"is in no known annotation format; say which with --format ({', '.join(known)})"
    raise InputError([Problem("annotations", str(path), "", reason)])


def _unsafe(name: str) -> str:
    """Why an image name may not be used; empty if it may."""
    if _PLAIN_NAME.fullmatch(name):
        return ""
    parts = PurePosixPath(name).parts
    if not parts or any(c < " " or c == "\x7f" for c in name):
        return "is not a usable file name; rename the image"
    if name.startswith("/") or ".." in parts or "\\" in name or name[1:2] == ":":
        return "leaves the image folder; name images relative to --images, without '..'"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not a usable file name; rename the image"
    return ""


def _check_words(entry: Entry) -> tuple[Polygons, list[Problem]]:
    """The entry's polygons, and everything wrong with its words."""
    whole = _all_good([points for _, points, _ in entry.words])
    if whole is not None:
        points, lengths = whole
        ignore = np.array([ignored for _, _, ignored in entry.words], bool)
        return Polygons(points, lengths, ignore), []
    polygons: list[np.ndarray] = []
    kept: list[bool] = []
    problems: list[Problem] = []
    for label, points, ignored in entry.words:
        try:
            polygons.append(_check_points(points))
            kept.append(ignored)
        except ValueError as error:
            where = f"{entry.name}: {label}" if label.startswith("word") else label
            problems.append(Problem("polygon", entry.file, where, str(error), entry.name))
    return Polygons.from_list(polygons, kept), problems


def _all_good(words: list[Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Points and lengths of all words, checked together, or None if something may be wrong.

    Datasets hold millions of words, and nearly all are good: one look at all of an image's points
    takes a tenth of the time of a look at each word.
    """
    if not set(map(type, words)) <= {list}:
        return None
    lengths = list(map(len, words))
    pairs = list(itertools.chain.from_iterable(words))
    if min(lengths, default=3) < 3 or not set(map(type, pairs)) <= {list}:
        return None
    numbers = list(itertools.chain.from_iterable(pairs))
    if not set(map(len, pairs)) <= {2} or not set(map(type, numbers)) <= {float}:
        return None
    array = np.array(numbers, np.float64).reshape(-1, 2)
    if not (np.abs(array) <= _FARTHEST).all():  # false for what is not finite, too
        return None
    return array, np.array(lengths, np.int64)


def _check_points(points: Any) -> np.ndarray:
    """Points as float64 (V, 2); raises ValueError saying what is wrong with them."""
    if points is None:
        raise ValueError("has no points; add or remove it")
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
