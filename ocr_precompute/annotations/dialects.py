"""Dialects of ICDAR text files: what the fields of a line are, decided over a whole folder.

A line has a shape: how many numbers it begins with, and what follows them. Rules about shapes say
which dialects a line fits; there are few shapes, so that a million lines need few decisions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

DIALECTS = {
    "mlt": "x1,y1,x2,y2,x3,y3,x4,y4,script,text",
    "rctw": 'x1,y1,x2,y2,x3,y3,x4,y4,difficult,"text"',
    "quad": "x1,y1,x2,y2,x3,y3,x4,y4,text",
    "polygon": "x1,y1,...,xn,yn,text",
    "ltrb": "left,top,right,bottom,text",
    "xywh": "x,y,width,height,text",
}
"""Name and form of each dialect; of those that fit equally well the first is meant."""

PREFERRED = {("quad", "polygon"), ("ltrb", "xywh")}
"""Pairs of which the first is taken even where the second would give other polygons."""

DONT_CARE = "###"
_STRAY_NUMBERS = 4  # a text that begins with so many numbers more is none: they are coordinates
_SCRIPTS = frozenset(  # of ICDAR MLT 2017 and 2019
    {"Arabic", "Latin", "Chinese", "Japanese", "Korean", "Bangla", "Hindi"}
    | {"Symbols", "Mixed", "None"}
)
_NUMBER = (
    r"[ \t]*+[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++|nan|infinity|inf)(?:e[-+]?[0-9]++)?[ \t]*+"
)
_is_number = re.compile(_NUMBER, re.IGNORECASE | re.ASCII).fullmatch
_numbers = re.compile(f"(?:{_NUMBER},)*+", re.IGNORECASE | re.ASCII).match
# The commonest shapes in one pattern, since a look at each line takes three times as long.
_PLAIN_NUMBER = r"-?[0-9]++(?:\.[0-9]*+)?+"
_COMMON = re.compile(
    rf"^(?:{_PLAIN_NUMBER},){{8}}+(?:({_PLAIN_NUMBER})|({DONT_CARE})|(?!nan|inf|{'|'.join(sorted(_SCRIPTS))})"
    r"[^\s\"+\-.0-9,#][^,#\n]*(,[^#\n]*)?)\n",
    re.IGNORECASE | re.ASCII | re.MULTILINE,
)
_common, _without_common = _COMMON.findall, _COMMON.sub
_HEADERS = {
    "xywh": ("x y w h", "x y width height", "left top width height"),
    "ltrb": ("left top right bottom", "l t r b", "xmin ymin xmax ymax"),
    "quad": ("x1 y1 x2 y2 x3 y3 x4 y4", "x0 y0 x1 y1 x2 y2 x3 y3"),
}


class Shape(NamedTuple):
    """What a line looks like.

    numbers: how many fields it begins with are numbers. text: what comes then: `` nothing,
    `mark` the text ###, `quoted` a text in quotes, `difficult` a quoted text after 0 or 1, `script`
    and `script mark` a script and a text, `other mark` any field and ###, `commas` a text with
    commas, `word` one without. spaced: fields are separated by spaces.
    corners, box: whether the first four numbers can be left, top, right, bottom, or x, y, width,
    height; False for lines that do not begin with four to seven.
    """

    numbers: int
    text: str
    spaced: bool = False
    corners: bool = False
    box: bool = False


def count_shapes(text: str) -> Counter[Shape]:
    """How many lines of a text have each shape; blank lines have none. It ends with a newline."""
    common = _common(text)
    shapes = Counter(
        {
            Shape(9, ""): sum(map(bool, [number for number, _, _ in common])),
            Shape(8, "mark"): sum(map(bool, [mark for _, mark, _ in common])),
            Shape(8, "commas"): sum(map(bool, [commas for _, _, commas in common])),
        }
    )
    shapes[Shape(8, "word")] = len(common) - shapes.total()
    if text.count("\n") > len(common):
        others = _without_common("", text).split("\n")
        shapes.update([shape(line) for line in others if line and not line.isspace()])
    return +shapes


def shape(line: str) -> Shape:
    """The shape of a line."""
    end = number_end(line)
    numbers = line.count(",", 0, end)
    rest = line[end:].strip()
    if rest and not numbers:
        return _spaced_shape(line)
    if rest and rest[0] in "+-.0123456789nNiI" and _is_number(rest):
        numbers, rest = numbers + 1, ""
    text = _text_shape(rest) if rest else ""
    if text == "quoted" and numbers == 9 and line[:end].rsplit(",", 2)[1].strip() in ("0", "1"):
        text = "difficult"
    if 4 <= numbers < 8:
        return Shape(numbers, text, False, *_rectangles(line.split(",", 4)))
    return Shape(numbers, text)


def number_end(line: str) -> int:
    """Where the fields that a line begins with are no longer numbers and a comma."""
    match = _numbers(line)
    return match.end() if match else 0


def _spaced_shape(line: str) -> Shape:
    fields = line.split(None, 4)
    count = next((i for i, field in enumerate(fields[:4]) if not _is_number(field)), 4)
    rest = fields[4].strip() if len(fields) > 4 else ""
    if len(fields) < 4 or count < 4 or (rest and _is_number(rest.split(None, 1)[0])):
        return Shape(0, "commas" if "," in line else "word")
    return Shape(4, _text_shape(rest) if rest else "", True, *_rectangles(fields))


def _text_shape(rest: str) -> str:
    if is_dont_care(rest):
        return "quoted" if rest[0] == '"' else "mark"
    if rest[0] == '"' and len(rest) > 1 and rest[-1] == '"':
        return "quoted"
    if "," not in rest:
        return "word"
    first, _, other = rest.partition(",")
    mark = is_dont_care(other)
    if first.strip() in _SCRIPTS:
        return "script mark" if mark else "script"
    return "other mark" if mark else "commas"


def _rectangles(fields: list[str]) -> tuple[bool, bool]:
    left, top, right, bottom = map(float, fields[:4])
    return left <= right and top <= bottom, right >= 0 and bottom >= 0


def is_dont_care(text: str) -> bool:
    """Whether a text is the don't-care mark ###, in quotes or not."""
    return DONT_CARE in text and text.strip().strip('"').strip() == DONT_CARE


