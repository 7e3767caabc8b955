"""The words of one image while a file is gone through, one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.reading import BadWord, Words

_LONGEST_SHOWN = 40


@dataclass(frozen=True, eq=False, slots=True)
class Gathered:
    """Columns that grow: those of `Words`, and the words that cannot be read."""

    labels: list[str] = field(default_factory=list)
    points: list[Any] = field(default_factory=list)
    ignore: list[bool] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    classes: list[str | None] = field(default_factory=list)
    bad: list[BadWord] = field(default_factory=list)

    def add(
        self,
        label: str,
        points: Any,
        ignored: bool,
        text: str | None = None,
        of_class: str | None = None,
    ) -> None:
        """A word; see `Words`."""
        self.labels.append(label)
        self.points.append(points)
        self.ignore.append(ignored)
        self.texts.append(text)
        self.classes.append(of_class)

    def fail(
        self, label: str, reason: object, points: Any = None, of_class: str | None = None
    ) -> None:
        """A word that cannot be read; see `BadWord`."""
        self.bad.append(BadWord(label, points, str(reason), of_class))

    def __len__(self) -> int:
        """How many words, the bad ones too."""
        return len(self.labels) + len(self.bad)

    @property
    def words(self) -> Words:
        """The words that can be read; the same columns, no copies."""
        return Words(self.labels, self.points, self.ignore, self.texts, self.classes)


class Word(NamedTuple):
    """A word as a format understands it.

    points: as found. text: what it says. of_class: what it is, by its category, label or tag.
    """

    points: Any
    ignored: bool = False
    text: str | None = None
    of_class: str | None = None


def gather(
    words: Iterable[tuple[str, Any]],
    understand: Callable[[dict[str, Any]], Word],
    class_key: str = "",
) -> tuple[Words, list[BadWord]]:
    """The words that can be understood, and the others.

    words: what messages call each, and what the file has for it. understand: raises ValueError
    saying what is wrong. class_key: which of its keys has the class of a word that is wrong. A word
    that says ### is don't-care.
    """
    found = Gathered()
    for label, value in words:
        try:
            if not isinstance(value, dict):
                raise ValueError("must be an object; correct or remove it")
            points, ignored, text, of_class = understand(value)
        except ValueError as error:
            known = value if isinstance(value, dict) else {}
            found.fail(label, error, known.get("points"), text_of(known.get(class_key)))
        else:
            ignored = ignored or bool(text and is_dont_care(text))
            found.add(label, points, ignored, text, of_class)
    texts = found.texts if any(text is not None for text in found.texts) else ()
    classes = found.classes if any(name is not None for name in found.classes) else ()
    return Words(found.labels, found.points, found.ignore, texts, classes), found.bad


def text_of(value: Any) -> str | None:
    """A value if it is a text."""
    return value if isinstance(value, str) else None


def listed(value: Any, what: str) -> list[Any]:
    """A list as it is; nothing is an empty one. Raises ValueError, saying so of what, otherwise."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{what} must be a list; correct or remove it")
    return value


def flag(key: str, value: Any) -> bool:
    """A mark that is true, false, 1 or 0. Raises ValueError, naming its key, if it is none."""
    if isinstance(value, bool | float | int) and value in (0, 1):
        return bool(value)
    shown = json.dumps(value)
    shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
    raise ValueError(f'"{key}" is {shown}; it must be true, false, 1 or 0')
