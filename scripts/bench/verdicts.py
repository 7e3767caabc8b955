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
import functools
import hashlib
import json
import logging
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import lightning
import torch
import torch.distributed
from common import (
    SPLIT,
    add_out,
    argument_parser,
    environment,
    markdown_table,
    repeat_images,
    write_report,
)
from lightning.pytorch.core.hooks import DataHooks
from lightning.pytorch.strategies import DDPStrategy

from ocr.datasets.data_module import DetectionData
from ocr.datasets.transforms import Augmentation
from ocr.inference.postprocess import PostProcess
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.callbacks import BestAndLast, Performance, Profile
from ocr.lightning_modules.checkpoint_io import WholeCheckpointIO
from ocr.models import DBNet
from ocr.profiling import sync_times
from ocr_precompute.augmentation import drawing
from ocr_precompute.pipeline import engines, scan
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings
from ocr_precompute.targets import sample

BACKBONE = Path(__file__).resolve().parents[2] / "tests" / "backbone"  # whose steps take little
SIDE = 128
BALLAST = bytes(2_000_000)
_BUILT = 72  # samples of a build, which are worth a second worker


def wait(seconds: float) -> None:
    """For something that is not the processor."""
    time.sleep(seconds)


def work(megabytes: int) -> None:
    """On the processor, without holding the interpreter lock."""
    for _ in range(megabytes // 2):
        hashlib.sha256(BALLAST)


def multiply() -> None:
    """On the GPU, tens of ms; it takes no time to hand over."""
    matrix = torch.zeros(8192, 8192, device="cuda")
    for _ in range(3):
        matrix = matrix @ matrix


def copy() -> None:
    """To the GPU, from memory that is not page-locked; tens of ms."""
    pageable().to("cuda")


@functools.cache
def pageable() -> torch.Tensor:
    """512 MiB of the host's memory."""
    return torch.ones(2**27)


@dataclass(frozen=True)
class Bound:
    """A training or a build that is bound by something.

    owner, name: what is slowed down, by `slow`. only: tells which calls are. data: settings of the
    data, or of the build. live: whether samples are computed from their image files. trainer:
    settings of the trainer.
    """

    bottleneck: str
    owner: Any
    name: str
    slow: Callable[[], None]
    only: Callable[..., bool] = lambda *_: True
    data: dict[str, Any] = field(default_factory=dict)
    live: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)

    def slowed(self) -> Any:
        """That it is, within a `with`."""
        original = getattr(self.owner, self.name)

        def slower(*args: Any, **kwargs: Any) -> Any:
            if self.only(*args):
                self.slow()
            return original(*args, **kwargs)

        return mock.patch.object(self.owner, self.name, slower)


def _is_image(path: Path) -> bool:
    return path.suffix in (".jpg", ".png", ".tif")


TRAININGS = (
    Bound("data", drawing, "draw_page", lambda: wait(0.05), data={"threads": 1}),
    Bound("disk", Path, "read_bytes", lambda: wait(0.08), _is_image, {"threads": 1}, live=True),
    Bound("processor", drawing, "draw_page", lambda: work(100), data={"threads": 8}),
    Bound("transfer", DataHooks, "transfer_batch_to_device", lambda: wait(0.05)),
    Bound("compute", DBNet, "forward", lambda: wait(0.08), lambda model, *_: model.training),
    Bound(
        "synchronisation",
        sync_times,
        "allreduce_hook",
        lambda: wait(0.08),
        trainer={"strategy": "ddp"},
    ),
    Bound("validation", DBNet, "forward", lambda: wait(0.15), lambda model, *_: not model.training),
    Bound("post-processing", PostProcess, "__call__", lambda: wait(0.15)),
)

ON_GPU = (
    Bound("transfer", DataHooks, "transfer_batch_to_device", copy),
    Bound("compute", DBNet, "forward", multiply, lambda model, *_: model.training),
)

