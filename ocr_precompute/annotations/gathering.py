"""The words of one image while a file is gone through, one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ocr_precompute.annotations.reading import BadWord, Words


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

    def fail(self, label: str, reason: object, points: Any = None) -> None:
        """A word that cannot be read; see `BadWord`."""
        self.bad.append(BadWord(label, points, str(reason)))

    def __len__(self) -> int:
        """How many words, the bad ones too."""
        return len(self.labels) + len(self.bad)

    @property
    def words(self) -> Words:
        """The words that can be read; the same columns, no copies."""
        return Words(self.labels, self.points, self.ignore, self.texts, self.classes)


def text_of(value: Any) -> str | None:
    """A value if it is a text."""
    return value if isinstance(value, str) else None
