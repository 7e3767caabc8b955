"""YOLO's text files: one per image, one line per word, in shares of the image's size.

`labels/sub/a.txt` belongs to `images/sub/a.jpg`. What the numbers of a line are is decided over the
whole folder; any line may end with a confidence where most do. Names of classes are those of
`data.yaml`, `classes.txt` or `obj.names`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ocr_precompute.annotations.checks import too_many
from ocr_precompute.annotations.class_names import CLASS_FILES, class_names, is_data_yaml
from ocr_precompute.annotations.folders import ImageNames, decode_text, read_bounded, text_files
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.outlines import box, check_shares
from ocr_precompute.annotations.pairing import image_beside
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import BadWord, Entry, Found, Words
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

DIALECTS = {
    "box": "class x y width height",
    "segment": "class x1 y1 ... xn yn",
    "obb": "class x1 y1 x2 y2 x3 y3 x4 y4",
}
"""Name of each dialect and its line, after which a confidence may stand."""

_SUFFIX = ".txt"
_FOLDERS = ("labels", "images")
_LISTS = ("train.txt", "val.txt", "valid.txt", "test.txt")  # of images
_BEYOND = 0.01  # of the image's size
_LARGEST_FILE = 64 << 20  # bytes
_BOX, _QUAD, _LEAST = 4, 8, 6  # numbers of a box, of a quad, of any polygon
_SHOWN = 3
_LONGEST_SHOWN = 40

_is_class = re.compile(r"[0-9]{1,9}(?:\.0*)?").fullmatch


def _recognise(look: Look) -> Fit:
    if not look.is_folder:
        return Fit.YES if is_data_yaml(look.text) else Fit.NO
    files = [f for f in look.files(_SUFFIX) if f.lines and not _is_about(f.path.name)]
    fitting = sum(2 * sum(map(_fits, file.lines)) > len(file.lines) for file in files)
    if not files:
        configs = look.files(".yaml", ".yml")
        return Fit.YES if any(is_data_yaml(file.text) for file in configs) else Fit.NO
    return Fit.YES if 2 * fitting > len(files) else Fit.NO


def _fits(line: str) -> bool:
    """Whether a line can be one of some dialect."""
    try:
        fields = [float(field) for field in line.split()]
    except ValueError:
        return False
    shares = all(-_BEYOND <= field <= 1 + _BEYOND for field in fields[1:])
    return len(fields) > _BOX and fields[0] >= 0 and fields[0].is_integer() and shares


def _is_about(name: str) -> bool:
    """Whether a text file of that name is about the whole, if no image has that name."""
    name = name.lower()
    return name in CLASS_FILES or name in _LISTS or name.startswith("readme")


@dataclass(frozen=True, eq=False)
class _Labels:
    """A text file, and the image that it belongs to."""

    path: Path
    image: str
    text: str

    def lines(self) -> Iterator[tuple[int, str]]:
        """Lines that are not blank, with their numbers."""
        for number, line in enumerate(self.text.split("\n"), 1):
            if line and not line.isspace():
                yield number, line


@dataclass(frozen=True)
class _Form:
    """How lines are read. confident: those of polygons may end with a confidence."""

    dialect: str
    confident: bool
    most: int

    def numbers(self, line: str) -> tuple[str, list[float]]:
        """A line's class, and the numbers of its outline: four of a box, more of a polygon.

        Raises ValueError saying what is wrong with it.
        """
        kind, *fields = line.split(None, 2 * self.most + 2)
        if len(fields) > 2 * self.most + 1:
            raise ValueError(
                f"has more points than the limit of {self.most}; correct it, or raise max_vertices"
            )
        if not _is_class(kind):
            raise ValueError(f"{_short(kind)} is no number of a class; a line is {self._line}")
        try:
            values = list(map(float, fields))
        except ValueError:
            wrong = next(field for field in fields if not _is_number(field))
            reason = f"{_short(wrong)} is not a number; a line is {self._line}"
            raise ValueError(reason) from None
        count = len(values)
        is_box = count in (_BOX, _BOX + 1) and self.dialect != "obb"
        if is_box:
            values = values[:_BOX]
        elif count % 2 and self.confident:
            values = values[:-1]
        fits = {
            "box": is_box,
            "obb": len(values) == _QUAD,
            "segment": is_box or (len(values) >= _LEAST and len(values) % 2 == 0),
        }
        if not fits[self.dialect]:
            raise ValueError(f"has {count} numbers after its class; a line is {self._line}")
        check_shares(values, _BEYOND)
        return kind.partition(".")[0], values

    @property
    def _line(self) -> str:
        return DIALECTS[self.dialect]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and not is_data_yaml(Look(path).text):
        reason = "must be a folder of text files, or the data.yaml beside it"
        return Found([Problem("annotations", str(path), "", reason)])
    warnings: list[str] = []
    names, left_out = text_files(folder, {_SUFFIX})
    paired, problems = _paired(folder, names, images, left_out, warnings)
    counts: Counter[int] = Counter()
    files: list[_Labels] = []
    for name, image in paired:
        found = _open(folder / name, image, rules, counts)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            files.append(found)
    form = _form(folder, dialect, counts, rules, warnings)
    classes = class_names(folder, _FOLDERS[0], path if path != folder else None, warnings)

    def entries() -> Iterator[Entry | Problem]:
        yield from problems
        for file in files:
            yield _entry(file, images, form, classes)

    return Found(entries(), form.dialect, tuple(sorted(left_out)), warnings)


def _paired(
    folder: Path,
    names: Sequence[str],
    images: ImageNames,
    left_out: list[tuple[str, str]],
    warnings: list[str],
) -> tuple[list[tuple[str, str]], list[Problem]]:
    """Text files with the images they belong to; and what is wrong with those that have none.

    Folders none of whose files has an image are another split's, and left out.
    """
    in_labels = [name for name in names if _FOLDERS[0] in PurePosixPath(name).parts[:-1]]
    paired: list[tuple[str, str]] = []
    alone: list[tuple[str, str]] = []
    for name in names:
        if in_labels and _FOLDERS[0] not in PurePosixPath(name).parts[:-1]:
            left_out.append((name, f"is in no folder {_FOLDERS[0]}"))
            continue
        try:
            paired.append((name, image_beside(folder / name, images, _FOLDERS)))
        except ValueError as error:
            if _is_about(os.path.basename(name)):
                left_out.append((name, "is about the whole, and no image's"))
            else:
                alone.append((name, str(error)))
    full = {os.path.dirname(name) for name, _ in paired} or {os.path.dirname(n) for n, _ in alone}
    others = [(name, reason) for name, reason in alone if os.path.dirname(name) not in full]
    left_out += others
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        warnings.append(
            f"{folder}: text files of folders none of which has an image are left out: "
            + ", ".join(name for name, _ in others[:_SHOWN])
            + more
        )
    problems = [
        Problem("image", str(folder / name), "", reason, os.path.splitext(name)[0])
        for name, reason in alone
        if os.path.dirname(name) in full
    ]
    return paired, problems


def _open(path: Path, image: str, rules: Rules, counts: Counter[int]) -> _Labels | Problem:
    """A file's text; counts how many fields its lines have."""
    try:
        labels = _Labels(path, image, decode_text(read_bounded(path, _LARGEST_FILE)))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; correct or remove it"
        return Problem("image", str(path), "", reason, image)
    except ValueError as error:
        return Problem("image", str(path), "", str(error), image)
    own = [len(line.split(None, 2 * rules.max_vertices + 2)) for _, line in labels.lines()]
    if len(own) > rules.max_polygons:
        return too_many(str(path), image, len(own), rules)
    counts.update(own)
    return labels


