"""How far a run is, for those who read it in a file."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import lightning
from lightning.pytorch import Trainer

_EVERY = 10.0  # seconds, at least, from line to line


class ProgressLines(lightning.Callback):
    """Writes a line now and then where the error stream is no terminal: epoch, step, loss, H-mean
    and the time left; after each validation; and how far a validation or prediction is.
    """

    def __init__(self) -> None:
        self._on = False
        self._last = self._started = 0.0
        self._first = 0
        self._loss: Any = None  # of the last step; read only when it is said

    def setup(self, trainer: Trainer, module: lightning.LightningModule, stage: str) -> None:
        """Look whether anybody sees a progress bar."""
        self._on = trainer.is_global_zero and not sys.stderr.isatty()
        self._last = time.monotonic()

    def on_train_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started, self._first = time.monotonic(), _done(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        index: int,
    ) -> None:
        """Say how far the training is."""
        self._loss = outputs["loss"]
        if self._due():
            self._say(self._training(trainer))

    def on_validation_batch_end(
        self, trainer: Trainer, module: lightning.LightningModule, *arguments: Any
    ) -> None:
        """Say how far a validation is."""
        if not trainer.sanity_checking:
            self._evaluating("validation", arguments[2], trainer.num_val_batches)

    def on_test_batch_end(
        self, trainer: Trainer, module: lightning.LightningModule, *arguments: Any
    ) -> None:
        """Say how far a test is."""
        self._evaluating("test", arguments[2], trainer.num_test_batches)

    def on_predict_batch_end(
        self, trainer: Trainer, module: lightning.LightningModule, *arguments: Any
    ) -> None:
        """Say how far a prediction is."""
        self._evaluating("prediction", arguments[2], trainer.num_predict_batches)

    def on_validation_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Say what was measured, in a training."""
        if self._on and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._say(self._training(trainer))

    def _training(self, trainer: Trainer) -> str:
        steps = int(trainer.num_training_batches)
        epochs = "" if trainer.max_epochs in (None, -1) else f" of {trainer.max_epochs}"
        step = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        parts = [f"epoch {trainer.current_epoch + 1}{epochs}, step {step} of {steps}"]
        hmean = trainer.callback_metrics.get("val/hmean")
        parts += [f"loss {float(self._loss):.4g}"] if self._loss is not None else []
        parts += [f"H-mean {float(hmean):.4f}"] if hmean is not None else []
        done, total = _done(trainer), trainer.estimated_stepping_batches
        spent = time.monotonic() - self._started
        if done > self._first and math.isfinite(total):
            left = spent * max(0.0, total - done) / (done - self._first)
            parts.append(f"{_duration(left)} left")
        return ", ".join(parts)

    def _evaluating(self, what: str, index: int, batches: Any) -> None:
        total = sum(batches) if isinstance(batches, list) else batches
        if self._due():
            self._say(f"{what}: batch {index + 1} of {total}")

    def _due(self) -> bool:
        return self._on and time.monotonic() - self._last >= _EVERY

    def _say(self, line: str) -> None:
        self._last = time.monotonic()
        print(line, file=sys.stderr, flush=True)


def _done(trainer: Trainer) -> int:
    """Steps of the optimiser that lie behind in the whole training, as its epochs are cut now."""
    batches = int(trainer.num_training_batches)
    within = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    per_epoch = -(-batches // trainer.accumulate_grad_batches)
    return trainer.current_epoch * per_epoch + within // trainer.accumulate_grad_batches


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds, as in 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
