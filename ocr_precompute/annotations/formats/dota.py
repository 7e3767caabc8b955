"""DOTA's `labelTxt`, also what Roboflow calls OBB: a text file per image, one quad in each line.

Two lines with the image's source and resolution may stand first.
"""

from __future__ import annotations

import re
from pathlib import Path

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.looking import Fit, Look
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

_FORM = "a line is `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`; correct or remove it"
_HEADER = re.compile(r"\s*+(?:imagesource|gsd):", re.IGNORECASE)
_NUMBER = r"-?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:e[-+]?[0-9]++)?+"
_LINE = re.compile(
    rf"\s*+(?:{_NUMBER}\s++){{8}}(?!{_NUMBER}(?:\s|$))[^\s,\"\[\{{]++(?:\s++[012])?+\s*+",
    re.IGNORECASE,
)


def _recognise(look: Look) -> Fit:
    return Fit.YES if fitting_lines(look, ".txt", _LINE, _HEADER) else Fit.NO


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    return read_texts(path, ".txt", images, _entry)


def _entry(found: ImageText) -> Entry:
    labels: list[str] = []
    classes: list[str | None] = []
    words, bad = Words(labels, [], [], classes=classes), []
    for number, line in found.lines():
        if _HEADER.match(line):
            continue
        fields = line.split()
        points = _points(fields)
        if reason := _misfit(fields, points):
            bad.append(BadWord(line_label(number), points, reason))
            continue
        labels.append(line_label(number))
        words.points.append(points)
        words.ignore.append(fields[9:] not in ([], ["0"]) or is_dont_care(fields[8]))
        classes.append(fields[8])
    return Entry(str(found.path), found.image, words, bad, alone=True)


def _points(fields: list[str]) -> list[list[float]] | None:
    """The corners that the first eight fields are; None if they are none."""
    numbers = [number for each in fields[:8] if (number := finite_number(each)) is not None]
    if len(numbers) < 8:
        return None
    return [numbers[i : i + 2] for i in range(0, 8, 2)]


def _misfit(fields: list[str], points: list[list[float]] | None) -> str:
    """What is wrong with the fields of a line; empty if nothing is."""
    if not 9 <= len(fields) <= 10:
        return f"has {len(fields)} fields, not 9 or 10; {_FORM}"
    if points is None:
        wrong = next(each for each in fields[:8] if finite_number(each) is None)
        return f"{wrong[:40]!r} is no number; {_FORM}"
    if fields[9:] and fields[9] not in ("0", "1", "2"):
        return f"has {fields[9][:40]!r} where 0, 1 or 2 says how difficult it is; {_FORM}"
    return ""


FORMAT = AnnotationFormat(
    name="dota",
    summary="DOTA's `labelTxt`, which Roboflow calls YOLOv5 OBB: a folder of `.txt` files, one per "
    "image, or one of them; one quad in pixels and its class per line; every class is text",
    dont_care="a difficulty that is not 0, the class `###`",
    example="""\
imagesource:GoogleEarth
gsd:0.1
10 10 90 12 90 32 10 30 text 0
110.0 50.0 180.0 50.0 180.0 70.0 110.0 70.0 text 1""",
    recognise=_recognise,
    read=_read,
    aliases=("labeltxt", "yolov5-obb"),
)
