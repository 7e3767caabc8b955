"""docTR's `labels.json` of detection. The order of corners is of no consequence there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.json_files import members
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import around
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, Words, declared_size, word_label
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules


def _recognise(look: Look) -> Fit:
    first = next(iter(look.json.values()), None) if isinstance(look.json, dict) else None
    return Fit.YES if isinstance(first, dict) and "polygons" in first else Fit.NO


def _entries(path: Path) -> Iterator[Entry | Problem]:
    for name, _, image in members(path):
        try:
            found, size = image["polygons"], declared_size(*image.get("img_dimensions", (0, 0)))
            lists = {None: found} if isinstance(found, list) else found  # or one a class
            quads = [around(points) for each in lists.values() for points in each]
            classes = [name for name, each in lists.items() for _ in each]
        except (TypeError, KeyError, AttributeError):
            reason = 'must have "polygons" and "img_dimensions"; correct or remove it'
            yield Problem("image", str(path), str(name), reason, str(name))
            continue
        labels = [word_label(number + 1) for number in range(len(quads))]
        words = Words(labels, quads, [False] * len(quads), classes=classes)
        yield Entry(str(path), str(name), words, declared_size=size)


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    return Found(_entries(path))


FORMAT = AnnotationFormat(
    name="doctr",
    summary="docTR's `labels.json` of detection, one JSON file of all images and their quads",
    dont_care="nothing",
    example='{"a.jpg": {"img_dimensions": [100, 200], "polygons": [[[10, 10], [90, 10], ...]]}}',
    recognise=_recognise,
    read=_read,
)
