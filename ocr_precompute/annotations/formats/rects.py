"""ReCTS: one JSON file per image, of lines of text and of their characters; lines are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Word, flag, gather, listed, text_of
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import pairs
from ocr_precompute.annotations.per_image import fit_each, read_each
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found
from ocr_precompute.settings import Rules

_KEYS = ("lines", "chars")


def _is_page(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), list) for key in _KEYS)


def _recognise(look: Look) -> Fit:
    return fit_each(look, _is_page)


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    return read_each(path, images, _entry, ("gt", "img"))


def _entry(file: str, name: str, page: Any) -> Entry:
    if not isinstance(page, dict) or "lines" not in page:
        raise ValueError('has no list "lines"; correct or remove it')
    lines = listed(page["lines"], 'its "lines"')
    labelled = [(f"line {number}", line) for number, line in enumerate(lines, 1)]
    words, bad = gather(labelled, _line)
    return Entry(file, name, words, bad, alone=True)


def _line(line: dict[str, Any]) -> Word:
    ignored = flag("ignore", line.get("ignore", False))
    text = text_of(line.get("transcription"))
    return Word(pairs(line.get("points"), "its points"), ignored, text)


FORMAT = AnnotationFormat(
    name="rects",
    summary="ReCTS, one JSON file per image of the same name: its lines of text, quads",
    dont_care='`"ignore": 1`, the transcription `###`',
    example="""\
{"chars": [],
 "lines": [{"ignore": 0, "transcription": "Ada", "points": [10, 10, 90, 12, 90, 32, 10, 30]}]}""",
    recognise=_recognise,
    read=_read,
)