def word_text(dialect: str, text: str) -> str:
    """What a word says: the end of its line, of most dialects without the quotes around it."""
    text = text.strip()
    quoted = dialect not in ("quad", "mlt") and len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if quoted else text


def polygon_numbers(line: Shape) -> int:
    """How many of a line's numbers are coordinates where polygons may have any number of points."""
    return line.numbers - line.numbers % 2


def readable(dialect: str, line: Shape) -> bool:
    """Whether a line can be read if the user says that it is of that dialect."""
    least = {"polygon": 6, "ltrb": 4, "xywh": 4}.get(dialect, 8)
    return line.numbers >= least and (dialect != "xywh" or line.box or line.numbers >= 8)


def fits(dialect: str, line: Shape) -> bool:
    """Whether a line breaks no rule of a dialect, where nobody says which it is."""
    numbers, text = line.numbers, line.text
    if dialect == "mlt":
        return numbers == 8 and text in ("script", "script mark")
    if dialect == "rctw":
        return text == "difficult"
    if line.spaced and dialect not in ("ltrb", "xywh"):
        return False
    if dialect == "polygon":
        one_text = numbers % 2 == 0 and text in ("mark", "quoted", "word")
        return numbers >= 6 and (one_text or text == "")
    # A number before a text in quotes, or one field before the mark, is no part of a text.
    least = 8 if dialect == "quad" else 4
    if numbers > least and text in ("mark", "quoted", "difficult"):
        return False
    if numbers == least and text in ("other mark", "script mark"):
        return False
    rectangle = {"quad": True, "ltrb": line.corners, "xywh": line.box}[dialect]
    return least <= numbers < least + _STRAY_NUMBERS and rectangle


