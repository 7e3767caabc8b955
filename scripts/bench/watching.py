#!/usr/bin/env python3
"""What watching a training costs: steps with everything on against steps with everything off.

On is all that `ocr-train fit` can write of a training: the monitor with its port, the clocks and
performance.jsonl, records of validations and the report, files for CSV and TensorBoard, a profile.
Off is none of it. What cannot be turned off, the clock of stages, is on in both. The loader's own
search for its settings is off in both unless --tune turns it on with the rest: what it tries is
faster or slower than what it began with, and that is not what watching costs.

The two take turns in one process, on the same batches in the same order: a machine that is slow for
a while is so for both, and neither process nor memory differs between them. Which goes first
changes every round. A round gives one ratio, of the time a step with everything on and off, over
the steps after the profiled ones: waits for the loader, logging and ends of epochs included,
validations, one every 25 steps, left out. Their median over rounds is the cost, with an interval of
95 % from resampling the rounds. The profiled steps, which end before the others begin, and
validations are told apart.

Where other work disturbs the machine, that interval is wide. So the work itself is clocked too: in
each step that counts the hooks of all that watches and the writing of logs, on the thread that
trains, and the processor time of the monitor's thread, all of which could be spared at most.
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning
import torch
from common import add_out, environment, markdown_table, megabytes, write_report
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from ocr.datasets.data_module import DetectionData
from ocr.datasets.transforms import Augmentation
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.callbacks import (
    Performance,
    Profile,
    ResourceMonitor,
    RunReport,
    ValidationRecord,
)
from ocr_precompute.baselines.comparison import compared_in_turn
from ocr_precompute.runtime.clock import resident_memory

PROFILED = 10  # steps
VALIDATED = 25  # steps from validation to validation


@dataclass(frozen=True)
class Took:
    """Seconds of one training: a step of those that count, a profiled one, and a validation.

    watching: of such a step, seconds in which something watched, and of the monitor's thread.
    """

    step: float
    profiled: float
    validation: float
    watching: float


class Clock(lightning.Callback):
    """When each step ended, without the validations before it, and how long validations took.

    first: the number of the last step that does not count.
    """

    def __init__(self, first: int) -> None:
        self.ends: list[float] = []
        self.validations: list[float] = []
        self._begun = self._watched = 0.0
        self._first = first
        self._thread: list[float] = []  # processor seconds of the monitor's, after each step

    def clocked(self, owner: object, name: str) -> None:
        """Have what a method of an object takes in steps that count be watching."""
        original: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                if len(self.ends) > self._first:
                    self._watched += perf_counter() - started

        setattr(owner, name, timed)

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        """A step is over."""
        self.ends.append(perf_counter() - sum(self.validations))
        self._thread.append(monitor_seconds())

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        """A validation begins."""
        self._begun = perf_counter()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """A validation is over."""
        self.validations.append(perf_counter() - self._begun)

    def took(self, before: int) -> Took:
        """before: steps before the profiled ones. One step after these is left out as well, for in
        it the trace is written."""
        first, last = self._first, len(self.ends) - 1
        thread = self._thread[last] - self._thread[first]
        return Took(
            step=(self.ends[last] - self.ends[first]) / (last - first),
            profiled=(self.ends[first] - self.ends[before - 1]) / (PROFILED + 1),
            validation=statistics.mean(self.validations),
            watching=(self._watched + thread) / (last - first),
        )


def monitor_seconds() -> float:
    """Processor time of the monitor's thread so far; 0 if there is none."""
    return sum(
        time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        for thread in threading.enumerate()
        if thread.name == "monitor" and thread.ident is not None
    )


