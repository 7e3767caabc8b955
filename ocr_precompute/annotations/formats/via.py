"""VIA, the VGG Image Annotator, versions 1 and 2: JSON of all images, a project, or a table (CSV).

Regions are a list in version 2 and an object in version 1. What a region says and is stands in
attributes that users name as they like.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames, text_lines
from ocr_precompute.annotations.gathering import Gathered
from ocr_precompute.annotations.json_files import decoded, members
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box, circle, numbers, turned
from ocr_precompute.annotations.pairing import image_at
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found
from ocr_precompute.errors import InputError, Problem, one_line
from ocr_precompute.settings import Rules

_PROJECT = "_via_img_metadata"
_THIRD = {"project", "config", "attribute"}  # how a project of version 3 begins
_NAME, _SHAPE, _ATTRIBUTES = "filename", "region_shape_attributes", "region_attributes"
_TEXTS = ("text", "transcription")
_CLASSES = ("class", "label", "type", "category", "name")
_TRUE = (True, "true", "True", "1", "yes")


def _recognise(look: Look) -> Fit:
    if look.is_folder:
        return Fit.NO
    if not isinstance(look.json, dict):
        fields = (look.lines or ("",))[0].split(",")
        return Fit.YES if fields[0].strip("# ") == _NAME and _SHAPE in fields else Fit.NO
    if {_PROJECT, "_via_settings"} & look.json.keys() or look.json.keys() >= _THIRD:
        return Fit.YES
    first = next(iter(look.json.values()), None)
    keys = set(first) if isinstance(first, dict) else set()
    return Fit.YES if _NAME in keys and {"regions", "fileref"} & keys else Fit.NO


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    warnings: list[str] = []
    is_json = Look(path).text.lstrip()[:1] in ("{", "[")
    return Found(_entries(path, images, is_json, warnings), warnings=warnings)


def _entries(
    path: Path, images: ImageNames, is_json: bool, warnings: list[str]
) -> Iterator[Entry | Problem]:
    skipped: Counter[str] = Counter()
    yield from (_of_document if is_json else _of_table)(path, images, skipped)
    if skipped:
        warnings.append(f"{path}: {skipped['point']} points are no areas and are left out")


# ------------------------------------------------------------------------------------------- JSON


def _of_document(
    path: Path, images: ImageNames, skipped: Counter[str]
) -> Iterator[Entry | Problem]:
    for section, key, value in members(path, (_PROJECT,)):
        if isinstance(section, int):
            reason = "is a list, where VIA writes an object; it is not of this format"
            yield Problem("annotations", str(path), "", reason)
            return
        known = isinstance(value, dict) and _NAME in value
        if section == _PROJECT:
            if key is not None:
                yield _image(path, str(key), value, images, skipped)
        elif section == "project" and not known:
            reason = (
                "is a project of VIA 3, which is another form; annotate with VIA 2, or convert it "
                "to a form that `ocr-precompute formats` lists"
            )
            yield Problem("annotations", str(path), "", reason)
            return
        elif known or not section.startswith("_via_"):
            yield _image(path, section, value, images, skipped)


def _image(
    path: Path, key: str, image: Any, images: ImageNames, skipped: Counter[str]
) -> Entry | Problem:
    name = image.get(_NAME) if isinstance(image, dict) else None
    regions = image.get("regions") if isinstance(image, dict) else None
    if not isinstance(name, str) or not name or not isinstance(regions, list | dict):
        reason = 'must have a "filename" and "regions"; correct or remove it'
        sample = image_at(name, images) if isinstance(name, str) else ""
        return Problem("image", str(path), key, reason, sample)
    words = Gathered()
    for number, region in regions.items() if isinstance(regions, dict) else enumerate(regions):
        known = region if isinstance(region, dict) else {}
        label = f"region {str(number)[:40]}"
        _gather(label, known.get("shape_attributes"), known.get(_ATTRIBUTES), words, skipped)
    return Entry(str(path), image_at(name, images), words.words, words.bad)


# ------------------------------------------------------------------------------------------ table


def _of_table(path: Path, images: ImageNames, skipped: Counter[str]) -> Iterator[Entry | Problem]:
    rows = _rows(path)
    header = [field.strip("# ") for field in next(rows, (0, [""]))[1]]
    if not {_NAME, _SHAPE, _ATTRIBUTES} <= set(header):
        reason = f"has not the columns {_NAME}, {_SHAPE} and {_ATTRIBUTES}; export it again"
        yield Problem("annotations", str(path), "line 1", reason)
        return
    name, *columns = (header.index(each) for each in (_NAME, _SHAPE, _ATTRIBUTES))
    seen: set[str] = set()
    odd: list[int] = []
    whole = _whole(rows, len(header), odd)
    for named, group in itertools.groupby(whole, key=lambda row: row[1][name]):
        if named in seen or not named:
            again = "has rows in several places; sort them by filename"
            reason = again if named else "has no filename; correct or remove it"
            place = f"line {next(group)[0]}: {named}"
            yield Problem("image", str(path), place, reason, image_at(named, images))
            continue
        seen.add(named)
        words = Gathered()
        for number, row in group:
            _gather_row(f"line {number}", itemgetter(*columns)(row), words, skipped)
        yield Entry(str(path), image_at(named, images), words.words, words.bad)
    for number in odd:
        reason = f"has not {len(header)} fields as the first line has; correct or remove it"
        yield Problem("annotations", str(path), f"line {number}", reason)


def _whole(
    rows: Iterator[tuple[int, list[str]]], count: int, odd: list[int]
) -> Iterator[tuple[int, list[str]]]:
    """Those of so many fields; the lines of others go to odd."""
    for number, row in rows:
        if len(row) == count:
            yield number, row
        else:
            odd.append(number)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table, with the numbers of their lines. Raises InputError for what is none."""
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number
        for at, line in text_lines(path):
            number = at
            yield line

    try:
        for row in csv.reader(lines(), strict=True):
            yield number, row
    except csv.Error as error:
        reason = f"is no row of a table: {one_line(error)}; correct or remove it"
        raise InputError([Problem("annotations", str(path), f"line {number}", reason)]) from None


