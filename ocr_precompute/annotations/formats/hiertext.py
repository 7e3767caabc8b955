"""HierText: one JSON document, even where its name says lines, of paragraphs, lines and words.

What has no parts, as illegible lines and paragraphs, stands for them, and is don't-care.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Gathered, text_of
from ocr_precompute.annotations.json_files import members
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, declared_size
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_LEVELS = ("paragraph", "line", "word")
_DIALECTS = {
    "word": "paragraphs[].lines[].words[].vertices",
    "line": "paragraphs[].lines[].vertices",
    "paragraph": "paragraphs[].vertices",
}
_SECTION = "annotations"


def _recognise(look: Look) -> Fit:
    listed = look.json.get(_SECTION) if isinstance(look.json, dict) else None
    first = listed[0] if isinstance(listed, list) and listed and not look.is_folder else None
    return (
        Fit.YES if isinstance(first, dict) and {"image_id", "paragraphs"} <= set(first) else Fit.NO
    )


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    level = dialect or "word"
    return Found(_entries(path, images, _LEVELS.index(level)), level)


def _entries(path: Path, images: ImageNames, level: int) -> Iterator[Entry | Problem]:
    file, is_there = str(path), False
    for section, key, value in members(path, (_SECTION,)):
        if section == _SECTION and isinstance(key, int):
            yield _entry(file, f"{_SECTION}[{key}]", value, images, level)
        elif section == _SECTION:
            is_there = value == []
    if not is_there:
        reason = f'has no list "{_SECTION}"; it is not of this format'
        yield Problem("annotations", file, "", reason)


def _entry(file: str, place: str, image: Any, images: ImageNames, level: int) -> Entry | Problem:
    found = image if isinstance(image, dict) else {}
    stem, paragraphs = found.get("image_id"), found.get("paragraphs")
    if not isinstance(stem, str) or not stem or not isinstance(paragraphs, list):
        reason = 'must have an "image_id" and a list "paragraphs"; correct or remove it'
        return Problem("image", file, place, reason, stem if isinstance(stem, str) else "")
    fitting = images.of_stem(stem)
    if len(fitting) > 1:
        reason = f"fits several images: {', '.join(fitting)}; keep one of them"
        return Problem("image", file, place, reason, stem)
    words = Gathered()
    for label, part, depth in _parts(paragraphs, "paragraph", level):
        if not isinstance(part, dict):
            words.fail(label, "must be an object; correct or remove it")
            continue
        text = text_of(part.get("text"))
        ignored = depth < level or _is_ignored(part, text)
        handwritten = "handwritten" if part.get("handwritten") is True else None
        words.add(label, part.get("vertices"), ignored, text, handwritten)
    name = fitting[0] if fitting else f"{stem}.jpg"
    size = declared_size(found.get("image_height"), found.get("image_width"))
    return Entry(file, name, words.words, words.bad, size)


def _parts(
    listed: list[Any], label: str, level: int, depth: int = 0
) -> Iterator[tuple[str, Any, int]]:
    """What is at the level, or above it and has no parts: a label for messages, it, how deep."""
    for number, part in enumerate(listed, 1):
        name = f"{label} {number}"
        below = _LEVELS[depth + 1] if depth < level else ""
        parts = part.get(f"{below}s") if below and isinstance(part, dict) else None
        if isinstance(parts, list) and parts:
            yield from _parts(parts, f"{name} {below}", level, depth + 1)
        else:
            yield sys.intern(name), part, depth  # as most images have them


def _is_ignored(part: dict[str, Any], text: str | None) -> bool:
    unread = text is not None and (not text.strip() or is_dont_care(text))
    return unread or part.get("legible") is False


FORMAT = AnnotationFormat(
    name="hiertext",
    summary="HierText, one JSON file (also where it is called `.jsonl`): its words, or its lines "
    "or paragraphs",
    dont_care='`"legible": false`, an empty text, the text `###`, a line or paragraph that stands '
    "for its missing parts",
    example="""\
{"annotations": [{"image_id": "a", "image_width": 200, "image_height": 100, "paragraphs": [
  {"vertices": [[10, 10], [90, 12], [90, 32], [10, 30]], "legible": true, "lines": [
    {"vertices": [[10, 10], [90, 12], [90, 32], [10, 30]], "text": "Ada", "legible": true,
     "words": [
      {"vertices": [[10, 10], [90, 12], [90, 32], [10, 30]], "text": "Ada", "legible": true}]}]},
  {"vertices": [[110, 50], [180, 50], [180, 70], [110, 70]], "legible": false, "lines": []}]}]}""",
    recognise=_recognise,
    read=_read,
    dialects=_DIALECTS,
)
