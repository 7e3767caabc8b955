"""MSRA-TD500 and HUST-TR400: a `.gt` file per image, a turned box per line of text.

A line has seven numbers: an index, whether the text is difficult, left, top, width and height of
the box before it is turned, and the angle in radians by which it is turned clockwise around its
middle.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box, turned
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import BadWord, Entry, Found, Words
from ocr_precompute.annotations.text_folders import (
    ImageText,
    finite_number,
    fitting_lines,
    line_label,
    read_texts,
)
from ocr_precompute.settings import Rules

_FORM = "a line is `index difficult x y width height angle`; correct or remove it"
_NUMBER = r"-?[0-9]++(?:\.[0-9]*+)?+(?:e-?[0-9]++)?+"
_PIXELS = r"(?:[2-9]|[1-9][0-9]++)(?:\.[0-9]*+)?+"  # a side; what is relative to the image is less
_LINE = re.compile(
    rf"\s*+[0-9]++\s++[01]\s++{_NUMBER}\s++{_NUMBER}\s++{_PIXELS}\s++{_PIXELS}\s++"
    rf"-?[0-3](?:\.[0-9]*+)?+(?:e-?[0-9]++)?+\s*+"
)


def _recognise(look: Look) -> Fit:
    return Fit.YES if fitting_lines(look, ".gt", _LINE) else Fit.NO


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    return read_texts(path, ".gt", images, _entry)


def _entry(found: ImageText) -> Entry:
    labels: list[str] = []
    words, bad = Words(labels, [], []), []
    for number, line in found.lines():
        try:
            points, ignored = _box(line)
        except ValueError as error:
            bad.append(BadWord(line_label(number), None, str(error)))
            continue
        labels.append(line_label(number))
        words.points.append(points)
        words.ignore.append(ignored)
    return Entry(str(found.path), found.image, words, bad, alone=True)


def _box(line: str) -> tuple[list[list[float]], bool]:
    """The corners of a line's box, and whether it is difficult. Raises ValueError if it is none."""
    fields = line.split()
    if len(fields) != 7:
        raise ValueError(f"has {len(fields)} fields, not 7; {_FORM}")
    numbers = []
    for field in fields:
        number = finite_number(field)
        if number is None:
            raise ValueError(f"{field[:40]!r} is no number; {_FORM}")
        numbers.append(number)
    _, difficult, left, top, width, height, angle = numbers
    if difficult not in (0, 1):
        raise ValueError(f"has {fields[1][:40]!r} where 0 or 1 says if it is difficult; {_FORM}")
    if width < 0 or height < 0:
        raise ValueError(f"has a negative width or height; {_FORM}")
    middle = (left + width / 2, top + height / 2)
    corners = box(left, top, left + width, top + height)
    return turned(corners, math.degrees(angle), middle), difficult == 1


FORMAT = AnnotationFormat(
    name="td500",
    summary="MSRA-TD500 and HUST-TR400: a folder of `.gt` files, one per image, or one of them; "
    "one turned box per line of text, its angle in radians",
    dont_care="a difficulty of 1",
    example="""\
0 0 10 10 80 20 -0.1
1 1 110 50 70 20 0.0""",
    recognise=_recognise,
    read=_read,
    aliases=("tr400",),
)
