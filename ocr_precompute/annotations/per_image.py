"""Formats of one annotation file per image: which files there are, and whose image each is."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from ocr_precompute.annotations.folders import ImageNames, text_files
from ocr_precompute.annotations.json_files import document
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.pairing import image_beside
from ocr_precompute.annotations.reading import Entry, Found
from ocr_precompute.errors import InputError, Problem

Understand = Callable[[str, str, Any], Entry]
"""An image's entry, given its annotation file, its name and what the JSON holds.

Raises ValueError saying why there can be none.
"""

_LARGEST_FILE = 64 << 20  # bytes; a million words


def fit_each(look: Look, is_one: Callable[[Any], bool], beside: Collection[str] = ()) -> Fit:
    """Whether a JSON file, or most of those in a folder, begin with what is such a document.

    beside: names of files that are known not to be annotations.
    """
    files = [file for file in look.files(".json") if file.path.name not in beside]
    fitting = sum(is_one(file.json) for file in files)
    return Fit.YES if 2 * fitting > len(files) else Fit.NO


def read_each(
    path: Path,
    images: ImageNames,
    understand: Understand,
    swap: tuple[str, str] = ("", ""),
    beside: Collection[str] = (),
) -> Found:
    """What a JSON file, or each one below a folder, says of the image that it belongs to.

    swap: see `image_beside`. beside: names of files that are known not to be annotations.
    """
    names, left_out = [path.name], list[tuple[str, str]]()
    folder = path.parent
    if path.is_dir():
        folder = path
        names, left_out = text_files(path, {".json"})
        left_out += [
            (name, "is about the whole, and no image's")
            for name in names
            if os.path.basename(name) in beside
        ]
        names = [name for name in names if os.path.basename(name) not in beside]
    entries = _entries(folder, names, images, understand, swap)
    return Found(entries, left_out=tuple(sorted(left_out)))


def _entries(
    folder: Path,
    names: list[str],
    images: ImageNames,
    understand: Understand,
    swap: tuple[str, str],
) -> Iterator[Entry | Problem]:
    for name in names:
        sample = os.path.splitext(name)[0]
        try:
            image = image_beside(folder / name, images, swap)
            sample = image
            yield understand(
                str(folder / name), image, document(folder / name, _LARGEST_FILE, image)
            )
        except InputError as error:
            yield from error.problems
        except ValueError as error:
            yield Problem("image", str(folder / name), "", str(error), sample)
