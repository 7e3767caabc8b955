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

from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment
from measuring.results import Cell, Column, Result, Table
from measuring.samples import FIELDS, SPLIT, build_store

from ocr.datasets import BatchLoader, LiveDataset, StoreDataset
from ocr_precompute.runtime.clock import rate, resident_memory


def epoch(loader: BatchLoader) -> float:
    """Samples a second over one epoch."""
    return rate((len(batch["image"]) for batch in loader), math.inf)


def measured_row(arguments: argparse.Namespace, threads: int) -> tuple[Cell, ...]:
    """One line of the table."""
    stored = StoreDataset(arguments.scratch / "store", SPLIT, FIELDS)
    source = arguments.scratch / "source"
    live = LiveDataset(source / "images", source / "words.json", FIELDS)
    loader = BatchLoader(stored, 16, shuffle=True, threads=threads)
    epoch(loader)  # opens files, takes buffers
    rates, memory = [], []
    for _ in range(arguments.epochs):
        rates.append(epoch(loader))
        gc.collect()
        memory.append((resident_memory() or 0) / 1e6)
    live_rate = epoch(BatchLoader(live, 16, shuffle=True, threads=threads))
    stored_rate = statistics.median(rates)
    say(f"{threads} threads: {stored_rate:,.0f} and {live_rate:,.1f} samples/s")
    of_memory = memory[0], memory[-1], max(memory) - min(memory)
    return threads, stored_rate, live_rate, stored_rate / live_rate, *of_memory


def columns(epochs: int) -> tuple[Column, ...]:
    """Those of the table."""
    return (
        Column("threads"),
        Column("store", "samples/s", 0),
        Column("live", "samples/s", 1),
        Column("factor", "", 1),
        Column("memory after epoch 1", "MB", 1),
        Column(f"after epoch {epochs}", "MB", 1),
        Column("most less least", "MB", 1),
    )


def measure(arguments: argparse.Namespace) -> Result:
    """A row for each number of threads."""
    build_store(arguments)
    rows = tuple(measured_row(arguments, threads) for threads in arguments.threads)
    return Result(
        "epochs",
        f"How fast are {arguments.epochs} epochs from the store, and do they leave memory taken?",
        environment(("torch", "numcodecs")),
        (Table(columns(arguments.epochs), rows),),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=400)
    options.add_argument("--epochs", type=int, default=10, help="default: 10")
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
