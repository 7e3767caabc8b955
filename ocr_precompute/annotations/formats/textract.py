"""Amazon Textract's answers as annotations: one JSON file per image, points as its shares."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Word, gather, listed, text_of
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box, from_shares
from ocr_precompute.annotations.per_image import fit_each, read_each
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found
from ocr_precompute.settings import Rules

_BEYOND = 0.1  # of the image's size: of turned words near its edge
_SIDES = ("Left", "Top", "Width", "Height")


def _is_answer(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and isinstance(first.get("Blocks"), list)


def _recognise(look: Look) -> Fit:
    return fit_each(look, _is_answer)


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    chosen = dialect or "word"
    found = read_each(path, images, partial(_entry, images, chosen.upper()))
    return Found(found.entries, chosen, found.left_out)


def _entry(images: ImageNames, level: str, file: str, name: str, answer: Any) -> Entry:
    blocks = _blocks(answer)
    pages = {str(block.get("Page") or 1.0) for block in blocks if isinstance(block, dict)}
    if len(pages) > 1:
        raise ValueError(f"holds {len(pages)} pages, and an image is one; split it up by pages")
    of_level = [
        (f"block {number}", block)
        for number, block in enumerate(blocks, 1)
        if not isinstance(block, dict) or block.get("BlockType") == level
    ]
    words, bad = gather(of_level, partial(_word, images.size(name)))
    return Entry(file, name, words, bad, alone=True)


def _blocks(answer: Any) -> list[Any]:
    """The blocks of an answer, or of all parts of one. Raises ValueError if it is not whole."""
    parts = answer if isinstance(answer, list) else [answer]
    blocks: list[Any] = []
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("Blocks"), list):
            raise ValueError('has no list "Blocks"; correct or remove it')
        blocks += part["Blocks"]
    if parts and parts[-1].get("NextToken"):
        raise ValueError('is not the whole answer ("NextToken"); save a list of all its parts')
    return blocks


def _word(size: tuple[int, int], block: dict[str, Any]) -> Word:
    geometry = block.get("Geometry")
    if not isinstance(geometry, dict):
        raise ValueError("has no Geometry; correct or remove it")
    polygon = geometry.get("Polygon")
    if polygon is None:
        left, top, width, height = _of(geometry.get("BoundingBox"), _SIDES)
        shares = box(left, top, left + width, top + height)
    else:
        shares = [_of(point, ("X", "Y")) for point in listed(polygon, "its Polygon")]
    text, kind = text_of(block.get("Text")), text_of(block.get("TextType"))
    return Word(from_shares(shares, size, _BEYOND), text=text, of_class=kind)


def _of(value: Any, names: tuple[str, ...]) -> list[float]:
    found: list[Any] = [value.get(n) for n in names] if isinstance(value, dict) else [None]
    if not set(map(type, found)) <= {float}:
        raise ValueError(f"has no {', '.join(names)} that are numbers; correct or remove it")
    return found


FORMAT = AnnotationFormat(
    name="textract",
    summary="Amazon Textract's answers, one JSON file per image of the same name, of one page; "
    "points are shares of the image's size, which its header gives",
    dont_care="the text `###`",
    example="""\
{"Blocks": [
  {"BlockType": "WORD", "Text": "Ada", "TextType": "PRINTED", "Geometry": {"Polygon": [
    {"X": 0.05, "Y": 0.1}, {"X": 0.45, "Y": 0.1}, {"X": 0.45, "Y": 0.3}, {"X": 0.05, "Y": 0.3}
  ]}}]}""",
    recognise=_recognise,
    read=_read,
    dialects={"word": '"BlockType": "WORD"', "line": '"BlockType": "LINE"'},
)
