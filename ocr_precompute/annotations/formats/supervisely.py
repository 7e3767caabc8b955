"""Supervisely: one JSON file per image, `ann/a.jpg.json` of `img/a.jpg`, of objects of a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Word, gather, listed, text_of
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box, numbers
from ocr_precompute.annotations.per_image import fit_each, read_each
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, declared_size
from ocr_precompute.errors import one_line
from ocr_precompute.settings import Rules

_BESIDE = ("meta.json", "obj_class_to_machine_color.json")
_TEXTS = ("text", "transcription", "caption")
_IGNORE = "ignore"


def _is_image(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("size"), dict):
        return False
    return isinstance(value.get("objects"), list)


def _recognise(look: Look) -> Fit:
    return fit_each(look, _is_image, _BESIDE)


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    return read_each(path, images, _entry, ("ann", "img"), _BESIDE)


def _entry(file: str, name: str, image: Any) -> Entry:
    if not isinstance(image, dict) or "objects" not in image:
        raise ValueError('has no list "objects"; correct or remove it')
    objects = listed(image["objects"], 'its "objects"')
    labelled = [(f"object {number}", each) for number, each in enumerate(objects, 1)]
    words, bad = gather(labelled, _word, "classTitle")
    size = image.get("size")
    sides = [size.get("height"), size.get("width")] if isinstance(size, dict) else [None, None]
    return Entry(file, name, words, bad, declared_size(*sides), alone=True)


def _word(each: dict[str, Any]) -> Word:
    geometry, points = each.get("geometryType"), each.get("points")
    outline = points.get("exterior") if isinstance(points, dict) else None
    if geometry == "rectangle":
        corners = listed(outline, "its exterior")
        if len(corners) != 2:
            raise ValueError("is a rectangle that has not 2 points; correct or remove it")
        one, other = (numbers(corner, 2, "a point") for corner in corners)
        outline = box(*one, *other)
    elif geometry != "polygon":
        raise ValueError(
            f"is of the type {one_line(geometry, 40)!r}, which is not read; make it a polygon or a "
            "rectangle, or remove it"
        )
    kind = text_of(each.get("classTitle"))
    tags = [tag for tag in listed(each.get("tags"), "its tags") if isinstance(tag, dict)]
    text = next((text_of(t.get("value")) for t in tags if t.get("name") in _TEXTS), None)
    named = [kind, *(text_of(tag.get("name")) for tag in tags)]
    ignored = any(
        name and (name.strip().lower() == _IGNORE or is_dont_care(name)) for name in named
    )
    return Word(outline, ignored, text, kind)


FORMAT = AnnotationFormat(
    name="supervisely",
    summary="Supervisely, a folder of JSON files, `ann/a.jpg.json` for `img/a.jpg`: polygons and "
    "rectangles with a class and tags",
    dont_care="the class or a tag `ignore` or `###`, a tag `text` that is `###`",
    example="""\
{"size": {"height": 100, "width": 200}, "tags": [], "objects": [
  {"classTitle": "text", "geometryType": "polygon", "tags": [],
   "points": {"exterior": [[10, 10], [90, 12], [90, 32], [10, 30]], "interior": []}}]}""",
    recognise=_recognise,
    read=_read,
)
