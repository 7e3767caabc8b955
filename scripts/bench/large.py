#!/usr/bin/env python3
"""What a large split costs the loader: 12,000 samples against 400, under the usual limit of files.

Both splits lie in one store and hold the same images, in the large one under many names. The soft
limit of open files is 1,024, as shells set it. The loader runs whole shuffled epochs in batches of
16, on 1, 2 and 4 threads, of three maps and of five; the splits take turns, so many epochs of the
small one to each of the large one that both read as many samples.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment, limit_open_files
from measuring.results import Cell, Column, Result, Table
from measuring.samples import FIELDS, repeat_images

from ocr.datasets import BatchLoader, StoreDataset
from ocr_precompute.format.schema import MAPS
from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.clock import rate
from ocr_precompute.settings import Settings

OPEN_FILES = 1024
SMALL = "small"
LARGE = "large"


def build_splits(arguments: argparse.Namespace) -> Path:
    """The store with both splits; the large one's rows are copied from the small one's shards."""
    settings = Settings(store=arguments.scratch / "store")
    for split, samples in ((SMALL, arguments.samples), (LARGE, arguments.many)):
        folder = arguments.scratch / split
        source = repeat_images(arguments.images, arguments.annotations, samples, folder)
        report = build(split, source, settings)
        say(f"{split}: {report.samples} samples, {report.shards} shards")
    return Path(settings.store)


def rates(
    store: Path, fields: tuple[str, ...], threads: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Samples a second of the small and of the large split, so many rounds in turn."""
    loaders = {
        split: BatchLoader(StoreDataset(store, split, fields), 16, shuffle=True, threads=threads)
        for split in (SMALL, LARGE)
    }
    epochs = {SMALL: len(loaders[LARGE]) // len(loaders[SMALL]), LARGE: 1}
    found: dict[str, list[float]] = {SMALL: [], LARGE: []}
    for number in range(rounds + 1):  # the first opens files and takes buffers
        for split in (SMALL, LARGE) if number % 2 else (LARGE, SMALL):
            batches = (batch for _ in range(epochs[split]) for batch in loaders[split])
            found[split].append(rate((len(batch["image"]) for batch in batches), math.inf))
    return found[SMALL][1:], found[LARGE][1:]


def rows(arguments: argparse.Namespace, store: Path) -> Iterator[tuple[Cell, ...]]:
    """A row for each number of maps and of threads."""
    for fields in (FIELDS, tuple(MAPS)):
        for threads in arguments.threads:
            small, large = rates(store, fields, threads, arguments.rounds)
            ratios = sorted(b / a for a, b in zip(small, large, strict=True))
            middle = statistics.median(ratios)
            say(f"{len(fields)} maps, {threads} threads: {middle:.2f}")
            both = statistics.median(small), statistics.median(large)
            yield len(fields), threads, *both, middle, ratios[0], ratios[-1]


def measure(arguments: argparse.Namespace) -> Result:
    """Small and large split, in turn."""
    store = build_splits(arguments)
    few, many = f"{arguments.samples:,} samples", f"{arguments.many:,} samples"
    columns = (
        Column("maps"),
        Column("threads"),
        Column(few, "samples/s", 0),
        Column(many, "samples/s", 0),
        Column("ratio", "", 2),
        Column("lowest of a round", "", 2),
        Column("highest", "", 2),
    )
    return Result(
        "large",
        f"Is the loader slower with {many} than with {few}?",
        environment(("torch", "numcodecs")),
        (Table(columns, tuple(rows(arguments, store))),),
        notes=(f"at most {OPEN_FILES:,} open files; {arguments.rounds} rounds in turn",),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=400)
    options.add_argument("--many", type=int, default=12_000, help="default: 12000")
    options.add_argument("--rounds", type=int, default=5, help="default: 5")
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure, before=partial(limit_open_files, OPEN_FILES))
