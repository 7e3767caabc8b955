#!/usr/bin/env python3
"""What a split of millions costs whoever builds it: to scan, to plan, to find nothing to do.

--entries: so many annotated images are made, as sorted parts with digests; there are no pictures
but those of the first batch, whose shards are built. Of all other shards there are files that hold
the keys alone, so that the split is as good as built. Measured are scan and plan for an empty
store, the build that finds nothing to do, the one after one annotation was changed (a dry run), and
opening the split up to its first batch.

Every measurement runs in a process of its own; memory is the most that one held.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import shutil
import sys
import time
from bisect import bisect_left
from pathlib import Path

import cv2
import numpy as np
from measuring.apart import apart
from measuring.command import add_scratch, argument_parser, run_script
from measuring.machine import environment
from measuring.results import Cell, Column, Result, Table
from measuring.samples import SPLIT
from measuring.unbuilt import write_keys

from ocr_precompute import open_store
from ocr_precompute.format.keys import data_hash
from ocr_precompute.format.manifest import Manifest, ShardEntry
from ocr_precompute.format.parts import cut_parts
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.encode import ShardTask, encode_shard
from ocr_precompute.pipeline.plan import ShardPlan, cut_shards, work_left
from ocr_precompute.pipeline.publish import Contents
from ocr_precompute.pipeline.remembered import PartMemory
from ocr_precompute.pipeline.scan import Scan, scan
from ocr_precompute.pipeline.understand import understand
from ocr_precompute.runtime.clock import peak_memory
from ocr_precompute.settings import Settings, Source
from ocr_precompute.storage.digests import DigestCache
from ocr_precompute.storage.folder import Folder
from ocr_precompute.storage.store import create_store, publish_manifest

SIDE = 64  # canonical size; encoding is not what is measured
PART = 100_000  # lines of a file
BATCH = 16
COLUMNS = (
    Column("what"),
    Column("", "s"),
    Column("per million", "s"),
    Column("peak memory", "MB", 0),
)
PICTURES = 256  # of the first entries, more than the shards of a batch may hold
HEIGHT, WIDTH = 90, 160  # of each

Figures = dict[str, float]


def source_of(scratch: Path) -> Source:
    """What is built."""
    return Source(images=scratch / "images", annotations=scratch / "parts", format="words_lines")


def settings_of(scratch: Path) -> Settings:
    """How it is built."""
    return Settings(store=scratch / "store", size=(SIDE, SIDE), jobs=1)


def line(number: int, digest: str, words: int, moved: int = 0) -> str:
    """What is said of an image. moved: pixels that its words lie further down."""
    at, right = 10 + number % 7, 60 + number % 50
    listed = []
    for word in range(words):
        top = 5.5 + 14 * word + moved
        quad = [[at, top], [right, top + 1.25], [right, top + 11], [at, top + 9.75]]
        listed.append({"points": quad, "ignore": number % 17 == word})
    head = {"name": f"{number // 1000:06d}/{number:09d}.png", "img_w": WIDTH, "img_h": HEIGHT}
    return json.dumps({**head, "digest": digest, "words": listed}) + "\n"


def make_parts(scratch: Path, entries: int, words: int) -> Figures:
    """The annotations, and the pictures of the first of them."""
    (scratch / "parts").mkdir(parents=True)
    random, size = np.random.default_rng(0), 0
    for first in range(0, entries, PART):
        with (scratch / "parts" / f"{first // PART:05d}.jsonl").open("w") as file:
            for number in range(first, min(first + PART, entries)):
                data = number.to_bytes(8, "little")
                if number < PICTURES:
                    path = scratch / "images" / f"{number // 1000:06d}" / f"{number:09d}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    pixels = random.integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
                    cv2.imwrite(str(path), pixels)
                    data = path.read_bytes()
                file.write(line(number, hashlib.sha256(data).hexdigest(), words))
            size += file.tell()
    return {"bytes": size}


def scanned(scratch: Path) -> Scan:
    """The scan, with a digest cache of its own."""
    settings = settings_of(scratch)
    source = source_of(scratch).ruled(settings.rules, settings.parameters.recipe)
    with DigestCache(scratch / "digests.sqlite") as cache:
        memory = PartMemory(remembered(scratch), writes=True)
        return scan(source, settings.parameters, settings.max_pixels, cache, memory=memory)


def remembered(scratch: Path) -> Path:
    """Where builds of the split remember its parts."""
    return scratch / "store" / "scans" / SPLIT


def measure_plan(scratch: Path) -> Figures:
    """Scan and plan for a store that holds nothing; then what is missing is made."""
    settings, folder = settings_of(scratch), Folder(scratch / "store")
    create_store(folder)
    base, started = peak_memory(), time.perf_counter()
    found = scanned(scratch)
    scan_s, after_scan = time.perf_counter() - started, peak_memory()
    started = time.perf_counter()
    shards = tuple(cut_shards(found.samples, settings.parameters, settings.shard_length))
    work_left(folder, shards, None)
    keys = [shard.key for shard in shards]
    understood = understand(found.samples, found.reading, settings.parameters, "0" * 64)
    plan_s = time.perf_counter() - started
    figures = {"scan_s": scan_s, "scan_memory": after_scan, "plan_s": plan_s, "base": base}
    figures |= {"plan_memory": peak_memory(), "shards": len(keys), "words": understood.words}
    make_split(scratch, found, shards)
    return figures | {"publish_memory": peak_memory()}


def make_split(scratch: Path, found: Scan, shards: tuple[ShardPlan, ...]) -> None:
    """Build the shards of the first batch, make files for the others, and publish."""
    settings, folder = settings_of(scratch), Folder(scratch / "store")
    parameters = settings.parameters
    ends = list(itertools.accumulate(len(shard.samples) for shard in shards))
    real = bisect_left(ends, BATCH) + 1
    for shard in shards[:real]:
        encode_shard(ShardTask(folder, shard, parameters, settings.max_pixels, {}))
    for shard in shards[real:]:
        write_keys(folder.path, shard)
    parts = []
    for part, data in cut_parts(Contents(shards)):
        folder.put_new(f"parts/{part.key}.zip", data)
        parts.append(part)
    entries = [ShardEntry(shard.key, len(shard.samples)) for shard in shards]
    digest = data_hash(entry.key for entry in entries)
    understood = understand(found.samples, found.reading, parameters, digest).shortened()
    manifest = Manifest(SPLIT, digest, parameters, tuple(parts), tuple(entries), (), (), understood)
    publish_manifest(folder, manifest, {}, None)


def measure_build(scratch: Path, dry_run: bool = False) -> Figures:
    """A build; there must be nothing to do for one that is no dry run."""
    started = time.perf_counter()
    report = build(SPLIT, source_of(scratch), settings_of(scratch), dry_run=dry_run)
    seconds = time.perf_counter() - started
    if not dry_run and not report.up_to_date:
        sys.exit("the split is not up to date")
    figures = {"seconds": seconds, "memory": peak_memory(), "built": report.built}
    return figures | {"computed": report.computed, "copied": report.copied}


def measure_update(scratch: Path) -> Figures:
    """What the build after a change of one image's words would do; the change is undone."""
    path = sorted((scratch / "parts").iterdir())[-1]
    lines = path.read_text().splitlines(keepends=True)
    entry = json.loads(lines[-1])
    entry["words"][0]["points"][0][0] += 1
    path.write_text("".join([*lines[:-1], json.dumps(entry) + "\n"]))
    try:
        return measure_build(scratch, dry_run=True)
    finally:
        path.write_text("".join(lines))


