"""MMOCR 1.x: one JSON file, `data_list` with `instances`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.writers.pages import (
    AnnotationWriter,
    Loss,
    Page,
    Word,
    bounds,
    compact,
    flat,
    opened,
    write_items,
)


def _losses(page: Page) -> Iterator[Loss]:
    if page.turned:
        detail = "is turned by its EXIF, which MMOCR's text detectors ignore: store it upright"
        yield Loss("image", page.name, "", detail)
    for word in page.words():
        if word.of_class is not None:
            detail = f"the label {word.of_class!r} is left out"
            yield Loss("label", page.name, word.label, detail)


def _write(path: Path, pages: Iterable[Page]) -> None:
    about = {"dataset_type": "TextDetDataset", "task_name": "textdet"}
    about |= {"category": [{"id": 0, "name": "text"}]}  # type: ignore[dict-item]
    with opened(path) as file:
        file.write(f'{{"metainfo": {compact(about)}, "data_list": [')
        write_items(file, (compact(_page(page)) for page in pages))
        file.write("\n]}\n")


def _page(page: Page) -> dict[str, Any]:
    height, width = page.size
    instances = [_instance(word) for word in page.words()]
    return {"img_path": page.name, "height": height, "width": width, "instances": instances}


def _instance(word: Word) -> dict[str, Any]:
    said: dict[str, Any] = {"polygon": flat(word.points), "bbox": list(bounds(word.points))}
    said |= {"bbox_label": 0, "ignore": word.ignore}
    return said if word.text is None else said | {"text": word.text}


WRITER = AnnotationWriter(
    name="mmocr",
    summary="MMOCR 1.x, one JSON file with `data_list`; names are relative to its `data_root`",
    losses=_losses,
    write=_write,
)
