"""COCO's annotations where nothing is odd about them: many at a time, column by column."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from operator import itemgetter
from types import NoneType
from typing import Any, NamedTuple

import numpy as np

from ocr_precompute.annotations.dialects import DONT_CARE, is_dont_care

TEXTS = ("text", "caption", "transcription", "utf8_string")
"""Keys of what an annotation says; the first that is there counts."""

_KEYS = ("id", "image_id", "category_id", "segmentation", "bbox", "iscrowd", "ignore", *TEXTS)
_ATTRIBUTES = ("ignore", "text", "rotation")
_LONGEST_LABEL = 60
_IDS = frozenset({int, float, str})
_NUMBERS = frozenset({int, float})
_NO_ATTRIBUTES: dict[str, Any] = {}

Columns = dict[str, Sequence[Any]]


class Instances(NamedTuple):
    """Words of several images, column by column.

    images: the ids of their images. labels: as in `Words`. points: float64 (P, 2), of all words one
    after the other. lengths: vertices of each. ignore, texts: as in `Words`. categories: their ids,
    None where there is none.
    """

    images: Sequence[int | float | str]
    labels: Sequence[str]
    points: np.ndarray
    lengths: Sequence[int]
    ignore: Sequence[bool]
    texts: Sequence[str | None]
    categories: Sequence[int | float | str | None]


def label_of(annotation: dict[str, Any], key: int) -> str:
    """What messages call an annotation."""
    return f"annotation {annotation.get('id', f'[{key}]')}"[:_LONGEST_LABEL]


def attributes_of(annotation: dict[str, Any]) -> dict[str, Any]:
    """What an annotation has under attributes, if it is an object."""
    found = annotation.get("attributes")
    return found if isinstance(found, dict) else _NO_ATTRIBUTES


def plain_instances(annotations: Sequence[Any], numbers: Sequence[int]) -> Instances | None:
    """The words of annotations, one of each; None if one needs a closer look.

    numbers: of the annotations in the file. None needs it where each is one polygon, or each an
    upright box, in lists of numbers, and marks of don't-care are nothing but 0 and 1.
    """
    if set(map(type, annotations)) != {dict}:
        return None
    columns, more, nothing = _columns(annotations, _KEYS), Columns(), [None] * len(annotations)
    if any("attributes" in each for each in annotations):
        more = _columns([attributes_of(each) for each in annotations], _ATTRIBUTES)
    images, categories = (columns.get(key, nothing) for key in ("image_id", "category_id"))
    if not set(map(type, images)) <= _IDS or not set(map(type, categories)) <= {*_IDS, NoneType}:
        return None
    labels = _labels(annotations, columns, numbers)
    outlines = _polygons(columns) or _boxes(columns, more)
    texts = [column for key in TEXTS if (column := columns.get(key))]
    texts += [more["text"]] if "text" in more else []
    texts = [[text if type(text) is str else None for text in column] for column in texts]
    ignore = _ignored(columns, more, texts, len(annotations))
    if labels is None or outlines is None or ignore is None:
        return None
    said = texts[0] if texts else nothing
    for column in texts[1:]:
        said = [b if a is None else a for a, b in zip(said, column, strict=True)]
    return Instances(images, labels, *outlines, ignore, said, categories)


def _columns(objects: Sequence[dict[str, Any]], keys: Sequence[str]) -> Columns:
    """The values of those keys, as far as any object has one that is not null; or of all keys."""
    first = objects[0]
    if len(first) > 1 and set(map(len, objects)) == {len(first)}:
        try:  # as a rule all have the same keys
            rows = map(itemgetter(*first), objects)
            return dict(zip(first, zip(*rows, strict=True), strict=True))
        except KeyError:
            pass
    columns = {key: [each.get(key) for each in objects] for key in keys}
    return {key: each for key, each in columns.items() if set(map(type, each)) != {NoneType}}


def _labels(
    annotations: Sequence[Any], columns: Columns, numbers: Sequence[int]
) -> list[str] | None:
    ids = columns.get("id", ())
    if None in ids or (not ids and any("id" in each for each in annotations)):
        return None  # some are null, or missing
    if not ids:
        ids = [f"[{number}]" for number in numbers]
    return [f"annotation {each}"[:_LONGEST_LABEL] for each in ids]


def _ignored(
    columns: Columns, more: Columns, texts: Sequence[Sequence[str | None]], count: int
) -> list[bool] | None:
    """Whether each is don't-care, by its marks and what it says; None if a mark is odd."""
    marks = [columns[key] for key in ("iscrowd", "ignore") if key in columns]
    marks += [more["ignore"]] if "ignore" in more else []
    try:
        if not set().union(*marks) <= {None, 0, 1}:
            return None
    except TypeError:  # a list or an object
        return None
    marks += [
        [text is not None and is_dont_care(text) for text in column]
        for column in texts
        if any(text is not None and DONT_CARE in text for text in column)
    ]
    return list(map(any, zip(*marks, strict=True))) if marks else [False] * count


def _polygons(columns: Columns) -> tuple[np.ndarray, list[int]] | None:
    """Points, float64 (P, 2), and lengths, if each is one polygon."""
    found = columns.get("segmentation", ())
    if set(map(type, found)) != {list} or set(map(len, found)) != {1}:
        return None
    parts = [each[0] for each in found]
    if set(map(type, parts)) != {list}:
        return None
    lengths, flat = np.array(list(map(len, parts))), _floats(parts)
    if flat is None or (lengths % 2).any():
        return None
    return flat.reshape(-1, 2), (lengths // 2).tolist()


def _boxes(columns: Columns, attributes: Columns) -> tuple[np.ndarray, list[int]] | None:
    """Points, float64 (4 N, 2), and lengths, if each is an upright box and nothing else."""
    boxes = columns.get("bbox", ())
    if any(attributes.get("rotation", ())):
        return None
    if any(each not in (None, []) for each in columns.get("segmentation", ())):
        return None
    if set(map(type, boxes)) != {list} or set(map(len, boxes)) != {4}:
        return None
    flat = _floats(boxes)
    if flat is None:
        return None
    left, top, width, height = flat.reshape(-1, 4).T
    (left, right), (top, bottom) = _ordered(left, left + width), _ordered(top, top + height)
    points = np.stack([left, top, right, top, right, bottom, left, bottom], axis=1)
    return points.reshape(-1, 2), [4] * len(boxes)


def _floats(lists: Sequence[list[Any]]) -> np.ndarray | None:
    """The numbers of all lists as float64; None if there is anything else, or one too large."""
    flat = list(itertools.chain.from_iterable(lists))
    if not set(map(type, flat)) <= _NUMBERS:
        return None
    try:
        return np.array(flat, np.float64)
    except OverflowError:
        return None


def _ordered(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smaller and the larger of each two; of equal ones the first, as min and max do."""
    return np.where(other < one, other, one), np.where(other > one, other, one)
