"""CORD: one JSON file per receipt, of lines and of their words, and of don't-care quads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Word, gather, listed, text_of
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import pairs
from ocr_precompute.annotations.per_image import fit_each, read_each
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, declared_size
from ocr_precompute.settings import Rules

_CORNERS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")


def _recognise(look: Look) -> Fit:
    return fit_each(look, lambda v: isinstance(v, dict) and isinstance(v.get("valid_line"), list))


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    return read_each(path, images, _entry, ("json", "image"))


def _entry(file: str, name: str, receipt: Any) -> Entry:
    if not isinstance(receipt, dict) or "valid_line" not in receipt:
        raise ValueError('has no list "valid_line"; correct or remove it')
    labelled = [*_lines(receipt["valid_line"]), *_ignored(receipt.get("dontcare"))]
    words, bad = gather(labelled, _word)
    meta = receipt.get("meta")
    size = meta.get("image_size") if isinstance(meta, dict) else None
    sides = [size.get("height"), size.get("width")] if isinstance(size, dict) else [None, None]
    return Entry(file, name, words, bad, declared_size(*sides), alone=True)


def _lines(lines: Any) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(listed(lines, 'its "valid_line"'), 1):
        label = f"line {number}"
        if not isinstance(line, dict):
            yield label, line
            continue
        for place, word in enumerate(listed(line.get("words"), f"the words of {label}"), 1):
            if isinstance(word, dict):
                word = {**word, "kind": line.get("category"), "ignored": False}
            yield f"{label} word {place}", word


def _ignored(found: Any) -> Iterator[tuple[str, Any]]:
    """Quads that are don't-care: a list of them, or of lists of them."""
    groups = [
        each if isinstance(each, list) else [each] for each in listed(found, 'its "dontcare"')
    ]
    for number, quad in enumerate((quad for group in groups for quad in group), 1):
        is_quad = isinstance(quad, dict) and "quad" not in quad
        bare = {"quad": quad} if is_quad else quad
        yield f"dontcare {number}", {**bare, "ignored": True} if isinstance(bare, dict) else bare


def _word(word: dict[str, Any]) -> Word:
    quad = word.get("quad")
    if not isinstance(quad, dict):
        raise ValueError("has no quad; correct or remove it")
    points = pairs([quad.get(corner) for corner in _CORNERS], "its quad")
    text, kind = text_of(word.get("text")), text_of(word.get("kind"))
    return Word(points, word.get("ignored") is True, text, kind)


FORMAT = AnnotationFormat(
    name="cord",
    summary="CORD, one JSON file per receipt of the image's name: quads of words, whose line's "
    "category is their class",
    dont_care="the quads of `dontcare`, the text `###`",
    example="""\
{"valid_line": [{"category": "menu.nm", "words": [{"text": "Ada", "quad": {
   "x1": 10, "y1": 10, "x2": 90, "y2": 12, "x3": 90, "y3": 32, "x4": 10, "y4": 30}}]}],
 "dontcare": [], "meta": {"image_size": {"width": 200, "height": 100}}}""",
    recognise=_recognise,
    read=_read,
)
