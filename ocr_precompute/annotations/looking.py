"""A bounded look at what lies at a path, by which formats are recognised: by content."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.folders import is_folder, is_image_name, walk
from ocr_precompute.files import open_regular

_BEGINNING = 1 << 16  # bytes of a file
_LINES = 100
_FILES = 8  # of each suffix
_ENTRIES = 4096  # of a folder; more only as long as there is no file of interest among them
_DEEPEST = 64  # brackets within brackets

_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip"}
_SPACE = r"[ \t\r\n]*+"
_TOKEN = re.compile(
    rf'{_SPACE}(?:([\[{{])|([\]}}])|([,:])|("[^"\\]*+(?:\\.[^"\\]*+)*+")|[-+.\w]++)', re.DOTALL
)
_ROOT = re.compile(
    r"\s*+(?:<\?.*?\?>\s*+|<!--.*?-->\s*+|<!DOCTYPE[^>\[]*+(?:\[[^\]]*+\]\s*+)?>\s*+)*+"
    r"<(?:[\w.-]++:)?([\w.-]+)",
    re.DOTALL,
)


class Fit(IntEnum):
    """How well what lies at a path fits a format."""

    NO = 0
    PERHAPS = 1
    """Nothing shows that it is that format; if no other fits, it says what is wrong."""
    YES = 2
    """Its content is that of the format."""


class Look:
    """What there is to see at a path without reading much of it; looked at when first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()

    @cached_property
    def _data(self) -> bytes:
        try:
            with open_regular(self.path) as file:
                return file.read(_BEGINNING)
        except OSError:
            return b""

    @cached_property
    def text(self) -> str:
        """The beginning of a file, 64 kB of it, without a byte-order mark.

        Empty if there is none to read. What cannot be decoded is left out.
        """
        return self._data.decode(json.detect_encoding(self._data), errors="ignore")

    def begins_with(self, mark: bytes) -> bool:
        """Whether a file's first bytes are these."""
        return self._data.startswith(mark)

    @property
    def packed_by(self) -> str:
        """What has packed a file, by its first bytes: gzip, zip, or empty for none of them."""
        return next((name for mark, name in _PACKED.items() if self.begins_with(mark)), "")

    @cached_property
    def json(self) -> Any:
        """The JSON value that the file begins with, without what is cut off; None if it is none."""
        return begun(self.text)

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The first hundred lines of the beginning that are not blank and not cut off."""
        lines = self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if len(self._data) == _BEGINNING:
            lines = lines[:-1]
        return tuple([line for line in lines if line and not line.isspace()][:_LINES])

    @cached_property
    def root(self) -> str:
        """The name of an XML file's root element, without its namespace; empty if it is none."""
        found = _ROOT.match(self.text)
        return found[1] if found else ""

    def files(self, *suffixes: str) -> tuple[Look, ...]:
        """A file itself, whatever its name; of a folder some files below it that end so.

        suffixes: in lower case, as `.json`. Raises OSError if the folder cannot be read.
        """
        if not self.is_folder:
            return (self,)
        return tuple(look for suffix in suffixes for look in self._inside.get(suffix, ()))

    @cached_property
    def _inside(self) -> dict[str, list[Look]]:
        """Some files of each suffix below the folder, no hidden ones and no images."""
        found: dict[str, list[str]] = defaultdict(list)
        for number, (relative, entry) in enumerate(walk(self.path)):
            if number >= _ENTRIES and found:
                break
            if entry.name[0] != "." and not is_image_name(relative) and not is_folder(entry):
                found[os.path.splitext(relative)[1].lower()].append(relative)
        return {
            suffix: [Look(self.path / name) for name in sorted(names)[:_FILES]]
            for suffix, names in found.items()
        }


def begun(text: str) -> Any:
    """The JSON value that a text is the beginning of, as far as its last whole member.

    None if it does not begin with an object or a list.
    """
    brackets: list[str] = []
    cut, closing = 0, ""
    at, before = 0, ""
    while (token := _TOKEN.match(text, at)) and len(brackets) < _DEEPEST:
        at = token.end()
        opens, closes, between, string = token.groups()
        if not (brackets or opens) or (closes and brackets[-1] != closes):
            break
        if opens:
            brackets.append("}" if opens == "{" else "]")
        elif closes:
            brackets.pop()
        is_key = string and brackets[-1] == "}" and before != ":"
        is_cut = not (opens or closes or string) and at == len(text)  # more of it may follow
        if not (between or is_key or is_cut):
            cut, closing = at, "".join(reversed(brackets))
        if not brackets:
            break
        before = between or ""
    try:
        return json.loads(text[:cut] + closing, parse_int=float) if cut else None
    except (ValueError, RecursionError):
        return None
