#!/usr/bin/env python3
"""Varied training samples a second: the store, the same samples live, and a usual trainer.

All give shuffled batches of crops with four label maps, turned, scaled and recoloured within the
same limits. "Usual trainer": OpenCV decodes the image and brings it to canonical size,
albumentations varies pixels and polygons, labels are drawn edge by edge with numpy as in labels.py
(distances by the law of cosines), PyTorch's DataLoader has workers. It places crops anywhere; ours
look for text.

Every setting takes its turn in every round, the median over rounds counts, and of each contender
its best setting. Where time goes in ours is measured on one thread, in the processor's time of that
thread. All files lie in the page cache.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from contenders.usual_trainer import COLOUR, ROTATION, SCALE, Batches, usual
from measuring.command import add_scratch, argument_parser, run_script
from measuring.machine import environment, is_installed
from measuring.results import Column, Result, Table
from measuring.samples import SPLIT, build_store

from ocr.datasets import BatchLoader, LiveDataset, SampleDataset, StoreDataset
from ocr.datasets.samples import TRAINING
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr_precompute.format.schema import MAPS
from ocr_precompute.runtime.stages import recording
from ocr_precompute.settings import Source

PACKAGES = ("torch", "opencv-python-headless", "albumentations", "numba", "pyclipper")
FIELDS = (*TRAINING, "polygons", "ignore")
USUAL = "a usual trainer"


def variation(crop: int) -> Augmentation:
    """As configs/train.yaml has it."""
    return Augmentation(crop, 0.0, ROTATION, SCALE, COLOUR)


def ours(dataset: SampleDataset, crop: int, threads: int, batch_size: int) -> Batches:
    """Endless batches of ours, stored or live."""
    varied = AugmentedDataset(dataset, variation(crop))
    loader = BatchLoader(varied, batch_size, shuffle=True, threads=threads)
    return itertools.chain.from_iterable(itertools.repeat(loader))


@dataclass
class Runner:
    """One setting of one contender, its batches under way, and its samples a second by round."""

    name: str
    setting: str
    start: Callable[[], Batches]
    rates: list[float] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """One round: two batches to warm up, then whole batches for so long at least."""
        batches = self.start()
        collections = [next(batches) for _ in range(2)]
        del collections
        count, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds or not count:
            count += len(next(batches)["image"])
        elapsed = time.perf_counter() - started
        self.rates.append(count / elapsed)
        print(f"  {self.name}, {self.setting}: {self.rates[-1]:,.0f} samples/s", file=sys.stderr)

    @property
    def rate(self) -> float:
        """The median over rounds."""
        return statistics.median(self.rates)


def runners(store: Path, source: Source, side: int, crop: int, size: int) -> list[Runner]:
    """Every setting of every contender that can take part. side: canonical. size: of batches."""
    live = LiveDataset(Path(source.images), source.annotations, FIELDS, size=side)
    stored = StoreDataset(store, SPLIT, FIELDS)
    found = []
    for n in (1, 2):
        for name, dataset in (("ours", stored), ("ours, live", live)):
            start = partial(ours, dataset, crop, n, size)
            found.append(Runner(name, f"{n} threads", start))
    if is_installed("albumentations"):
        for n in (0, 1, 2):
            start = partial(usual, source, side, crop, n, size)
            found.append(Runner(USUAL, f"{n} workers", start))
    return found


def contest(
    store: Path, source: Source, side: int, crop: int, batch_size: int, rounds: int, seconds: float
) -> list[Runner]:
    """All rounds run. side: canonical."""
    cv2.setNumThreads(1)  # before workers are forked, which would find its pool of threads held
    found = runners(store, source, side, crop, batch_size)
    for number in range(rounds):
        print(f"varied samples, round {number + 1} of {rounds}", file=sys.stderr)
        for each in found:
            each.run(seconds)
    return found


def spent(store: Path, crop: int, batch_size: int, epochs: int) -> list[tuple[str, float]]:
    """Milliseconds of processor time per sample by stage, the largest first; the rest is last."""
    stored = StoreDataset(store, SPLIT, FIELDS)
    varied = AugmentedDataset(stored, variation(crop))
    buffers = [empty_maps(crop, batch_size) for _ in range(3)]  # as many as a loader holds
    whole = len(varied) // batch_size * batch_size
    batches = np.random.default_rng(0).permutation(len(varied))[:whole].reshape(-1, batch_size)
    with mock.patch("ocr_precompute.runtime.stages._clock", time.thread_time):
        for out in buffers:  # loads what is compiled
            varied.fill(batches[0].tolist(), out)
        with recording() as recorder:
            started = time.thread_time()
            for epoch in range(1, epochs + 1):
                for number, indices in enumerate(batches.tolist()):
                    varied.at_epoch(epoch).fill(indices, buffers[number % len(buffers)])
            total = time.thread_time() - started
        times = recorder.totals()
    stages = sorted(times.stages.items(), key=lambda item: -item[1].seconds)
    rows = [(name, each.seconds) for name, each in stages]
    rows.append(("the rest, and placement", total - times.seconds))
    return [(name, 1e3 * seconds / epochs / whole) for name, seconds in [*rows, ("all", total)]]


def empty_maps(crop: int, samples: int) -> dict[str, np.ndarray]:
    """Room for the maps of so many samples."""
    return {
        name: np.empty((samples, crop, crop, *MAPS[name][1]), MAPS[name][0]) for name in TRAINING
    }


def table(found: Sequence[Runner], title: str = "") -> Table:
    """A row for each contender: its best setting."""
    names = list(dict.fromkeys(each.name for each in found))
    best = [max((e for e in found if e.name == n), key=lambda e: e.rate) for n in names]
    rows = [(e.name, e.setting, e.rate, best[0].rate / e.rate) for e in best]
    columns = [Column("contender"), Column("best setting"), Column("", "samples/s", 0)]
    return Table((*columns, Column("ours is faster by", "", 1)), tuple(rows), title)


def measure(arguments: argparse.Namespace) -> Result:
    """Build, run all rounds: a table of contenders, and one of where time goes in ours."""
    side, crop = arguments.size, arguments.crop
    store, source = build_store(arguments, side)
    found = contest(
        store, source, side, crop, arguments.batch_size, arguments.rounds, arguments.seconds
    )
    where = tuple(spent(store, crop, arguments.batch_size, arguments.rounds))
    columns = Column("stage of ours"), Column("", "ms/sample", 2)
    return Result(
        "augmented",
        "How fast do varied training samples come?",
        environment(PACKAGES),
        (table(found, "Contenders"), Table(columns, where, "Processor time of one thread")),
        notes=(f"crops of {crop} px from {arguments.samples} samples at {side} px",),
        absent=() if is_installed("albumentations") else (USUAL,),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=90)
    options.add_argument("--size", type=int, default=640, help="canonical side of the store")
    options.add_argument("--crop", type=int, default=640)
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=3.0, help="how long a round is timed")
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
