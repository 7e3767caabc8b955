"""Folders of ICDAR/SROIE text files: `x1,y1,x2,y2,x3,y3,x4,y4,text`, one file an image.

`gt_img_1.txt` and `img_1.csv` both belong to `img_1.jpg`. The text may hold commas, the file a
byte-order mark; the text `###` means don't care.
"""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations import Entry
from ocr_precompute.errors import Problem

_TEXT_SUFFIXES = {".txt", ".csv"}
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_DONT_CARE = "###"
_LONGEST_SHOWN = 40


def recognises(path: Path) -> bool:
    """Whether path is a folder that holds a text file."""
    return path.is_dir() and any(_text_files(path))


def read(path: Path, images: Path) -> Iterator[Entry | Problem]:
    """One entry a text file, matched to the image of the same stem in the folder `images`."""
    if not path.is_dir():
        yield Problem("annotations", str(path), "", "must be a folder of text files")
        return
    named: dict[str, list[str]] = defaultdict(list)
    if images.is_dir():
        for name in sorted(os.listdir(images)):
            if Path(name).suffix.lower() in _IMAGE_SUFFIXES:
                named[Path(name).stem].append(name)
    for file in _text_files(path):
        stem = file.stem.removeprefix("gt_")
        matches = named.get(file.stem) or named.get(stem) or []
        if len(matches) == 1:
            yield from _read_file(file, matches[0])
        elif matches:
            reason = f"fits several images: {', '.join(matches)}; keep one of them"
            yield Problem("image", str(file), "", reason, stem)
        else:
            reason = f"there is no image {stem}.jpg, .png or the like; add it or remove this file"
            yield Problem("image", str(file), "", reason, stem)


def _text_files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_file() and not e.name.startswith("."))
    for name in names:
        if Path(name).suffix.lower() in _TEXT_SUFFIXES:
            yield folder / name


def _read_file(file: Path, name: str) -> Iterator[Entry | Problem]:
    try:
        text = file.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; correct or remove it"
        yield Problem("image", str(file), "", reason, name)
        return
    words: list[tuple[str, Any, bool]] = []
    # Not str.splitlines: it also splits at characters that occur in transcriptions.
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if not line.strip():
            continue
        fields = line.rstrip("\n").split(",", 8)
        try:
            numbers = [float(field) for field in fields[:8]]
        except ValueError:
            wrong = next(field for field in fields if not _is_number(field))
            yield _bad_line(file, number, f"{wrong[:_LONGEST_SHOWN]!r} is not a number", name)
            continue
        if len(numbers) < 8:
            yield _bad_line(file, number, f"has {len(numbers)} numbers, not 8", name)
            continue
        points = [numbers[i : i + 2] for i in range(0, 8, 2)]
        words.append((f"line {number}", points, "".join(fields[8:]).strip() == _DONT_CARE))
    yield Entry(str(file), name, words)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _bad_line(file: Path, number: int, reason: str, name: str) -> Problem:
    message = f"{reason}; a line is x1,y1,x2,y2,x3,y3,x4,y4,text"
    return Problem("polygon", str(file), f"line {number}", message, name)
