"""One round: a training of so many steps, in a process of its own, and how fast it was.

    python -m ocr.baselines.round OUT WARMUP STEPS SETTINGS...

The settings are those of `ocr-train fit`. Writes OUT, JSON: what is measured, samples per second,
the share of the time in which the loop waited for the loader, the most memory (bytes; of a GPU,
where one trains), and seconds of the fixed work, which goes first.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint

from ocr.baselines.measuring import device_seconds, measuring
from ocr.train import TrainCLI, main
from ocr_precompute.baselines.reference import reference_seconds
from ocr_precompute.files import json_bytes, replace_file
from ocr_precompute.runtime.clock import peak_memory
from ocr_precompute.runtime.stages import waited_here

# Nothing but the training itself, and always the same: no search for a setting amid it.
_ALONE = (
    *("--data.tune=false", "--monitor=false", "--profile=false", "--report=false"),
    *("--trainer.max_epochs=-1", "--trainer.limit_val_batches=0", "--trainer.logger=false"),
    *("--trainer.num_sanity_val_steps=0", "--trainer.enable_progress_bar=false"),
)


class Clock(lightning.Callback):
    """Times the steps after the first ones, and ends the training after them."""

    def __init__(self, out: Path, warmup: int, steps: int) -> None:
        self._out, self._warmup, self._steps = out, warmup, steps
        self._done = self._samples = 0
        self._since = self._seconds = self._reference = self._waited = 0.0
        self.settings: Any = None

    def on_train_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Time the fixed work, where the training computes."""
        if trainer.is_global_zero:
            on_gpu = module.device.type == "cuda"
            self._reference = device_seconds(module.device) if on_gpu else reference_seconds()

    def on_train_batch_end(
        self, trainer: Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """Start the clock, count, stop."""
        self._done += 1
        if self._done > self._warmup:
            self._samples += len(batch["image"])
        if self._done not in (self._warmup, self._warmup + self._steps):
            return
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        if self._done == self._warmup:
            self._since, self._waited = perf_counter(), waited_here("loader")
        else:
            self._seconds = perf_counter() - self._since
            self._waited = waited_here("loader") - self._waited
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Write what was seen."""
        if not trainer.is_global_zero or not self._seconds:
            return
        on_gpu = module.device.type == "cuda"
        measured = {
            "what": measuring(self.settings, trainer).model_dump(mode="json"),
            "rate": self._samples * trainer.world_size / self._seconds,
            "waited": self._waited / self._seconds,
            "memory": torch.cuda.max_memory_allocated(module.device) if on_gpu else peak_memory(),
            "reference": self._reference,
        }
        replace_file(self._out, json_bytes(measured))


class MeasuredCLI(TrainCLI):
    """A training that is timed, and leaves nothing behind."""

    keeps = False

    def __init__(self, *args: Any, clock: Clock, **kwargs: Any) -> None:
        self._clock = clock
        super().__init__(*args, **kwargs)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """As it is, but for what writes checkpoints."""
        trainer = super().instantiate_trainer(**kwargs)
        callbacks: list[Callback] = vars(trainer)["callbacks"]
        callbacks[:] = [each for each in callbacks if not isinstance(each, Checkpoint)]
        callbacks.append(self._clock)
        self._clock.settings = self.config.fit
        return trainer


def run(out: Path, warmup: int, steps: int, settings: list[str]) -> None:
    """One round."""
    arguments = ["fit", *settings, *_ALONE, f"--trainer.max_steps={warmup + steps}"]
    main(arguments, functools.partial(MeasuredCLI, clock=Clock(out, warmup, steps)))


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
