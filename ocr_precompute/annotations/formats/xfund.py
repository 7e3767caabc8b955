"""XFUND: one JSON file of many forms, each as FUNSD has it and with its image's name and size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.formats.funsd import DIALECTS, entity_words, has_entities
from ocr_precompute.annotations.json_files import members
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, declared_size
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules


def _recognise(look: Look) -> Fit:
    if look.is_folder or not isinstance(look.json, dict):
        return Fit.NO
    documents = look.json.get("documents")
    first = documents[0] if isinstance(documents, list) and documents else None
    return Fit.YES if has_entities(first, "document") else Fit.NO


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    chosen = dialect or "word"
    return Found(_entries(path, images, chosen), chosen)


def _entries(path: Path, images: ImageNames, level: str) -> Iterator[Entry | Problem]:
    file, is_there = str(path), False
    for section, key, form in members(path, ("documents",)):
        if section != "documents":
            continue
        is_there |= isinstance(key, int) or form == []
        if not isinstance(key, int):
            continue
        image = form.get("img") if isinstance(form, dict) else None
        image = image if isinstance(image, dict) else {}
        name = image.get("fname")
        if not isinstance(name, str) or not name:
            reason = "has no image's name (img, fname); correct or remove it"
            yield Problem("image", file, f"documents[{key}]", reason)
            continue
        name = images.resolved(name)
        try:
            words, bad = entity_words(form.get("document"), 'its "document"', level)
        except ValueError as error:
            yield Problem("image", file, name, str(error), name)
            continue
        size = declared_size(image.get("height"), image.get("width"))
        yield Entry(file, name, words, bad, size)
    if not is_there:
        yield Problem("annotations", file, "", 'has no list "documents"; it is not of this format')


FORMAT = AnnotationFormat(
    name="xfund",
    summary="XFUND, one JSON file of all forms: boxes of words (of Chinese and Japanese often "
    "characters), or of entities, most of which are lines; an entity's label is the class",
    dont_care="a text that is empty, or `###`",
    example="""\
{"documents": [{"img": {"fname": "zh_train_0.jpg", "width": 200, "height": 100},
  "document": [{"box": [10, 10, 90, 30], "text": "Ada", "label": "question", "id": 0,
                "words": [{"box": [10, 10, 90, 30], "text": "Ada"}]}]}]}""",
    recognise=_recognise,
    read=_read,
    dialects=DIALECTS,
)
