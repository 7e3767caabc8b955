"""ArT and LSVT: one JSON file of all images, each with a list of its words.

Names of images are there without a suffix. The two marks of don't-care differ, so either counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Word, flag, gather, text_of
from ocr_precompute.annotations.json_files import members
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, word_label
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_NO_POINTS = frozenset({"transcription", "illegibility", "language"})
_FIRST = 100  # images that are looked at for one with words


def _recognise(look: Look) -> Fit:
    if look.is_folder or not isinstance(look.json, dict):
        return Fit.NO
    values = list(look.json.values())[:_FIRST]
    words = [value[0] for value in values if isinstance(value, list) and value]
    lists = all(isinstance(value, list) for value in values)
    return Fit.YES if lists and any(map(_is_word, words)) else Fit.NO


def _is_word(word: Any) -> bool:
    if not isinstance(word, dict) or "transcription" not in word:
        return False
    if _is_weak(word):
        return True
    points = word.get("points")
    return isinstance(points, list) and bool(points) and isinstance(points[0], list)


def _is_weak(word: Any) -> bool:
    """Whether it is one of LSVT's weak labels, which say a text and not where it is."""
    return isinstance(word, dict) and "transcription" in word and set(word) <= _NO_POINTS


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    return Found(_entries(path, images))


def _entries(path: Path, images: ImageNames) -> Iterator[Entry | Problem]:
    file, weak = str(path), 0
    for key, _, found in members(path):
        name = str(key)
        if isinstance(found, list) and found and all(map(_is_weak, found)):
            weak += 1
            continue
        if not isinstance(found, list) or not isinstance(key, str):
            reason = "must be an image's name and a list of its words; correct or remove it"
            yield Problem("image", file, name, reason, name)
            continue
        matches = images.of_stem(name)
        if len(matches) > 1:
            reason = f"fits several images: {', '.join(matches)}; keep one of them"
            yield Problem("image", file, name, reason, name)
        elif not matches:
            reason = f"there is no image {name}.jpg, .png or the like; add it or remove the entry"
            yield Problem("image", file, name, reason, name)
        else:
            labelled = [(word_label(number), word) for number, word in enumerate(found, 1)]
            words, bad = gather(labelled, _word)
            yield Entry(file, matches[0], words, bad)
    if weak:
        images_are = "1 image has" if weak == 1 else f"{weak} images have"
        reason = (
            f"{images_are} weak labels, texts without points; take the full labels, or remove them"
        )
        yield Problem("annotations", file, "", reason)


def _word(word: dict[str, Any]) -> Word:
    illegible = word.get("illegibility")
    ignored = illegible is not None and flag("illegibility", illegible)
    text, language = text_of(word.get("transcription")), text_of(word.get("language"))
    return Word(word.get("points"), ignored, text, language)


FORMAT = AnnotationFormat(
    name="art",
    summary="ArT and LSVT, one JSON file of all images: names without a suffix, each with a list "
    "of words of 3 or more points",
    dont_care='`"illegibility": true`, the transcription `###`',
    example="""\
{"gt_1": [
  {"points": [[10, 60], [50, 48], [90, 60], [90, 80], [50, 68], [10, 80]],
   "transcription": "Ada", "language": "Latin", "illegibility": false}]}""",
    recognise=_recognise,
    read=_read,
    aliases=("lsvt",),
)
