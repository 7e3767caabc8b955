"""Folders of ICDAR text files: `icdar`, eight numbers and a text; `icdar:polygon`, any number."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from ocr_precompute.annotations.writers.pages import (
    AnnotationWriter,
    Loss,
    Page,
    Word,
    flat,
    opened,
)

_MARK = "###"


def _losses(page: Page, quads: bool) -> Iterator[Loss]:
    for word in page.words():
        if quads and len(word.points) != 4:
            detail = f"is left out: it has {len(word.points)} points; icdar:polygon can say it"
            yield Loss("polygon", page.name, word.label, detail)
            continue
        if word.of_class is not None:
            detail = f"the label {word.of_class!r} is left out"
            yield Loss("label", page.name, word.label, detail)
        if word.ignore and (word.text or "").strip() not in ("", _MARK):
            detail = f"its text {word.text!r} is left out, for {_MARK} marks it as don't-care"
            yield Loss("text", page.name, word.label, detail)
        elif word.text is not None and not word.ignore and word.text != _text(word):
            detail = f"its text {word.text!r} becomes {_text(word)!r}: a text is one line"
            yield Loss("text", page.name, word.label, detail)


def _text(word: Word) -> str:
    """What stands at the end of the line: no line end, no blanks around it, and never a mark."""
    if word.ignore:
        return _MARK
    text = " ".join((word.text or "").split())
    return "" if text.strip('" ') == _MARK else text


def _write(path: Path, pages: Iterable[Page], quads: bool) -> None:
    listed = list(pages)
    stems = Counter(os.path.splitext(page.name)[0] for page in listed)
    path.mkdir()
    for page in listed:
        whole_stem = os.path.splitext(page.name)[0]
        folder, stem = os.path.split(whole_stem)
        # Where that would fit another image too, the text file has the image's whole name.
        alone = stems[whole_stem] == 1 and os.path.join(folder, f"gt_{stem}") not in stems
        name = f"gt_{stem}.txt" if alone else f"{os.path.basename(page.name)}.txt"
        (path / folder).mkdir(parents=True, exist_ok=True)
        with opened(path / folder / name) as text:
            for word in page.words():
                if not quads or len(word.points) == 4:
                    text.write(f"{_line(word, quads)}\n")


def _line(word: Word, quads: bool) -> str:
    said = _text(word)
    return ",".join([*map(repr, flat(word.points)), said if quads else f'"{said}"'])


def _writer(name: str, summary: str, quads: bool) -> AnnotationWriter:
    losses: Callable[[Page], Iterator[Loss]] = partial(_losses, quads=quads)
    return AnnotationWriter(name, summary, losses, partial(_write, quads=quads), is_folder=True)


WRITERS = (
    _writer(
        "icdar", "a folder of text files, eight numbers and a text a line, as ICDAR 2015's", True
    ),
    _writer(
        "icdar:polygon", "the same with any number of points, the text in quotes, as CVAT's", False
    ),
)
