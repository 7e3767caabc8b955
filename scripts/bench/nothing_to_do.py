#!/usr/bin/env python3
"""What a build costs that finds nothing to do, beside the least that any such check must do.

A folder of --samples images (links to a few small ones) and one annotation file are made, and built
once. Measured is the build after that, which finds that nothing changed: in a process, and as a
command. Beside it: parse the annotations, and ask the file system about every image.

Every measurement runs in a process of its own; memory is the most that one held, and how much of
that came with the measurement.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from measuring.apart import apart
from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment
from measuring.results import Cell, Column, Result, Table
from measuring.samples import SPLIT, link, words_document
from measuring.unbuilt import made_up_polygons

from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.clock import peak_memory, seconds_of
from ocr_precompute.settings import Settings, Source

SIDE = 16  # the smallest canonical size: the first build is not what is measured
LINKS = 50_000  # a file; ext4 allows 65,000
SETTLE = 2.5  # seconds; images changed more recently than about 2 s are digested again
COLUMNS = (
    Column("what"),
    Column("", "s", 2),
    Column("", "entries/s", 0),
    Column("peak memory", "MB", 0),
    Column("of it for this", "MB", 0),
)

Figures = dict[str, float]


def make_images(folder: Path, images: int, words: int) -> None:
    """So many small images under `folder/images` and their `folder/words.json`, made once."""
    if (folder / "words.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    names = [f"{number:08d}.jpg" for number in range(images)]
    for number, name in enumerate(names):
        if number % LINKS == 0:
            pixels = random.integers(256, size=(64, 48, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / "images" / name), pixels)
        else:
            link(folder / "images" / names[number - number % LINKS], folder / "images" / name)
    polygons = made_up_polygons(words)
    document = json.dumps(words_document(dict.fromkeys(names, polygons)))
    (folder / "words.json").write_text(document)
    time.sleep(SETTLE)


def noop_source(folder: Path) -> Source:
    """What the split is built from."""
    return Source(images=folder / "images", annotations=folder / "words.json")


def noop_settings(folder: Path) -> Settings:
    """How the split is built."""
    return Settings(store=folder / "store", size=(SIDE, SIDE))


def first_build(folder: Path, images: int, words: int) -> Figures:
    """Make the images and build the split."""
    make_images(folder, images, words)
    report = build(SPLIT, noop_source(folder), noop_settings(folder))
    return {"first_s": report.seconds, "reused": report.reused}


def memory_since(base: int) -> Figures:
    """MB of this process at its peak, and how much of it came since it had a base of bytes."""
    return {"memory": peak_memory() / 1e6, "growth": (peak_memory() - base) / 1e6}


def noop(folder: Path) -> Figures:
    """The no-op in this process."""
    base = peak_memory()
    started = time.perf_counter()
    report = build(SPLIT, noop_source(folder), noop_settings(folder))
    seconds = time.perf_counter() - started
    if not report.up_to_date:
        sys.exit("the split is not up to date")
    return {"noop_s": seconds, **memory_since(base)}


def noop_command(folder: Path) -> Figures:
    """The no-op as a command. It runs in a folder without a configuration file."""
    source, settings = noop_source(folder), noop_settings(folder)
    command = [sys.executable, "-m", "ocr_precompute", "build", "--json", "--split", SPLIT]
    command += ["--images", str(source.images), "--annotations", str(source.annotations)]
    command += ["--store", str(settings.store), "--size", str(settings.size[0])]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr)
    if not json.loads(done.stdout)["up_to_date"]:
        sys.exit("the split is not up to date")
    return {"command_s": seconds}


def bare(folder: Path) -> Figures:
    """json.loads of the annotations, and one os.stat an image.

    Python's garbage collector runs again and again while a large document is parsed, and finds
    nothing; so parsing is measured without it, too.
    """
    base = peak_memory()
    text = (folder / "words.json").read_text()
    gc.disable()
    uncollected = seconds_of(lambda: json.loads(text))
    gc.enable()
    collected = seconds_of(lambda: json.loads(text))
    images = [os.path.join(folder, "images", name) for name in json.loads(text)["images"]]
    return {
        "json_s": collected,
        "json_uncollected_s": uncollected,
        "stat_s": seconds_of(lambda: [os.stat(image) for image in images]),
        **memory_since(base),
    }


def medians(folder: Path, rounds: int) -> Figures:
    """The median of each figure over rounds: a machine that is slow for a while is so for all."""
    found = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        once, again = apart(noop, folder), apart(bare, folder)
        held = {f"{name}_bare": again.pop(name) for name in ("memory", "growth")}
        found.append({**once, **apart(noop_command, folder), **again, **held})
    return {name: statistics.median(each[name] for each in found) for name in found[0]}


def rows(first: Figures, found: Figures, entries: int) -> Iterator[tuple[Cell, ...]]:
    """A row for each thing that is done; for the first build only if it was done now."""
    ours = found["memory"], found["growth"]
    theirs = found["memory_bare"], found["growth_bare"]
    times: list[tuple[str, float, tuple[Cell, Cell]]] = [
        ("first build", first["first_s"], (None, None)),
        ("no-op build, in process", found["noop_s"], ours),
        ("no-op build, as a command", found["command_s"], (None, None)),
        ("json.loads of the annotations", found["json_s"], theirs),
        ("the same, garbage collector off", found["json_uncollected_s"], (None, None)),
        ("os.stat of every image", found["stat_s"], (None, None)),
    ]
    for name, seconds, memory in times[1:] if first["reused"] else times:
        yield name, seconds, entries / seconds, *memory


def measure(arguments: argparse.Namespace) -> Result:
    """A row for each thing that is done."""
    images, words = arguments.samples, arguments.words
    folder = arguments.scratch / f"noop-{images}-{words}"  # kept for the next run with as many
    first = apart(first_build, folder, images, words)
    found = medians(folder, arguments.rounds)
    least = {"": "json_s", ", garbage collector off": "json_uncollected_s"}
    return Result(
        "nothing_to_do",
        "What does a build cost that finds nothing to do?",
        environment(("pydantic", "joblib")),
        (Table(COLUMNS, tuple(rows(first, found, images))),),
        {
            f"no-op in process / (json.loads + os.stat){name}": found["noop_s"]
            / (found[parsing] + found["stat_s"])
            for name, parsing in least.items()
        },
        (f"{images:,} images of {words} words, unchanged",),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, images=False, samples=100_000)
    options.add_argument("--words", default=8, type=int, help="polygons an image; default: 8")
    options.add_argument("--rounds", default=3, type=int, help="default: 3")
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
