#!/usr/bin/env python3
"""What very large splits cost: to open, to look up, to update, and to find nothing to do.

Part one, --samples: a split of a million samples that has a manifest, and of its shards only files
that hold the keys; no maps. Measured are opening it, looking up where a sample lies, and planning
an update in which some samples changed.

Part two, --noop: a folder of so many images (links to a few small ones) and one annotation file,
built once. Measured is the build after that, which finds that nothing changed: in this process, and
as a command. Beside it the least that any such check must do: parse the annotations, and ask the
file system about every image.

Every measurement runs in a process of its own; memory is the most that one held, and how much of
that came with the measurement.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import (
    SPLIT,
    add_out,
    environment,
    link,
    markdown_table,
    random_indices,
    words_document,
    write_report,
)

from ocr_precompute import open_store
from ocr_precompute.annotations import Reading
from ocr_precompute.format.archive import archive_bytes
from ocr_precompute.format.chunks import with_checksum
from ocr_precompute.format.keys import data_hash
from ocr_precompute.format.manifest import Manifest
from ocr_precompute.format.parts import cut_parts
from ocr_precompute.format.schema import entry_names, record_name
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.plan import cut_shards, work_left
from ocr_precompute.pipeline.publish import contents_of
from ocr_precompute.pipeline.scan import Scan
from ocr_precompute.pipeline.tables import Samples
from ocr_precompute.pipeline.understand import understand
from ocr_precompute.runtime.clock import peak_memory, seconds_of
from ocr_precompute.samples import ImageFile, Polygons, Sample
from ocr_precompute.settings import Settings, Source
from ocr_precompute.storage.folder import Folder
from ocr_precompute.storage.store import create_store, publish_manifest, read_manifest, shard_name

LOOKUPS = 100_000
REPEATS = 3  # of what is quick enough; the median counts
SIDE = 16  # the smallest canonical size: the first build is not what is measured
LINKS = 50_000  # a file; ext4 allows 65,000
SHARD_LENGTH = Settings().shard_length
SETTLE = 2.5  # seconds; images changed more recently than about 2 s are digested again

Figures = dict[str, float]


# ---------------------------------------------------------------- part one: a split without data


def fake_polygons(words: int) -> Polygons:
    """So many quadrilaterals."""
    corners = np.array([[0, 0], [90, 0], [90, 20], [0, 20]], np.float64)
    quads = [corners + np.array([10, 10 + 30 * number]) for number in range(words)]
    return Polygons.from_list(quads, [False] * words)


def fake_scan(samples: int, words: int, changed: frozenset[int] = frozenset()) -> Scan:
    """What a scan of so many images would return. changed: those whose image is another.

    All share their polygons: memory without the annotations, which any tool would have to hold.
    """
    polygons, folder = fake_polygons(words), Path("images")
    found = []
    for number in range(samples):
        name = f"{number:08d}.jpg"
        image = f"{name} {'after' if number in changed else 'before'}"
        digest = hashlib.sha256(image.encode()).digest()
        found.append(Sample(name, folder, ImageFile(digest, (640, 640), False), polygons))
    return Scan(Samples.of(found), (), Reading("words", [], []))


def make_split(store: Path, samples: int, words: int) -> Figures:
    """Publish the manifest, and make every shard's file, empty but for its keys."""
    parameters = Parameters()
    scan = fake_scan(samples, words)
    create_store(Folder(store))
    contents = []
    for shard in cut_shards(scan.samples, parameters, SHARD_LENGTH):
        arrays = {name.decode(): b"" for name in entry_names(len(shard.samples))}
        arrays[record_name("key")] = with_checksum(b"".join(shard.hashes))
        path = store / shard_name(shard.key)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(archive_bytes(list(arrays.items())))
        contents.append(contents_of(shard))
    shards = tuple(each.entry for each in contents)
    digest = data_hash(shard.key for shard in shards)
    understood = understand(scan.samples, scan.reading, parameters, digest)
    parts = dict(cut_parts(contents))
    manifest = Manifest(SPLIT, digest, parameters, tuple(parts), shards, (), (), understood)
    publish_manifest(
        Folder(store), manifest, {part.key: data for part, data in parts.items()}, None
    )
    return {"shards": len(shards)}


def measure_open(store: Path) -> Figures:
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
        "memory": memory,
        "growth": memory - base,
    }


def measure_plan(store: Path, samples: int, words: int, changed: int) -> Figures:
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
        "memory": peak_memory(),
        "growth": peak_memory() - base,
    }


# -------------------------------------------------------------------- part two: nothing to do


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
    polygons = fake_polygons(words)
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


def measure_noop(folder: Path) -> Figures:
    """The no-op in this process."""
    base = peak_memory()
    started = time.perf_counter()
    report = build(SPLIT, noop_source(folder), noop_settings(folder))
    seconds = time.perf_counter() - started
    if not report.up_to_date:
        sys.exit("the split is not up to date")
    return {"noop_s": seconds, "memory": peak_memory(), "growth": peak_memory() - base}


def measure_command(folder: Path) -> Figures:
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


def measure_bare(folder: Path) -> Figures:
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
        "memory": peak_memory(),
        "growth": peak_memory() - base,
    }


# ----------------------------------------------------------------- measuring, each in a process