def reads_alike(one: str, other: str, line: Shape) -> bool:
    """Whether a line that fits both dialects gives the same polygon in both."""
    counts = {"polygon": polygon_numbers(line), "ltrb": 4, "xywh": -4}
    return counts.get(one, 8) == counts.get(other, 8)


def ranked(shapes: Mapping[Shape, int]) -> list[tuple[int, str]]:
    """(number of lines that do not fit, dialect), best first; shapes: how many lines have each."""
    order = list(DIALECTS)
    broken = {d: sum(n for s, n in shapes.items() if not fits(d, s)) for d in order}
    return sorted(((broken[d], d) for d in order), key=lambda pair: (pair[0], order.index(pair[1])))


def rivals(best: str, others: list[str], shapes: Mapping[Shape, int]) -> list[str]:
    """Those of the others that would give another polygon for some line."""
    return [
        other
        for other in others
        if any(
            fits(best, line) and fits(other, line) and not reads_alike(best, other, line)
            for line in shapes
        )
    ]


def header(line: str) -> str | None:
    """The dialect that a file's first line names by its columns; None if it is no such line."""
    names = " ".join(line.replace(",", " ").replace('"', " ").lower().split())
    for dialect, starts in _HEADERS.items():
        if names.startswith(starts):
            return dialect
    return None


def split_line(dialect: str, line: str, found: Shape | None = None) -> tuple[list[str], str, bool]:
    """A line's coordinates, its text, and whether a field says that it is difficult.

    found: the line's shape, if it is known. Of lines that are not readable what there is.
    """
    if dialect in ("quad", "mlt", "rctw"):
        fields = line.split(",", 8 if dialect == "quad" else 9)
        difficult = dialect == "rctw" and len(fields) > 8 and _is_difficult(fields[8])
        return fields[:8], fields[-1] if len(fields) > (8 + (dialect != "quad")) else "", difficult
    if dialect == "polygon":
        count = polygon_numbers(found or shape(line))
        fields = line.split(",", count)
        return fields[:count], fields[count] if len(fields) > count else "", False
    spaced = (found or shape(line)).spaced
    fields = line.split(None, 4) if spaced else line.split(",", 4)
    return fields[:4], fields[4] if len(fields) > 4 else "", False


def _is_difficult(field: str) -> bool:
    return not _is_number(field) or float(field) != 0


def misfit(dialect: str, line: str, found: Shape, given: bool) -> str:
    """What is wrong with a line that is not readable, or does not fit; empty if nothing is.

    given: the user says which dialect it is.
    """
    if readable(dialect, found) if given else fits(dialect, found):
        return ""
    form = f"a line is {DIALECTS[dialect]}"
    if not readable(dialect, found):
        needed = {"polygon": 6, "ltrb": 4, "xywh": 4}.get(dialect, 8)
        fields = line.split(",", needed)[:needed]
        wrong = next((field for field in fields if not _is_number(field)), None)
        if wrong is not None:
            return f"{wrong[:_LONGEST_SHOWN]!r} is not a number; {form}"
        if len(fields) < needed:
            return f"has {len(fields)} numbers, not {needed}; {form}"
        return f"has a negative width or height; {form}"
    if dialect == "quad" and found.numbers >= 8 + _STRAY_NUMBERS:
        return (
            f"has {found.numbers} numbers where most lines have 8 and a text; if they are "
            "coordinates say --format icdar:polygon, if not --format icdar:quad"
        )
    return (
        f"does not fit the dialect of most lines ({DIALECTS[dialect]}); correct it, "
        f"or say --format icdar:{dialect} to read it so all the same"
    )


_LONGEST_SHOWN = 40
