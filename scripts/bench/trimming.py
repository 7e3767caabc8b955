#!/usr/bin/env python3
"""What trimmed batches save: pixels, time of a validation and of whole-page steps, and H-mean.

Pixels are counted over the batches of whole epochs, left-over ones included, as a share of those of
batches at canonical size. With a checkpoint each split is validated trimmed and not, in turn, and
trained on for a few steps (forward, loss, backward) on whole pages; times are medians of rounds.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from measuring.command import argument_parser, run_script, say
from measuring.machine import environment
from measuring.results import Cell, Column, Result, Table
from measuring.timing import medians
from measuring.trainings import detector_of, validated

from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.data_module import DetectionData
from ocr.datasets.samples import TRAINING
from ocr.lightning_modules import TextDetector
from ocr.models import DBLoss
from ocr_precompute.runtime.clock import in_turn

SIZES = (8, 16)  # of batches


def pixel_share(dataset: StoreDataset, trim: int, batch_size: int, *, shuffle: bool) -> float:
    """Pixels of the batches of an epoch, on average over some, against those of whole samples."""
    loader = BatchLoader(dataset, batch_size, shuffle=shuffle, trim=trim)
    shapes = [b["image"].shape for _ in range(10 if shuffle else 1) for b in loader]
    height, width = dataset.parameters.size
    pixels, samples = sum(n * h * w for n, h, w, _ in shapes), sum(n for n, *_ in shapes)
    return float(pixels / (height * width * samples))


def pixel_rows(arguments: argparse.Namespace) -> Iterator[tuple[Cell, ...]]:
    """Rows of the table of pixels."""
    for split, trim in itertools.product(arguments.splits, filter(None, arguments.trims)):
        dataset = StoreDataset(arguments.store, split, ("image",))
        content = dataset.content_sizes.prod(axis=1).mean() / (
            dataset.parameters.size[0] * dataset.parameters.size[1]
        )
        shares = [
            pixel_share(dataset, trim, batch_size, shuffle=shuffle)
            for batch_size in SIZES
            for shuffle in (False, True)
        ]
        yield split, len(dataset), trim, *(100 * float(share) for share in (content, *shares))


def steps(arguments: argparse.Namespace, detector: TextDetector, split: str, trim: int) -> None:
    """An epoch of whole-page steps, at most so many, in the loader's own order."""
    network, loss = detector.model.train(), DBLoss()
    dataset = StoreDataset(arguments.store, split, TRAINING)
    loader = BatchLoader(dataset, arguments.batch_size, shuffle=True, trim=trim)
    for batch in itertools.islice(loader, arguments.steps):
        loss(network(batch["image"]), batch).total.backward()  # type: ignore[no-untyped-call]
        network.zero_grad()


def time_rows(arguments: argparse.Namespace) -> Iterator[tuple[Cell, ...]]:
    """Rows of the table of times and H-means."""
    detector = detector_of(arguments.ckpt_path)
    for split in arguments.splits:
        found: dict[int, dict[str, float]] = {}

        def validate(trim: int, split: str = split, found: Any = found) -> None:
            data = DetectionData(
                arguments.store, split, split, batch_size=arguments.batch_size, trim=trim
            )
            found[trim] = validated(detector, data, arguments.accelerator)

        tasks: dict[str, Callable[[], object]] = {}
        for trim in arguments.trims:
            tasks[f"validation {trim}"] = partial(validate, trim)
            if arguments.steps:
                tasks[f"steps {trim}"] = partial(steps, arguments, detector, split, trim)
        times = medians(in_turn(tasks, arguments.rounds, say))
        for name, took in times.items():
            kind, number = name.split()
            share = took / times[f"{kind} {arguments.trims[0]}"]
            hmean = found[int(number)]["val/hmean"] if kind == "validation" else None
            yield split, kind, int(number), share, hmean


def measure(arguments: argparse.Namespace) -> Result:
    """A table of pixels, and with a checkpoint one of times and H-means."""
    orders = [f"{size}, {order}" for size in SIZES for order in ("in order", "shuffled")]
    columns = [Column("split"), Column("samples"), Column("trim", "px"), Column("content", "%", 1)]
    columns += [Column(f"batches of {order}", "%", 1) for order in orders]
    tables = [Table(tuple(columns), tuple(pixel_rows(arguments)), "Pixels of batches")]
    if arguments.ckpt_path is not None:
        columns = [Column("split"), Column("work"), Column("trim", "px")]
        columns += [Column(f"time against trim {arguments.trims[0]}", "", 2)]
        columns += [Column("H-mean", "", 4)]
        title = f"{arguments.batch_size} samples per batch, {arguments.steps} steps at most"
        tables.append(Table(tuple(columns), tuple(time_rows(arguments)), title))
    question = "What do trimmed batches save?"
    return Result("trimming", question, environment(("torch",)), tuple(tables))


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, images=False)
    options.add_argument("splits", nargs="+", help="splits of the store")
    options.add_argument("--store", default="data/store")
    options.add_argument("--ckpt-path", type=Path)
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument("--trims", type=int, nargs="+", default=[0, 32, 64])
    options.add_argument("--steps", type=int, default=100, help="0 for no training")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--accelerator", default="cpu")
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
