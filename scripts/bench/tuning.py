#!/usr/bin/env python3
"""Does the loader's search for threads and batches ahead end where a loader is fastest?

Three trainings are made up: one that does nothing with its batches, one that computes on the same
cores, and one that computes elsewhere, as on a GPU (it sleeps); with --device there is one alone,
which trains a network on that device. Each begins once with one thread and once with far too many,
and trains until the search is over. Then what it found and fixed numbers of threads take turns, and
the medians of their rates are compared, with the best of the fixed ones.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch
from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment
from measuring.results import Cell, Column, Result, Table
from measuring.samples import SPLIT, build_store

from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.samples import TRAINING
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr.models.dbnet import DBNet

FIXED = (1, 2, 3, 4, 8, 16)
STARTS = (1, 16)
BATCHES = 24  # of a turn at least, and before it as many as are under way; of an epoch, at least
SECONDS = 2.0  # of a turn at least

Step = Callable[[dict[str, Any]], None]


def nothing(batch: dict[str, Any]) -> None:
    """A training that is done at once."""


def on_the_cores() -> Step:
    """A training of a small network on the cores that the loader has too."""
    model = DBNet("resnet-18", channels=16)

    def step(batch: dict[str, Any]) -> None:
        output = model(batch["image"][:, ::4, ::4])
        (output.prob.mean() + output.thresh.mean()).backward()

    return step


def elsewhere(batch: dict[str, Any]) -> None:
    """A training that keeps another device busy for 20 ms."""
    time.sleep(0.02)


def on_the_device(name: str) -> Step:
    """A training of a network on a device, which is waited for."""
    device = torch.device(name)
    model = DBNet("resnet-18", channels=64).to(device)

    def step(batch: dict[str, Any]) -> None:
        output = model(batch["image"].to(device, non_blocking=True))
        loss = output.prob.mean() + output.thresh.mean()
        loss.backward()
        loss.item()

    return step


def for_ever(loader: BatchLoader) -> Generator[dict[str, Any], None, None]:
    """Epoch after epoch."""
    while True:
        yield from loader


def trained(batches: Iterator[dict[str, Any]], step: Step, number: int) -> Iterator[int]:
    """Train on so many batches; yields the samples of each."""
    for batch in itertools.islice(batches, number):
        step(batch)
        yield len(batch["image"])


def turned(batches: Iterator[dict[str, Any]], step: Step) -> float:
    """Samples a second of a turn."""
    started, seen, number = time.perf_counter(), 0, 0
    while number < BATCHES or time.perf_counter() - started < SECONDS:
        seen += sum(trained(batches, step, 1))
        number += 1
    return seen / (time.perf_counter() - started)


def measured(
    dataset: AugmentedDataset, batch: int, step: Step, rounds: int
) -> Iterator[tuple[Cell, ...]]:
    """A row for each number of threads, and one for what each search found."""
    loaders = {
        f"{threads} fixed": BatchLoader(dataset, batch, shuffle=True, threads=threads)
        for threads in FIXED
    }
    notes = dict.fromkeys(loaders, "")
    for start in STARTS:
        loader = BatchLoader(dataset, batch, shuffle=True, threads=start, tune=True)
        batches, seen = for_ever(loader), 0
        while not loader.settled:
            seen += len(list(trained(batches, step, 1)))
        batches.close()
        name = f"searched from {start}"
        loaders[name] = loader
        notes[name] = f"{loader.threads} threads, {loader.prefetch} ahead, after {seen} batches"
        say(f"{name}: {notes[name]}")
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(rounds):
        for name in list(loaders)[:: 1 if turn % 2 else -1]:
            batches = for_ever(loaders[name])
            list(trained(batches, step, loaders[name].prefetch))
            rates[name].append(turned(batches, step))
            batches.close()
    medians = {name: statistics.median(found) for name, found in rates.items()}
    best = max(medians[f"{threads} fixed"] for threads in FIXED)
    for name, found in medians.items():
        yield name, found, found / best, notes[name]


def trainings(only: Sequence[str], device: str | None) -> Iterator[tuple[str, Step]]:
    """Those of the made-up ones that are asked for; the one on a device alone, if there is one."""
    if device is not None:
        yield f"computes on {device}", on_the_device(device)
        return
    for name in only:
        yield MADE_UP[name][0], MADE_UP[name][1]()


MADE_UP: dict[str, tuple[str, Callable[[], Step]]] = {
    "nothing": ("does nothing with its batches", lambda: nothing),
    "elsewhere": ("computes elsewhere, 20 ms per batch", lambda: elsewhere),
    "cores": ("computes on the same cores", on_the_cores),
}
SUMMARY = (
    Column("the training"),
    *(Column(f"began with {n} thread{'s' * (n > 1)}", "", 2) for n in STARTS),
)
COLUMNS = (
    Column("threads"),
    Column("", "samples/s", 0),
    Column("of the best fixed", "", 3),
    Column("found"),
)


def measure(arguments: argparse.Namespace) -> Result:
    """A table of what searches ended with, and one for each training."""
    batch = arguments.batch_size
    variation = Augmentation(crop=arguments.crop, rotation=5.0, scale=0.3, colour=0.2)
    if arguments.samples < BATCHES * batch:
        few = f"{arguments.samples} samples are too few for a search: it would never end"
        sys.exit(f"{few}; give --samples {BATCHES * batch}, {BATCHES} batches per epoch, or more")
    store, _ = build_store(arguments)
    dataset = AugmentedDataset(
        StoreDataset(store, SPLIT, (*TRAINING, "polygons", "ignore")), variation
    )
    ends, tables = [], []
    for name, step in trainings(arguments.only, arguments.device):
        say(name)
        rows = tuple(measured(dataset, batch, step, arguments.rounds))
        ends.append((name, *(row[2] for row in rows[len(FIXED) :])))
        tables.append(Table(COLUMNS, rows, f"A training that {name}"))
    summary = Table(SUMMARY, tuple(ends), "What the search ended with, of the best fixed setting")
    question = "Does the search for a loader's setting end where the loader is fastest?"
    return Result("tuning", question, environment(("torch",)), (summary, *tables))


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=400)
    options.add_argument("--rounds", type=int, default=11, help="turns of each; default: 11")
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument("--crop", type=int, default=320)
    options.add_argument("--only", nargs="+", choices=MADE_UP, default=tuple(MADE_UP))
    options.add_argument("--device", help="such as cuda: a training there, and no other")
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
