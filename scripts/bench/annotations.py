#!/usr/bin/env python3
"""What reading large annotation files takes: seconds on one core, and memory.

Files of so many words are made up and read, each in a process of its own: COCO instances with
quads, `words`, and a HierText document, which grows until it is as large as asked for.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from measuring.apart import apart
from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment
from measuring.results import Column, Result, Table

from ocr_precompute.annotations import read_annotations
from ocr_precompute.runtime.clock import peak_memory

PER_IMAGE = 10  # words


def quad(number: int) -> list[float]:
    """x, y, x, y of a word that no other has."""
    x, y = 7.25 * (number % 97), 5.5 * (number % 89)
    return [x, y, x + 40.5, y + 1.0, x + 40.0, y + 12.75, x, y + 12.0]


def coco(file: TextIO, words: int, _: int) -> None:
    """Images first, then annotations, as most tools write them."""
    images = range(words // PER_IMAGE)
    listed = ({"id": n, "file_name": f"{n:07d}.jpg", "width": 800, "height": 600} for n in images)
    file.write('{"images": [')
    _list(file, listed)
    file.write('], "annotations": [')
    _list(file, map(_annotation, range(words)))
    file.write('], "categories": [{"id": 1, "name": "text"}]}')


def _annotation(number: int) -> dict[str, object]:
    flat = quad(number)
    box = [flat[0], flat[1], 40.5, 12.75]
    named = {"id": number, "image_id": number // PER_IMAGE, "category_id": 1, "iscrowd": 0}
    return {**named, "bbox": box, "area": 480.0, "segmentation": [flat], "text": f"w{number}"}


def ufo(file: TextIO, words: int, _: int) -> None:
    """`words`."""
    file.write('{"images": {')
    for image in range(words // PER_IMAGE):
        own = {}
        for number in range(PER_IMAGE):
            flat = quad(image * PER_IMAGE + number)
            points = [flat[at : at + 2] for at in range(0, 8, 2)]
            own[f"{number:04d}"] = {"transcription": f"w{number}", "points": points}
        page = json.dumps({"words": own})
        file.write(f'{", " if image else ""}"{image:07d}.jpg": {page}')
    file.write("}}")


def hiertext(file: TextIO, _: int, size: int) -> None:
    """Paragraphs of lines of words, until the file has so many bytes."""
    file.write('{"info": {"date": "made up"}, "annotations": [')
    for image in range(10**9):
        if file.tell() >= size:
            break
        words = []
        for number in range(60):
            flat = quad(image * 60 + number)
            vertices = [[int(flat[at]), int(flat[at + 1])] for at in range(0, 8, 2)]
            legible = {"legible": True, "handwritten": False, "vertical": False}
            words.append({"vertices": vertices, "text": f"w{number}", **legible})
        lines = [
            {"vertices": words[at]["vertices"], "text": "a line", "legible": True}
            | {"handwritten": False, "vertical": False, "words": words[at : at + 6]}
            for at in range(0, 60, 6)
        ]
        page = {"image_id": f"{image:016x}", "image_width": 1600, "image_height": 1200}
        page["paragraphs"] = [{"vertices": words[0]["vertices"], "legible": True, "lines": lines}]
        file.write(("," if image else "") + json.dumps(page))
    file.write("]}")


def _list(file: TextIO, items: Iterable[object]) -> None:
    for number, item in enumerate(items):
        file.write(("," if number else "") + json.dumps(item))


FORMS: dict[str, Callable[[TextIO, int, int], None]] = {
    "coco": coco,
    "words": ufo,
    "hiertext": hiertext,
}


COLUMNS = (
    Column("form"),
    Column("file", "MB", 0),
    Column("images"),
    Column("words"),
    Column("problems"),
    Column("processor", "s", 1),
    Column("memory", "MB", 0),
)


def measured(form: str, path: Path, images: Path) -> tuple[int, int, int, float, float]:
    """Images, words, problems, seconds of processor time and MB of memory that reading takes."""
    started = time.process_time()
    reading = read_annotations(path, images, form)
    seconds = time.process_time() - started
    words = sum(len(each.polygons.lengths) for each in reading.annotations)
    counts = len(reading.annotations), words, len(reading.problems)
    return *counts, seconds, peak_memory() / 1e6


def measure(arguments: argparse.Namespace) -> Result:
    """A row for each form, read in a process of its own."""
    folder = arguments.scratch / "annotations"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for form in arguments.forms:
        path = folder / f"{form}.json"
        with path.open("w") as file:
            FORMS[form](file, arguments.words, arguments.megabytes * 10**6)
        size = path.stat().st_size / 1e6
        say(f"{form}: {size:.0f} MB")
        rows.append((form, size, *apart(measured, form, path, folder / "images")))
        path.unlink()
    question = "What does reading large annotation files take?"
    table = Table(COLUMNS, tuple(rows))
    return Result("annotations", question, environment(("msgspec",)), (table,))


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, images=False)
    options.add_argument("--words", type=int, default=10**6, help="default: a million")
    options.add_argument("--megabytes", type=int, default=500, help="of HierText; default: 500")
    options.add_argument("--forms", nargs="+", choices=tuple(FORMS), default=tuple(FORMS))
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
