"""CTW1500, curved text as polygons of 14 points: a file per image, in one of three forms.

Texts of 2017 give offsets from the corner of a box, XML of 2020 (training) and texts of 2020 (test)
the points themselves. The names of the latter have three more zeros than those of their images.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ocr_precompute.annotations.checks import too_many
from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames, decode_text, read_bounded, text_files
from ocr_precompute.annotations.gathering import Gathered
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box
from ocr_precompute.annotations.pairing import image_of
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, word_label
from ocr_precompute.annotations.xml_files import Element, document
from ocr_precompute.annotations.xml_forms import (
    fit_of_root,
    found_in_files,
    number_list,
    numbers_of,
)
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_DIALECTS = {
    "offsets": "xmin,ymin,xmax,ymax,dx1,dy1,...,dx14,dy14",
    "text": "x1,y1,...,x14,y14,####text",
    "xml": "<box><label>text</label><segs>x1,y1,...,x14,y14</segs></box>",
}
_COUNT = 28  # numbers of an outline
_ROOT = "Annotations"
_MARK = "####"  # before each text
_WHOLE = r"[ \t]*+-?[0-9]{1,9}+[ \t]*+"
_OFFSETS = re.compile(rf"{_WHOLE}(?:,{_WHOLE}){{31}}", re.ASCII)
_TEXT = re.compile(rf"(?:{_WHOLE},){{28}}{_MARK}", re.ASCII)
_LARGEST_FILE = 64 << 20  # bytes


def dialect_of(line: str) -> str:
    """Which of the forms of text a line can be; empty if none.

    A polygon of 16 points has 32 numbers, too, but such as lie in a box of that size at the origin
    only if it begins there.
    """
    if _TEXT.match(line):
        return "text"
    if _OFFSETS.fullmatch(line.strip()):
        left, top, right, bottom, *offsets = map(int, line.split(","))
        across, down = offsets[::2], offsets[1::2]
        inside = max(across) <= right - left + 1 and max(down) <= bottom - top + 1
        return "offsets" if inside and min(across) >= -1 and min(down) >= -1 else ""
    return ""


def _recognise(look: Look) -> Fit:
    if fit_of_root(look, _ROOT, mark="<segs") == Fit.YES:
        return Fit.YES
    return Fit.YES if _dialect_of_texts(look) else Fit.NO


def _dialect_of_texts(look: Look) -> str:
    """The form of most lines of a file, or of a folder's files; empty if most are of none."""
    lines = [dialect_of(line) for file in look.files(".txt") for line in file.lines]
    dialect, count = Counter(lines).most_common(1)[0] if lines else ("", 0)
    return dialect if 2 * count > len(lines) else ""


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    look = Look(path)
    in_xml = path.suffix == ".xml" or any(file.root == _ROOT for file in look.files(".xml"))
    chosen = dialect or ("xml" if in_xml else _dialect_of_texts(look) or "text")
    if chosen == "xml":
        return found_in_files(path, (_ROOT,), partial(_of_xml, images=images), chosen)
    folder, names, left_out = path.parent, [path.name], list[tuple[str, str]]()
    if path.is_dir():
        folder = path
        names, left_out = text_files(path, {".txt"})
    entries = (_of_text(folder / name, name, images, chosen, rules) for name in names)
    return Found(entries, chosen, tuple(left_out))


def _image_of(stem: str, declared: str, images: ImageNames) -> tuple[str, str]:
    folder, file = os.path.split(stem)
    name, reason = image_of(stem, declared, images)
    if reason and file.startswith("000"):
        shorter, none = image_of(os.path.join(folder, file[3:]), "", images)
        return (name, reason) if none else (shorter, "")
    return name, reason


# ---------------------------------------------------------------------------------------- texts


