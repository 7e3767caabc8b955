"""Trainings with everything on that watches them, and with everything off, clocked."""

from __future__ import annotations

import argparse
import gc
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from measuring.trainings import trainer
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
            profiled=(self.ends[first] - self.ends[before - 1]) / (first + 1 - before),
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
    clock, times = Clock(arguments.before + arguments.profiled), Performance()
    callbacks: list[lightning.Callback] = [clock]
    if on:
        monitor = ResourceMonitor(times, metrics_port=0)
        profile = Profile(times, after=arguments.before, steps=arguments.profiled)
        callbacks = [monitor, ValidationRecord(), RunReport(), times, clock, profile]
    loggers = [CSVLogger(str(out), "run"), TensorBoardLogger(str(out), "run")]
    new = trainer(
        accelerator=arguments.accelerator,
        max_steps=arguments.before + arguments.profiled + 1 + arguments.steps,
        limit_val_batches=arguments.validation_batches,
        val_check_interval=arguments.between,
        check_val_every_n_epoch=None,
        log_every_n_steps=5,
        gradient_clip_val=5.0,
        logger=loggers if on else False,
        default_root_dir=str(out),
        enable_checkpointing=False,
        callbacks=callbacks,
    )
    if on:
        for callback in (monitor, times, profile):
            clock.clocked(callback, "on_train_batch_start")
            clock.clocked(callback, "on_train_batch_end")
        clock.clocked(new._logger_connector, "log_metrics")
    data = DetectionData(
        arguments.store,
        batch_size=arguments.batch_size,
        tune=on and arguments.tune,
        augmentation=Augmentation(crop=arguments.crop, rotation=5.0, scale=0.3, colour=0.2),
    )
    optimizer = partial(torch.optim.AdamW, lr=2e-3, weight_decay=1e-4)
    new.fit(
        TextDetector(arguments.backbone, channels=arguments.channels, optimizer=optimizer), data
    )
    del new, data, callbacks
    gc.collect()  # what one training leaves is not to weigh on the next
    return clock.took(arguments.before)
