"""Google Cloud Vision's answers as annotations: one JSON file per image.

Keys are in camel case, or in snake case as the Python client has them. A coordinate that is 0 is
not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Word, gather, listed, text_of
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import from_shares, numbers
from ocr_precompute.annotations.per_image import fit_each, read_each
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, declared_size, word_label
from ocr_precompute.errors import one_line
from ocr_precompute.settings import Rules

_BEYOND = 0.1  # of the image's size: of turned words near its edge
_CAPITAL = re.compile(r"(?=[A-Z])")


def _get(value: Any, key: str) -> Any:
    """What an object has for a key, written either way."""
    if not isinstance(value, dict):
        return None
    return value.get(key, value.get(_CAPITAL.sub("_", key).lower()))


def _has_text(value: Any) -> bool:
    return isinstance(_get(value, "textAnnotations"), list) or isinstance(
        _get(value, "fullTextAnnotation"), dict
    )


def _is_answer(value: Any) -> bool:
    responses = value.get("responses") if isinstance(value, dict) else None
    return isinstance(responses, list) or _has_text(value)


def _recognise(look: Look) -> Fit:
    return fit_each(look, _is_answer)


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    return read_each(path, images, partial(_entry, images))


def _entry(images: ImageNames, file: str, name: str, answer: Any) -> Entry:
    response = _response(answer)
    found, size = _words(response)

    def displayed() -> tuple[int, int]:
        return images.size(name)

    words, bad = gather(found, partial(_word, displayed))
    return Entry(file, name, words, bad, size, alone=True)


def _response(answer: Any) -> dict[str, Any]:
    """The answer for one image. Raises ValueError if there is none, or more than one."""
    found = answer
    if isinstance(answer, dict) and "responses" in answer:
        responses = listed(answer["responses"], "its responses")
        if len(responses) != 1:
            raise ValueError(
                f"holds {len(responses)} responses where one image has one; save each in a file "
                "of its own, named as its image"
            )
        found = responses[0]
    elif not _has_text(answer):
        raise ValueError('has neither "responses" nor "textAnnotations"; correct or remove it')
    if not isinstance(found, dict):
        raise ValueError("its response is no object; correct or remove it")
    if error := found.get("error"):
        raise ValueError(f"is an error of the service ({one_line(error, 80)}); ask it again")
    return found


def _words(response: dict[str, Any]) -> tuple[list[tuple[str, Any]], tuple[int, int] | None]:
    """The words as the answer has them, and the size that it gives for the image.

    Raises ValueError if they cannot be told from the whole text.
    """
    pages = listed(_get(_get(response, "fullTextAnnotation"), "pages"), "its pages")
    if len(pages) > 1:
        raise ValueError(f"holds {len(pages)} pages, and an image is one; split it up by pages")
    if pages:
        words = pages
        for key in ("blocks", "paragraphs", "words"):
            words = [each for one in words for each in _inside(one, key)]
        size = declared_size(_get(pages[0], "height"), _get(pages[0], "width"))
    else:
        whole, *words = listed(_get(response, "textAnnotations"), "its textAnnotations") or [None]
        if whole is not None and not words:
            raise ValueError("has the whole text and no word of its own; correct or remove it")
        size = None
    return [(word_label(number), word) for number, word in enumerate(words, 1)], size


def _inside(value: Any, key: str) -> list[Any]:
    if not isinstance(value, dict):
        raise ValueError(f"has something that is no object and should hold {key}; correct it")
    return listed(_get(value, key), f"its {key}")


def _word(displayed: Callable[[], tuple[int, int]], word: dict[str, Any]) -> Word:
    text = text_of(word.get("description"))
    if text is None:
        symbols = [_get(symbol, "text") for symbol in listed(word.get("symbols"), "its symbols")]
        text = "".join([each for each in symbols if isinstance(each, str)]) or None
    outline = _get(word, "boundingBox") or _get(word, "boundingPoly")
    if vertices := _get(outline, "vertices"):
        return Word(_points(vertices), text=text)
    if vertices := _get(outline, "normalizedVertices"):
        return Word(from_shares(_points(vertices), displayed(), _BEYOND), text=text)
    raise ValueError("has no vertices; correct or remove it")


def _points(vertices: Any) -> list[list[float]]:
    points = []
    for vertex in listed(vertices, "its vertices"):
        if not isinstance(vertex, dict):
            raise ValueError("has a vertex that is no object; correct or remove it")
        found = [0.0 if vertex.get(side) is None else vertex[side] for side in ("x", "y")]
        points.append(numbers(found, 2, "a vertex"))
    return points


FORMAT = AnnotationFormat(
    name="google_vision",
    summary="Google Cloud Vision's answers, one JSON file per image of the same name: its words, "
    "of `fullTextAnnotation` or else `textAnnotations`, in pixels or as shares",
    dont_care="the text `###`",
    example="""\
{"responses": [{"textAnnotations": [
  {"description": "Ada", "boundingPoly": {"vertices": [{"y": 10}, {"x": 90, "y": 12}]}},
  {"description": "Ada", "boundingPoly": {"vertices": [
    {"y": 10}, {"x": 90, "y": 12}, {"x": 90, "y": 32}, {"y": 30}]}}]}]}""",
    recognise=_recognise,
    read=_read,
    aliases=("gvision",),
)
