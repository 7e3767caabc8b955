"""docTR's `labels.json` of detection: quads, of which it knows no more than their class."""

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
    compact,
    opened,
    write_items,
)


def _said(page: Page) -> list[Word]:
    return [word for word in page.words() if len(word.points) == 4 and not word.ignore]


def _losses(page: Page) -> Iterator[Loss]:
    for word in page.words():
        if word.ignore:
            yield Loss("don't-care", page.name, word.label, "is left out: docTR knows none")
        elif len(word.points) != 4:
            detail = f"is left out: it has {len(word.points)} points, and docTR reads quads"
            yield Loss("polygon", page.name, word.label, detail)
        elif word.text is not None:
            yield Loss("text", page.name, word.label, "its text is left out: docTR reads none")
    if not _said(page):
        yield Loss("image", page.name, "", "is left out: docTR reads no image without words")


def _write(path: Path, pages: Iterable[Page]) -> None:
    listed = [(page, _said(page)) for page in pages]
    by_class = any(word.of_class is not None for _, words in listed for word in words)
    with opened(path) as file:
        file.write("{")
        write_items(
            file,
            (
                f"{compact(page.name)}: {compact(_page(page, words, by_class))}"
                for page, words in listed
                if words
            ),
        )
        file.write("\n}\n")


def _page(page: Page, words: list[Word], by_class: bool) -> dict[str, Any]:
    polygons: Any = [word.points for word in words]
    if by_class:
        polygons = {}
        for word in words:
            polygons.setdefault(word.of_class or PLAIN, []).append(word.points)
    return {"img_dimensions": list(page.size), "polygons": polygons}


WRITER = AnnotationWriter(
    name="doctr",
    summary="docTR's `labels.json` of detection: quads; neither don't-care nor texts",
    losses=_losses,
    write=_write,
)
