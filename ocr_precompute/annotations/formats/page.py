"""PAGE XML: one file per image, of regions that hold lines that hold words.

The namespace tells the version and does not matter; files of 2009 and 2010 have a `Point` for each
point. Transkribus lays files out as `page/a.xml` below `a.jpg`, whatever suffix they name.
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
    unrepeated,
)
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_ROOT = "PcGts"
_UNITS = {"line": "TextLine", "word": "Word", "region": "TextRegion"}
_HOLDERS = {"line": "TextRegion", "word": "TextLine", "region": ""}
_INSTEAD = {"line": "region", "word": "line"}
_TYPE = re.compile(r"structure\s*\{[^}]*?type:([^;}]*)")


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
    page = root.first("Page")
    if root.name != _ROOT or page is None:
        reason = "is no PAGE XML: there is no Page in a PcGts; correct or remove it"
        yield Problem("image", file, "", reason, stem)
        return
    name, reason = image_of(stem, page.get("imageFilename"), images, above=True)
    units = list(page.inside(_UNITS[level]))
    without = count_without(page, _HOLDERS[level], _UNITS[level])
    if not reason and without and not units:
        instead = _INSTEAD[level]
        reason = (
            f"has no {_UNITS[level]}, but {without} {_HOLDERS[level]}; say --format page:{instead} "
            f"to take each {instead}, or add what is missing"
        )
    if reason:
        yield Problem("image", file, "", reason, stem)
        return
    if without:
        what = f"{_HOLDERS[level]} elements without a {_UNITS[level]}, which are left out"
        counts[what] += without
    words = gather_units([(unit.get("id"), unit) for unit in units], level, _word)
    yield Entry(
        file, name, words.words, words.bad, size_of(page, "imageHeight", "imageWidth"), alone=True
    )


def _word(unit: Element) -> Word:
    return Word(_points(unit), False, _text(unit), _type(unit))


def _points(unit: Element) -> list[list[float]]:
    """The outline of a line, word or region. Raises ValueError if it has none."""
    coords = unit.first("Coords")
    if coords is not None and coords.get("points"):
        return outline(coords.get("points"), "points")
    points = coords.children("Point") if coords is not None else []
    if points:
        return unrepeated([numbers_of(point, "x", "y") for point in points])
    if unit.first("Baseline") is not None:
        raise ValueError("has a Baseline and no Coords, so no outline; add its Coords or remove it")
    raise ValueError("has no Coords, so no outline; add or remove it")


def _text(unit: Element) -> str | None:
    """What it says, by itself or by the words in it; None if there is no telling."""
    own = [unit] if unit.first("TextEquiv") is not None else unit.children("Word")
    found = [each.first("TextEquiv", "Unicode") for each in own]
    texts = [each.text() for each in found if each is not None]
    return " ".join(texts) if texts else None


def _type(unit: Element) -> str | None:
    """What kind of text it is, as Transkribus has it, else as the schema has it for regions."""
    match = _TYPE.search(unit.get("custom"))
    found = match[1].replace("\\u0020", " ").strip() if match else unit.get("type")
    return found or None


FORMAT = AnnotationFormat(
    name="page",
    summary="PAGE XML of all versions (Transkribus, eScriptorium, OCR-D): a folder of files, one "
    "per image, or one of them; lines unless a dialect says otherwise",
    dont_care="the text `###`",
    example="""\
<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15">
  <Page imageFilename="a.jpg" imageWidth="200" imageHeight="100">
    <TextRegion id="r1"><Coords points="0,0 199,0 199,99 0,99"/>
      <TextLine id="l1"><Coords points="10,10 90,12 90,32 10,30"/></TextLine>
    </TextRegion>
  </Page>
</PcGts>""",
    recognise=_recognise,
    read=_read,
    aliases=("page-xml",),
    dialects=_UNITS,
)
