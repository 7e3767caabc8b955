"""JSON: `{"images": {"a.jpg": {"words": {"0001": {"points": [[x, y], ...]}}}}}`, also known as UFO.

`words` may be absent (a page without text); `img_w` and `img_h`, or `width` and `height`, give the
image's size; other keys are left alone. Don't care is a word with `"ignore": true` (or 1), with
`"illegibility": true`, with the transcription `###`, or with one of UFO's tags for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import Any

from ocr_precompute.annotations.dialects import is_dont_care
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.gathering import flag
from ocr_precompute.annotations.json_files import members, repeated
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import BadWord, Entry, Found, Words, declared_size
from ocr_precompute.errors import Problem
from ocr_precompute.settings import Rules

_LARGEST_FILE = 1 << 30  # bytes
_IGNORE_TAGS = frozenset({"masked", "excluded-region", "maintable", "stamp"})
_RARE_MARKS = frozenset({"illegibility", "tags", "word_tags"})
_SIZES = (("img_h", "img_w"), ("height", "width"))
_FEW_WORDS = 64
_TWICE = "the key stands twice; keep one of the two"


def _recognise(look: Look) -> Fit:
    if look.is_folder:
        return Fit.NO
    if isinstance(look.json, dict) and isinstance(look.json.get("images"), dict):
        return Fit.YES
    return Fit.PERHAPS if look.path.suffix.lower() == ".json" else Fit.NO


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    """One entry per image. Nothing but path is needed: the names are in the file."""
    return Found(_entries(path))


def _entries(path: Path) -> Iterator[Entry | Problem]:
    file = str(path)
    if path.is_dir():
        yield Problem("annotations", file, "", "must be a JSON file")
        return
    names: dict[str, bool] = {}  # and whether it has been said that it stands twice
    objects = 0
    for section, name, value in members(path, ("images",), _LARGEST_FILE, repeats=True):
        if section != "images" or isinstance(name, int) or (name is None and value != {}):
            continue
        if name is None:
            objects += 1
            if objects > 1:
                reason = 'the key "images" stands twice; join the two'
                yield Problem("annotations", file, "", reason)
                return
        elif name in names:
            if not names[name]:
                yield Problem("image", file, name, _TWICE, name)
            names[name] = True
        else:
            names[name] = False
            yield entry_of(file, name, value)
    if not objects:
        reason = (
            'has no "images" object; see the README for the form, and `ocr-precompute formats` '
            "for others"
        )
        yield Problem("annotations", file, "", reason)


def entry_of(
    file: str, name: str, entry: Any, place: str = "", digest: bytes = b""
) -> Entry | Problem:
    """An image's entry, given what a file has for it. place, digest: as in `Entry`."""
    words = entry.get("words") if isinstance(entry, dict) else entry
    if not isinstance(entry, dict) or not isinstance(words, dict | None):
        reason = 'must be an object, and its "words" too; correct or remove it'
        return Problem("image", file, name, reason, name)
    if "words" in repeated(entry):
        reason = 'the key "words" stands twice; join the two'
        return Problem("image", file, name, reason, name)
    words = words or {}
    plain = _plain_words(words)
    good, bad = (plain, []) if plain is not None else _words_one_by_one(words)
    return Entry(file, name, good, bad, _declared_size(entry), place=place, digest=digest)


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
    texts: list[str | None] = []
    if "transcription" in keys:
        texts = [word.get("transcription") for word in values]
        if not set(map(type, texts)) <= {str, NoneType}:
            return None
        for number, text in enumerate(texts):
            if text and is_dont_care(text):
                ignore[number] = True
    labels = _labels(tuple(words)) if len(words) <= _FEW_WORDS else [_label(key) for key in words]
    return Words(labels, [word.get("points") for word in values], ignore, texts)


def _label(key: str) -> str:
    return f"word {key}"


@lru_cache(4096)
def _labels(keys: tuple[str, ...]) -> tuple[str, ...]:
    """What messages call words of these keys. Most images have the keys of others: held once."""
    return tuple([_label(key) for key in keys])


def _words_one_by_one(words: dict[str, Any]) -> tuple[Words, list[BadWord]]:
    labels: list[str] = []
    texts: list[str | None] = []
    good = Words(labels, [], [], texts)
    bad: list[BadWord] = []
    twice = repeated(words)
    for key, word in words.items():
        label = _label(key)
        if key in twice:
            bad += [BadWord(label, _points(each), _TWICE) for each in twice[key]]
            continue
        try:
            points, ignored = word["points"], _is_ignored(word)
        except (KeyError, TypeError):
            points, ignored = None, False
        except ValueError as error:
            bad.append(BadWord(label, _points(word), str(error)))
            continue
        text = word.get("transcription") if points is not None else None
        texts.append(text if isinstance(text, str) else None)
        labels.append(label)
        good.points.append(points)
        good.ignore.append(ignored)
    return good, bad


def _points(word: Any) -> Any:
    return word.get("points") if isinstance(word, dict) else None


def _is_ignored(word: dict[str, Any]) -> bool:
    """Whether a word is declared don't-care. Raises ValueError if there is no telling."""
    if type(word) is not dict:  # of a JSON document, so it has keys that stand twice
        key = next(iter(repeated(word)))
        raise ValueError(f"the key {key!r} stands twice; keep one of the two")
    text = word.get("transcription")
    ignored = type(text) is str and is_dont_care(text)
    ignored |= flag("ignore", word.get("ignore", False))
    if word.get("illegibility") is not None:
        ignored |= flag("illegibility", word["illegibility"])
    for key in ("tags", "word_tags"):
        if tags := word.get(key):
            listed = [tags] if isinstance(tags, str) else tags
            if not isinstance(listed, list):
                raise ValueError(f'"{key}" is not a list of texts; correct it')
            ignored |= any(isinstance(t, str) and t.lower() in _IGNORE_TAGS for t in listed)
    return ignored


def _declared_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    for keys in _SIZES if len(entry) > 1 else ():  # there are more than words
        if size := declared_size(*map(entry.get, keys)):
            return size
    return None


FORMAT = AnnotationFormat(
    name="words",
    summary="one JSON file of all images and their words, also known as UFO; polygons of 3 or more "
    "points, `words` may be absent, `img_w` and `img_h` are the image's size",
    dont_care='`"ignore": true` or 1, `"illegibility": true`, the transcription `###`, UFO\'s tags '
    "`masked`, `excluded-region`, `maintable` and `stamp`",
    example="""\
{"images": {"a.jpg": {"img_w": 200, "img_h": 100, "words": {
  "0001": {"transcription": "Ada", "points": [[10, 10], [90, 12], [90, 32], [10, 30]]},
  "0002": {"points": [[110, 50], [180, 50], [180, 70]], "ignore": true}}}}}""",
    recognise=_recognise,
    read=_read,
    aliases=("ufo",),
)
