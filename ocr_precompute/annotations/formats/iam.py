"""IAM: handwritten forms, an XML file each, whose words are made of components.

A word's box is the one around its components; marks of punctuation may have none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Gathered
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box
from ocr_precompute.annotations.pairing import image_of
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found
from ocr_precompute.annotations.xml_files import Element, document
from ocr_precompute.annotations.xml_forms import fit_of_root, found_in_files, numbers_of, size_of
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_ROOT = "form"
_DIALECTS = {"word": "word, around its cmp", "line": "line, around every cmp in it"}


def _recognise(look: Look) -> Fit:
    return fit_of_root(look, _ROOT, mark="<handwritten-part")


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    level = dialect or "word"
    return found_in_files(path, (_ROOT,), partial(_entries, images=images, level=level), level)


def _entries(
    path: Path, stem: str, counts: Counter[str], images: ImageNames, level: str
) -> Iterator[Entry | Problem]:
    """The image of a form. counts: of what is on it and has no box."""
    form = document(path, stem)
    if form.name != _ROOT or form.first("handwritten-part") is None:
        reason = "is no form with a handwritten-part; correct or remove it"
        yield Problem("image", str(path), "", reason, stem)
        return
    name, reason = image_of(stem, form.get("id"), images)
    if reason:
        yield Problem("image", str(path), "", reason, stem)
        return
    words = Gathered()
    for number, unit in enumerate(form.inside(level), 1):
        label = f"{level} {unit.get('id') or number}"[:60]
        components = list(unit.inside("cmp"))
        if not components:
            counts[f"{level}s without a component, as of punctuation, which are left out"] += 1
            continue
        try:
            points = _around(components)
        except ValueError as error:
            words.fail(label, error)
            continue
        text = unit.get("text")
        words.add(label, points, is_dont_care(text), text, unit.get("tag") or None)
    if form.first("machine-printed-part", "machine-print-line") is not None:
        counts["forms with printed text, which has no boxes and would be learnt as background"] += 1
    yield Entry(
        str(path), name, words.words, words.bad, size_of(form, "height", "width"), alone=True
    )


def _around(components: list[Element]) -> list[list[float]]:
    """The box around components. Raises ValueError if one is no box."""
    boxes = [numbers_of(each, "x", "y", "width", "height") for each in components]
    left, top = (min(each[axis] for each in boxes) for axis in (0, 1))
    right, bottom = (max(each[axis] + each[axis + 2] for each in boxes) for axis in (0, 1))
    return box(left, top, right, bottom)


FORMAT = AnnotationFormat(
    name="iam",
    summary="IAM handwriting: a folder of XML files, one per form, or one of them; words unless a "
    "dialect says otherwise, each the box around its components",
    dont_care="the text `###`",
    example="""\
<form id="a01-000u" width="200" height="100"><handwritten-part><line id="a01-000u-00">
  <word id="a01-000u-00-00" tag="NN" text="Ada">
    <cmp x="10" y="10" width="20" height="20"/><cmp x="32" y="12" width="58" height="18"/></word>
</line></handwritten-part></form>""",
    recognise=_recognise,
    read=_read,
    dialects=_DIALECTS,
)
