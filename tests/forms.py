"""What tests of annotation formats share: an image folder's polygons, and reading a file's text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ocr_precompute.annotations import Reading, read_annotations
from ocr_precompute.settings import Rules

MADE = Path(__file__).parent / "formats" / "made"
QUAD = [[10.0, 10.0], [90.0, 12.0], [90.0, 32.0], [10.0, 30.0]]
BOX = [[110.0, 50.0], [180.0, 50.0], [180.0, 70.0], [110.0, 70.0]]


def words(reading: Reading) -> list[list[Any]]:
    """Image, polygon and don't-care of each word, as `made/expected.json` has them."""
    return [
        [annotation.name, polygon.tolist(), bool(ignored)]
        for annotation in reading.annotations
        for polygon, ignored in zip(
            annotation.polygons.as_list(), annotation.polygons.ignore, strict=True
        )
    ]


def messages(reading: Reading) -> list[str]:
    """What is wrong, without the file."""
    return [f"{problem.entry}: {problem.message}" for problem in reading.problems]


def read(path: Path, images: Path, content: Any, form: str = "auto", **rules: Any) -> Reading:
    """What is read of a file of that content, text or JSON."""
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_annotations(path, images, form, Rules(**rules))
