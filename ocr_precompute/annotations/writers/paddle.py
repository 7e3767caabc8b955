"""PaddleOCR's `Label.txt`: one line per image; don't-care words say `###` there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.writers.pages import (
    AnnotationWriter,
    Loss,
    Page,
    Word,
    compact,
    opened,
)

_MARK = "###"
_MARKS = (_MARK, "*")  # what PaddleOCR takes for don't-care


def _losses(page: Page) -> Iterator[Loss]:
    for word in page.words():
        text = (word.text or "").strip()
        if word.ignore and text not in ("", *_MARKS):
            detail = f"its text {word.text!r} is left out, for {_MARK} marks it as don't-care"
            yield Loss("text", page.name, word.label, detail)
        elif not word.ignore and text in _MARKS:
            detail = f"its text {text!r} is left out, for it would mean don't-care"
            yield Loss("text", page.name, word.label, detail)
        elif not word.ignore and word.text is None and any(page.texts):
            yield Loss("text", page.name, word.label, "has no text and gets an empty one")


def _write(path: Path, pages: Iterable[Page]) -> None:
    with opened(path) as file:
        for page in pages:
            file.write(f"{page.name}\t{compact([_word(word) for word in page.words()])}\n")


def _word(word: Word) -> dict[str, Any]:
    text = word.text or ""
    said = _MARK if word.ignore else "" if text.strip() in _MARKS else text
    written: dict[str, Any] = {"transcription": said, "points": word.points, "difficult": False}
    return written if word.of_class is None else written | {"key_cls": word.of_class}


WRITER = AnnotationWriter(
    name="paddle",
    summary="PaddleOCR's `Label.txt`; names are relative to its `data_dir`",
    losses=_losses,
    write=_write,
)
