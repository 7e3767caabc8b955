"""COCO-Text and TextOCR: one JSON document with objects of images and of annotations.

A mask that is none, as some are, is the annotation's box. The two may come in any order, so words
are kept by image, each a row of numbers, until all are there.
"""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Gathered, text_of
from ocr_precompute.annotations.json_files import members
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box, numbers, pairs
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, Words, declared_size
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_SECTIONS = ("imgs", "anns")
_LISTING = "imgToAnns"  # says nothing more, and is long
_OUTLINES = ("mask", "polygon", "points")  # of COCO-Text 2, of its edition of 2017, of TextOCR
_FEWEST = 4  # points of a mask; some have less, by mistake
_SETS = ("train", "val", "test")
_SHOWN = 40


def _recognise(look: Look) -> Fit:
    found = look.json if isinstance(look.json, dict) and not look.is_folder else {}
    images, annotations = (_first(found.get(section)) for section in _SECTIONS)
    fits = "file_name" in images or ("image_id" in annotations and "bbox" in annotations)
    return Fit.YES if fits else Fit.NO


def _first(section: Any) -> dict[str, Any]:
    first = next(iter(section.values()), None) if isinstance(section, dict) else None
    return first if isinstance(first, dict) else {}


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    warnings: list[str] = []
    return Found(_entries(path, images, dialect, warnings), dialect, warnings=warnings)


def _entries(
    path: Path, images: ImageNames, wanted: str, warnings: list[str]
) -> Iterator[Entry | Problem]:
    """wanted: the set whose images are to be read; all if empty."""
    file, missing = str(path), set(_SECTIONS)
    listed: dict[str, Any] = {}
    words: dict[str, Gathered] = {}
    seen: set[str] = set()
    boxes = 0
    for section, key, value in members(path, (*_SECTIONS, _LISTING), exact=True):
        if section not in _SECTIONS:
            continue
        if not isinstance(key, str):
            missing -= {section} if value == {} else set()
        elif key in (listed if section == "imgs" else seen):
            reason = "the key stands twice; keep one of the two"
            yield Problem("annotations", file, f"{section}: {key[:_SHOWN]}", reason)
        elif section == "imgs":
            listed[key] = value
        else:
            seen.add(key)
            image = value.get("image_id") if isinstance(value, dict) else None
            if type(image) not in (int, str):
                reason = "has no image_id; correct or remove it"
                yield Problem("annotations", file, _label(key), reason)
                continue
            boxes += _gather(key, value, words.setdefault(str(image), Gathered()))
    for section in sorted(missing):
        reason = f'has no object "{section}"; it is not of this format'
        yield Problem("annotations", file, "", reason)
    if boxes:
        warnings.append(
            f"{path}: {boxes} outlines are no polygons of 4 or more points, their boxes are taken; "
            "correct them"
        )
    yield from _chosen(file, listed, wanted, warnings)
    for key, image in listed.items():
        yield from _image(file, key, image, words.pop(key, Gathered()), images, wanted)
    for key, lost in words.items():
        reason = f'has {len(lost)} annotations and is not in "imgs"; add it'
        name = f"image {key[:_SHOWN]}"
        yield Problem("image", file, name, reason, name)


def _chosen(
    file: str, listed: dict[str, Any], wanted: str, warnings: list[str]
) -> Iterator[Problem]:
    """Say which sets there are, where that matters."""
    sets = Counter(found for image in listed.values() if (found := _set(image)))
    counts = ", ".join(f"{name} ({count} images)" for name, count in sorted(sets.items()))
    if wanted and wanted not in sets:
        reason = f"has no image of the set {wanted!r}; sets are {counts or 'not told'}"
        yield Problem("annotations", file, "", reason)
    elif len(sets) > 1 and not wanted:
        warnings.append(f"{file}: all sets are read, {counts}; say --format cocotext:SET for one")


def _set(image: Any) -> str | None:
    return text_of(image.get("set")) if isinstance(image, dict) else None


def _image(
    file: str, key: str, image: Any, words: Gathered, images: ImageNames, wanted: str
) -> Iterator[Entry | Problem]:
    name = image.get("file_name") if isinstance(image, dict) else None
    if wanted and _set(image) != wanted:
        return
    if not isinstance(name, str) or not name:
        place = f"image {key[:_SHOWN]}"
        yield Problem("image", file, place, "has no file_name; correct or remove it")
        return
    found = words.words
    points = [[[f[i], f[i + 1]] for i in range(0, len(f), 2)] for f in found.points]
    labels = [_label(each) for each in found.labels]
    own = Words(labels, points, found.ignore, found.texts, found.classes)
    size = declared_size(image.get("height"), image.get("width"))
    yield Entry(file, images.resolved(name), own, words.bad, size)


def _gather(key: str, annotation: dict[str, Any], words: Gathered) -> bool:
    """Take up an annotation by its key, points as x, y, x, y; whether they are its box for want."""
    text = text_of(annotation.get("utf8_string"))
    try:
        points, is_box = _outline(annotation)
    except ValueError as error:
        words.fail(_label(key), error)
        return False
    flat = array("d", itertools.chain.from_iterable(points))
    words.add(key, flat, _is_ignored(annotation, text), text, text_of(annotation.get("class")))
    return is_box


def _label(key: str) -> str:
    return f"annotation {key[:_SHOWN]}"


def _outline(annotation: dict[str, Any]) -> tuple[list[list[float]], bool]:
    """The points of an annotation, and whether they are its box's though it has others.

    Raises ValueError if there are none.
    """
    flat = next((annotation[key] for key in _OUTLINES if key in annotation), None)
    if flat is not None:
        try:
            points = pairs(flat, "its outline")
        except ValueError:
            points = []
        if len(points) >= _FEWEST:
            return points, False
    left, top, width, height = numbers(annotation.get("bbox"), 4, "its bbox")
    return box(left, top, left + width, top + height), flat is not None


def _is_ignored(annotation: dict[str, Any], text: str | None) -> bool:
    """TextOCR marks by a point what cannot be read, which COCO-Text may well have as a text."""
    if "legibility" in annotation:
        return annotation["legibility"] == "illegible" or is_dont_care(text or "")
    return text == "." or is_dont_care(text or "")


FORMAT = AnnotationFormat(
    name="cocotext",
    summary="COCO-Text (2, and its edition of 2017) and TextOCR, one JSON file each; a dialect "
    "reads the images of one set alone",
    dont_care='`"legibility": "illegible"` of COCO-Text, the text `.` of TextOCR, the text `###`',
    example="""\
{"imgs": {"1": {"id": 1, "set": "train", "width": 200, "height": 100, "file_name": "a.jpg"}},
 "anns": {"7": {"id": 7, "image_id": 1, "bbox": [10, 10, 80, 22],
                "mask": [10, 10, 90, 12, 90, 32, 10, 30], "class": "machine printed",
                "language": "english", "legibility": "legible", "utf8_string": "Ada"},
          "8": {"id": 8, "image_id": 1, "bbox": [110, 50, 70, 20], "legibility": "illegible"}},
 "imgToAnns": {"1": [7, 8]}}""",
    recognise=_recognise,
    read=_read,
    aliases=("textocr",),
    dialects={name: f'"set": "{name}"' for name in _SETS},
)
