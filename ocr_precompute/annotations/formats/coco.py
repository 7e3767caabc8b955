"""COCO's instances: lists of images and of annotations, each of which names its image.

An object in several parts becomes a polygon for each; a mask the outline of each of its pieces; a
box its corners, turned as CVAT says. Annotations may come before the images, and in any order: they
are packed as they come, and sorted by image at the end.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.json_files import members
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.masks import BadMask, mask_outlines
from ocr_precompute.annotations.outlines import box, numbers, pairs, turned
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import BadWord, Entry, FlatWords, Found, declared_size
from ocr_precompute.errors import Problem
from ocr_precompute.samples import Polygons
from ocr_precompute.settings import Rules

_SECTIONS = ("images", "annotations")
_ALL_SECTIONS = (*_SECTIONS, "categories")
_TEXTS = ("text", "caption", "transcription", "utf8_string")
_NUMBERS = frozenset({int, float})
_NO_ATTRIBUTES: dict[str, Any] = {}


def _recognise(look: Look) -> Fit:
    found = look.json if isinstance(look.json, dict) and not look.is_folder else {}
    images, annotations = (_first(found.get(section)) for section in _SECTIONS)
    if "image_id" in annotations and {"bbox", "segmentation"} & set(annotations):
        return Fit.YES
    return Fit.YES if {"id", "file_name"} <= set(images) else Fit.NO


def _first(section: Any) -> dict[str, Any]:
    first = section[0] if isinstance(section, list) and section else None
    return first if isinstance(first, dict) else {}


class _Gathered:
    """Words of all images, packed as they come; images have numbers in the order of their ids."""

    def __init__(self) -> None:
        self.numbers: dict[int | float | str, int] = {}
        self.labels: list[str] = []
        self.texts: list[str | None] = []
        self.names: dict[int | float | str, str] = {}
        self.bad: dict[int, list[tuple[BadWord, Any]]] = {}  # with the ids of their categories
        self.no_mask = 0
        self._images, self._lengths = array("q"), array("q")
        self._points, self._ignore = array("d"), array("b")
        self._categories: list[Any] = []

    def number(self, image: Any) -> int:
        """The number of an image's id. Raises ValueError if it can be none."""
        if type(image) not in (int, float, str):
            raise ValueError("has no image_id; correct or remove it")
        return self.numbers.setdefault(image, len(self.numbers))

    def add(self, number: int, label: str, flat: Sequence[float], ignored: bool) -> None:
        """A word of the image of that number, points as x, y, x, y."""
        self._points.extend(flat)
        self._images.append(number)
        self._lengths.append(len(flat) // 2)
        self._ignore.append(ignored)
        self.labels.append(label)

    def say(self, text: str | None, category: Any, count: int) -> None:
        """What the next words say, and the id of what they are."""
        self.texts += [text] * count
        self._categories += [category] * count

    def category(self, category: Any) -> None:
        """Take up a category, if it is one; what has none or another is text all the same."""
        if isinstance(category, dict) and isinstance(category.get("name"), str):
            number = category.get("id")
            if isinstance(number, int | float | str):
                self.names[number] = category["name"]

    def name(self, category: Any) -> str | None:
        """What the category of that id is called."""
        return self.names.get(category) if isinstance(category, int | float | str) else None

    def of_images(self) -> Iterator[FlatWords]:
        """The words of each image in the order of numbers."""
        images = np.frombuffer(self._images, np.int64)
        order = np.argsort(images, kind="stable")
        counts = np.bincount(images, minlength=len(self.numbers)).tolist()
        polygons = Polygons(
            np.frombuffer(self._points, np.float64).reshape(-1, 2),
            np.frombuffer(self._lengths, np.int64),
            np.frombuffer(self._ignore, np.bool_),
        ).chosen(order)
        place = 0
        for count, own in zip(counts, polygons.cut(counts), strict=True):
            which = order[place : place + count].tolist()
            classes = [self.name(self._categories[i]) for i in which]
            labels, texts = (self.labels[i] for i in which), [self.texts[i] for i in which]
            yield FlatWords(tuple(labels), own, texts, classes)
            place += count


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    warnings: list[str] = []
    return Found(_entries(path, images, warnings), warnings=warnings)


def _entries(path: Path, images: ImageNames, warnings: list[str]) -> Iterator[Entry | Problem]:
    file, words = str(path), _Gathered()
    listed: dict[int, tuple[str, tuple[int, int] | None]] = {}
    missing = set(_SECTIONS)
    for section, key, value in members(path, _ALL_SECTIONS, exact=True):
        if section == "categories":
            words.category(value)
        if section not in _SECTIONS:
            continue
        if not isinstance(key, int):
            missing -= {section} if value == [] else set()
        elif section == "annotations":
            if problem := _gather(file, key, value, words):
                yield problem
        else:
            yield from _list(file, key, value, words, listed)
    for section in sorted(missing):
        yield Problem("annotations", file, "", f'has no list "{section}"; it is not of this format')
    if words.no_mask:
        warnings.append(
            f"{path}: {words.no_mask} masks cannot be decoded, their boxes are taken; correct them"
        )
    ids = list(words.numbers)
    for number, own in enumerate(words.of_images()):
        bad = [replace(b, of_class=words.name(c)) for b, c in words.bad.get(number, ())]
        if number not in listed:
            reason = f'has {len(own.labels) + len(bad)} annotations and is not in "images"; add it'
            name = f"image {ids[number]}"
            yield Problem("image", file, name, reason, name)
        else:
            name, size = listed[number]
            yield Entry(file, images.resolved(name), own, bad, size)


def _list(
    file: str, key: int, image: Any, words: _Gathered, listed: dict[int, Any]
) -> Iterator[Problem]:
    """Take up an image, or say what is wrong with it."""
    name = image.get("file_name") if isinstance(image, dict) else None
    if not isinstance(name, str) or not name:
        yield Problem("image", file, f"images[{key}]", "has no file_name; correct or remove it")
        return
    try:
        number = words.number(image.get("id"))
    except ValueError:
        yield Problem("image", file, name, "has no id; correct or remove it", name)
        return
    if number in listed:
        reason = f"has the id of {listed[number][0]}; give each image its own"
        yield Problem("image", file, name, reason, name)
        return
    listed[number] = name, declared_size(image.get("height"), image.get("width"))


def _gather(file: str, key: int, annotation: Any, words: _Gathered) -> Problem | None:
    """Take up an annotation, or say why it belongs to no image."""
    if not isinstance(annotation, dict):
        reason = "must be an object; correct or remove it"
        return Problem("annotations", file, f"annotations[{key}]", reason)
    label = f"annotation {annotation.get('id', f'[{key}]')}"[:60]
    try:
        number = words.number(annotation.get("image_id"))
    except ValueError as error:
        return Problem("annotations", file, label, str(error))
    attributes = annotation.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else _NO_ATTRIBUTES
    texts = [text for text in map(annotation.get, _TEXTS) if type(text) is str]
    texts += [text] if type(text := attributes.get("text")) is str else []
    try:
        ignored = _is_ignored(annotation, attributes, texts)
        outlines = _outlines(annotation, attributes, words)
    except (ValueError, OverflowError) as error:
        bad = BadWord(label, None, str(error)), annotation.get("category_id")
        words.bad.setdefault(number, []).append(bad)
        return None
    words.say(texts[0] if texts else None, annotation.get("category_id"), len(outlines))
    for part, outline in enumerate(outlines, 1):
        name = f"{label} part {part}" if len(outlines) > 1 else label
        words.add(number, name, outline, ignored)
    return None


def _outlines(
    annotation: dict[str, Any], attributes: dict[str, Any], words: _Gathered
) -> list[Sequence[float]]:
    """The polygons of an annotation, each as x, y, x, y. Raises ValueError if there are none."""
    found = annotation.get("segmentation")
    if isinstance(found, dict):
        try:
            return [outline.ravel().tolist() for outline in mask_outlines(found)]
        except BadMask as error:
            if annotation.get("bbox") is None:
                raise ValueError(f"{error}; correct or remove it") from None
            words.no_mask += 1
    elif isinstance(found, list) and found:
        parts = found if isinstance(found[0], list) else [found]
        for part in parts:
            if not isinstance(part, list) or len(part) % 2 or not set(map(type, part)) <= _NUMBERS:
                pairs(part, "its segmentation")  # says what is wrong
        return [list(map(float, part)) for part in parts]
    elif found not in (None, []):
        raise ValueError("its segmentation is neither polygons nor a mask; correct or remove it")
    left, top, width, height = numbers(annotation.get("bbox"), 4, "its bbox")
    corners = box(left, top, left + width, top + height)
    degrees = attributes.get("rotation")
    if type(degrees) in (int, float) and degrees:
        corners = turned(corners, float(degrees), (left + width / 2, top + height / 2))
    return [[number for corner in corners for number in corner]]


def _is_ignored(
    annotation: dict[str, Any], attributes: dict[str, Any], texts: Sequence[str]
) -> bool:
    """Whether it is don't-care. Raises ValueError if there is no telling."""
    marks = annotation.get("iscrowd"), annotation.get("ignore"), attributes.get("ignore")
    for mark in marks:
        if mark is None or mark == 0:
            continue
        if mark not in (1, "false", "true"):
            raise ValueError("iscrowd and ignore must be 0 or 1; correct it")
        if mark != "false":
            return True
    return any(map(is_dont_care, texts))


FORMAT = AnnotationFormat(
    name="coco",
    summary="COCO instances, one JSON file: polygons in one or several parts, masks (RLE), boxes, "
    "also turned ones; every category is text",
    dont_care='`"iscrowd": 1`, `"ignore": 1`, an attribute `ignore`, the text `###`',
    example="""\
{"images": [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}],
 "annotations": [{"id": 1, "image_id": 1, "iscrowd": 0, "bbox": [10, 10, 80, 22],
                  "segmentation": [[10, 10, 90, 12, 90, 32, 10, 30]]}],
 "categories": [{"id": 1, "name": "text"}]}""",
    recognise=_recognise,
    read=_read,
)