def measure_open(scratch: Path) -> Figures:
    """Opening the split, its first batch, and a name in its middle."""
    started = time.perf_counter()
    split = open_store(scratch / "store")[SPLIT]
    opened = time.perf_counter() - started
    split.read(range(BATCH), ("image", "prob"))
    batch, started = time.perf_counter() - started, time.perf_counter()
    split.index(split.names[len(split) // 2])
    names = time.perf_counter() - started
    return {"open_s": opened, "batch_s": batch, "names_s": names, "memory": peak_memory()}


def measure(arguments: argparse.Namespace) -> Result:
    """A row for each step, each in a process of its own."""
    scratch: Path = arguments.scratch
    millions = arguments.entries / 1e6
    shutil.rmtree(scratch, ignore_errors=True)
    made = apart(make_parts, scratch, arguments.entries, arguments.words)
    planned, nothing = apart(measure_plan, scratch), apart(measure_build, scratch)
    shutil.rmtree(remembered(scratch))
    again, changed = apart(measure_build, scratch), apart(measure_update, scratch)
    opened = apart(measure_open, scratch)
    shutil.rmtree(scratch)

    def row(what: str, seconds: float, memory: float) -> tuple[Cell, ...]:
        return what, seconds, seconds / millions, memory / 1e6

    did = f"{changed['built']:.0f} shard, {changed['computed']:.0f} row computed"
    rows = (
        row("scan", planned["scan_s"], planned["scan_memory"]),
        row("plan", planned["plan_s"], planned["plan_memory"]),
        ("publish", None, None, planned["publish_memory"] / 1e6),
        row("build, nothing to do, parts remembered", nothing["seconds"], nothing["memory"]),
        row("build, nothing to do, parts read", again["seconds"], again["memory"]),
        row("one image changed, dry run", changed["seconds"], changed["memory"]),
        row("open", opened["open_s"], opened["memory"]),
        row(f"open and first batch of {BATCH}", opened["batch_s"], opened["memory"]),
        row("a name in the middle", opened["names_s"], opened["memory"]),
    )
    entries, shards = f"{arguments.entries:,} images", f"{planned['shards']:,.0f} shards"
    size = f"{made['bytes'] / 1e9:.2f} GB of JSON lines"
    return Result(
        "millions",
        "What does a split of millions cost whoever builds it?",
        environment(("joblib", "pydantic")),
        (Table(COLUMNS, rows),),
        notes=(f"{entries} of {arguments.words} words, {size}, {shards}; the change means {did}",),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, images=False)
    options.add_argument("--entries", type=int, default=1_000_000, metavar="N")
    options.add_argument("--words", type=int, default=4, metavar="N", help="per image; default: 4")
    add_scratch(options, "ocr-precompute-millions")
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