def _gather_row(label: str, fields: Sequence[str], words: Gathered, skipped: Counter[str]) -> None:
    try:
        shape, attributes = map(decoded, fields)
    except ValueError as error:
        words.fail(label, f"its attributes are no JSON: {one_line(error)}; correct or remove it")
        return
    if shape != {}:  # so is that of an image without regions
        _gather(label, shape, attributes, words, skipped)


# ---------------------------------------------------------------------------------------- regions


def _gather(
    label: str, shape: Any, attributes: Any, words: Gathered, skipped: Counter[str]
) -> None:
    kind = shape.get("name") if isinstance(shape, dict) else None
    if kind == "point":
        skipped["point"] += 1
        return
    said = attributes if isinstance(attributes, dict) else {}
    text, of_class = (
        next((said[key] for key in keys if isinstance(said.get(key), str)), None)
        for keys in (_TEXTS, _CLASSES)
    )
    try:
        words.add(label, _outline(kind, shape), _is_ignored(said), text, of_class)
    except ValueError as error:
        words.fail(label, error, of_class=of_class)


def _outline(kind: Any, shape: Any) -> list[list[float]]:
    """The points of a shape. Raises ValueError if it is no area."""
    if kind == "rect":
        left, top, width, height = _of(shape, "x", "y", "width", "height")
        return box(left, top, left + width, top + height)
    if kind in ("polygon", "polyline"):
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        count = len(xs) if isinstance(xs, list) else 0
        both = numbers(xs, count, "all_points_x"), numbers(ys, count, "all_points_y")
        points = [list(point) for point in zip(*both, strict=True)]
        return points[:-1] if len(points) > 3 and points[0] == points[-1] else points
    if kind == "circle":
        x, y, radius = _of(shape, "cx", "cy", "r")
        return circle((x, y), (x + radius, y))
    if kind == "ellipse":
        x, y, across, down = _of(shape, "cx", "cy", "rx", "ry")
        (theta,) = numbers([shape.get("theta", 0.0)], 1, "theta")
        if not math.isfinite(theta):
            raise ValueError("theta is not finite; correct or remove it")
        around = [[x + across * i, y + down * j] for i, j in circle((0, 0), (1, 0))]
        return turned(around, math.degrees(theta), (x, y))
    known = "rect, polygon, polyline, circle or ellipse"
    raise ValueError(f"is of shape {str(kind)[:40]!r}, not {known}; correct or remove it")


def _of(shape: dict[str, Any], *keys: str) -> list[float]:
    return numbers([shape.get(key) for key in keys], len(keys), ", ".join(keys))


def _is_ignored(attributes: dict[str, Any]) -> bool:
    flag = attributes.get("ignore")
    chosen = [value for value in attributes.values() if isinstance(value, dict)]  # check boxes
    return (
        flag in _TRUE
        or (isinstance(flag, dict) and any(value in _TRUE for value in flag.values()))
        or any(boxes.get("ignore") in _TRUE for boxes in chosen)
        or any(isinstance(value, str) and is_dont_care(value) for value in attributes.values())
    )


FORMAT = AnnotationFormat(
    name="via",
    summary="VIA (VGG Image Annotator) 1 and 2: the annotations of all images as JSON or CSV, or a "
    "project; rectangles, polygons, polylines, circles and ellipses",
    dont_care="the text `###` in any attribute, an attribute `ignore` that is true or ticked",
    example="""\
{"a.jpg12345": {"filename": "a.jpg", "size": 12345, "file_attributes": {}, "regions": [
  {"shape_attributes": {"name": "polygon", "all_points_x": [10, 90, 90, 10],
                        "all_points_y": [10, 12, 32, 30]},
   "region_attributes": {"text": "Ada"}},
  {"shape_attributes": {"name": "rect", "x": 110, "y": 50, "width": 70, "height": 20},
   "region_attributes": {"text": "###"}}]}}""",
    recognise=_recognise,
    read=_read,
    aliases=("vgg",),
)