def in_process(part: str, arguments: argparse.Namespace) -> Figures:
    """Run one of PARTS in a process of its own.

    It is started from this one, which stays small: a child's peak begins with its parent's.
    """
    command = [sys.executable, __file__, "--part", part, "--scratch", str(arguments.scratch)]
    for name in ("samples", "changed", "noop", "words"):
        command += [f"--{name}", str(getattr(arguments, name))]
    print(part, file=sys.stderr)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{part}: ended with status {done.returncode}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def in_turn(parts: Sequence[str], arguments: argparse.Namespace) -> list[Figures]:
    """The medians of several rounds: a machine that is slow for a while is so for all parts."""
    rounds = [[in_process(part, arguments) for part in parts] for _ in range(REPEATS)]
    return [
        {name: statistics.median(figures[name] for figures in found) for name in found[0]}
        for found in zip(*rounds, strict=True)
    ]


PARTS: Mapping[str, Callable[[argparse.Namespace], Figures]] = {
    "make": lambda a: make_split(a.scratch / "large", a.samples, a.words),
    "open": lambda a: measure_open(a.scratch / "large"),
    "plan": lambda a: measure_plan(a.scratch / "large", a.samples, a.words, a.changed),
    "build": lambda a: first_build(noop_folder(a), a.noop, a.words),
    "noop": lambda a: measure_noop(noop_folder(a)),
    "command": lambda a: measure_command(noop_folder(a)),
    "bare": lambda a: measure_bare(noop_folder(a)),
}


def noop_folder(arguments: argparse.Namespace) -> Path:
    """Where part two's images lie: kept for the next run with as many."""
    folder: Path = arguments.scratch / f"noop-{arguments.noop}-{arguments.words}"
    return folder


def measure_large(arguments: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Part one: what, how long, memory."""
    shutil.rmtree(arguments.scratch / "large", ignore_errors=True)
    made = in_process("make", arguments)
    opened, planned = in_process("open", arguments), in_process("plan", arguments)
    shutil.rmtree(arguments.scratch / "large")
    size, changed = f"{arguments.samples:,} samples", f"{arguments.changed:,} changed"
    yield f"open a split of {size}", f"{opened['open_s']:.3f} s", memory(opened)
    yield "look up a random sample", f"{opened['lookup_us']:.2f} µs", ""
    yield f"plan an update of {size}, {changed}", f"{planned['plan_s']:.1f} s", memory(planned)
    touched = f"{planned['touched']:,.0f} of {made['shards']:,.0f} shards"
    yield "... which builds", touched, ""
    copied = f"{planned['copied']:,.0f} rows, computes {planned['rows'] - planned['copied']:,.0f}"
    yield "... in which it copies", copied, ""


def measure_nothing(arguments: argparse.Namespace) -> Iterator[tuple[str, str, str, str]]:
    """Part two: what, how long, entries a second, memory."""
    first = in_process("build", arguments)
    noop, command, bare = in_turn(("noop", "command", "bare"), arguments)
    times = {
        # None if the folder was there already.
        "first build": (None if first["reused"] else first["first_s"], ""),
        "no-op build, in process": (noop["noop_s"], memory(noop)),
        "no-op build, as a command": (command["command_s"], ""),
        "json.loads of the annotations": (bare["json_s"], memory(bare)),
        "the same, garbage collector off": (bare["json_uncollected_s"], ""),
        "os.stat of every image": (bare["stat_s"], ""),
    }
    for name, (seconds, held) in times.items():
        if seconds is not None:
            yield name, f"{seconds:.2f} s", f"{arguments.noop / seconds:,.0f}", held
    for name, parsing in (("", "json_s"), (", garbage collector off", "json_uncollected_s")):
        ratio = noop["noop_s"] / (bare[parsing] + bare["stat_s"])
        yield f"no-op in process / (json.loads + os.stat){name}", f"{ratio:.2f}", "", ""


def memory(figures: Mapping[str, float]) -> str:
    """A process's peak, and how much of it the measurement added."""
    return f"{figures['memory'] / 1e6:,.0f} MB (+{figures['growth'] / 1e6:,.0f})"


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Measure, and say so."""
    yield "# Very large splits"
    yield ""
    yield from environment(("pydantic", "joblib"))
    if arguments.samples:
        rows: Sequence[Sequence[str]] = list(measure_large(arguments))
        yield from ("", f"## {arguments.samples:,} samples, no maps", "")
        yield markdown_table(("what", "cost", "peak memory"), rows)
    if arguments.noop:
        rows = list(measure_nothing(arguments))
        yield from ("", f"## {arguments.noop:,} images of {arguments.words} words, unchanged", "")
        yield markdown_table(("what", "time", "entries/s", "peak memory"), rows)


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    number: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument("--samples", default=1_000_000, **number, help="part one; 0 leaves it out")
    parser.add_argument("--changed", default=100, **number, help="of those, by the update")
    parser.add_argument("--noop", default=100_000, **number, help="part two; 0 leaves it out")
    parser.add_argument("--words", default=8, **number, help="polygons an image; default: 8")
    parser.add_argument(
        "--scratch",
        type=Path,
        default=Path(tempfile.gettempdir()) / "ocr-precompute-bench",
        help="folder for what is made; part two's is kept for the next run",
    )
    parser.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    add_out(parser)
    return parser.parse_args()


def main() -> None:
    """Measure one part here, or every part in a process of its own."""
    arguments = parse()
    arguments.scratch = arguments.scratch.resolve()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part](arguments)))
    else:
        write_report(report(arguments), arguments.out)


if __name__ == "__main__":
    main()
