"""`words` for millions of images: files with one JSON object per line, in order of names.

`{"name": "a.jpg", "img_w": 200, "img_h": 100, "digest": "<SHA-256>", "words": ...}`: words are as
in `words`, or a list of them. Names are taken as they are, and the folder of images is not looked
at. `digest` is the SHA-256 of the image file; with the size, it stands for the file until that is
decoded.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from ocr_precompute.annotations import json_lines
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.formats.words import entry_of
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found
from ocr_precompute.annotations.sorted_parts import PartFormat, found_in
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_DIGEST = re.compile("[0-9a-fA-F]{64}")


def _recognise(look: Look) -> Fit:
    files = look.files(PARTS.suffix)
    return Fit.YES if any(_is_one(file) for file in files) else Fit.NO


def _is_one(look: Look) -> bool:
    found = look.json
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return False
    in_one_line = '"' in look.text.lstrip().partition("\n")[0]
    return in_one_line and isinstance(found.get("words"), dict | list)


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    """One entry per line; nothing but path is needed."""
    return found_in(path, PARTS)


def understood(file: str, place: str, name: str, line: dict[str, Any]) -> Entry | Problem:
    """The entry of an image, of what its line or row says."""
    words, digest = line.get("words"), line.get("digest")
    if digest is not None and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        reason = '"digest" must be the SHA-256 of the image file, 64 hexadecimal digits'
        return Problem("image", file, name, reason, name)
    if isinstance(words, list):
        line["words"] = dict(zip(_numbers(len(words)), words, strict=True))
    return entry_of(file, name, line, place, bytes.fromhex(digest or ""))


@lru_cache(256)
def _numbers(count: int) -> tuple[str, ...]:
    return tuple([f"{number:04d}" for number in range(1, count + 1)])


PARTS = PartFormat(
    suffix=".jsonl",
    row="line",
    no_name=json_lines.NO_NAME,
    whole=json_lines.whole,
    narrowed=json_lines.narrowed,
    rows=json_lines.rows,
    understand=understood,
)

FORMAT = AnnotationFormat(
    name="words_lines",
    summary="`words` for millions of images, one JSON object per line and image: a folder of "
    "`.jsonl` files, or one of them; lines and files in order of names; `digest` is the image "
    "file's SHA-256",
    dont_care="as in `words`",
    example="""\
{"name": "a.jpg", "words": [{"points": [[10, 10], [90, 12], [90, 32], [10, 30]]}]}
{"name": "b.jpg", "img_w": 200, "img_h": 100, "words": [{"points": [[110, 50], [180, 50], [180, 70]], "ignore": true}]}""",  # noqa: E501
    recognise=_recognise,
    read=_read,
    aliases=("jsonl",),
    parts=PARTS,
)
