#!/usr/bin/env python3
"""What reading large annotation files takes: seconds on one core, and memory.

Files of so many words are made up and read, each in a process of its own: COCO instances with
quads, `words`, and a HierText document, which grows until it is as large as asked for.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from common import add_out, argument_parser, environment, markdown_table, write_report

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


def measured(form: str, path: Path, images: Path, answer: multiprocessing.Queue[object]) -> None:
    """In a process of its own: read, and say what it took."""
    started = time.process_time()
    reading = read_annotations(path, images, form)
    seconds = time.process_time() - started
    words = sum(len(each.polygons.lengths) for each in reading.annotations)
    answer.put((len(reading.annotations), words, len(reading.problems), seconds, peak_memory()))


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """The table."""
    yield from ("# What reading large annotation files takes", "")
    yield from environment(())
    yield ""
    folder = arguments.scratch / "annotations"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    spawn = multiprocessing.get_context("spawn")
    for form in arguments.forms:
        path = folder / f"{form}.json"
        with path.open("w") as file:
            FORMS[form](file, arguments.words, arguments.megabytes * 10**6)
        print(f"{form}: {path.stat().st_size / 1e6:.0f} MB", file=sys.stderr)
        answer = spawn.Queue()
        process = spawn.Process(target=measured, args=(form, path, folder / "images", answer))
        process.start()
        images, words, problems, seconds, memory = answer.get()
        process.join()
        size = f"{path.stat().st_size / 1e6:.0f} MB"
        counts = f"{images:,}", f"{words:,}", str(problems)
        rows.append((form, size, *counts, f"{seconds:.1f} s", f"{(memory or 0) / 1e6:.0f} MB"))
        os.unlink(path)
    yield markdown_table(
        ["form", "file", "images", "words", "problems", "processor", "memory at most"], rows
    )


def main() -> None:
    """Command line."""
    parser = argument_parser(__doc__, samples=1)
    parser.add_argument("--words", type=int, default=10**6, help="default: a million")
    parser.add_argument("--megabytes", type=int, default=500, help="of HierText; default: 500")
    parser.add_argument("--forms", nargs="+", choices=tuple(FORMS), default=tuple(FORMS))
    add_out(parser)
    write_report(report(parser.parse_args()), parser.parse_args().out)


if __name__ == "__main__":
    main()
