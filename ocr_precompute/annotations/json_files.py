"""JSON files: read member by member, so that memory is that of a member and not of the document."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import msgspec

from ocr_precompute.annotations.folders import open_bounded, read_bounded
from ocr_precompute.errors import InputError, Problem

LARGEST_FILE = 1 << 30
"""Bytes of a file that is read member by member."""

_CHUNK = 1 << 20  # bytes
_MARGIN = 16  # characters: an error nearer to the end of what was read may come of what is cut off
_SEVERAL = 1 << 16  # characters of members that are decoded in one go
_FEW = 200  # characters that are not worth it
_COMMA = re.compile(r"[ \t\n\r]*+,[ \t\n\r]*+")
_KEY_ENDS = re.compile(r'"[ \t\n\r]*+:')
_SPACE = re.compile(r"[ \t\n\r]*+")
# From the end of one member of an object to the value of the next, where nothing is odd about it.
_PLAIN_KEY = re.compile(
    r'[ \t\n\r]*+,[ \t\n\r]*+"([^"\\\x00-\x1f]*+)"[ \t\n\r]*+:[ \t\n\r]*+(?=[^ \t\n\r])'
)


class Repeated(dict[str, Any]):
    """A JSON object in which keys stand more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def repeated(self) -> dict[str, list[Any]]:
        """The values of each key that stands more than once."""
        found: dict[str, list[Any]] = {}
        for key, value in self._pairs:
            found.setdefault(key, []).append(value)
        return {key: values for key, values in found.items() if len(values) > 1}


def repeated(value: Any) -> dict[str, list[Any]]:
    """The values of each key that stands more than once in an object that was read here."""
    return value.repeated() if isinstance(value, Repeated) else {}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Repeated(pairs)


class RepeatedKey(ValueError):
    """An object has a key twice."""


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise RepeatedKey(f"the key {twice!r} stands twice in an object")
    return found


_STRICT = json.JSONDecoder(parse_int=float, object_pairs_hook=_unrepeated)
_EXACT = json.JSONDecoder(object_pairs_hook=_unrepeated)
_LENIENT = json.JSONDecoder(parse_int=float, object_pairs_hook=_object)
_FAST = msgspec.json.Decoder()


def _decoded_exact(text: str) -> Any:
    """As `_EXACT.decode`, in a third of the time if all is well.

    What the fast decoder takes, it reads alike; of a key that stands twice it says nothing, so keys
    are counted: behind each stands a colon.
    """
    try:
        found = _FAST.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return _EXACT.decode(text)  # says what is wrong, or knows NaN
    keys = _count_keys(found, text.count("{"))
    if keys == text.count(":") or keys == len(_KEY_ENDS.findall(text)):
        return found
    return _EXACT.decode(text)


def _count_keys(found: Any, braces: int) -> int:
    """How many keys all objects have in what was decoded of a text with so many braces."""
    if type(found) is list and len(found) == braces and set(map(type, found)) == {dict}:
        return sum(map(len, found))
    count, waiting = 0, [found]
    while waiting:
        each = waiting.pop()
        if type(each) is dict:
            count += len(each)
            each = each.values()
        if not {dict, list}.isdisjoint(map(type, each)):
            waiting += [inside for inside in each if type(inside) in (dict, list)]
    return count


