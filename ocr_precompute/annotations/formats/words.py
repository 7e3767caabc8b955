"""JSON: `{"images": {"a.jpg": {"words": {"0001": {"points": [[x, y], ...]}}}}}`, also known as UFO.

`words` may be absent (a page without text); `img_w` and `img_h`, or `width` and `height`, give the
image's size; other keys are left alone. Don't care is a word with `"ignore": true` (or 1), with
`"illegibility": true`, with the transcription `###`, or with one of UFO's tags for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames, read_bounded
from ocr_precompute.annotations.reading import BadWord, Entry, Found, Words
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

ALIASES = ("ufo",)
DIALECTS: tuple[str, ...] = ()

_LARGEST_FILE = 1 << 30  # bytes; parsed, a file takes about ten times as much memory
_IGNORE_TAGS = frozenset({"masked", "excluded-region", "maintable", "stamp"})
_RARE_MARKS = frozenset({"illegibility", "tags", "word_tags"})
_SIZES = (("img_h", "img_w"), ("height", "width"))


class _Repeated(dict[str, Any]):
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


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Repeated(pairs)


def _repeated(value: Any) -> dict[str, list[Any]]:
    return value.repeated() if isinstance(value, _Repeated) else {}


def recognises(path: Path) -> bool:
    """Whether path is a `.json` file."""
    return path.is_file() and path.suffix.lower() == ".json"


def read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    """One entry per image. Nothing but path is needed: the names are in the file."""
    return Found(_entries(path))


def _entries(path: Path) -> Iterator[Entry | Problem]:
    file = str(path)
    if path.is_dir():
        yield Problem("annotations", file, "", "must be a JSON file")
        return
    document = _parse(path)
    if isinstance(document, Problem):
        yield document
        return
    entries = document.get("images") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        yield Problem(
            "annotations", file, "", 'has no "images" object; see the README for the form'
        )
        return
    if "images" in _repeated(document):
        yield Problem("annotations", file, "", 'the key "images" stands twice; join the two')
        return
    twice = _repeated(entries)
    for name, entry in entries.items():
        if name in twice:
            yield Problem("image", file, name, "the key stands twice; keep one of the two", name)
        else:
            yield _entry(file, name, entry)


def _parse(path: Path) -> Any:
    """What the file holds, or the problem with it. Whole numbers are floats, of any length."""
    file = str(path)
    try:
        data = read_bounded(path, _LARGEST_FILE)
        text = data.decode(json.detect_encoding(data))
        return json.loads(text, parse_int=float, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        return Problem("annotations", file, where, f"is not valid JSON: {error.msg}; correct it")
    except RecursionError:
        return Problem("annotations", file, "", "is nested too deeply to be annotations")
    except UnicodeDecodeError as error:
        reason = f"cannot be read as JSON: {error}; save it as UTF-8"
        return Problem("annotations", file, "", reason)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; make it readable, or correct the path"
        return Problem("annotations", file, "", reason)
    except ValueError as error:
        return Problem("annotations", file, "", str(error))


def _entry(file: str, name: str, entry: Any) -> Entry | Problem:
    words = entry.get("words") if isinstance(entry, dict) else entry
    if not isinstance(entry, dict) or not isinstance(words, dict | None):
        reason = 'must be an object, and its "words" too; correct or remove it'
        return Problem("image", file, name, reason, name)
    if "words" in _repeated(entry):
        reason = 'the key "words" stands twice; join the two'
        return Problem("image", file, name, reason, name)
    words = words or {}
    plain = _plain_words(words)
    good, bad = (plain, []) if plain is not None else _words_one_by_one(words)
    return Entry(file, name, good, bad, _declared_size(entry))


def _plain_words(words: dict[str, Any]) -> Words | None:
    """The words if nothing is odd about any of them; None if each needs a look of its own.

    Nearly all are plain, and a look at all of an image's words at once takes half the time.
    """
    values = list(words.values())
    if type(words) is not dict or not set(map(type, values)) <= {dict}:
        return None
    keys = set[str]().union(*values)
    if not _RARE_MARKS.isdisjoint(keys):
        return None
    ignore = [word.get("ignore", False) for word in values]
    if not set(map(type, ignore)) <= {bool}:
        return None
    if "transcription" in keys:
        for number, text in enumerate([word.get("transcription") for word in values]):
            if text and type(text) is str and is_dont_care(text):
                ignore[number] = True
    labels = [f"word {key}" for key in words]
    return Words(labels, [word.get("points") for word in values], ignore)


def _words_one_by_one(words: dict[str, Any]) -> tuple[Words, list[BadWord]]:
    good = Words([], [], [])
    bad: list[BadWord] = []
    twice = _repeated(words)
    for key, word in words.items():
        label = f"word {key}"
        if key in twice:
            reason = "the key stands twice; keep one of the two"
            bad += [BadWord(label, _points(each), reason) for each in twice[key]]
            continue
        try:
            points, ignored = word["points"], _is_ignored(word)
        except (KeyError, TypeError):
            points, ignored = None, False
        except ValueError as error:
            bad.append(BadWord(label, _points(word), str(error)))
            continue
        good.labels.append(label)
        good.points.append(points)
        good.ignore.append(ignored)
    return good, bad


def _points(word: Any) -> Any:
    return word.get("points") if isinstance(word, dict) else None


def _is_ignored(word: dict[str, Any]) -> bool:
    """Whether a word is declared don't-care. Raises ValueError if there is no telling."""
    if type(word) is not dict:  # of a JSON document, so it has keys that stand twice
        key = next(iter(_repeated(word)))
        raise ValueError(f"the key {key!r} stands twice; keep one of the two")
    text = word.get("transcription")
    ignored = type(text) is str and is_dont_care(text)
    ignored |= _flag("ignore", word.get("ignore", False))
    if word.get("illegibility") is not None:
        ignored |= _flag("illegibility", word["illegibility"])
    for key in ("tags", "word_tags"):
        if tags := word.get(key):
            listed = [tags] if isinstance(tags, str) else tags
            if not isinstance(listed, list):
                raise ValueError(f'"{key}" is not a list of texts; correct it')
            ignored |= any(isinstance(t, str) and t.lower() in _IGNORE_TAGS for t in listed)
    return ignored


def _flag(key: str, value: Any) -> bool:
    if isinstance(value, bool | float) and value in (0, 1):
        return bool(value)
    shown = json.dumps(value)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}..."
    raise ValueError(f'"{key}" is {shown}; it must be true, false, 1 or 0')


def _declared_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    for keys in _SIZES if len(entry) > 1 else ():  # there are more than words
        sides = [entry.get(key) for key in keys]
        if all(isinstance(side, float) and 0 < side < 1e9 for side in sides):
            height, width = (int(side) for side in sides if isinstance(side, float))
            return height, width
    return None