# On threads, for workers in processes of their own know nothing of what is slowed down here.
THREADS: dict[str, Any] = {"backend": "threading", "jobs": 2}
BUILDS = (
    Bound("processor", sample, "decode", lambda: work(40), data=THREADS),
    Bound("disk", Path, "read_bytes", lambda: wait(0.05), _is_image, THREADS),
    Bound("workers", sample, "decode", lambda: work(20), data={**THREADS, "jobs": 1}),
    Bound("scan", scan, "read_annotations", lambda: work(3000), data=THREADS),
    Bound("start-up", engines, "compile_kernel", lambda: work(8000), data=THREADS),
)


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
        self._live = folder / "live.yaml"
        paths = {"images": str(source.images), "annotations": str(source.annotations)}
        text = {"store": str(self._store), "size": SIDE, "splits": {SPLIT: paths}}
        self._live.write_text(json.dumps(text))

    def verdict(self, bound: Bound) -> str:
        """What the profile of one says it is bound by."""
        torch.manual_seed(0)
        torch.set_num_threads(1)
        out = Path(tempfile.mkdtemp(dir=self._scratch))
        data = {"batch_size": 4, "threads": 2, "tune": False, **bound.data}
        if bound.live:
            data["live"] = str(self._live)
        times = Performance()
        strategy = bound.trainer.get("strategy", "auto")
        trainer = lightning.Trainer(
            accelerator=self._accelerator,
            devices=1,
            strategy=DDPStrategy(process_group_backend="gloo") if strategy == "ddp" else strategy,
            max_epochs=3,
            logger=False,
            default_root_dir=str(out),
            callbacks=[times, Profile(times, after=4, steps=2), BestAndLast(str(out))],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.strategy.checkpoint_io = WholeCheckpointIO()
        with bound.slowed():
            trainer.fit(
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


def there(bound: Bound, accelerator: str) -> Bound:
    """What is bound by the same on that accelerator."""
    found = {each.bottleneck: each for each in ON_GPU if accelerator == "gpu"}
    return found.get(bound.bottleneck, bound)


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """The tables."""
    yield from ("# What profiles say of trainings and builds that are bound by something", "")
    yield from environment(("torch", "lightning"))
    if arguments.accelerator == "gpu":
        yield f"- {torch.cuda.get_device_name()}"
    for kind, (make, all_of) in KINDS.items():
        chosen = [bound for bound in all_of if f"{kind}-{bound.bottleneck}" in arguments.only]
        if chosen:
            runs = make(arguments)
            if kind == "training" and arguments.accelerator == "gpu":
                runs.verdict(all_of[0])  # the first loads the GPU's code
                chosen = [there(bound, arguments.accelerator) for bound in chosen]
            rows = [_counted(kind, runs, bound, arguments) for bound in chosen]
            yield ""
            yield markdown_table([f"a {kind} bound by", "named", "else"], rows)


def _counted(
    kind: str, runs: Runs, bound: Bound, arguments: argparse.Namespace
) -> tuple[str, str, str]:
    names = [runs.verdict(bound) for _ in range(arguments.runs)]
    right = names.count(bound.bottleneck)
    arguments.wrong += 20 * right < 19 * arguments.runs
    others = collections.Counter(name for name in names if name != bound.bottleneck)
    said = ", ".join(f"{name}: {times}" for name, times in others.items())
    print(f"{kind}-{bound.bottleneck}: {right} of {arguments.runs} {said}", file=sys.stderr)
    return bound.bottleneck, f"{right} of {arguments.runs}", said


def main() -> None:
    """Command line."""
    parser = argument_parser(__doc__, samples=24)
    parser.add_argument("--runs", type=int, default=20, help="of each; default: 20")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES)
    )
    add_out(parser)
    arguments = parser.parse_args()
    arguments.wrong = 0
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    write_report(report(arguments), arguments.out)
    sys.exit(1 if arguments.wrong else 0)


if __name__ == "__main__":
    main()