def _of_text(
    path: Path, name: str, images: ImageNames, dialect: str, rules: Rules
) -> Entry | Problem:
    stem = os.path.splitext(name)[0]
    image, reason = _image_of(stem, "", images)
    try:
        text = "" if reason else decode_text(read_bounded(path, _LARGEST_FILE))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; correct or remove it"
    except ValueError as error:
        reason = str(error)
    if reason:
        return Problem("image", str(path), "", reason, image or stem)
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > rules.max_polygons:
        return too_many(str(path), image, len(lines), rules)
    words = Gathered()
    for number, line in lines:
        _add_line(words, f"line {number}", line, dialect)
    return Entry(str(path), image, words.words, words.bad, alone=True)


def _add_line(words: Gathered, label: str, line: str, dialect: str) -> None:
    fields = line.split(",", _COUNT if dialect == "text" else -1)
    count = _COUNT if dialect == "text" else _COUNT + 4
    try:
        values = number_list(",".join(fields[:count]), "line")
        if len(fields) < count or len(values) != count or (dialect != "text" and fields[count:]):
            raise ValueError(f"has not {count} numbers; a line is {_DIALECTS[dialect]}")
        said = fields[count].strip() if dialect == "text" and fields[count:] else None
        if dialect == "text" and (said is None or not said.startswith(_MARK)):
            raise ValueError(f"has no {_MARK} before its text; a line is {_DIALECTS[dialect]}")
    except ValueError as error:
        words.fail(label, error)
        return
    if said is None:
        left, top = values[:2]
        values = [v + (top if i % 2 else left) for i, v in enumerate(values[4:])]
    points = [values[i : i + 2] for i in range(0, _COUNT, 2)]
    text = said[len(_MARK) :] if said is not None else None
    words.add(label, points, text is not None and is_dont_care(text), text)


# ------------------------------------------------------------------------------------------ XML


def _of_xml(
    path: Path, stem: str, counts: Counter[str], images: ImageNames
) -> Iterator[Entry | Problem]:
    root = document(path, stem)
    found = root.children("image")
    if root.name != _ROOT or len(found) != 1:
        reason = f"must have one image in {_ROOT}; correct or remove it"
        yield Problem("image", str(path), "", reason, stem)
        return
    name, reason = _image_of(stem, found[0].get("file"), images)
    if reason:
        yield Problem("image", str(path), "", reason, stem)
        return
    words = Gathered()
    for number, each in enumerate(found[0].children("box"), 1):
        label = each.first("label")
        text = label.text() if label is not None else None
        try:
            points = _outline(each)
        except ValueError as error:
            words.fail(word_label(number), error, _corners(each))
            continue
        words.add(word_label(number), points, text is not None and is_dont_care(text), text)
    yield Entry(str(path), name, words.words, words.bad, alone=True)


def _outline(word: Element) -> list[list[float]]:
    segments = word.first("segs")
    values = number_list(segments.text(), "segs") if segments is not None else []
    if len(values) != _COUNT:
        raise ValueError(f"has {len(values)} numbers in its segs, not {_COUNT}; correct it")
    return [values[i : i + 2] for i in range(0, _COUNT, 2)]


def _corners(word: Element) -> list[list[float]] | None:
    """The box of a word whose outline cannot be read; None if it cannot be read, either."""
    try:
        left, top, width, height = numbers_of(word, "left", "top", "width", "height")
    except ValueError:
        return None
    return box(left, top, left + width, top + height)


FORMAT = AnnotationFormat(
    name="ctw1500",
    summary="CTW1500: a folder of text or XML files, one per image, or one of them; polygons of 14 "
    "points, in the forms of 2017 and 2020",
    dont_care="the text `###`; nothing in texts of 2017",
    example="""\
<Annotations><image file="0001.jpg"><box height="29" left="10" top="41" width="36">
  <label>CURVED</label>
  <segs>10,50,16,45,22,42,28,41,34,42,40,45,46,50,46,70,40,65,34,62,28,61,22,62,16,65,10,70</segs>
</box></image></Annotations>""",
    recognise=_recognise,
    read=_read,
    dialects=_DIALECTS,
)
