#!/usr/bin/env python3
"""Ten shuffled epochs from the store on 1, 2 and 4 threads: speed, and memory after each epoch.

Beside them one epoch of the live path with as many threads, for the factor between the two. Fields
are image, prob and thresh, in batches of 16.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import sys
from collections.abc import Iterable

from common import (
    FIELDS,
    SPLIT,
    add_out,
    argument_parser,
    build_store,
    environment,
    markdown_table,
    megabytes,
    write_report,
)

from ocr.datasets import BatchLoader, LiveDataset, StoreDataset
from ocr_precompute.runtime.clock import rate, resident_memory

EPOCHS = 10


def epoch(loader: BatchLoader) -> float:
    """Samples a second over one epoch."""
    return rate((len(batch["image"]) for batch in loader), math.inf)


def measured_row(arguments: argparse.Namespace, threads: int) -> tuple[str, ...]:
    """One line of the table."""
    stored = StoreDataset(arguments.scratch / "store", SPLIT, FIELDS)
    source = arguments.scratch / "source"
    live = LiveDataset(source / "images", source / "words.json", FIELDS)
    loader = BatchLoader(stored, 16, shuffle=True, threads=threads)
    epoch(loader)  # opens files, takes buffers
    rates, memory = [], []
    for _ in range(EPOCHS):
        rates.append(epoch(loader))
        gc.collect()
        memory.append(resident_memory() or 0)
    live_rate = epoch(BatchLoader(live, 16, shuffle=True, threads=threads))
    stored_rate = statistics.median(rates)
    print(f"{threads} threads: {stored_rate:,.0f} and {live_rate:,.1f} samples/s", file=sys.stderr)
    return (
        str(threads),
        f"{stored_rate:,.0f}",
        f"{live_rate:,.1f}",
        f"{stored_rate / live_rate:.1f}",
        megabytes(memory[0]),
        megabytes(memory[-1]),
        megabytes(max(memory) - min(memory)),
    )


def report(rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    """The table."""
    yield f"# {EPOCHS} epochs from the store, and one of the live path"
    yield ""
    yield from environment(("torch", "numcodecs"))
    yield ""
    head = ["threads", "store, samples/s", "live, samples/s", "factor"]
    head += ["memory after epoch 1", f"after epoch {EPOCHS}", "most less least"]
    yield markdown_table(head, rows)


def main() -> None:
    """Command line."""
    parser = argument_parser(__doc__, samples=400)
    add_out(parser)
    arguments = parser.parse_args()
    build_store(arguments)
    rows = [measured_row(arguments, threads) for threads in (1, 2, 4)]
    write_report(report(rows), arguments.out)


if __name__ == "__main__":
    main()
