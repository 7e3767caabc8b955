"""XML files: read part by part within bounds, so that memory is that of a part.

Nothing is fetched, and no entity that a document declares is taken, whatever it holds. Names are
compared without their namespaces, which change with versions of a format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.entities import html5
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

from ocr_precompute.annotations.folders import open_bounded
from ocr_precompute.errors import InputError, Problem

LARGEST_FILE = 1 << 30
"""Bytes of a file that is read part by part."""
LARGEST_DOCUMENT = 128 << 20
"""Bytes of a file that is held whole."""

_CHUNK = 1 << 16  # bytes
_DEEPEST = 64  # elements within elements
_MOST_ELEMENTS = 1 << 19  # of a part
_MOST_TEXT = 1 << 26  # characters of a part
_MOST_ATTRIBUTES = 256  # of an element
_MOST_NAMES = 10_000  # of elements and attributes, in a file
_LONGEST = 1 << 22  # bytes of a tag or comment
_SHOWN = 40


@dataclass(frozen=True, eq=False, slots=True)
class Element:
    """An element and all that is in it.

    name: without a prefix. attributes: as they are written. line: where in the file it begins.
    content: elements and texts in order, without texts that are blank.
    """

    name: str
    attributes: dict[str, str]
    line: int
    content: list[Element | str] = field(default_factory=list)

    def get(self, name: str) -> str:
        """An attribute without white space around it, empty if it is not there."""
        return self.attributes.get(name, "").strip()

    def children(self, *names: str) -> list[Element]:
        """The elements directly in it, of these names if any are given."""
        found = [each for each in self.content if isinstance(each, Element)]
        return [each for each in found if each.name in names] if names else found

    def first(self, *path: str) -> Element | None:
        """The first child of a name, the first in that of the next, and so on."""
        found: Element | None = self
        for name in path:
            found = next(iter(found.children(name)), None) if found else None
        return found

    def inside(self, *names: str) -> Iterator[Element]:
        """The elements of these names in it, or all, however deep, in the order they begin in."""
        waiting = self.children()[::-1]
        while waiting:
            element = waiting.pop()
            if not names or element.name in names:
                yield element
            waiting += element.children()[::-1]

    def text(self) -> str:
        """All text in it, however deep, each stretch of white space one space."""
        pieces: list[str] = []
        waiting: list[Element | str] = [self]
        while waiting:
            each = waiting.pop()
            if isinstance(each, str):
                pieces.append(each)
            else:
                waiting += each.content[::-1]
        return " ".join("".join(pieces).split())


Wanted = Callable[[str, dict[str, str]], bool]
"""Whether an element is a part that is wanted, given its name and attributes."""


def elements(
    path: Path, wanted: Wanted, largest: int = LARGEST_FILE, image: str = "", html: bool = False
) -> Iterator[Element]:
    """The outermost elements that are wanted, whole, in order; no other is held.

    image: the image that the file belongs to, if it is one's alone. html: whether names of HTML's
    characters are known, as in XHTML. Raises InputError, where it happens, for what cannot be read,
    is no XML, is beyond the bounds, or declares entities.
    """
    where = ""
    try:
        with open_bounded(path, largest) as file:
            yield from _parsed(file, wanted, html)
    except expat.ExpatError as error:
        where = f"line {error.lineno} column {error.offset + 1}"
        reason = f"is not well-formed XML: {expat.ErrorString(error.code)}; correct it"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; make it readable, or correct the path"
    except (_Refused, ValueError) as error:
        reason = str(error)
    else:
        return
    problem = Problem("image" if image else "annotations", str(path), where, reason, image)
    raise InputError([problem])


def document(path: Path, image: str = "", html: bool = False) -> Element:
    """The root of a small XML file, with all that is in it; raises as `elements` does."""
    return next(iter(list(elements(path, lambda *_: True, LARGEST_DOCUMENT, image, html))))


class _Refused(Exception):
    """A document that is beyond the bounds, or that needs what is not taken; says why."""


def _parsed(file: BinaryIO, wanted: Wanted, html: bool) -> Iterator[Element]:
    parts = _Parts(wanted, html)
    try:
        data = b"-"
        while data:
            data = file.read(_CHUNK)
            yield from parts.fed(data)
    finally:
        parts.close()


class _Parts:
    """Puts together the elements that are wanted, from what a file is fed to it."""

    def __init__(self, wanted: Wanted, html: bool) -> None:
        self._wanted = wanted
        self._open: list[Element] = []  # of the part that is being read
        self._pieces: list[str] = []  # of the text that is
        self._done: list[Element] = []
        self._depth = self._count = self._size = self._bytes = 0
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._entity_declared
        parser.SkippedEntityHandler = self._entity_used
        parser.UseForeignDTD(html)  # else an entity that is not declared is an error at once

    def close(self) -> None:
        """Let go of the parser, which knows this; a file for each image would hold many."""
        del self._parser

    def fed(self, data: bytes) -> list[Element]:
        """The parts that end in the data; without any, the file ends."""
        try:
            self._parser.Parse(data, not data)
        except (LookupError, ValueError, DeprecationWarning):
            raise _Refused("is in an encoding that is not known; save it as UTF-8") from None
        self._bytes += len(data)
        if self._bytes - max(self._parser.CurrentByteIndex, 0) > _LONGEST:
            raise _Refused(f"has a tag or comment of over {_LONGEST >> 20} MB; shorten it")
        if len(self._parser.intern) > _MOST_NAMES:
            raise _Refused(
                f"has over {_MOST_NAMES} different names of elements and attributes, which no "
                "format has; correct or remove it"
            )
        done, self._done = self._done, []
        return done

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Refused("is nested too deeply to be annotations")
        if len(attributes) > _MOST_ATTRIBUTES:
            reason = f"has an element of over {_MOST_ATTRIBUTES} attributes; correct or remove it"
            raise _Refused(f"line {self._parser.CurrentLineNumber}: {reason}")
        local = name.rpartition(":")[2]
        if not self._open and not self._wanted(local, attributes):
            return
        self._end_of_text()
        element = Element(local, attributes, self._parser.CurrentLineNumber)
        if self._open:
            self._open[-1].content.append(element)
        self._open.append(element)
        self._hold(1, sum(map(len, attributes.values())))

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._open:
            self._end_of_text()
            element = self._open.pop()
            if not self._open:
                self._done.append(element)
                self._count = self._size = 0

    def _text(self, data: str) -> None:
        if self._open:
            self._pieces.append(data)
            self._hold(0, len(data))

    def _end_of_text(self) -> None:
        text = "".join(self._pieces)
        self._pieces.clear()
        if text and not text.isspace():
            self._open[-1].content.append(text)

    def _hold(self, count: int, size: int) -> None:
        self._count += count
        self._size += size
        if self._count > _MOST_ELEMENTS or self._size > _MOST_TEXT:
            first = self._open[0]
            raise _Refused(
                f"line {first.line}: {first.name} holds over {_MOST_ELEMENTS} elements or "
                f"{_MOST_TEXT >> 20} million characters; split it up or remove it"
            )

    def _entity_declared(self, name: str, *_: object) -> None:
        raise _Refused(
            f"declares the entity {name[:_SHOWN]!r}, which annotations have no need of; remove "
            "the declaration, and write what it stands for where it is used"
        )

    def _entity_used(self, name: str, is_parameter: bool) -> None:
        if is_parameter:
            return
        if f"{name};" not in html5:
            shown = name[:_SHOWN]
            raise _Refused(f"uses the entity &{shown};, which is not known; write what it means")
        self._text(html5[f"{name};"])