def decoded(text: str) -> Any:
    """What a JSON text holds; all numbers are floats. Raises ValueError if it is none."""
    try:
        return _STRICT.decode(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


class Member(NamedTuple):
    """A member of a document, or of one of its sections.

    section: the document's key, or number if it is a list. key: the section's, or None: then value
    is the whole, or the empty object or list that opens a section that comes member by member.
    Numbers are floats, whole ones of any length, too.
    """

    section: str | int
    key: str | int | None
    value: Any


def members(
    path: Path,
    sections: Collection[str] = (),
    largest: int = LARGEST_FILE,
    exact: bool = False,
    repeats: bool = False,
) -> Iterator[Member]:
    """The members of a JSON file, in order; a document that has none is one, of section "".

    sections: keys of the document whose own members come one by one, since they are many.
    exact: whole numbers are int, as large ids need it. repeats: an object in which a key stands
    twice is `Repeated`, where it is an error otherwise; not together with exact.
    Raises InputError, where it happens, for what cannot be read or is no JSON.
    """
    for section, keys, values in groups(path, sections, largest, exact, repeats):
        for key, value in zip(keys, values, strict=True):
            yield Member(section, key, value)


class Group(NamedTuple):
    """Members of a document or section that were decoded together; see `Member`."""

    section: str | int
    keys: Sequence[str | int | None]
    values: Sequence[Any]


def groups(
    path: Path,
    sections: Collection[str] = (),
    largest: int = LARGEST_FILE,
    exact: bool = False,
    repeats: bool = False,
) -> Iterator[Group]:
    """As `members`, as many at a time as were decoded together: for formats that pack them."""
    with _opened(path, largest) as file:
        text = _Text(path, file, _EXACT if exact else _LENIENT if repeats else _STRICT)
        if text.peek() in ("{", "["):
            for section in text.each():
                opening = text.peek()
                if section in sections and opening in ("{", "["):
                    yield Group(section, (None,), ({} if opening == "{" else [],))
                    for keys, values in text.items():
                        yield Group(section, keys, values)
                else:
                    yield Group(section, (None,), (text.value(),))
        else:
            yield Group("", (None,), (text.value(),))
        if text.peek():
            text.fail("Extra data")


def document(path: Path, largest: int, image: str = "") -> Any:
    """All that a small JSON file holds, all numbers are floats.

    image: the image that it belongs to, if it is one's alone. Raises InputError as `members` does.
    """
    try:
        data = read_bounded(path, largest)
        text = data.decode(json.detect_encoding(data))
        return _STRICT.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        problem = _problem(path, f"is not valid JSON: {error.msg}; correct it", where, image)
    except RepeatedKey as error:
        problem = _problem(path, f"is not valid JSON: {error}; correct it", "", image)
    except RecursionError:
        problem = _problem(path, "is nested too deeply to be annotations", "", image)
    except UnicodeDecodeError as error:
        problem = _problem(path, f"cannot be read as JSON: {error}; save it as UTF-8", "", image)
    except (OSError, ValueError) as error:
        problem = _problem(path, _reason(error), "", image)
    raise InputError([problem])


def _problem(path: Path, reason: str, where: str = "", image: str = "") -> Problem:
    return Problem("image" if image else "annotations", str(path), where, reason, image)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}; make it readable, or correct the path"
    return str(error)


def _opened(path: Path, largest: int) -> BinaryIO:
    try:
        return open_bounded(path, largest)
    except (OSError, ValueError) as error:
        raise InputError([_problem(path, _reason(error))]) from None


