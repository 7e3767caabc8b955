"""JSON: `{"images": {"a.jpg": {"words": {"0001": {"points": [[x, y], ...]}}}}}`.

`words` may be absent (a page without text), other keys are left alone, and a word may say
`"ignore": true` for don't-care.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations import Entry
from ocr_precompute.errors import Problem


def recognises(path: Path) -> bool:
    """Whether path is a `.json` file."""
    return path.is_file() and path.suffix.lower() == ".json"


def read(path: Path, images: Path) -> Iterator[Entry | Problem]:
    """One entry an image. `images` is not needed: the names are in the file."""
    file = str(path)
    if not path.is_file():
        yield Problem("annotations", file, "", "must be a JSON file")
        return
    try:
        # Whole numbers as float: one of a thousand digits is then a coordinate out of bounds.
        document = json.loads(path.read_bytes().decode("utf-8-sig"), parse_int=float)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        yield Problem("annotations", file, where, f"is not valid JSON: {error.msg}; correct it")
        return
    except RecursionError:
        yield Problem("annotations", file, "", "is nested too deeply to be annotations")
        return
    except (OSError, ValueError) as error:
        yield Problem("annotations", file, "", f"cannot be read as JSON: {error}; correct it")
        return
    entries = document.get("images") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        yield Problem(
            "annotations", file, "", 'has no "images" object; see the README for the form'
        )
        return
    for name, entry in entries.items():
        words = entry.get("words") if isinstance(entry, dict) else entry
        if not isinstance(entry, dict) or not isinstance(words, dict | None):
            reason = 'must be an object, and its "words" too; correct or remove it'
            yield Problem("image", file, name, reason, name)
        else:
            yield Entry(file, name, [_word(label, word) for label, word in (words or {}).items()])


def _word(label: str, word: Any) -> tuple[str, Any, bool]:
    if not isinstance(word, dict):
        return f"word {label}", None, False
    return f"word {label}", word.get("points"), word.get("ignore") is True
