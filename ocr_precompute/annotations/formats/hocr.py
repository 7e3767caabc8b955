"""hOCR: XHTML as Tesseract writes it, of one page or more, each with the image it is of.

What elements are their classes tell, and where they are their titles. Lines and words without text
are what OCR found and could not read, and don't-care.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Word
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box
from ocr_precompute.annotations.pairing import image_of
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, declared_size
from ocr_precompute.annotations.xml_files import Element, elements
from ocr_precompute.annotations.xml_forms import found_in_files, gather_units, number_list, outline
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_ROOT = "html"
_SUFFIXES = (".hocr", ".html", ".htm", ".xhtml")
_MARKS = ("ocr_page", "ocr-system", "ocr-capabilities")
_DIALECTS = {"line": "ocr_line", "word": "ocrx_word"}
_CLASSES = {
    "line": ("ocr_line", "ocrx_line", "ocr_header", "ocr_caption", "ocr_textfloat"),
    "word": ("ocrx_word", "ocr_word"),
}
_PROPERTY = re.compile(r"""\s*+([\w-]++)\s*+((?:"[^"]*+"|'[^']*+'|[^;])*+);?""")


def _recognise(look: Look) -> Fit:
    files = look.files(*_SUFFIXES)
    fitting = sum(f.root == _ROOT and any(mark in f.text for mark in _MARKS) for f in files)
    return Fit.YES if 2 * fitting > len(files) else Fit.NO


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    level = dialect or "line"
    read = partial(_entries, images=images, level=level)
    return found_in_files(path, (_ROOT,), read, level, _SUFFIXES)


def _entries(
    path: Path, stem: str, counts: Counter[str], images: ImageNames, level: str
) -> Iterator[Entry | Problem]:
    """The images of a file's pages; its own name tells its image if it has but one."""
    file, stem = str(path), stem.removesuffix(".hocr")
    first: Element | None = None
    count = 0
    for page in elements(path, _is_page, html=True):
        count += 1
        if count == 1:
            first = page
            continue
        if first is not None:
            yield _entry(file, first, images.resolved(_image(first)), level)
            first = None
        yield _entry(file, page, images.resolved(_image(page)), level)
    if not count:
        yield Problem("image", file, "", "has no ocr_page; correct or remove it", stem)
    if first is not None:
        name, reason = image_of(stem, _image(first), images, above=True)
        entry = _entry(file, first, name, level, alone=True)
        yield Problem("image", file, "", reason, stem) if reason else entry


def _is_page(name: str, attributes: dict[str, str]) -> bool:
    return "ocr_page" in attributes.get("class", "").split()


def _properties(element: Element) -> dict[str, str]:
    """What an element's title says, by name."""
    return {name: value.strip() for name, value in _PROPERTY.findall(element.get("title"))}


def _image(page: Element) -> str:
    return _properties(page).get("image", "").strip("\"'")


def _entry(file: str, page: Element, name: str, level: str, alone: bool = False) -> Entry | Problem:
    place = f"line {page.line}"
    if not name:
        return Problem("image", file, place, "names no image; add it to the title of the page")
    units = _units(page, level)
    other = "word" if level == "line" else "line"
    if not units and _units(page, other):
        reason = f"has no {_DIALECTS[level]}, but {other}s; say --format hocr:{other} to take them"
        return Problem("image", file, place, reason, name)
    words = gather_units([(unit.get("id"), (unit, kind)) for unit, kind in units], level, _word)
    return Entry(file, name, words.words, words.bad, _size(page), alone, "" if alone else place)


def _units(page: Element, level: str) -> list[tuple[Element, str]]:
    """The lines or words of a page, and the class of each."""
    classes = [(each, set(each.get("class").split())) for each in page.inside()]
    return [(each, kind) for each, own in classes for kind in _CLASSES[level] if kind in own]


def _word(found: tuple[Element, str]) -> Word:
    unit, kind = found
    points, text = _points(unit), _text(unit)
    return Word(points, not text, text, kind)


def _points(unit: Element) -> list[list[float]]:
    """The outline of a line or word. Raises ValueError if its title has none."""
    found = _properties(unit)
    if "poly" in found:
        return outline(found["poly"], "poly")
    corners = number_list(found.get("bbox", ""), "bbox")
    if len(corners) != 4:
        raise ValueError("has no bbox of four numbers in its title; correct or remove it")
    return box(*corners)


def _text(unit: Element) -> str:
    words = [each.text() for each in unit.inside("span") if "ocrx_word" in each.get("class")]
    return " ".join(filter(None, words)) if words else unit.text()


def _size(page: Element) -> tuple[int, int] | None:
    """A page's size, if its box begins at the image's corner."""
    try:
        left, top, right, bottom = number_list(_properties(page).get("bbox", ""), "bbox")
    except ValueError:
        return None
    return declared_size(bottom, right) if left == top == 0 else None


FORMAT = AnnotationFormat(
    name="hocr",
    summary="hOCR, as Tesseract writes it: an XHTML file of one or more pages, or a folder of such "
    "files; lines unless a dialect says otherwise",
    dont_care="a line or word without text, the text `###`",
    example="""\
<html><body>
  <div class="ocr_page" title='image "a.jpg"; bbox 0 0 200 100'>
    <span class="ocr_line" title="bbox 10 10 90 32; baseline 0.01 -3">
      <span class="ocrx_word" title="bbox 10 10 90 32; x_wconf 96">Ada</span></span>
  </div></body></html>""",
    recognise=_recognise,
    read=_read,
    dialects=_DIALECTS,
)