def training(arguments: argparse.Namespace, on: bool, out: Path) -> Took:
    """One training, watched or not."""
    lightning.seed_everything(0, verbose=False)
    clock, times = Clock(arguments.before + PROFILED), Performance()
    callbacks: list[lightning.Callback] = [clock]
    if on:
        monitor = ResourceMonitor(times, metrics_port=0)
        profile = Profile(times, after=arguments.before, steps=PROFILED)
        callbacks = [monitor, ValidationRecord(), RunReport(), times, clock, profile]
    loggers = [CSVLogger(str(out), "run"), TensorBoardLogger(str(out), "run")]
    trainer = lightning.Trainer(
        accelerator=arguments.accelerator,
        devices=1,
        max_steps=arguments.before + PROFILED + 1 + arguments.steps,
        limit_val_batches=arguments.validation_batches,
        val_check_interval=VALIDATED,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=5,
        gradient_clip_val=5.0,
        logger=loggers if on else False,
        default_root_dir=str(out),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    if on:
        for callback in (monitor, times, profile):
            clock.clocked(callback, "on_train_batch_start")
            clock.clocked(callback, "on_train_batch_end")
        clock.clocked(trainer._logger_connector, "log_metrics")
    data = DetectionData(
        arguments.store,
        batch_size=arguments.batch_size,
        tune=on and arguments.tune,
        augmentation=Augmentation(crop=arguments.crop, rotation=5.0, scale=0.3, colour=0.2),
    )
    optimizer = partial(torch.optim.AdamW, lr=2e-3, weight_decay=1e-4)
    trainer.fit(TextDetector(channels=arguments.channels, optimizer=optimizer), data)
    del trainer, data, callbacks
    gc.collect()  # what one training leaves is not to weigh on the next
    return clock.took(arguments.before)


def rounds(arguments: argparse.Namespace) -> Iterator[dict[bool, Took]]:
    """What trainings with everything on and off took, round by round."""
    for number in range(-1, arguments.rounds):
        order = (True, False) if number % 2 else (False, True)
        found = {}
        for on in order:
            with tempfile.TemporaryDirectory() as folder:
                found[on] = training(arguments, on, Path(folder))
        ratio = found[True].step / found[False].step
        said = "not counted, " * (number < 0)
        memory = megabytes(resident_memory())
        cost = f"{100 * (ratio - 1):+.2f} %"
        print(f"round {number + 1}: {said}{cost}, {found}, memory {memory}", file=sys.stderr)
        if number >= 0:
            yield found


def report(arguments: argparse.Namespace, found: Sequence[dict[bool, Took]]) -> Iterator[str]:
    """The table."""
    yield f"# Watching a training, {arguments.batch_size} crops of {arguments.crop} pixels a step"
    yield ""
    yield from environment(("torch", "lightning"))
    yield ""
    yield (
        f"{len(found)} rounds; {arguments.steps} steps of each training count, after "
        f"{arguments.before} and {PROFILED} that are profiled where everything is on. The costs "
        "are medians over rounds, with an interval of 95 %."
    )
    yield ""
    rows = []
    for name, kind in (
        ("step", "step"),
        ("profiled step, the trace written", "profiled"),
        ("validation", "validation"),
    ):
        on = [getattr(took[True], kind) for took in found]
        off = [getattr(took[False], kind) for took in found]
        (ratio,) = compared_in_turn({name: off}, {name: on}, 0.0).ratios
        middle, low, high = (100 * (x - 1) for x in (ratio.ratio, ratio.low, ratio.high))
        rows.append(
            (
                name,
                f"{1000 * statistics.median(off):.1f}",
                f"{1000 * statistics.median(on):.1f}",
                f"{middle:+.2f} %",
                f"{low:+.2f} to {high:+.2f} %",
            )
        )
    shares = [took[True].watching / took[True].step for took in found]
    spent = 1000 * statistics.median(took[True].watching for took in found)
    rows.append(
        (
            "of a step, what watched",
            "",
            f"{spent:.2f}",
            f"{100 * statistics.median(shares):.2f} %",
            f"{100 * min(shares):.2f} to {100 * max(shares):.2f} %, all rounds",
        )
    )
    heads = ("what", "everything off, ms", "everything on, ms", "cost", "interval")
    yield markdown_table(heads, rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", default="data/store", help="with the splits train and val")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--crop", type=int, default=320)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--before", type=int, default=5, help="steps before the profiled ones")
    parser.add_argument("--steps", type=int, default=40, help="steps of a training that count")
    parser.add_argument("--validation-batches", type=int, default=2, help="of each validation")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--tune", action="store_true", help="the loader's search is on, too")
    add_out(parser)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)  # of Lightning itself
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    write_report(report(arguments, list(rounds(arguments))), arguments.out)


if __name__ == "__main__":
    main()
