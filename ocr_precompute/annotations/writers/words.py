"""`words`: says everything but what a word is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.writers.pages import (
    AnnotationWriter,
    Loss,
    Page,
    compact,
    opened,
    write_items,
)


def _losses(page: Page) -> Iterator[Loss]:
    for word in page.words():
        if word.of_class is not None:
            detail = f"the label {word.of_class!r} is left out"
            yield Loss("label", page.name, word.label, detail)


def _write(path: Path, pages: Iterable[Page]) -> None:
    with opened(path) as file:
        file.write('{"images": {')
        write_items(file, (f"{compact(page.name)}: {compact(_page(page))}" for page in pages))
        file.write("\n}}\n")


def _page(page: Page) -> dict[str, Any]:
    words: dict[str, Any] = {}
    for number, word in enumerate(page.words(), 1):
        said: dict[str, Any] = {"points": word.points}
        if word.text is not None:
            said["transcription"] = word.text
        if word.ignore:
            said["ignore"] = True
        words[f"{number:04d}"] = said
    return {"img_h": page.size[0], "img_w": page.size[1], "words": words}


WRITER = AnnotationWriter(
    name="words",
    summary="one JSON file of all images, also known as UFO",
    losses=_losses,
    write=_write,
)
