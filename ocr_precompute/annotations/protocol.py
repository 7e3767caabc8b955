"""What a format of annotations is: its name, how it looks, and what recognises and reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.reading import Found
from ocr_precompute.annotations.sorted_parts import PartFormat
from ocr_precompute.settings import Rules

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")

Recognise = Callable[[Look], Fit]
"""How well what lies at a path fits; looks at content, and reads no more than `Look` does."""

Read = Callable[[Path, ImageNames, str, Rules], Found]
"""The images annotated at a path; given the names of the images there are, a dialect (one of the
format's, or empty to find out) and the rules, whose limits matter only where parsing more than they
allow would take long. May raise InputError, also while its entries are taken.
"""


@dataclass(frozen=True, eq=False)
class AnnotationFormat:
    """A format of annotations.

    name: what `--format` takes. summary: what it is and who writes it, one line. dont_care: what it
    reads as don't-care, one line. example: a few lines of it. recognise, read: see there. aliases:
    other names that users know it by. dialects: what may follow its name and a colon, and what each
    is. parts: of a format in sorted parts (see `sorted_parts`) how they lie in files; such a split
    is read part by part, names as they are. In summary and dont_care what users write stands in
    backquotes.
    Raises ValueError for names that cannot be given, and texts that are not there.
    """

    name: str
    summary: str
    dont_care: str
    example: str
    recognise: Recognise
    read: Read
    aliases: tuple[str, ...] = ()
    dialects: Mapping[str, str] = field(default_factory=dict)
    parts: PartFormat | None = None

    def __post_init__(self) -> None:
        for name in (self.name, *self.aliases, *self.dialects):
            if not _NAME.fullmatch(name) or name == "auto":
                raise ValueError(
                    f"{name!r} cannot name a format: lower case, digits, - and _ after a letter"
                )
        for text in (self.summary, self.dont_care):
            if not text.strip() or "\n" in text:
                raise ValueError(f"format {self.name} needs one line each of what it is and reads")
