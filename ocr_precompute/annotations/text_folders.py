"""Folders of text files, one per image, whatever the files hold: each with the image it belongs to.

`icdar` has its own, for there a folder is judged as a whole.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ocr_precompute.annotations.folders import ImageNames, decode_text, read_bounded, text_files
from ocr_precompute.annotations.looking import Look
from ocr_precompute.annotations.reading import Entry, Found
from ocr_precompute.errors import Problem

_LARGEST_FILE = 64 << 20  # bytes; a million words


@dataclass(frozen=True, eq=False)
class ImageText:
    """A text file, the image it belongs to, and what it says; line ends are newlines."""

    path: Path
    image: str
    text: str

    def lines(self) -> list[tuple[int, str]]:
        """Lines that are not blank, with their numbers."""
        # Not str.splitlines: it also splits at characters that occur in transcriptions.
        lines = enumerate(self.text.split("\n"), 1)
        return [(number, line) for number, line in lines if line and not line.isspace()]


def read_texts(
    path: Path,
    suffix: str,
    images: ImageNames,
    entry: Callable[[ImageText], Entry | Problem],
    prefixes: Sequence[str] = (),
) -> Found:
    """What a format finds in the text files of a folder, or in the one file at a path.

    suffix: of the folder's files, in lower case. entry: what one of them holds. prefixes: what a
    file's name may have before that of its image. A file that cannot be read, or that has no image,
    is a problem of that image. Raises OSError if the folder cannot be read.
    """
    folder, names, left_out = path.parent, [path.name], list[tuple[str, str]]()
    if path.is_dir():
        folder, (names, left_out) = path, text_files(path, {suffix})

    def entries() -> Iterator[Entry | Problem]:
        for name in names:
            found = _text(folder, name, images, prefixes)
            yield found if isinstance(found, Problem) else entry(found)

    return Found(entries(), left_out=tuple(left_out))


def fitting_lines(
    look: Look, suffix: str, fits: re.Pattern[str], skips: re.Pattern[str] | None = None
) -> bool:
    """Whether most lines at a path are of a form; of a folder those of files that end so.

    skips: what other lines begin with that say nothing about it.
    """
    lines = [line for file in look.files(suffix) for line in file.lines]
    judged = [line for line in lines if not (skips and skips.match(line))]
    return 2 * sum(1 for line in judged if fits.fullmatch(line)) > len(judged)


@cache
def line_label(number: int) -> str:
    """What messages call a word that stands in a line; one text for all files."""
    return f"line {number}"


def finite_number(text: str) -> float | None:
    """The finite number that a field holds; None if it holds none."""
    if "_" in text:  # which float() would pass over
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _text(
    folder: Path, name: str, images: ImageNames, prefixes: Sequence[str]
) -> ImageText | Problem:
    path, stem = folder / name, os.path.splitext(name)[0]
    inside, file = os.path.split(stem)
    bare = next((file.removeprefix(p) for p in prefixes if file.startswith(p)), file)
    wanted = os.path.join(inside, bare)
    found = images.of_stem(stem) or images.of_stem(wanted)
    if len(found) > 1:
        reason = f"fits several images: {', '.join(found)}; keep one of them"
        return Problem("image", str(path), "", reason, wanted)
    if not found:
        reason = f"there is no image {wanted}.jpg, .png or the like; add it or remove this file"
        return Problem("image", str(path), "", reason, wanted)
    try:
        return ImageText(path, found[0], decode_text(read_bounded(path, _LARGEST_FILE)))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; correct or remove it"
    except ValueError as error:
        reason = str(error)
    return Problem("image", str(path), "", reason, found[0])
