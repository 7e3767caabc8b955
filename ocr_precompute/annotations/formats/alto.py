"""ALTO XML: one file per image, of lines (`TextLine`) that hold words (`String`).

An outline is a polygon in a `Shape`, in any of three writings, or else the box of an element's own
attributes. Only files that measure in pixels can be read.
"""

from __future__ import annotations

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
from ocr_precompute.annotations.reading import Entry, Found
from ocr_precompute.annotations.xml_files import Element, document
from ocr_precompute.annotations.xml_forms import (
    count_without,
    fit_of_root,
    found_in_files,
    gather_units,
    numbers_of,
    outline,
    size_of,
)
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_ROOT = "alto"
_UNITS = {"line": "TextLine", "word": "String"}
_HOLDERS = {"line": "TextBlock", "word": "TextLine"}


def _recognise(look: Look) -> Fit:
    return fit_of_root(look, _ROOT)


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    level = dialect or "line"
    read = partial(_entries, images=images, level=level)
    return found_in_files(path, (_ROOT,), read, level)


def _entries(
    path: Path, stem: str, counts: Counter[str], images: ImageNames, level: str
) -> Iterator[Entry | Problem]:
    """The image of a file. counts: what holds no unit of the level, where others do."""
    file, root = str(path), document(path, stem)
    units = list(root.inside(_UNITS[level]))
    without = count_without(root, _HOLDERS[level], _UNITS[level])
    named = root.first("Description", "sourceImageInformation", "fileName")
    name, no_image = image_of(stem, named.text() if named is not None else "", images, above=True)
    if reason := _misfit(root, level, without and not units) or no_image:
        yield Problem("image", file, "", reason, stem)
        return
    if without:
        what = f"{_HOLDERS[level]} elements without a {_UNITS[level]}, which are left out"
        counts[what] += without
    labels = {tag.get("ID"): tag.get("LABEL") for tag in _tags(root)}

    def understand(unit: Element) -> Word:
        kinds = [labels[each] for each in unit.get("TAGREFS").split() if labels.get(each)]
        return Word(_points(unit), False, _text(unit), kinds[0] if kinds else None)

    words = gather_units([(unit.get("ID"), unit) for unit in units], level, understand)
    page = root.first("Layout", "Page")
    size = size_of(page, "HEIGHT", "WIDTH") if page is not None else None
    yield Entry(file, name, words.words, words.bad, size, alone=True)


def _misfit(root: Element, level: str, nothing: int | bool) -> str:
    """Why a file cannot be read; empty if it can be. nothing: whether it has no unit but text."""
    layout = root.first("Layout")
    pages = len(layout.children("Page")) if layout is not None else 0
    unit = root.first("Description", "MeasurementUnit")
    measured = unit.text() if unit is not None else ""
    if root.name != _ROOT or not pages:
        return "is no ALTO XML: there is no Page in a Layout; correct or remove it"
    if pages > 1:
        return f"holds {pages} pages; split it up into a file per image"
    if measured != "pixel":
        said = f"measures in {measured[:40]!r}" if measured else "has no MeasurementUnit"
        return f"{said}, where points are pixels; export it with the MeasurementUnit pixel"
    if nothing and level == "word":
        return "has lines and no String in them; say --format alto:line, or add the words"
    return "has text blocks and no TextLine in them; add the lines" if nothing else ""


def _points(unit: Element) -> list[list[float]]:
    """The outline of a line or word. Raises ValueError if it has none."""
    polygon = unit.first("Shape", "Polygon")
    if polygon is not None and polygon.get("POINTS"):
        return outline(polygon.get("POINTS"), "POINTS")
    sides = ("HPOS", "VPOS", "WIDTH", "HEIGHT")
    if not all(map(unit.get, sides)):
        raise ValueError(
            "has neither a Polygon in a Shape nor HPOS, VPOS, WIDTH and HEIGHT; add or remove it"
        )
    left, top, width, height = numbers_of(unit, *sides)
    return box(left, top, left + width, top + height)


def _text(unit: Element) -> str | None:
    own = [unit] if unit.name == "String" else unit.children("String")
    texts = [each.get("CONTENT") for each in own if "CONTENT" in each.attributes]
    return " ".join(texts) if texts else None


def _tags(root: Element) -> list[Element]:
    tags = root.first("Tags")
    return tags.children() if tags is not None else []


FORMAT = AnnotationFormat(
    name="alto",
    summary="ALTO XML that measures in pixels (eScriptorium, libraries): a folder of files, one "
    "per image, or one of them; lines unless a dialect says otherwise",
    dont_care="the text `###`",
    example="""\
<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#">
  <Description><MeasurementUnit>pixel</MeasurementUnit>
    <sourceImageInformation><fileName>a.jpg</fileName></sourceImageInformation></Description>
  <Layout><Page WIDTH="200" HEIGHT="100"><PrintSpace><TextBlock>
    <TextLine ID="l1"><Shape><Polygon POINTS="10 10 90 12 90 32 10 30"/></Shape>
      <String CONTENT="Ada" HPOS="10" VPOS="10" WIDTH="80" HEIGHT="22"/></TextLine>
  </TextBlock></PrintSpace></Page></Layout>
</alto>""",
    recognise=_recognise,
    read=_read,
    dialects=_UNITS,
)
