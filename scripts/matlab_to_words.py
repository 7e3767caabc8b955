#!/usr/bin/env python3
"""Turn MATLAB files of text datasets into one `words` JSON, which ocr-precompute reads.

    scripts/matlab_to_words.py totaltext Polygon/Train --images Images/Train --out words.json
    scripts/matlab_to_words.py synthtext SynthText/gt.mat --out words.json

`totaltext` takes a folder of files (poly_gt_img1.mat for img1.jpg) or single ones; don't care is
what has # as its text or orientation. `synthtext` takes its gt.mat; the names in it are relative to
the folder of the images. Images are written one after the other. Reading MATLAB files needs SciPy.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ocr_precompute.annotations.folders import ImageNames

DONT_CARE = ("#", "###")
PREFIXES = ("poly_gt_", "t3_gt_", "gt_")

Word = dict[str, Any]
Image = tuple[str, list[Word]]


class BadFile(Exception):
    """A file that is not what it should be: which, what is wrong, what to do."""


def loaded(path: Path, names: list[str]) -> dict[str, Any]:
    """Some of the variables of a MATLAB file. Raises BadFile if it cannot be read."""
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]
        from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]
    except ImportError:
        raise BadFile("reading MATLAB files needs SciPy; install it: pip install scipy") from None
    try:
        found: dict[str, Any] = loadmat(path, variable_names=names)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise BadFile(f"{path}: cannot be read as a MATLAB file: {error}; replace it") from None
    return found


def text_of(value: Any) -> str:
    """What a cell says; empty if it says nothing."""
    flat = np.asarray(value).ravel()
    return str(flat[0]) if flat.size and isinstance(flat[0], str) else ""


# ------------------------------------------------------------------------------------ Total-Text


def totaltext_words(rows: Any) -> list[Word]:
    """The words of one image's table: `x:`, xs, `y:`, ys, text and, if it has one, orientation.

    Raises ValueError if it is none.
    """
    table = np.asarray(rows)
    if table.ndim != 2 or (len(table) and (table.dtype != object or table.shape[1] not in (5, 6))):
        raise ValueError(f"has a table of shape {table.shape}, not of 6 columns")
    words = []
    for number, row in enumerate(table, 1):
        x, y = (np.asarray(row[column]).ravel() for column in (1, 3))
        if x.dtype.kind not in "iuf" or y.dtype.kind not in "iuf" or len(x) != len(y):
            raise ValueError(f"word {number}: x and y are not as many numbers")
        text, turn = text_of(row[4]), text_of(row[5]) if len(row) > 5 else ""
        words.append(word(zip(x.tolist(), y.tolist(), strict=True), text, {text, turn}))
    return words


def word(points: Any, text: str, marks: set[str]) -> Word:
    """A word as `words` JSON has it."""
    listed = [[float(x), float(y)] for x, y in points]
    ignored = {"ignore": True} if marks & {*DONT_CARE} else {}
    return {"transcription": text or None, "points": listed, **ignored}


def totaltext(paths: list[Path], folder: Path) -> Iterator[Image]:
    """The images of folders of files, or of files."""
    images = ImageNames(folder)
    files = [file for path in paths for file in (sorted(path.glob("*.mat")) or [path])]
    for file in files:
        stem = next((file.stem.removeprefix(p) for p in PREFIXES if file.stem.startswith(p)), "")
        found = images.of_stem(stem or file.stem)
        if len(found) != 1:
            there = f"{len(found)} images" if found else "no image"
            raise BadFile(
                f"{file}: there is {there} {stem or file.stem} in {folder}; correct --images, or "
                "remove the file"
            )
        variables = loaded(file, ["polygt", "gt"])
        rows = variables.get("polygt", variables.get("gt"))
        try:
            if rows is None:
                raise ValueError("has no variable polygt or gt")
            yield found[0], totaltext_words(rows)
        except ValueError as error:
            raise BadFile(f"{file}: {error}; replace or remove it") from None


# ------------------------------------------------------------------------------------- SynthText


def synthtext_words(boxes: Any, texts: Any) -> list[Word]:
    """The words of one image: boxes (2, 4, n), or (2, 4) of one word, and their texts.

    texts: pieces of which each holds words that blanks and line ends part. Raises ValueError if
    these are not as many.
    """
    corners = np.asarray(boxes, np.float64)
    corners = corners[:, :, None] if corners.ndim == 2 else corners
    if corners.shape[:2] != (2, 4):
        raise ValueError(f"has boxes of shape {corners.shape}, not (2, 4, n)")
    said = [text for piece in np.asarray(texts).ravel() for text in str(piece).split()]
    if len(said) != corners.shape[2]:
        raise ValueError(f"has {corners.shape[2]} boxes and {len(said)} words")
    outlines = corners.transpose(2, 1, 0).tolist()
    return [word(points, text, set()) for points, text in zip(outlines, said, strict=True)]


def synthtext(path: Path) -> Iterator[Image]:
    """The images of gt.mat, of which all but boxes of single letters is held."""
    needed = ["imnames", "wordBB", "txt"]
    variables = loaded(path, needed)
    if missing := [name for name in needed if name not in variables]:
        raise BadFile(f"{path}: has no variable {' and '.join(missing)}; give SynthText's gt.mat")
    columns = [variables.pop(name).ravel() for name in needed]
    if len({len(column) for column in columns}) != 1:
        raise BadFile(f"{path}: {', '.join(needed)} are not as long; replace it")
    for name, boxes, texts in zip(*columns, strict=True):
        try:
            yield text_of(name), synthtext_words(boxes, texts)
        except ValueError as error:
            raise BadFile(f"{path}: {text_of(name)}: {error}; replace it") from None


# --------------------------------------------------------------------------------------- writing


def write_words(images: Iterator[Image], out: Path) -> tuple[int, int, int]:
    """Write the document, under its name once it is whole; how many images, words, don't-care."""
    count, words, ignored = 0, 0, 0
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write('{"images": {')
            for name, found in images:
                numbered = {f"{number:04d}": each for number, each in enumerate(found, 1)}
                document = json.dumps({"words": numbered})
                file.write(f"{',' if count else ''}\n{json.dumps(name)}: {document}")
                count, words = count + 1, words + len(found)
                ignored += sum(1 for each in found if each.get("ignore"))
                if count % 10_000 == 0:
                    print(f"{count} images", file=sys.stderr)
            file.write("\n}}\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    return count, words, ignored


def main() -> int:
    """Read, write, say how much."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=("totaltext", "synthtext"))
    parser.add_argument("paths", type=Path, nargs="+", help="MATLAB files, or a folder of them")
    parser.add_argument("--images", type=Path, help="of totaltext: the folder of its images")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    given = parser.parse_args()
    if given.dataset == "totaltext" and given.images is None:
        parser.error("totaltext needs --images, to know the images' suffixes")
    if given.dataset == "synthtext" and len(given.paths) != 1:
        parser.error("synthtext takes one file, its gt.mat")
    whole = given.dataset == "totaltext"
    images = totaltext(given.paths, given.images) if whole else synthtext(given.paths[0])
    try:
        count, words, ignored = write_words(images, given.out)
    except (BadFile, OSError) as error:
        print(f"matlab_to_words: {error}", file=sys.stderr)
        return 2
    print(f"{given.out}: {count} images, {words} words, {ignored} don't care", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
