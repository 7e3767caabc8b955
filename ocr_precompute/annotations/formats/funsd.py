"""FUNSD: one JSON file per form, of entities and of their words, which are boxes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Word, gather, listed, text_of
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box, numbers, pairs
from ocr_precompute.annotations.per_image import fit_each, read_each
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import BadWord, Entry, Found, Words
from ocr_precompute.settings import Rules

DIALECTS = {"word": '"words": [{"box": ..., "text": ...}]', "entity": '"box": ..., "text": ...'}
"""What of a form is read."""

_QUAD = 8  # numbers of a word that is no box


def _recognise(look: Look) -> Fit:
    return fit_each(look, lambda value: has_entities(value, "form"))


def has_entities(value: Any, key: str) -> bool:
    """Whether an object has entities under a key, as far as can be told by the first."""
    entities = value.get(key) if isinstance(value, dict) else None
    if not isinstance(entities, list):
        return False
    return not entities or (
        isinstance(entities[0], dict) and {"box", "text"} & set(entities[0]) != set()
    )


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    chosen = dialect or "word"
    found = read_each(path, images, partial(_entry, chosen), ("annotations", "images"))
    return Found(found.entries, chosen, found.left_out)


def _entry(level: str, file: str, name: str, page: Any) -> Entry:
    if not isinstance(page, dict) or "form" not in page:
        raise ValueError('has no list "form"; correct or remove it')
    words, bad = entity_words(page["form"], '"form"', level)
    return Entry(file, name, words, bad, alone=True)


def entity_words(entities: Any, what: str, level: str) -> tuple[Words, list[BadWord]]:
    """The words of a list of entities, or the entities themselves, and those that are bad.

    what: the list, for messages. level: one of DIALECTS. An entity without words counts as one.
    Raises ValueError if it is no list, nor those of words.
    """
    labelled: list[tuple[str, Any]] = []
    for number, entity in enumerate(listed(entities, what), 1):
        label = f"entity {number}"
        inside = entity.get("words") if isinstance(entity, dict) and level == "word" else None
        words = listed(inside, f"the words of {label}")
        kind = entity.get("label") if isinstance(entity, dict) else None
        for place, word in enumerate(words, 1):
            of_kind = {**word, "label": kind} if isinstance(word, dict) else word
            labelled.append((f"{label} word {place}", of_kind))
        if not words:
            labelled.append((label, entity))
    return gather(labelled, _word)


def _word(word: dict[str, Any]) -> Word:
    text, found = text_of(word.get("text")), word.get("box")
    if isinstance(found, list) and len(found) == _QUAD:
        points = pairs(found, "its box")
    else:
        points = box(*numbers(found, 4, "its box"))
    return Word(points, text is not None and not text.strip(), text, text_of(word.get("label")))


FORMAT = AnnotationFormat(
    name="funsd",
    summary="FUNSD, one JSON file per form of the image's name: boxes of words, or of entities, "
    "whose label is the word's class",
    dont_care="a text that is empty, or `###`",
    example="""\
{"form": [{"id": 0, "text": "Ada", "box": [10, 10, 90, 30], "label": "question", "linking": [],
           "words": [{"box": [10, 10, 90, 30], "text": "Ada"}]}]}""",
    recognise=_recognise,
    read=_read,
    dialects=DIALECTS,
)
