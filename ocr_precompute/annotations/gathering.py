"""The words of one image, gathered one by one while a reader looks at them."""

from __future__ import annotations

from typing import Any

from ocr_precompute.annotations.reading import BadWord, Entry, Words


class Gathered:
    """Words of an image as they are found, good and bad; becomes its entry."""

    def __init__(self) -> None:
        self._labels: list[str] = []
        self._points: list[Any] = []
        self._ignore: list[bool] = []
        self._texts: list[str | None] = []
        self._classes: list[str | None] = []
        self._bad: list[BadWord] = []

    def add(
        self,
        label: str,
        points: Any,
        ignored: bool = False,
        text: str | None = None,
        kind: str | None = None,
    ) -> None:
        """A word: what messages call it, its points, whether it is don't-care, what it says and
        is."""
        self._labels.append(label)
        self._points.append(points)
        self._ignore.append(ignored)
        self._texts.append(text)
        self._classes.append(kind)

    def refuse(self, label: str, reason: str, points: Any = None) -> None:
        """A word that cannot be read, and what is known of its points."""
        self._bad.append(BadWord(label, points, reason))

    def entry(
        self,
        file: str,
        name: str,
        size: tuple[int, int] | None = None,
        alone: bool = False,
        place: str = "",
    ) -> Entry:
        """The words as those of an image; see `Entry`."""
        words = Words(self._labels, self._points, self._ignore, self._texts, self._classes)
        return Entry(file, name, words, self._bad, size, alone, place)