def _form(
    folder: Path, dialect: str, counts: Counter[int], rules: Rules, warnings: list[str]
) -> _Form:
    """How the lines of a folder are read, by how many there are of each number of fields."""
    boxes = sum(n for count, n in counts.items() if count <= _BOX + 2)
    polygons = counts.total() - boxes
    with_confidence = sum(n for count, n in counts.items() if count % 2 == 0)
    confident = 2 * with_confidence > counts.total()
    chosen = dialect
    if not dialect:
        quads = set(counts) <= {_QUAD + 1, _QUAD + 2}
        chosen = "box" if not polygons else "obb" if quads else "segment"
    if chosen == "segment" and boxes and polygons:
        warnings.append(
            f"{folder}: read as polygons; {boxes} of {counts.total()} lines are boxes "
            f"({DIALECTS['box']})"
        )
    return _Form(chosen, confident, rules.max_vertices)


def _entry(
    file: _Labels, images: ImageNames, form: _Form, classes: Sequence[str]
) -> Entry | Problem:
    labels: list[str] = []
    kinds: list[str | None] = []
    words, bad = Words(labels, [], [], (), kinds), []
    try:
        height, width = images.size(file.image)
    except ValueError as error:
        return Problem("image", str(file.path), "", str(error), file.image)
    for number, line in file.lines():
        label = f"line {number}"
        try:
            kind, values = form.numbers(line)
        except ValueError as error:
            bad.append(BadWord(label, None, str(error)))
            continue
        labels.append(label)
        words.points.append([[x * width, y * height] for x, y in _outline(values)])
        words.ignore.append(False)
        kinds.append(classes[int(kind)] if int(kind) < len(classes) else kind)
    return Entry(str(file.path), file.image, words, bad, alone=True)


def _outline(values: list[float]) -> list[list[float]]:
    if len(values) > _BOX:
        return [values[i : i + 2] for i in range(0, len(values), 2)]
    x, y, width, height = values
    return box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


FORMAT = AnnotationFormat(
    name="yolo",
    summary="YOLO: a folder of text files, `labels/a.txt` for `images/a.jpg` (sub-folders as those "
    "of the images), or the `data.yaml` beside it; boxes, polygons or turned boxes as shares of "
    "the image's size, which its header gives",
    dont_care="nothing",
    example="""\
0 0.25 0.2 0.4 0.2
0 0.725 0.6 0.35 0.2""",
    recognise=_recognise,
    read=_read,
    dialects=DIALECTS,
)
