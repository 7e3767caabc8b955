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
import resource
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

from common import (
    FIELDS,
    add_out,
    argument_parser,
    environment,
    markdown_table,
    repeat_images,
    write_report,
)

from ocr.datasets import BatchLoader, StoreDataset
from ocr_precompute.format.schema import MAPS
from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.clock import rate
from ocr_precompute.settings import Settings

OPEN_FILES = 1024
THREADS = (1, 2, 4)
SMALL = "small"
LARGE = "large"


def build_splits(arguments: argparse.Namespace) -> Path:
    """The store with both splits; the large one's rows are copied from the small one's shards."""
    settings = Settings(store=arguments.scratch / "store")
    for split, samples in ((SMALL, arguments.samples), (LARGE, arguments.many)):
        folder = arguments.scratch / split
        source = repeat_images(arguments.images, arguments.annotations, samples, folder)
        report = build(split, source, settings)
        print(f"{split}: {report.samples} samples, {report.shards} shards", file=sys.stderr)
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


def table(arguments: argparse.Namespace, store: Path) -> Iterable[tuple[str, ...]]:
    """A row for each number of maps and of threads."""
    for fields in (FIELDS, tuple(MAPS)):
        for threads in THREADS:
            small, large = rates(store, fields, threads, arguments.rounds)
            ratios = sorted(b / a for a, b in zip(small, large, strict=True))
            shown = f"{statistics.median(ratios):.2f}"
            print(f"{len(fields)} maps, {threads} threads: {shown}", file=sys.stderr)
            yield (
                str(len(fields)),
                str(threads),
                f"{statistics.median(small):,.0f}",
                f"{statistics.median(large):,.0f}",
                shown,
                f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
            )


def report(arguments: argparse.Namespace, store: Path) -> Iterable[str]:
    """The table."""
    yield f"# The loader with {arguments.samples:,} and with {arguments.many:,} samples"
    yield ""
    yield from environment(("torch", "numcodecs"))
    yield f"- at most {OPEN_FILES:,} open files; {arguments.rounds} rounds in turn"
    yield ""
    few, many = f"{arguments.samples:,} samples", f"{arguments.many:,} samples"
    head = ["maps", "threads", f"{few}, samples/s", f"{many}, samples/s", "ratio", "rounds"]
    yield markdown_table(head, table(arguments, store))


def main() -> None:
    """Command line."""
    parser = argument_parser(__doc__, samples=400)
    parser.add_argument("--many", type=int, default=12_000, help="default: 12000")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    add_out(parser)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
    store = build_splits(arguments)
    write_report(list(report(arguments, store)), arguments.out)


if __name__ == "__main__":
    main()
