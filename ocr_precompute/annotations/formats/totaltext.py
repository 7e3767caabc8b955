"""Total-Text's text files: one per image, a record per word, which may wrap over lines.

`poly_gt_img1.txt` belongs to `img1.jpg`. Texts are written as Python writes them: `u'Ada'`. Its
MATLAB files are for `scripts/matlab_to_words.py`.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from ocr_precompute.annotations.checks import too_many
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import BadWord, Entry, Found, Words
from ocr_precompute.annotations.text_folders import (
    ImageText,
    finite_number,
    line_label,
    read_texts,
)
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_PREFIXES = ("poly_gt_", "gt_")
_FORM = (
    "a record is `x: [[...]], y: [[...]], ornt: [u'c'], transcriptions: [u'...']`; "
    "correct or remove it"
)
_START = re.compile(r"^[ \t]*+x:\s*+\[\[", re.MULTILINE)
_TEXT = r"""[uUbB]?+(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")"""
_TEXTS = rf"\[(\s*+(?:{_TEXT}[\s,]*+)*+)\]"
_RECORD = re.compile(
    r"\s*+x:\s*+\[\[([^\[\]]*+)\]\]\s*+,\s*+y:\s*+\[\[([^\[\]]*+)\]\]\s*+,\s*+"
    rf"ornt:\s*+{_TEXTS}\s*+,\s*+transcriptions:\s*+{_TEXTS}\s*+",
    re.DOTALL,
)
_one_text = re.compile(_TEXT, re.DOTALL).findall
_DONT_CARE = ("#", "###")


def _recognise(look: Look) -> Fit:
    files = [file for file in look.files(".txt") if file.lines]
    return Fit.YES if 2 * sum(map(_begins_so, files)) > len(files) else Fit.NO


def _begins_so(file: Look) -> bool:
    return _START.match(file.lines[0]) is not None


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    def entry(found: ImageText) -> Entry | Problem:
        return _entry(found, rules)

    return read_texts(path, ".txt", images, entry, _PREFIXES)


def _entry(found: ImageText, rules: Rules) -> Entry | Problem:
    file = str(found.path)
    count = sum(1 for _ in _START.finditer(found.text))
    if count > rules.max_polygons:
        return too_many(file, found.image, count, rules)
    labels: list[str] = []
    texts: list[str | None] = []
    words, bad = Words(labels, [], [], texts), []
    for number, record in _records(found.text):
        parts = _RECORD.fullmatch(record)
        x, y = (parts[1].split(), parts[2].split()) if parts else ([], [])
        points = _points(x, y)
        if parts is None or points is None or len(x) != len(y):
            reason = "is no record of a word" if parts is None else f"has {len(x)} x and {len(y)} y"
            if points is None:
                reason = "has a coordinate that is no number"
            bad.append(BadWord(line_label(number), points, f"{reason}; {_FORM}"))
            continue
        orientation, text = _said(parts[3]), _said(parts[4])
        labels.append(line_label(number))
        words.points.append(points)
        words.ignore.append(orientation in _DONT_CARE or text in _DONT_CARE)
        texts.append(text)
    return Entry(file, found.image, words, bad, alone=True)


def _records(text: str) -> Iterator[tuple[int, str]]:
    """Each record with the number of its first line; what stands before the first is one too."""
    starts = [match.start() for match in _START.finditer(text)]
    line, at = 1, 0
    for start, end in zip([0, *starts], [*starts, len(text)], strict=True):
        line += text.count("\n", at, start)
        at = start
        record = text[start:end]
        if not record.isspace() and record:
            blank = len(record) - len(record.lstrip())
            yield line + record.count("\n", 0, blank), record


def _points(x: list[str], y: list[str]) -> list[list[float]] | None:
    """The points of as many x as y; None if one is no number."""
    points = []
    for pair in zip(x, y, strict=False):
        across, down = map(finite_number, pair)
        if across is None or down is None:
            return None
        points.append([across, down])
    return points


def _said(written: str) -> str | None:
    """What the texts of a list say, which are seldom more than one; None if there is none."""
    texts = [_unescaped(each.lstrip("uUbB")) for each in _one_text(written)]
    return " ".join(texts) if texts else None


def _unescaped(quoted: str) -> str:
    """What a text in quotes says; as it is written if its escapes are none."""
    if "\\" not in quoted:
        return quoted[1:-1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that are none
            return str(ast.literal_eval(quoted)).encode().decode()  # no half of a pair
    except (ValueError, SyntaxError):
        return quoted[1:-1]


FORMAT = AnnotationFormat(
    name="totaltext",
    summary="Total-Text's text files: a folder of `poly_gt_img1.txt` for `img1.jpg`, or one "
    "of them; one record per word, which may wrap over lines; polygons",
    dont_care="the orientation or the transcription `#`",
    example="""\
x: [[10 90 90 10]], y: [[10 12 32 30]], ornt: [u'h'], transcriptions: [u'Ada']
x: [[110 180
 180 110]], y: [[50 50 70 70]], ornt: [u'#'], transcriptions: [u'#']""",
    recognise=_recognise,
    read=_read,
    aliases=("total-text",),
)
