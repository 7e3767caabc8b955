"""KAIST and SVT: XML of images whose words are upright boxes.

KAIST has a file per image, whose words are spelt character by character. SVT has a file of many
images, and so has ICDAR 2003, in the same form.
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
from ocr_precompute.annotations.reading import Entry, Found, word_label
from ocr_precompute.annotations.xml_files import Element, document, elements
from ocr_precompute.annotations.xml_forms import fit_of_root, found_in_files, numbers_of, size_of
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_KAIST, _SVT = ("images", "image"), ("tagset",)


def _is_kaist(look: Look) -> Fit:
    return fit_of_root(look, *_KAIST, mark="<words")


def _is_svt(look: Look) -> Fit:
    return fit_of_root(look, *_SVT)


def _read_kaist(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    return found_in_files(path, _KAIST, partial(_kaist_entries, images=images))


def _read_svt(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    return found_in_files(path, _SVT, partial(_svt_entries, images=images))


def _kaist_entries(
    path: Path, stem: str, counts: Counter[str], images: ImageNames
) -> Iterator[Entry | Problem]:
    root = document(path, stem)
    found = [root] if root.name == "image" else root.children("image")
    if root.name not in _KAIST or not found:
        yield Problem("image", str(path), "", "has no image in it; correct or remove it", stem)
    for image in found:
        name = _name(image)
        reason = ""
        if len(found) == 1:
            name, reason = image_of(stem, name, images)
        if reason:
            yield Problem("image", str(path), "", reason, stem)
        else:
            yield _entry(path, image, images.resolved(name), len(found) == 1)


def _svt_entries(
    path: Path, stem: str, counts: Counter[str], images: ImageNames
) -> Iterator[Entry | Problem]:
    count = 0
    for image in elements(path, lambda name, _: name == "image"):
        count += 1
        yield _entry(path, image, images.resolved(_name(image)), False)
    if not count:
        yield Problem("annotations", str(path), "", "has no image in it; correct or remove it")


def _name(image: Element) -> str:
    name = image.first("imageName")
    return name.text() if name is not None else ""


def _entry(path: Path, image: Element, name: str, alone: bool) -> Entry | Problem:
    place = f"line {image.line}"
    if not name:
        return Problem("image", str(path), place, "has no imageName; add or remove it")
    words = Gathered()
    for number, word in enumerate(image.inside("word", "taggedRectangle"), 1):
        label = word_label(number)
        try:
            left, top, width, height = numbers_of(word, "x", "y", "width", "height")
            if word.get("rotation") and numbers_of(word, "rotation") != [0]:
                raise ValueError("is turned, which way is not known; turn it back or remove it")
            if width < 0 or height < 0:
                raise ValueError("has a negative width or height; correct or remove it")
        except ValueError as error:
            words.fail(label, error)
            continue
        text = _text(word)
        words.add(label, box(left, top, left + width, top + height), is_dont_care(text), text)
    resolutions = image.children("resolution", "Resolution")
    size = size_of(resolutions[0], "y", "x") if resolutions else None
    return Entry(str(path), name, words.words, words.bad, size, alone, "" if alone else place)


def _text(word: Element) -> str:
    tag = word.first("tag")
    if tag is not None:
        return tag.text()
    return "".join(each.get("char") for each in word.children("character"))


KAIST = AnnotationFormat(
    name="kaist",
    summary="KAIST scene text: a folder of XML files, one per image, or one of them; words are "
    "upright boxes",
    dont_care="the text `###`",
    example="""\
<images><image><imageName>a.jpg</imageName><resolution x="200" y="100"/>
  <words><word x="10" y="10" width="80" height="20">
    <character x="10" y="10" width="20" height="20" char="A"/></word></words>
</image></images>""",
    recognise=_is_kaist,
    read=_read_kaist,
)

SVT = AnnotationFormat(
    name="svt",
    summary="Street View Text, and ICDAR 2003: one XML file of many images (`train.xml`), or a "
    "folder of such files; words are upright boxes",
    dont_care="the text `###`",
    example="""\
<tagset><image><imageName>img/a.jpg</imageName><Resolution x="200" y="100"/>
  <taggedRectangles><taggedRectangle x="10" y="10" width="80" height="20">
    <tag>ADA</tag></taggedRectangle></taggedRectangles>
</image></tagset>""",
    recognise=_is_svt,
    read=_read_svt,
    aliases=("icdar2003",),
)
