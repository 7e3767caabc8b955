"""COCO instances: polygons as `segmentation`, don't-care as `iscrowd`, what is said as `text`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.writers.pages import (
    PLAIN,
    AnnotationWriter,
    Loss,
    Page,
    Word,
    bounds,
    compact,
    flat,
    opened,
    whole,
    write_items,
)


def _losses(page: Page) -> Iterator[Loss]:
    yield from ()  # it says all that there is


def _write(path: Path, pages: Iterable[Page]) -> None:
    listed = list(pages)
    categories: dict[str, int] = {}
    with opened(path) as file:
        file.write('{"images": [')
        write_items(file, (compact(_image(n, page)) for n, page in enumerate(listed, 1)))
        file.write('\n], "annotations": [')
        write_items(file, _annotations(listed, categories))
        file.write('\n], "categories": [')
        names = categories or {PLAIN: 1}
        write_items(file, (compact({"id": n, "name": name}) for name, n in names.items()))
        file.write("\n]}\n")


def _image(number: int, page: Page) -> dict[str, Any]:
    height, width = page.size
    return {"id": number, "file_name": page.name, "width": width, "height": height}


def _annotations(pages: list[Page], categories: dict[str, int]) -> Iterator[str]:
    """One line each; gives numbers to categories as they come."""
    number = 0
    for image, page in enumerate(pages, 1):
        areas = abs(page.polygons.areas()).tolist()
        for word, area in zip(page.words(), areas, strict=True):
            number += 1
            category = categories.setdefault(word.of_class or PLAIN, len(categories) + 1)
            named = {"id": number, "image_id": image, "category_id": category}
            yield compact(named | _annotation(word, area))


def _annotation(word: Word, area: float) -> dict[str, Any]:
    left, top, right, bottom = bounds(word.points)
    said: dict[str, Any] = {"bbox": [left, top, right - left, bottom - top], "area": whole(area)}
    said |= {"segmentation": [flat(word.points)], "iscrowd": int(word.ignore)}
    return said if word.text is None else said | {"text": word.text}


WRITER = AnnotationWriter(
    name="coco",
    summary="COCO instances, one JSON file; a text as `text`, don't-care as `iscrowd`",
    losses=_losses,
    write=_write,
)
