#!/usr/bin/env python3
"""What very large splits cost: to open, to look up a sample, and to plan an update.

A split of --samples is made that has a manifest, and of its shards only files that hold the keys;
no maps. Measured are opening it, looking up where a sample lies, and planning an update in which
some samples changed. nothing_to_do.py measures a build that finds nothing changed.

Every measurement runs in a process of its own; memory is the most that one held, and how much of
that came with the measurement.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
from measuring.apart import apart
from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment
from measuring.results import Cell, Column, Result, Table
from measuring.samples import SPLIT
from measuring.timing import random_indices
from measuring.unbuilt import made_up_polygons, write_keys

from ocr_precompute import open_store
from ocr_precompute.annotations import Reading
from ocr_precompute.format.keys import data_hash
from ocr_precompute.format.manifest import Manifest
from ocr_precompute.format.parts import cut_parts
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.plan import cut_shards, work_left
from ocr_precompute.pipeline.publish import contents_of
from ocr_precompute.pipeline.scan import Scan
from ocr_precompute.pipeline.tables import Samples
from ocr_precompute.pipeline.understand import understand
from ocr_precompute.runtime.clock import peak_memory, seconds_of
from ocr_precompute.samples import ImageFile, Sample
from ocr_precompute.settings import Settings
from ocr_precompute.storage.folder import Folder
from ocr_precompute.storage.store import create_store, publish_manifest, read_manifest

LOOKUPS = 100_000
REPEATS = 3  # of what is quick enough; the median counts
SHARD_LENGTH = Settings().shard_length
COLUMNS = (
    Column("what"),
    Column("figure"),
    Column("unit"),
    Column("peak memory", "MB", 0),
    Column("of it for this", "MB", 0),
)

Figures = dict[str, float]


def fake_scan(samples: int, words: int, changed: frozenset[int] = frozenset()) -> Scan:
    """What a scan of so many images would return. changed: those whose image is another.

    All share their polygons: memory without the annotations, which any tool would have to hold.
    """
    polygons, folder = made_up_polygons(words), Path("images")
    found = []
    for number in range(samples):
        name = f"{number:08d}.jpg"
        image = f"{name} {'after' if number in changed else 'before'}"
        digest = hashlib.sha256(image.encode()).digest()
        found.append(Sample(name, folder, ImageFile(digest, (640, 640), False), polygons))
    return Scan(Samples.of(found), (), Reading("words", [], []))


def make_split(store: Path, samples: int, words: int) -> int:
    """Publish the manifest, and make every shard's file; returns how many there are."""
    parameters = Parameters()
    scan = fake_scan(samples, words)
    create_store(Folder(store))
    contents = []
    for shard in cut_shards(scan.samples, parameters, SHARD_LENGTH):
        write_keys(store, shard)
        contents.append(contents_of(shard))
    shards = tuple(each.entry for each in contents)
    digest = data_hash(shard.key for shard in shards)
    understood = understand(scan.samples, scan.reading, parameters, digest)
    parts = dict(cut_parts(contents))
    manifest = Manifest(SPLIT, digest, parameters, tuple(parts), shards, (), (), understood)
    publish_manifest(
        Folder(store), manifest, {part.key: data for part, data in parts.items()}, None
    )
    return len(shards)


def opening(store: Path) -> Figures:
    """Opening the split, and looking up random samples."""
    base = peak_memory()
    seconds = [seconds_of(lambda: open_store(store).split(SPLIT)) for _ in range(REPEATS)]
    memory = peak_memory()
    split = open_store(store).split(SPLIT)
    indices = list(random_indices(len(split), LOOKUPS))
    lookups = seconds_of(lambda: [split.locate(index) for index in indices])
    return {
        "open_s": statistics.median(seconds),
        "lookup_us": 1e6 * lookups / LOOKUPS,
        "memory": memory / 1e6,
        "growth": (memory - base) / 1e6,
    }


def planning(store: Path, samples: int, words: int, changed: int) -> Figures:
    """Planning an update in which so many random samples changed."""
    numbers = np.random.default_rng(0).choice(samples, changed, replace=False)
    scan = fake_scan(samples, words, frozenset(numbers.tolist()))
    published = read_manifest(Folder(store), SPLIT)
    base = peak_memory()
    started = time.perf_counter()
    shards = list(cut_shards(scan.samples, Parameters(), SHARD_LENGTH))
    to_build, donors = work_left(Folder(store), shards, published)
    seconds = time.perf_counter() - started
    rows = [geometry for shard in to_build for geometry in shard.hashes]
    return {
        "plan_s": seconds,
        "touched": len(to_build),
        "rows": len(rows),
        "copied": sum(geometry in donors for geometry in rows),
        "memory": peak_memory() / 1e6,
        "growth": (peak_memory() - base) / 1e6,
    }


def measure(arguments: argparse.Namespace) -> Result:
    """A row for each thing that is done, and for what it would build."""
    store, samples, words = arguments.scratch / "large", arguments.samples, arguments.words
    shutil.rmtree(store, ignore_errors=True)
    shards = apart(make_split, store, samples, words)
    say(f"{shards} shards")
    opened = apart(opening, store)
    planned = apart(planning, store, samples, words, arguments.changed)
    shutil.rmtree(store)
    rows: list[tuple[Cell, ...]] = [
        ("open the split", opened["open_s"], "s", opened["memory"], opened["growth"]),
        ("look up a random sample", opened["lookup_us"], "µs", None, None),
        ("plan an update", planned["plan_s"], "s", planned["memory"], planned["growth"]),
        ("which builds, of the split's shards", planned["touched"], "shards", None, None),
        ("in which it copies", planned["copied"], "rows", None, None),
        ("and computes", planned["rows"] - planned["copied"], "rows", None, None),
    ]
    made = f"{samples:,} samples in {shards:,} shards, no maps"
    return Result(
        "scale",
        "What does a very large split cost to open and to update?",
        environment(("pydantic", "joblib")),
        (Table(COLUMNS, tuple(rows)),),
        notes=(f"{made}; {arguments.changed:,} samples change",),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, images=False, samples=1_000_000)
    options.add_argument("--changed", default=100, type=int, help="samples; default: 100")
    options.add_argument("--words", default=8, type=int, help="polygons an image; default: 8")
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
