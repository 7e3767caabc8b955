"""Azure's answers as annotations: one JSON file per image.

Of Document Intelligence (`analyzeResult.pages`), Read 3 (`analyzeResult.readResults`) and Image
Analysis 4 (`readResult.blocks`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Word, gather, listed, text_of
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import numbers, pairs
from ocr_precompute.annotations.per_image import fit_each, read_each
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, declared_size
from ocr_precompute.errors import one_line
from ocr_precompute.settings import Rules

_MODELS = ("modelId", "model_id")  # of an answer's inner object saved by itself


def _is_answer(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    if any(isinstance(value.get(key), dict) for key in ("analyzeResult", "readResult")):
        return True
    return isinstance(value.get("pages"), list) and any(key in value for key in _MODELS)


def _recognise(look: Look) -> Fit:
    return fit_each(look, _is_answer)


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    chosen = dialect or "word"
    found = read_each(path, images, partial(_entry, chosen))
    return Found(found.entries, chosen, found.left_out)


def _entry(level: str, file: str, name: str, answer: Any) -> Entry:
    page = _page(answer)
    unit = page.get("unit")
    if unit not in (None, "pixel"):
        raise ValueError(
            f"is measured in {one_line(unit, 20)}, as of a PDF, and not in pixels; have the "
            "service read the image itself"
        )
    found = listed(page.get("lines"), "its lines")
    if level == "word" and "words" in page:
        found = listed(page["words"], "its words")
    elif level == "word":
        found = [word for line in found for word in _inside(line, "words")]
    labelled = [(f"{level} {number}", each) for number, each in enumerate(found, 1)]
    words, bad = gather(labelled, _word)
    size = declared_size(page.get("height"), page.get("width"))
    return Entry(file, name, words, bad, size, alone=True)


def _page(answer: Any) -> dict[str, Any]:
    """The one page, with `lines` or `words` or both. Raises ValueError if there is not one."""
    if not isinstance(answer, dict):
        raise ValueError("must be an object; correct or remove it")
    if error := answer.get("error"):
        raise ValueError(f"is an error of the service ({one_line(error, 80)}); ask it again")
    if isinstance(read := answer.get("readResult"), dict):
        if "blocks" in read:
            size = answer.get("metadata")
            blocks = listed(read["blocks"], "its blocks")
            lines = [line for block in blocks for line in _inside(block, "lines")]
            return {**(size if isinstance(size, dict) else {}), "lines": lines}
        result = read
    else:
        inner = answer.get("analyzeResult")
        result = inner if isinstance(inner, dict) else answer
    pages = result.get("pages", result.get("readResults"))
    if not isinstance(pages, list):
        raise ValueError('has no list of "pages", "readResults" or "blocks"; correct or remove it')
    if len(pages) != 1:
        raise ValueError(f"holds {len(pages)} pages, and an image is one; split it up by pages")
    if not isinstance(pages[0], dict):
        raise ValueError("its page must be an object; correct or remove it")
    return pages[0]


def _inside(value: Any, key: str) -> list[Any]:
    if not isinstance(value, dict):
        raise ValueError(f"has something that is no object and should hold {key}; correct it")
    return listed(value.get(key), f"its {key}")


def _word(word: dict[str, Any]) -> Word:
    outlines = (word.get(key) for key in ("polygon", "boundingPolygon", "boundingBox"))
    found = next((each for each in outlines if each is not None), None)
    points = listed(found, "its polygon")
    if points and isinstance(points[0], dict):
        sides = [[point.get("x"), point.get("y")] for point in points if isinstance(point, dict)]
        outline = [numbers(each, 2, "a point") for each in sides]
    else:
        outline = pairs(points, "its polygon")
    text = word.get("content", word.get("text"))
    return Word(outline or None, text=text_of(text))


FORMAT = AnnotationFormat(
    name="azure",
    summary="Azure's answers (Document Intelligence, Read 3, Image Analysis 4), one JSON file per "
    "image of the same name, of one page in pixels",
    dont_care="the text `###`",
    example="""\
{"analyzeResult": {"pages": [{"pageNumber": 1, "width": 200, "height": 100, "unit": "pixel",
  "words": [{"content": "Ada", "polygon": [10, 10, 90, 12, 90, 32, 10, 30]}],
  "lines": [{"content": "Ada", "polygon": [10, 10, 90, 12, 90, 32, 10, 30]}]}]}}""",
    recognise=_recognise,
    read=_read,
    dialects={"word": '"words": [...]', "line": '"lines": [...]'},
)
