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
from ocr_precompute.annotations.instances import (
    TEXTS,
    Instances,
    attributes_of,
    label_of,
    plain_instances,
)
from ocr_precompute.annotations.json_files import groups
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
_NUMBERS = frozenset({int, float})
_FEW = 4  # annotations that are looked at one by one


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
        self.names: dict[int | float | str | None, str] = {}
        self.bad: dict[int, list[tuple[BadWord, Any]]] = {}  # with the ids of their categories
        self.no_mask = 0
        self._images, self._lengths = array("q"), array("q")
        self._points, self._ignore = array("d"), array("b")
        self._categories: list[int | float | str | None] = []

    def number(self, image: Any) -> int:
        """The number of an image's id. Raises ValueError if it can be none."""
        if type(image) not in (int, float, str):
            raise ValueError("has no image_id; correct or remove it")
        return self.numbers.setdefault(image, len(self.numbers))

    def add(self, words: Instances) -> None:
        """Words in the order in which they come."""
        numbers = self.numbers
        self._images.extend([numbers.setdefault(i, len(numbers)) for i in words.images])
        self._points.frombytes(words.points.tobytes())
        self._lengths.extend(words.lengths)
        self._ignore.extend(words.ignore)
        self.labels += words.labels
        self.texts += words.texts
        self._categories += words.categories

    def category(self, category: Any) -> None:
        """Take up a category, if it is one; what has none or another is text all the same."""
        if isinstance(category, dict) and isinstance(category.get("name"), str):
            number = category.get("id")
            if isinstance(number, int | float | str):
                self.names[number] = category["name"]

    def of_images(self) -> Iterator[FlatWords]:
        """The words of each image in the order of numbers."""
        images = np.frombuffer(self._images, np.int64)
        polygons = Polygons(
            np.frombuffer(self._points, np.float64).reshape(-1, 2),
            np.frombuffer(self._lengths, np.int64),
            np.frombuffer(self._ignore, np.bool_),
        )
        labels, texts = self.labels, self.texts
        classes = list(map(self.names.get, self._categories))
        if (np.diff(images) < 0).any():
            order = np.argsort(images, kind="stable")
            polygons, which = polygons.chosen(order), order.tolist()
            labels, texts, classes = ([c[i] for i in which] for c in (labels, texts, classes))
        counts = np.bincount(images, minlength=len(self.numbers)).tolist()
        place = 0
        for count, own in zip(counts, polygons.cut(counts), strict=True):
            end = place + count
            yield FlatWords(tuple(labels[place:end]), own, texts[place:end], classes[place:end])
            place = end


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    warnings: list[str] = []
    return Found(_entries(path, images, warnings), warnings=warnings)


def _entries(path: Path, images: ImageNames, warnings: list[str]) -> Iterator[Entry | Problem]:
    file, words = str(path), _Gathered()
    listed: dict[int, tuple[str, tuple[int, int] | None]] = {}
    missing = set(_SECTIONS)
    for section, keys, values in groups(path, _ALL_SECTIONS, exact=True):
        if section == "categories":
            for value in values:
                words.category(value)
        if section not in _SECTIONS:
            continue
        if not isinstance(keys[0], int):
            missing -= {section} if [] in values else set()
        elif section == "annotations":
            yield from _gather(file, keys, values, words)
        else:
            for key, value in zip(keys, values, strict=True):
                yield from _list(file, key, value, words, listed)
    for section in sorted(missing):
        yield Problem("annotations", file, "", f'has no list "{section}"; it is not of this format')
    if words.no_mask:
        warnings.append(
            f"{path}: {words.no_mask} masks cannot be decoded, their boxes are taken; correct them"
        )
    ids = list(words.numbers)
    for number, own in enumerate(words.of_images()):
        bad = [replace(b, of_class=words.names.get(c)) for b, c in words.bad.get(number, ())]
        if number not in listed:
            reason = f'has {len(own.labels) + len(bad)} annotations and is not in "images"; add it'
            name = f"image {ids[number]}"
            yield Problem("image", file, name, reason, name)
        else:
            name, size = listed[number]
            yield Entry(file, images.resolved(name), own, bad, size)


def _list(
    file: str, key: Any, image: Any, words: _Gathered, listed: dict[int, Any]
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


def _gather(
    file: str, keys: Sequence[Any], annotations: Sequence[Any], words: _Gathered
) -> Iterator[Problem]:
    """Take up annotations, or say why they belong to no image.

    Nearly all are plain: where some are not, what is around them is taken up in smaller parts.
    """
    if plain := plain_instances(annotations, keys):
        words.add(plain)
    elif len(keys) > _FEW:
        half = len(keys) // 2
        yield from _gather(file, keys[:half], annotations[:half], words)
        yield from _gather(file, keys[half:], annotations[half:], words)
    else:
        for key, annotation in zip(keys, annotations, strict=True):
            if problem := _gather_one(file, key, annotation, words):
                yield problem


def _gather_one(file: str, key: int, annotation: Any, words: _Gathered) -> Problem | None:
    if not isinstance(annotation, dict):
        reason = "must be an object; correct or remove it"
        return Problem("annotations", file, f"annotations[{key}]", reason)
    label = label_of(annotation, key)
    image: Any = annotation.get("image_id")
    category = annotation.get("category_id")
    category = category if isinstance(category, int | float | str) else None
    try:
        number = words.number(image)
    except ValueError as error:
        return Problem("annotations", file, label, str(error))
    attributes = attributes_of(annotation)
    texts = [text for text in map(annotation.get, TEXTS) if type(text) is str]
    texts += [text] if type(text := attributes.get("text")) is str else []
    try:
        ignored = _is_ignored(annotation, attributes, texts)
        outlines = _outlines(annotation, attributes, words)
    except (ValueError, OverflowError) as error:
        bad = BadWord(label, None, str(error)), category
        words.bad.setdefault(number, []).append(bad)
        return None
    count = len(outlines)
    parts = [f"{label} part {part}" for part in range(1, count + 1)] if count > 1 else [label]
    points = np.array([number for outline in outlines for number in outline], np.float64)
    text = texts[0] if texts else None
    lengths = [len(outline) // 2 for outline in outlines]
    told = [ignored] * count, [text] * count, [category] * count
    words.add(Instances([image] * count, parts, points, lengths, *told))
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
