"""PaddleOCR's `Label.txt`, as PPOCRLabel writes it: one line per image, its name, a tab, its words.

Words are a list in JSON, in old files in Python. Names are often relative to the folder above the
images, or of another machine. A line that is there again, as when lists are repeated, counts once.
"""

from __future__ import annotations

import ast
import hashlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames, text_lines
from ocr_precompute.annotations.json_files import RepeatedKey, decoded
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import BadWord, Entry, Found, Words, word_label
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_NAME = "Label.txt"
_LINE = re.compile(r"[^\t]+\t\s*\[")
_FORM = "must be an image's name, a tab and a list of words; correct or remove it"


def _recognise(look: Look) -> Fit:
    file = Look(look.path / _NAME) if look.is_folder else look
    lines = file.lines or (file.text,)
    return Fit.YES if all(map(_LINE.match, lines)) else Fit.NO


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    return Found(_entries(path / _NAME if path.is_dir() else path, images))


def _entries(path: Path, images: ImageNames) -> Iterator[Entry | Problem]:
    known: dict[str, bytes] = {}
    for number, line in text_lines(path):
        name, tab, listed = line.partition("\t")
        if not tab:
            yield Problem("annotations", str(path), f"line {number}", _FORM)
            continue
        image = images.resolved(name)
        digest = hashlib.sha256(listed.strip().encode(errors="surrogatepass")).digest()
        if image not in known:
            known[image] = digest
            yield _entry(path, f"line {number}", image, listed)
        elif known[image] != digest:
            reason = "is annotated twice, and not the same; keep one of the lines"
            yield Problem("image", str(path), f"line {number}: {name}", reason, image)


def _entry(path: Path, place: str, image: str, listed: str) -> Entry | Problem:
    try:
        found = _words(listed)
    except ValueError as error:
        return Problem("image", str(path), f"{place}: {image}", str(error), image)
    labels: list[str] = []
    columns: tuple[list[str | None], list[str | None]] = [], []
    words, bad = Words(labels, [], [], *columns), []
    for number, word in enumerate(found, 1):
        if not isinstance(word, dict):
            bad.append(BadWord(word_label(number), None, "must be an object; correct or remove it"))
            continue
        text = word.get("transcription")
        labels.append(word_label(number))
        for column, key in zip(columns, ("transcription", "key_cls"), strict=True):
            column.append((word[key] or None) if isinstance(word.get(key), str) else None)
        words.points.append(word.get("points"))
        words.ignore.append(isinstance(text, str) and (is_dont_care(text) or text.strip() == "*"))
    return Entry(str(path), image, words, bad, place=place)


def _words(listed: str) -> list[Any]:
    """The list that a line holds. Raises ValueError if it is none."""
    try:
        found = decoded(listed)
    except RepeatedKey as error:
        raise ValueError(f"{error}; keep one of the two") from None
    except ValueError:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in texts
                found = ast.literal_eval(listed.strip())
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise ValueError(_FORM) from None
    if not isinstance(found, list):
        raise ValueError(_FORM)
    return found


FORMAT = AnnotationFormat(
    name="paddle",
    summary="PaddleOCR's `Label.txt` as PPOCRLabel writes it, or the folder that holds it: one "
    "line per image, its name, a tab, a list of words in JSON",
    dont_care="the transcriptions `###` and `*`",
    example="""\
train/a.jpg\t[{"transcription": "Ada", "points": [[10,10],[90,12],[90,32],[10,30]]},
\t {"transcription": "###", "points": [[110,50],[180,50],[180,70],[110,70]]}]   (in one line)""",
    recognise=_recognise,
    read=_read,
    aliases=("paddleocr", "ppocrlabel"),
)
