#!/usr/bin/env python3
"""Are the clocks of a run true, and what do they cost?

A delay of 20 ms is planted in each stage in turn, in the function that does its work. That stage's
own time must grow by as much for each call, within a tenth; no other stage's may; and waits for it
by no more than the stages did. Read from where a user reads it: the report of a build, what a
process has recorded of reading, and performance.jsonl of a training. Runs with and without take
turns, and the median over pairs of them counts. Another stage's growth counts only beyond what it
differs by from one run to the next without any delay, which is told beside it.

Then what a stage costs, and with it how much of a build, of reading and of a training all of them
are. Ends with 1 if a clock is not true.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import logging
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import lightning
import torch
from common import (
    SPLIT,
    add_out,
    argument_parser,
    environment,
    markdown_table,
    repeat_images,
    write_report,
)
from lightning.pytorch.loggers import CSVLogger

from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.data_module import DetectionData
from ocr.datasets.samples import TRAINING
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr.inference.postprocess import PostProcess
from ocr.lightning_modules import TextDetector, detector
from ocr.lightning_modules.callbacks import BestAndLast, Performance
from ocr.lightning_modules.callbacks.performance import FILE_NAME
from ocr.lightning_modules.checkpoint_io import WholeCheckpointIO
from ocr.metrics.hmean import DetectionHmean
from ocr.models import DBNet
from ocr_precompute.augmentation import drawing
from ocr_precompute.format.shard import ShardWriter, StoredShard
from ocr_precompute.pipeline import build as story
from ocr_precompute.pipeline import encode, scan
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading import split as reading
from ocr_precompute.reading.opened import IndexedShard
from ocr_precompute.runtime.stages import everything, recording, stage
from ocr_precompute.settings import Settings, Source
from ocr_precompute.targets import maps, sample

DELAY = 0.02  # seconds
TOLERANCE = 0.1
PAUSE = 0.04  # seconds
ROUNDS = 9  # pairs of runs
SIDE = 256
BACKBONE = Path(__file__).resolve().parents[2] / "tests" / "backbone"  # whose steps take little

Recorded = Mapping[str, Any]  # "stages" and "waits", each {name: {"count", "seconds", ...}}


@dataclass(frozen=True)
class Plant:
    """Where a stage's delay goes: the attribute of that name, of a module or class.

    only: tells by the arguments which calls are delayed.
    """

    stage: str
    owner: Any
    name: str
    only: Callable[..., bool] = lambda *_: True

    def planted(self, calls: list[None]) -> AbstractContextManager[Any]:
        """The delay, while within; each one adds to calls."""
        original = getattr(self.owner, self.name)

        def delayed(*args: Any, **kwargs: Any) -> Any:
            if self.only(*args):
                calls.append(None)
                until = time.perf_counter() + DELAY
                while time.perf_counter() < until:
                    time.sleep(max(0.0, until - time.perf_counter()))
            return original(*args, **kwargs)

        return mock.patch.object(self.owner, self.name, delayed)


class Hashes(SimpleNamespace):
    """hashlib for one module, so that only its hashes are delayed."""

    @staticmethod
    def sha256(data: bytes = b"") -> Any:
        """As hashlib has it."""
        return hashlib.sha256(data)


ENCODE_HASHES = Hashes()

BUILD = (
    Plant("annotations", scan, "read_source"),
    Plant("look", scan, "look_at"),
    Plant("scan", story, "scan_request"),
    Plant("plan", story, "plan"),
    Plant("read", Path, "read_bytes", lambda path: path.suffix in (".jpg", ".png", ".tif")),
    Plant("digest", ENCODE_HASHES, "sha256"),
    Plant("decode", sample, "decode"),
    Plant("resize", sample, "letterbox"),
    Plant("labels", maps, "raise_thresholds"),
    Plant("offset", maps, "outlines"),
    Plant("pack", encode, "encode_chunk"),
    Plant("write", ShardWriter, "append"),
    Plant("other", encode, "_source_bytes"),
    Plant("publish", story, "publish"),
)
COPY = (Plant("copy", StoredShard, "row"),)
READ = (
    Plant("open", reading, "open_shard"),
    Plant("records", IndexedShard, "records"),
    Plant("checksum", IndexedShard, "read"),
    Plant("decompress", reading, "decompress"),
    Plant("decompress", reading, "decompress_range"),
    Plant("warp", drawing, "draw_page"),
    Plant("labels", drawing, "visible_polygons"),
    Plant("offset", maps, "outlines"),
)
TRAIN = (
    Plant("transfer", lightning.LightningDataModule, "transfer_batch_to_device"),
    Plant("forward", DBNet, "forward", lambda model, *_: model.training),
    Plant("backward", lightning.LightningModule, "backward"),
    Plant("optimiser", lightning.LightningModule, "optimizer_step"),
    Plant("inference", DBNet, "forward", lambda model, *_: not model.training),
    Plant("postprocess", PostProcess, "__call__"),
    Plant("match", detector, "match_polygons"),
    Plant("metric", DetectionHmean, "compute"),
    Plant("checkpoint", WholeCheckpointIO, "_save"),
)


class Pause(lightning.Callback):
    """Waits, before the network is asked, until other threads have done what there is to do.

    They would else do it while a delay is planted there, and the network be faster for it.
    """

    def on_train_batch_start(self, *_: Any) -> None:
        """Let the loader come to an end."""
        time.sleep(PAUSE)

    def on_validation_batch_start(self, *_: Any) -> None:
        """Let post-processing come to an end."""
        time.sleep(PAUSE)


class Runs:
    """The work that is clocked, on a few of the images."""

    def __init__(self, source: Source, scratch: Path) -> None:
        self._source, self._store = source, scratch / "stages-store"
        self._scratch = scratch
        self._settings = {"size": (SIDE, SIDE), "backend": "sequential"}
        self.build()

    def build(self, **settings: Any) -> Recorded:
        """A build from nothing; or, with settings, one after it."""
        if not settings:
            shutil.rmtree(self._store, ignore_errors=True)
        wanted = {"store": self._store, **self._settings, **settings}
        with mock.patch.object(encode, "hashlib", ENCODE_HASHES):
            return build(SPLIT, self._source, Settings.model_validate(wanted)).as_dict()

    def copy(self) -> Recorded:
        """A build whose shards hold rows of others."""
        self.build()
        return self.build(shard_length=5)

    def read(self) -> Recorded:
        """Varied samples, then samples as they are, from a store that was not open."""
        fields = (*TRAINING, "polygons", "ignore")
        dataset = StoreDataset(self._store, SPLIT, fields)
        varied = AugmentedDataset(dataset, Augmentation(crop=128, rotation=5.0, scale=0.3))
        before = everything()
        for each in (varied, dataset):
            for _ in BatchLoader(each, 4, threads=1, prefetch=1):
                pass
        return (everything() - before).as_dict()

    def train(self) -> Recorded:
        """A training of four epochs, validated, with checkpoints."""
        torch.manual_seed(0)
        torch.set_num_threads(1)
        out = Path(tempfile.mkdtemp(dir=self._scratch))
        data = DetectionData(
            str(self._store),
            SPLIT,
            SPLIT,
            batch_size=4,
            threads=1,
            tune=False,
            augmentation=Augmentation(crop=64),
        )
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=4,
            logger=CSVLogger(out),
            callbacks=[Performance(), BestAndLast(str(out)), Pause()],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.strategy.checkpoint_io = WholeCheckpointIO()
        trainer.fit(TextDetector(str(BACKBONE), channels=16), data)
        lines = next(out.rglob(FILE_NAME)).read_text().splitlines()
        shutil.rmtree(out)
        return summed([json.loads(line) for line in lines])


def summed(lines: list[Recorded]) -> Recorded:
    """Times of several epochs together."""
    total: dict[str, dict[str, dict[str, float]]] = {"stages": {}, "waits": {}}
    for line in lines:
        for kind, found in total.items():
            for name, times in line[kind].items():
                known = found.setdefault(name, {"count": 0, "seconds": 0.0})
                known["count"] += times["count"]
                known["seconds"] += times["seconds"]
    return total


def seconds_of(run: Recorded, kind: str, name: str) -> float:
    """Seconds of a stage or wait of a run."""
    return float(run[kind].get(name, {"seconds": 0.0})["seconds"])


def grown(slowed: Sequence[Recorded], plain: Sequence[Recorded], kind: str) -> dict[str, float]:
    """How much each stage, or wait, takes longer: the median over pairs of runs."""
    names = {name for run in (*slowed, *plain) for name in run[kind]}
    return {
        name: statistics.median(
            seconds_of(one, kind, name) - seconds_of(other, kind, name)
            for one, other in zip(slowed, plain, strict=True)
        )
        for name in names
    }


def chance(plain: Sequence[Recorded], name: str) -> float:
    """By how much a stage differs, as a rule, from one run to the next without any delay."""
    seconds = [seconds_of(run, "stages", name) for run in plain]
    return statistics.median(abs(one - other) for one, other in itertools.pairwise(seconds))


def rows_of(where: str, work: Callable[[], Recorded], plants: tuple[Plant, ...]) -> Iterator[Any]:
    """For each plant what grew, and whether that is right."""
    work()
    for plant in plants:
        plain, slowed, calls = [], [], 0
        for turn in range(2 * ROUNDS):
            if turn % 2:
                plain.append(work())
                continue
            called: list[None] = []
            with plant.planted(called):
                slowed.append(work())
            calls = len(called)
        planted = DELAY * calls or sys.exit(f"{where}: {plant.name} is never called")
        stages = grown(slowed, plain, "stages")
        own = stages.pop(plant.stage, 0.0)
        beyond = {name: seconds - chance(plain, name) for name, seconds in stages.items()}
        other = max(beyond, key=lambda name: beyond[name])
        waits = max(grown(slowed, plain, "waits").values(), default=0.0)
        waited_for = max(planted, own + sum(max(0.0, seconds) for seconds in stages.values()))
        right = (
            abs(own - planted) <= TOLERANCE * planted
            and beyond[other] <= TOLERANCE * planted
            and waits <= (1 + TOLERANCE) * waited_for
        )
        print(f"{where}: {plant.stage}: {own / planted:.3f}", file=sys.stderr)
        yield (
            where,
            plant.stage,
            calls,
            f"{1000 * own / calls:.2f} ms",
            f"{1000 * stages[other] / calls:+.2f} ms ({other})",
            f"{1000 * chance(plain, other) / calls:.2f} ms",
            f"{1000 * waits / calls:+.2f} ms",
            "yes" if right else "NO",
        )


def cost_of_a_stage() -> float:
    """Seconds that one stage takes, with nothing in it."""
    found = []
    with recording():
        for _ in range(50):
            started = time.perf_counter()
            for _ in range(2000):
                with stage("nothing"):
                    pass
            found.append((time.perf_counter() - started) / 2000)
    return statistics.median(found)


def costs(runs: Runs) -> Iterator[tuple[str, ...]]:
    """What all stages of each work cost, as a share of it."""
    one = cost_of_a_stage()
    for where, work in (("build", runs.build), ("read", runs.read), ("train", runs.train)):
        started = time.perf_counter()
        found = work()
        seconds = time.perf_counter() - started
        stages = sum(t["count"] for kind in ("stages", "waits") for t in found[kind].values())
        yield where, f"{stages}", f"{1e6 * one:.2f} us", f"{100 * stages * one / seconds:.3f} %"


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Tables. Ends with 1, after them, if a clock is not true."""
    source = repeat_images(
        arguments.images, arguments.annotations, arguments.samples, arguments.scratch / "stages"
    )
    runs = Runs(source, arguments.scratch)
    parts = (
        ("build", runs.build, BUILD),
        ("build", runs.copy, COPY),
        ("read", runs.read, READ),
        ("train", runs.train, TRAIN),
    )
    chosen = [part for part in parts if part[0] in arguments.only]
    rows = [row for part in chosen for row in rows_of(*part)]
    yield from ("# The clocks of a run", "")
    yield from environment(("torch", "lightning"))
    yield from ("", f"## {1000 * DELAY:.0f} ms planted in each stage in turn", "")
    head = ["run", "stage", "planted", "it grew", "most of another", "which differs by chance by"]
    head += ["most of a wait", "right"]
    yield markdown_table(head, rows)
    yield from ("", "## What stages cost", "")
    yield markdown_table(["run", "stages and waits", "each", "of the run"], list(costs(runs)))
    arguments.wrong = sum(row[-1] != "yes" for row in rows)


def main() -> None:
    """Command line."""
    parser = argument_parser(__doc__, samples=12)
    runs_there_are = ("build", "read", "train")
    parser.add_argument("--only", nargs="+", choices=runs_there_are, default=runs_there_are)
    add_out(parser)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    write_report(report(arguments), arguments.out)
    sys.exit(1 if arguments.wrong else 0)


if __name__ == "__main__":
    main()
