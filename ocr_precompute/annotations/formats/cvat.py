"""CVAT for images 1.1: one XML file of all images and their shapes, read image by image.

Of a project the same name may be in several subsets; its images lie in `images/<subset>/`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import Gathered
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.masks import BadMask, mask_outlines
from ocr_precompute.annotations.outlines import box, circle, turned
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found
from ocr_precompute.annotations.xml_files import Element, elements
from ocr_precompute.annotations.xml_forms import number_list, numbers_of, outline, size_of
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_NAME = "annotations.xml"
_TEXTS = ("text", "transcription", "caption")
_IGNORED = {"": False, "false": False, "0": False, "true": True, "1": True}
_BAD_MASK = "mask that cannot be decoded"
_EXPORT = 'export it as "CVAT for images 1.1"'

Outlines = list[list[list[float]]]


def _recognise(look: Look) -> Fit:
    file = Look(look.path / _NAME) if look.is_folder else look
    marks = ("<image", "<track", "<meta", "<version>")
    fits = file.root == "annotations" and any(mark in file.text for mark in marks)
    return Fit.YES if fits else Fit.NO


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    warnings: list[str] = []
    file = path / _NAME if path.is_dir() else path
    return Found(_entries(file, images, warnings), warnings=warnings)


def _entries(path: Path, images: ImageNames, warnings: list[str]) -> Iterator[Entry | Problem]:
    file, subsets, skipped = str(path), dict[str, str](), Counter[str]()
    count = 0
    for element in elements(path, lambda name, _: name in ("image", "track")):
        if element.name == "track":
            reason = f"holds tracks of a video, whose frames are no image files; {_EXPORT}"
            yield Problem("annotations", file, f"line {element.line}", reason)
            return
        count += 1
        name, reason = _image_name(element, images, subsets)
        if reason:
            yield Problem("image", file, f"line {element.line} {name}".strip(), reason, name)
        else:
            yield _entry(file, name, element, skipped)
    if not count:
        yield Problem("annotations", file, "", f"has no images; {_EXPORT}")
    no_masks = skipped.pop(_BAD_MASK, 0)
    if skipped:
        found = ", ".join(f"{kind} {number}" for kind, number in sorted(skipped.items()))
        warnings.append(f"{path}: shapes that are no areas are left out: {found}")
    if no_masks:
        warnings.append(
            f"{path}: {no_masks} masks cannot be decoded, their boxes are taken; correct them"
        )


def _image_name(image: Element, images: ImageNames, subsets: dict[str, str]) -> tuple[str, str]:
    """The image's name on disk, and what is wrong with it; empty if nothing is.

    subsets: of each image that was not found in its subset's folder, its subset; is added to.
    """
    name, subset = image.get("name"), image.get("subset")
    if not name:
        return "", "has no name; add or remove it"
    if not subset:
        return images.resolved(name), ""
    own = f"{subset}/{name}"
    for found in (f"images/{own}", own):
        if images.on_disk(found) in images.names:
            return images.on_disk(found), ""
    found = images.resolved(name)
    if subsets.setdefault(found, subset) == subset:
        return found, ""
    return found, (
        f"is in the subsets {subsets[found]} and {subset}, and there is no image {own}; put the "
        "images into a folder per subset, as CVAT exports them"
    )


def _entry(file: str, name: str, image: Element, skipped: Counter[str]) -> Entry:
    words = Gathered()
    for count, shape in enumerate(image.children(), 1):
        if shape.name not in _SHAPES:
            skipped[shape.name[:40]] += 1
            continue
        label = f"{shape.name} {count}"
        try:
            text, ignored = _attributes(shape)
            outlines = _SHAPES[shape.name](shape)
        except BadMask:
            skipped[_BAD_MASK] += 1
            outlines = [_mask_box(shape)]
        except ValueError as error:
            words.fail(label, error, of_class=shape.get("label") or None)
            continue
        for part, points in enumerate(outlines, 1):
            called = f"{label} part {part}" if len(outlines) > 1 else label
            words.add(called, points, ignored, text, shape.get("label") or None)
    size = size_of(image, "height", "width")
    return Entry(file, name, words.words, words.bad, size, place=f"line {image.line}")


def _attributes(shape: Element) -> tuple[str | None, bool]:
    """A shape's text, and whether it is don't-care. Raises ValueError if that is unclear."""
    given = {each.get("name").lower(): each.text() for each in shape.children("attribute")}
    text = next((given[name] for name in _TEXTS if name in given), None)
    mark = given.get("ignore", "").lower()
    if mark not in _IGNORED:
        raise ValueError(f'its attribute "ignore" is {mark[:40]!r}; it must be true or false')
    return text, _IGNORED[mark] or (text is not None and is_dont_care(text))


def _box(shape: Element) -> Outlines:
    left, top, right, bottom = numbers_of(shape, "xtl", "ytl", "xbr", "ybr")
    corners, degrees = box(left, top, right, bottom), _rotation(shape)
    middle = (left + right) / 2, (top + bottom) / 2
    return [turned(corners, degrees, middle) if degrees else corners]


def _ellipse(shape: Element) -> Outlines:
    x, y, across, down = numbers_of(shape, "cx", "cy", "rx", "ry")
    around = [[x + across * u, y + down * v] for u, v in circle([0, 0], [1, 0])]
    return [turned(around, _rotation(shape), (x, y))]


def _rotation(shape: Element) -> float:
    """Degrees, clockwise around the middle."""
    degrees = numbers_of(shape, "rotation")[0] if shape.get("rotation") else 0.0
    if not abs(degrees) < 1e6:
        raise ValueError("its rotation is no angle; correct it")
    return degrees


def _polygon(shape: Element) -> Outlines:
    return [outline(shape.get("points"), "points")]


def _mask(shape: Element) -> Outlines:
    """Outlines of a mask, whose runs go row by row through its box."""
    left, top, width, height = numbers_of(shape, "left", "top", "width", "height")
    counts = number_list(shape.get("rle"), "rle")
    # Column by column it is the mask mirrored, so that x and y change places.
    mirrored = mask_outlines({"size": [width, height], "counts": counts})
    return [(each[::-1, ::-1] + (left, top)).tolist() for each in mirrored]


def _mask_box(shape: Element) -> list[list[float]]:
    left, top, width, height = numbers_of(shape, "left", "top", "width", "height")
    return box(left, top, left + width, top + height)


_SHAPES: dict[str, Callable[[Element], Outlines]] = {
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
    "polygon": _polygon,
}


FORMAT = AnnotationFormat(
    name="cvat",
    summary="CVAT for images 1.1, one XML file (or the folder that holds its `annotations.xml`): "
    "boxes, also turned ones, polygons, masks and ellipses; every label is text",
    dont_care="an attribute `ignore` that is true, an attribute `text` that is `###`",
    example="""\
<annotations>
  <version>1.1</version>
  <image id="0" name="a.jpg" width="200" height="100">
    <box label="text" xtl="40" ytl="20" xbr="80" ybr="40" rotation="90.0">
      <attribute name="text">Ada</attribute>
    </box>
    <polygon label="text" points="10.00,10.00;90.00,12.00;90.00,32.00;10.00,30.00"/>
  </image>
</annotations>""",
    recognise=_recognise,
    read=_read,
)
