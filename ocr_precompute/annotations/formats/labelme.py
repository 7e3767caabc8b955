"""LabelMe: one JSON file per image, with shapes that have a label."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames, text_files
from ocr_precompute.annotations.json_files import document
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box, circle, numbers
from ocr_precompute.annotations.pairing import image_of
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import BadWord, Entry, Found, Words, declared_size
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.settings import Rules

_LARGEST_FILE = 256 << 20  # bytes; it may hold its image
_AREAS = ("polygon", "oriented_rectangle", "rotation", "quadrilateral")


def _recognise(look: Look) -> Fit:
    files = look.files(".json")
    fitting = sum(_has_shapes(file.json) for file in files)
    return Fit.YES if 2 * fitting > len(files) else Fit.NO


def _has_shapes(value: Any) -> bool:
    shapes = value.get("shapes") if isinstance(value, dict) else None
    if not isinstance(shapes, list):
        return isinstance(value, dict) and {"imagePath", "imageData"} <= set(value)
    return not shapes or (isinstance(shapes[0], dict) and "label" in shapes[0])


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    if not path.is_dir():
        return Found(_entries(path.parent, [path.name], images))
    names, left_out = text_files(path, {".json"})
    return Found(_entries(path, names, images), left_out=tuple(left_out))


def _entries(folder: Path, names: list[str], images: ImageNames) -> Iterator[Entry | Problem]:
    for name in names:
        stem = os.path.splitext(name)[0]
        try:
            yield _entry(folder / name, stem, images)
        except InputError as error:
            yield from error.problems


def _entry(path: Path, stem: str, images: ImageNames) -> Entry | Problem:
    """What a file holds. Raises InputError if it is no JSON."""
    file = str(path)
    found = document(path, _LARGEST_FILE, stem)
    shapes = found.get("shapes") if isinstance(found, dict) else None
    if not isinstance(shapes, list):
        return Problem("image", file, "", 'has no list "shapes"; correct or remove it', stem)
    declared = found.get("imagePath")
    name, reason = image_of(stem, declared if isinstance(declared, str) else "", images)
    if reason:
        return Problem("image", file, "", reason, stem)
    labels: list[str] = []
    columns: tuple[list[str | None], list[str | None]] = [], []
    words, bad = Words(labels, [], [], *columns), []
    for number, shape in enumerate(shapes, 1):
        label = f"shape {number}"
        try:
            points, ignored = _outline(shape), _is_ignored(shape)
        except ValueError as error:
            known = shape if isinstance(shape, dict) else {}
            bad.append(BadWord(label, known.get("points"), str(error), _text(known, "label")))
            continue
        labels.append(label)
        for column, key in zip(columns, ("description", "label"), strict=True):
            column.append(_text(shape, key))
        words.points.append(points)
        words.ignore.append(ignored)
    size = declared_size(found.get("imageHeight"), found.get("imageWidth"))
    return Entry(file, name, words, bad, size, alone=True)


def _outline(shape: Any) -> Any:
    """A shape's points. Raises ValueError if it is no area."""
    if not isinstance(shape, dict):
        raise ValueError("is no object; correct or remove it")
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if kind in _AREAS or (kind == "rectangle" and isinstance(points, list) and len(points) == 4):
        return points
    if kind in ("rectangle", "circle"):
        if not isinstance(points, list) or len(points) != 2:
            raise ValueError(f"is a {kind} that has not 2 points; correct or remove it")
        one, other = (numbers(point, 2, "a point") for point in points)
        return box(*one, *other) if kind == "rectangle" else circle(one, other)
    raise ValueError(
        f"is of type {str(kind)[:40]!r}, which is no area; make it a polygon, or remove it"
    )


def _text(shape: dict[str, Any], key: str) -> str | None:
    return shape[key] if isinstance(shape.get(key), str) else None


def _is_ignored(shape: dict[str, Any]) -> bool:
    label, flags = shape.get("label"), shape.get("flags")
    texts = [text for text in (label, shape.get("description")) if isinstance(text, str)]
    named = isinstance(label, str) and label.strip().lower() == "ignore"
    flagged = isinstance(flags, dict) and flags.get("ignore") is True
    return named or flagged or any(map(is_dont_care, texts))


FORMAT = AnnotationFormat(
    name="labelme",
    summary="LabelMe: a folder of JSON files, one per image, or one of them; rectangles, polygons "
    "and circles",
    dont_care="the label `###` or `ignore`, a flag `ignore`, the description `###`",
    example="""\
{"version": "5.4.1", "flags": {}, "shapes": [
  {"label": "text", "points": [[10, 10], [90, 30]], "shape_type": "rectangle", "flags": {}}],
 "imagePath": "a.jpg", "imageData": null, "imageHeight": 100, "imageWidth": 200}""",
    recognise=_recognise,
    read=_read,
)