class _Text:
    """A JSON text of which no more is held than what is being looked at.

    text: that part. at: the place in it.
    """

    def __init__(self, path: Path, file: BinaryIO, decoder: json.JSONDecoder) -> None:
        self._path, self._file, self._json = path, file, decoder
        self._decode: Callable[[str], Any] = _decoded_exact if decoder is _EXACT else decoder.decode
        self._bytes = 0  # read so far
        self._lines, self._column = 0, 0  # of the part's beginning
        self._decoder: codecs.IncrementalDecoder | None = None
        self._window = 0  # characters that are looked at for members to decode in one go
        self.text, self.at = "", 0

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def value(self) -> Any:
        """The value that comes next."""
        self.peek()
        while True:
            try:
                found, end = self._json.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                near = error.pos >= len(self.text) - _MARGIN
                if (near or error.msg.startswith("Unterminated")) and self._more():
                    continue
                self.fail(error.msg, error.pos)
            except RecursionError:
                reason = "is nested too deeply to be annotations"
                raise InputError([_problem(self._path, reason)]) from None
            except RepeatedKey as error:
                self.fail(str(error))
            except ValueError:
                self.fail("a number of thousands of digits")
            near = end > len(self.text) - _MARGIN and isinstance(found, int | float)
            if (near or end == len(self.text)) and self._more():  # a number may go on
                continue
            self.at = end
            return found

    def each(self) -> Iterator[str | int]:
        """Enter the object or list that comes next; before each value, its key or number."""
        closing = "}" if self.peek() == "{" else "]"
        self.at += 1
        number = 0
        if self.peek() == closing:
            self.at += 1
            return
        while True:
            plain = _PLAIN_KEY.match(self.text, self.at) if number and closing == "}" else None
            if plain:
                self.at = plain.end()
                yield plain[1]
            else:
                if number and self._ends(closing):
                    return
                yield self._key() if closing == "}" else number
            number += 1

    def items(self) -> Iterator[tuple[Sequence[str | int], Sequence[Any]]]:
        """The keys or numbers and the values of the object or list that comes next, in parts.

        Many are small and alike, so those that are there already are decoded in one go: that takes
        two thirds of the time. Whatever is odd about them, one by one they say what and where.
        """
        number = 0
        opening, self._window = self.peek(), _SEVERAL
        for key in self.each():
            yield [key if opening == "{" else number], [self.value()]
            several = self._several(opening) if self._window else ()
            number += 1
            if isinstance(several, dict):
                yield list(several), list(several.values())
            elif several:
                yield range(number, number + len(several)), several
            number += len(several)

    def _several(self, opening: str) -> dict[str, Any] | list[Any]:
        """Members after the one before the place, as many as are surely whole; often none.

        What parses as a list when closed early is the beginning of the list that goes on.
        """
        comma = _COMMA.match(self.text, self.at)
        if comma is None:
            return []
        # Between two members stands, as a rule, what stands here; between parts of one it does not.
        between = f"}}{comma[0]}{'{' if opening == '[' else ''}"
        end = self.text.rfind(between, self.at, self.at + self._window) + 1
        if end <= comma.end():
            return []
        closing = "}" if opening == "{" else "]"
        try:
            found = self._decode(f"{opening}{self.text[comma.end() : end]}{closing}")
        except (ValueError, RecursionError):
            found = None
        if type(found) not in (dict, list):
            # Cut within a member, or behind the last one: a shorter part may do.
            self._window = self._window // 2 if self._window > _FEW else 0
            return []
        self.at = end
        return found  # type: ignore[no-any-return]

    def _ends(self, closing: str) -> bool:
        """Step over what follows a member: whether it is the end."""
        mark = self.peek()
        if mark not in (",", closing) or not mark:
            self.fail("Expecting ',' delimiter")
        self.at += 1
        return mark == closing

    def _key(self) -> str:
        if self.peek() != '"':
            self.fail("Expecting property name enclosed in double quotes")
        key: str = self.value()
        if self.peek() != ":":
            self.fail("Expecting ':' delimiter")
        self.at += 1
        return key

    def fail(self, message: str, place: int | None = None) -> NoReturn:
        """Raise InputError for what stands at that place, by default the next."""
        place = self.at if place is None else place
        line = self._lines + self.text.count("\n", 0, place)
        before = self.text.rfind("\n", 0, place)
        column = place - before if before >= 0 else self._column + place + 1
        where = f"line {line + 1} column {column}"
        problem = _problem(self._path, f"is not valid JSON: {message}; correct it", where)
        raise InputError([problem])

    def _more(self) -> bool:
        """Read on, and let go of what lies before the place; False at the end of the file."""
        rest = len(self.text) - self.at
        more = self._read(max(_CHUNK, rest))
        if not more:
            return False
        last = self.text.rfind("\n", 0, self.at)
        self._lines += self.text.count("\n", 0, self.at)
        self._column = self.at - last - 1 if last >= 0 else self._column + self.at
        self.text, self.at = self.text[self.at :] + more, 0
        return True

    def _read(self, size: int) -> str:
        """Some more of the file's text; empty at its end only."""
        text, data = "", b"-"
        try:
            while data and not text:
                data = self._file.read(size)
                if self._decoder is None:
                    self._decoder = codecs.getincrementaldecoder(json.detect_encoding(data))()
                text = self._decoder.decode(data, final=not data)
                self._bytes += len(data)
        except UnicodeDecodeError as error:
            place, found = self._bytes + error.start, error.object[error.start]
            reason = (
                f"cannot be read as JSON: {error.encoding!r} codec can't decode byte "
                f"0x{found:02x} near position {place}: {error.reason}; save it as UTF-8"
            )
            raise InputError([_problem(self._path, reason)]) from None
        except OSError as error:
            raise InputError([_problem(self._path, _reason(error))]) from None
        return text
