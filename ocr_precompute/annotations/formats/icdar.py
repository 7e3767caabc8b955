"""Folders of ICDAR/SROIE text files, one file per image, one line per word.

`gt_img_1.txt`, `img_1.csv` and `img_1.jpg.txt` all belong to `img_1.jpg`. A folder has one dialect
(see `annotations.dialects`). The text may hold commas; the text `###` means don't care.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ocr_precompute.annotations.checks import too_many
from ocr_precompute.annotations.choice import TextFile, choose_dialect
from ocr_precompute.annotations.dialects import (
    DIALECTS,
    Shape,
    count_shapes,
    fits,
    header,
    is_dont_care,
    misfit,
    number_end,
    readable,
    shape,
    split_line,
    word_text,
)
from ocr_precompute.annotations.folders import (
    ImageNames,
    decode_text,
    read_bounded,
    text_files,
)
from ocr_precompute.annotations.formats import ctw1500
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import BadWord, Entry, FlatWords, Found, Words
from ocr_precompute.errors import Problem
from ocr_precompute.samples import Polygons
from ocr_precompute.settings import Rules

_SUFFIXES = (".csv", ".txt")
_LARGEST_FILE = 64 << 20  # bytes; a million words
_SHOWN = 3


def _recognise(look: Look) -> Fit:
    if not look.is_folder:
        return Fit.NO
    files = look.files(*_SUFFIXES)
    lines = [line for file in files for line in file.lines]
    shapes = [shape(line) for line in lines if not ctw1500.dialect_of(line)]  # of CTW1500
    fitting = sum(any(fits(dialect, each) for dialect in DIALECTS) for each in shapes)
    if 2 * fitting > len(lines):
        return Fit.YES
    return Fit.PERHAPS if files else Fit.NO


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    """One entry per text file, matched to the image of the same stem and folder.

    dialect: of all files; if empty, the one that the lines of all files together fit best.
    """
    if not path.is_dir():
        return Found([Problem("annotations", str(path), "", "must be a folder of text files")])
    names, left_out = text_files(path, set(_SUFFIXES))
    files: list[TextFile] = []
    problems: list[Problem] = []
    warnings: list[str] = []
    shapes: Counter[Shape] = Counter()
    hints: Counter[str] = Counter()
    alone: list[str] = []
    for name in names:
        image, reason = _image_of(name, images)
        if image is None and "/" in name:
            left_out.append((name, reason))
            alone.append(name)
        elif image is None:
            problems.append(Problem("image", str(path / name), "", reason, _stem(name)))
        else:
            found = _open(path / name, image, rules, shapes, hints)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                files.append(found)
    if alone:
        warnings.append(
            f"{path}: text files in sub-folders are left out, since no image of the same folder "
            f"fits them: {_some(alone)}"
        )
    if not dialect and ctw1500.FORMAT.recognise(Look(path)) == Fit.YES:
        warnings.append(f"{path}: lines are as those of CTW1500; say --format ctw1500 if they are")
    chosen = dialect or choose_dialect(path, files, shapes, hints, images, warnings)
    if isinstance(chosen, Problem):
        return Found([*problems, chosen], "", tuple(sorted(left_out)), tuple(warnings))
    entries: Iterator[Entry | Problem] = itertools.chain(
        problems, (_entry(f, chosen, bool(dialect), rules) for f in files)
    )
    return Found(entries, chosen, tuple(sorted(left_out)), tuple(warnings))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


# --------------------------------------------------------------------------------------- pairing


def _stem(name: str) -> str:
    folder, file = os.path.split(os.path.splitext(name)[0])
    return os.path.join(folder, file.removeprefix("gt_"))


def _image_of(name: str, images: ImageNames) -> tuple[str | None, str]:
    """The image that a text file belongs to, or None and why there is none."""
    folder, file = os.path.split(os.path.splitext(name)[0])
    stems = [file, file.removeprefix("gt_")]
    if file.endswith("_gt_ocr"):  # of BID
        stems.append(file.removesuffix("_gt_ocr") + "_in")
    if match := re.fullmatch(r"gt_(\d{1,4})", file, re.ASCII):  # of VinText
        stems.append(f"im{int(match[1]):04d}")
    for stem in stems:
        matches = images.of_stem(os.path.join(folder, stem))
        if len(matches) == 1:
            return matches[0], ""
        if matches:
            return None, f"fits several images: {', '.join(matches)}; keep one of them"
    wanted = _stem(name)
    return None, f"there is no image {wanted}.jpg, .png or the like; add it or remove this file"


# --------------------------------------------------------------------------------------- reading


def _open(
    path: Path, image: str, rules: Rules, shapes: Counter[Shape], hints: Counter[str]
) -> TextFile | Problem:
    """A file's text; counts its lines' shapes, and the dialect that a header names."""
    try:
        text = decode_text(read_bounded(path, _LARGEST_FILE))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; correct or remove it"
        return Problem("image", str(path), "", reason, image)
    except ValueError as error:
        return Problem("image", str(path), "", str(error), image)
    count = text.count("\n")
    if count > rules.max_polygons:  # looked at more closely only then
        count = sum(1 for line in text.split("\n") if line and not line.isspace())
    if count > rules.max_polygons:
        return too_many(str(path), image, count, rules)
    first, _, others = text.lstrip().partition("\n")
    hint = header(first)
    if hint is not None:
        hints[hint] += 1
    own = count_shapes(text if hint is None else others)
    shapes.update(own)
    return TextFile(path, image, text, frozenset(own), int(hint is not None))


@cache
def _label(number: int) -> str:
    return f"line {number}"


def _entry(file: TextFile, dialect: str, given: bool, rules: Rules) -> Entry:
    suits = readable if given else fits
    longest = 2 * rules.max_vertices if dialect == "polygon" else math.inf
    if all(suits(dialect, line) and line.numbers <= longest for line in file.shapes):
        return Entry(str(file.path), file.image, _flat_words(file, dialect), alone=True)
    labels: list[str] = []
    texts: list[str | None] = []
    words, bad = Words(labels, [], [], texts), []
    for number, line in file.lines():
        found = shape(line)
        points: Any
        if found.numbers > longest:  # read to be refused, in as little memory as can be
            points, text, ignored = _long_points(line), "", False
        else:
            reason = misfit(dialect, line, found, given)
            fields, text, difficult = split_line(dialect, line, found)
            points = _points(dialect, [_float(field) for field in fields])
            if reason:
                bad.append(BadWord(_label(number), points, reason))
                continue
            ignored = difficult or is_dont_care(text)
        labels.append(_label(number))
        texts.append(word_text(dialect, text) or None)
        words.points.append(points)
        words.ignore.append(ignored)
    return Entry(str(file.path), file.image, words, bad, alone=True)


def _flat_words(file: TextFile, dialect: str) -> FlatWords:
    """All words of a file whose lines all suit the dialect."""
    lines = file.lines()
    if dialect == "quad":  # what split_line gives, in half of the time
        fields = [line.split(",", 8) for _, line in lines]
        texts = [row.pop() if len(row) > 8 else "" for row in fields]
        ignore = list(map(is_dont_care, texts))
    else:
        split = [split_line(dialect, line) for _, line in lines]
        fields = [numbers for numbers, _, _ in split]
        texts = [text for _, text, _ in split]
        ignore = [difficult or is_dont_care(text) for _, text, difficult in split]
    counts = np.fromiter(map(len, fields), np.int64, len(fields))
    numbers = map(float, itertools.chain.from_iterable(fields))
    points = np.fromiter(numbers, np.float64, counts.sum()).reshape(-1, 2)
    lengths = counts // 2
    if dialect in ("ltrb", "xywh"):
        points = _corners(points.reshape(-1, 4), dialect).reshape(-1, 2)
        lengths *= 2
    labels = tuple([_label(number) for number, _ in lines])
    polygons = Polygons(points, lengths, np.array(ignore, bool))
    return FlatWords(labels, polygons, [word_text(dialect, text) or None for text in texts])


def _corners(boxes: np.ndarray, dialect: str) -> np.ndarray:
    """Rectangles (N, 4) as the dialect has them, as corners (N, 4, 2) from the top left on."""
    left, top, right, bottom = boxes.T
    if dialect == "xywh":
        right, bottom = left + right, top + bottom
    corners = [left, top, right, top, right, bottom, left, bottom]
    return np.stack(corners, axis=1).reshape(-1, 4, 2)


def _points(dialect: str, numbers: list[float]) -> list[list[float]]:
    if dialect in ("ltrb", "xywh") and len(numbers) == 4:
        corners: list[list[float]] = _corners(np.array([numbers]), dialect)[0].tolist()
        return corners
    return [numbers[i : i + 2] for i in range(0, len(numbers) - 1, 2)]


def _long_points(line: str) -> np.ndarray:
    numbers = np.fromstring(line[: number_end(line)], sep=",")
    return numbers[: len(numbers) // 2 * 2].reshape(-1, 2)


def _float(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return float("nan")


FORMAT = AnnotationFormat(
    name="icdar",
    summary="a folder of `.txt` or `.csv` files, one per image (`gt_img_1.txt`, `img_1.csv` or "
    "`img_1.jpg.txt` for `img_1.jpg`; sub-folders as those of the images), one line per word",
    dont_care="the text `###`, in quotes or not; of `rctw` also a difficulty that is not 0",
    example="""\
10,10,90,12,90,32,10,30,Ada
110,50,180,50,180,70,110,70,###""",
    recognise=_recognise,
    read=_read,
    dialects=DIALECTS,
)
