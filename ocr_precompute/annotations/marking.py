"""Words that are don't care, or left out, by what an annotator called them or wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ocr_precompute.annotations.reading import Entry, FlatWords, Words
from ocr_precompute.settings import Marks

_SHOWN = 8


class Marking:
    """Applies a user's marks to entries, and knows which of them fitted nothing."""

    def __init__(self, marks: Marks) -> None:
        self._ignored, self._kept = frozenset(marks.ignore_labels), frozenset(marks.keep_labels)
        self._texts = frozenset(text.strip() for text in marks.ignore_texts)
        self._classes: Counter[str] = Counter()
        self._said: set[str] = set()
        self._words = self._told = self._called = 0

    def applied(self, entry: Entry) -> Entry:
        """The entry without the words that are not kept; what is marked is don't-care."""
        if not (self._ignored or self._kept or self._texts):
            return entry
        words = entry.words
        count = len(words.labels)
        texts, classes = words.texts or (None,) * count, words.classes or (None,) * count
        self._look(count, words.texts, words.classes)
        marked = [
            (text is not None and text.strip() in self._texts) or name in self._ignored
            for text, name in zip(texts, classes, strict=True)
        ]
        kept = [number for number, name in enumerate(classes) if self._keeps(name)]
        bad = [each for each in entry.bad if self._keeps(each.of_class)]
        return replace(entry, words=_of(words, marked, kept), bad=bad)

    def _keeps(self, name: str | None) -> bool:
        return not self._kept or name in self._kept or name in self._ignored

    def _look(self, count: int, texts: Sequence[str | None], classes: Sequence[str | None]) -> None:
        self._words += count
        self._told += len(texts)
        self._called += len(classes)
        self._classes.update(name for name in classes if name is not None)
        if self._texts:
            stripped = {text.strip() for text in texts if text is not None}
            self._said |= self._texts & stripped

    def unused(self) -> Iterator[str]:
        """A line for each mark that fitted no word, which is as a rule a slip."""
        if not self._words:
            return
        wanted = sorted(self._ignored | self._kept)
        if wanted and not self._called:
            yield f"labels {_listed(wanted)} fit nothing: this format gives words no label"
        else:
            for name in wanted:
                if name not in self._classes:
                    there = [each for each, _ in self._classes.most_common(_SHOWN)]
                    more = ", ..." if len(self._classes) > _SHOWN else ""
                    yield f"no word has the label {name!r}; labels are {_listed(there)}{more}"
        if self._texts and not self._told:
            yield f"texts {_listed(sorted(self._texts))} fit nothing: this format has no texts"
        else:
            for text in sorted(self._texts - self._said):
                yield f"no word says {text!r}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _of(words: Words | FlatWords, marked: list[bool], kept: list[int]) -> Words | FlatWords:
    """The words of those numbers, the marked ones don't-care."""
    labels = tuple([words.labels[n] for n in kept])
    texts = [words.texts[n] for n in kept] if words.texts else ()
    classes = [words.classes[n] for n in kept] if words.classes else ()
    if isinstance(words, FlatWords):
        polygons = replace(words.polygons, ignore=words.polygons.ignore | np.array(marked, bool))
        return FlatWords(labels, polygons.chosen(np.array(kept, np.int64)), texts, classes)
    points = [words.points[n] for n in kept]
    return Words(labels, points, [words.ignore[n] or marked[n] for n in kept], texts, classes)
