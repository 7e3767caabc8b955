#!/usr/bin/env python3
"""Does a profile name what a training or a build is bound by?

Trainings of a small network, and builds of small samples, are slowed down in one place each, by
what bounds them there: a wait where a device, a disk or another process is waited for, real work
where the processor is. With --accelerator gpu trainings run there, and the GPU has real work too.
Each is run again and again, and the names that its profile gives are counted. Ends with 1 unless at
least 19 of 20 are right. `--only` chooses, as in `--only build-disk build-scan`.
"""

from __future__ import annotations

import argparse
import collections
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed
from lightning.pytorch.strategies import DDPStrategy
from measuring.bounds import BUILDS, TRAININGS, Bound, there
from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment
from measuring.results import Cell, Column, Result, Table
from measuring.samples import SPLIT, live_settings, repeat_images
from measuring.trainings import BACKBONE, quiet, trainer

from ocr.datasets.data_module import DetectionData
from ocr.datasets.transforms import Augmentation
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.callbacks import BestAndLast, Performance, Profile
from ocr.lightning_modules.checkpoint_io import WholeCheckpointIO
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings

SIDE = 128
_BUILT = 72  # samples of a build, which are worth a second worker


class Runs(Protocol):
    """Something that can be run again and again."""

    def verdict(self, bound: Bound) -> str:
        """What the profile of one says it is bound by."""


class Builds:
    """Builds of so many samples that two workers are worth while."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._scratch = arguments.scratch
        folder = arguments.scratch / "verdicts"
        self._source = repeat_images(
            arguments.images, arguments.annotations, _BUILT, folder / "built"
        )

    def verdict(self, bound: Bound) -> str:
        """What the profile of one says it is bound by."""
        out = Path(tempfile.mkdtemp(dir=self._scratch))
        given = {"store": out / "store", "profile": out / "p", "size": SIDE, "shard_length": 4}
        with bound.slowed():
            report = build(SPLIT, self._source, Settings.model_validate({**given, **bound.data}))
        shutil.rmtree(out)
        return report.verdict.bottleneck if report.verdict else "nothing"


class Trainings:
    """Trainings on a few of the images."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._scratch, self._accelerator = arguments.scratch, arguments.accelerator
        folder = arguments.scratch / "verdicts"
        source = repeat_images(
            arguments.images, arguments.annotations, arguments.samples, folder / "source"
        )
        self._store = folder / "store"
        build(SPLIT, source, Settings(store=self._store, size=(SIDE, SIDE), monitor=False))
        self._live = live_settings(self._store, SIDE, {SPLIT: source}, folder / "live.yaml")

    def verdict(self, bound: Bound) -> str:
        """What the profile of one says it is bound by."""
        torch.manual_seed(0)
        torch.set_num_threads(1)
        out = Path(tempfile.mkdtemp(dir=self._scratch))
        data = {"batch_size": 4, "threads": 2, "tune": False, **bound.data}
        if bound.live:
            data["live"] = self._live
        times = Performance()
        strategy = bound.trainer.get("strategy", "auto")
        new = trainer(
            accelerator=self._accelerator,
            strategy=DDPStrategy(process_group_backend="gloo") if strategy == "ddp" else strategy,
            max_epochs=3,
            default_root_dir=str(out),
            callbacks=[times, Profile(times, after=4, steps=2), BestAndLast(str(out))],
        )
        new.strategy.checkpoint_io = WholeCheckpointIO()
        with bound.slowed():
            new.fit(
                TextDetector(str(BACKBONE), channels=16),
                DetectionData(
                    str(self._store), SPLIT, SPLIT, augmentation=Augmentation(crop=64), **data
                ),
            )
        found = json.loads((out / "profile" / "report.json").read_text())
        shutil.rmtree(out)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        return str(found["verdict"]["bottleneck"])


KINDS: dict[str, tuple[Callable[[argparse.Namespace], Runs], tuple[Bound, ...]]] = {
    "training": (Trainings, TRAININGS),
    "build": (Builds, BUILDS),
}
NAMES = [f"{kind}-{bound.bottleneck}" for kind, (_, all_of) in KINDS.items() for bound in all_of]


def counted(kind: str, runs: Runs, bound: Bound, times: int) -> tuple[Cell, ...]:
    """How often a profile names what bounds it, and what else it names."""
    names = [runs.verdict(bound) for _ in range(times)]
    right = names.count(bound.bottleneck)
    others = collections.Counter(name for name in names if name != bound.bottleneck)
    said = ", ".join(f"{name}: {number}" for name, number in others.items())
    say(f"{kind}-{bound.bottleneck}: {right} of {times} {said}")
    return bound.bottleneck, right, times, said


def measure(arguments: argparse.Namespace) -> Result:
    """A table of trainings and one of builds; holds if at least 19 of 20 profiles are right."""
    tables = []
    for kind, (make, all_of) in KINDS.items():
        chosen = [bound for bound in all_of if f"{kind}-{bound.bottleneck}" in arguments.only]
        if chosen:
            runs = make(arguments)
            if kind == "training" and arguments.accelerator == "gpu":
                runs.verdict(all_of[0])  # the first loads the GPU's code
                chosen = [there(bound, arguments.accelerator) for bound in chosen]
            rows = tuple(counted(kind, runs, bound, arguments.runs) for bound in chosen)
            columns = Column(f"a {kind} bound by"), Column("named"), Column("of"), Column("else")
            tables.append(Table(columns, rows))
    gpu = arguments.accelerator == "gpu"
    shares = [int(row[1] or 0) / arguments.runs for table in tables for row in table.rows]
    return Result(
        "verdicts",
        "Does a profile name what a training or a build is bound by?",
        environment(("torch", "lightning")),
        tuple(tables),
        notes=(torch.cuda.get_device_name(),) if gpu else (),
        holds=all(share >= 19 / 20 for share in shares),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=24)
    options.add_argument("--runs", type=int, default=20, help="of each; default: 20")
    options.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    options.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES)
    )
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure, before=quiet)
