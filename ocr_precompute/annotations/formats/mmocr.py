"""MMOCR's annotations: of 1.x one JSON document with a `data_list`, of 0.x a JSON object per line.

Lines are those of detection, with a segmentation, and those of WildReceipt, with a box of 8
numbers. A `bbox` is its corners in 1.x, and x, y, width and height in 0.x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames, text_lines
from ocr_precompute.annotations.gathering import Gathered, text_of
from ocr_precompute.annotations.json_files import decoded, members
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box, numbers, pairs
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, declared_size, word_label
from ocr_precompute.errors import Problem, one_line
from ocr_precompute.settings import Rules

_NUMBERED = ("bbox_label", "label", "category_id")  # by the keys of a word
_DIALECTS = {
    "json": '{"metainfo": {...}, "data_list": [{"img_path": ..., "instances": [...]}, ...]}',
    "lines": '{"file_name": ..., "annotations": [...]} in each line',
}


def _recognise(look: Look) -> Fit:
    return Fit.YES if not look.is_folder and _dialect(look) else Fit.NO


def _dialect(look: Look) -> str:
    """Which one a file is in; empty if in none."""
    found = look.json if isinstance(look.json, dict) else {}
    if isinstance(found.get("data_list"), list):
        return "json"
    in_one_line = '"' in look.text.lstrip().partition("\n")[0]
    named = isinstance(found.get("file_name"), str) and isinstance(found.get("annotations"), list)
    return "lines" if named and in_one_line else ""


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    chosen = dialect or _dialect(Look(path)) or "json"
    entries = _of_document if chosen == "json" else _of_lines
    return Found(entries(path, images), chosen)


@dataclass(frozen=True)
class _Form:
    """What an image is called, what lists its words, how each gives its polygons."""

    name: str
    listed: str
    outlines: Callable[[dict[str, Any]], list[list[list[float]]]]


def _of_document(path: Path, images: ImageNames) -> Iterator[Entry | Problem]:
    file, classes, listed = str(path), dict[float, str](), False
    form = _Form("img_path", "instances", _outline_of_corners)
    for section, key, value in members(path, ("data_list",)):
        if section == "metainfo":
            classes = _classes(value)
        elif section == "data_list" and isinstance(key, int):
            yield _entry(file, f"data_list[{key}]", value, form, images, classes)
        elif section == "data_list":
            listed = value == []
    if not listed:
        yield Problem("annotations", file, "", 'has no list "data_list"; it is not of this format')


def _of_lines(path: Path, images: ImageNames) -> Iterator[Entry | Problem]:
    form = _Form("file_name", "annotations", _outlines_of_sizes)
    for number, line in text_lines(path):
        place = f"line {number}"
        try:
            value = decoded(line)
        except ValueError as error:
            reason = f"is not valid JSON: {one_line(error)}; correct or remove it"
            yield Problem("annotations", str(path), place, reason)
            continue
        yield _entry(str(path), place, value, form, images, {})


def _classes(metainfo: Any) -> dict[float, str]:
    """The names of categories by their numbers."""
    listed = metainfo.get("category") if isinstance(metainfo, dict) else None
    found = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return {
        each["id"]: each["name"]
        for each in found
        if isinstance(each.get("id"), float) and isinstance(each.get("name"), str)
    }


def _entry(
    file: str,
    place: str,
    image: Any,
    form: _Form,
    images: ImageNames,
    classes: Mapping[float, str],
) -> Entry | Problem:
    found = image if isinstance(image, dict) else {}
    name, listed = found.get(form.name), found.get(form.listed)
    if not isinstance(name, str) or not name or not isinstance(listed, list):
        reason = f'must have "{form.name}" and a list "{form.listed}"; correct or remove it'
        sample = images.resolved(name) if isinstance(name, str) else ""
        return Problem("image", file, place, reason, sample)
    words = Gathered()
    for number, word in enumerate(listed, 1):
        label = word_label(number)
        try:
            if not isinstance(word, dict):
                raise ValueError("must be an object; correct or remove it")
            outlines, ignored = form.outlines(word), _is_ignored(word)
        except ValueError as error:
            words.fail(label, error)
            continue
        text, of_class = text_of(word.get("text")), _class(word, classes)
        for part, points in enumerate(outlines, 1):
            named = f"{label} part {part}" if len(outlines) > 1 else label
            words.add(named, points, ignored, text, of_class)
    size = declared_size(found.get("height"), found.get("width"))
    return Entry(file, images.resolved(name), words.words, words.bad, size, place=place)


def _outline_of_corners(word: dict[str, Any]) -> list[list[list[float]]]:
    if word.get("polygon"):
        return [pairs(word["polygon"], "its polygon")]
    if word.get("bbox") is None:
        raise ValueError('has neither a "polygon" nor a "bbox"; correct or remove it')
    left, top, right, bottom = numbers(word["bbox"], 4, "its bbox")
    return [box(left, top, right, bottom)]


def _outlines_of_sizes(word: dict[str, Any]) -> list[list[list[float]]]:
    if "box" in word:
        numbers(word["box"], 8, "its box")
        return [pairs(word["box"], "its box")]
    if parts := word.get("segmentation"):
        listed = isinstance(parts, list) and isinstance(parts[0], list)
        return [pairs(part, "its segmentation") for part in (parts if listed else [parts])]
    if word.get("bbox") is None:
        raise ValueError('has no "segmentation", "box" or "bbox"; correct or remove it')
    left, top, width, height = numbers(word["bbox"], 4, "its bbox")
    return [box(left, top, left + width, top + height)]


def _class(word: dict[str, Any], classes: Mapping[float, str]) -> str | None:
    """The name of a word's category, or else its number."""
    number = next((word[key] for key in _NUMBERED if isinstance(word.get(key), float)), None)
    return None if number is None else classes.get(number, f"{number:.15g}")


def _is_ignored(word: dict[str, Any]) -> bool:
    """Whether it is don't-care. Raises ValueError if there is no telling."""
    for mark in (word.get("ignore"), word.get("iscrowd")):
        if mark not in (None, 0, 1):
            raise ValueError("ignore and iscrowd must be true, false, 1 or 0; correct it")
        if mark:
            return True
    text = word.get("text")
    unread = "box" in word and word.get("label") == 0
    return unread or (isinstance(text, str) and is_dont_care(text))


FORMAT = AnnotationFormat(
    name="mmocr",
    summary="MMOCR: of 1.x a JSON file with a `data_list`, of 0.x (WildReceipt, too) a file with a "
    "JSON object per line and image",
    dont_care='`"ignore": true` or 1, `"iscrowd": 1`, the text `###`; of WildReceipt the label 0',
    example="""\
{"metainfo": {"dataset_type": "TextDetDataset", "category": [{"id": 0, "name": "text"}]},
 "data_list": [{"img_path": "a.jpg", "height": 100, "width": 200, "instances": [
  {"polygon": [10, 10, 90, 12, 90, 32, 10, 30], "bbox": [10, 10, 90, 32],
   "bbox_label": 0, "ignore": false},
  {"bbox": [110, 50, 180, 70], "bbox_label": 0, "ignore": true}]}]}""",
    recognise=_recognise,
    read=_read,
    dialects=_DIALECTS,
)
