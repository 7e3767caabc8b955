"""Where the time of a training goes: loader, steps, gradient synchronisation, validation."""

from __future__ import annotations

import time
from typing import Any

import lightning
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch.nn.parallel import DistributedDataParallel

from ocr.datasets import BatchLoader
from ocr.profiling import SyncTimes


class StepTimes(lightning.Callback):
    """Logs, an epoch: time/loader_wait and time/sync (shares of the training time),
    time/train_sample and time/val_sample (ms), and says the whole training's at its end.

    time/loader_wait is what the loader itself measures: how long it was asked for a batch that was
    not ready. time/sync is the share of the time in which gradients were under way between
    processes, most of it while the backward pass goes on.
    """

    def __init__(self) -> None:
        self._sync: SyncTimes | None = None
        self._total = dict.fromkeys(("train", "wait", "sync", "val"), 0.0)
        self._samples = {"train": 0, "val": 0}
        self._epoch = dict(self._total), dict(self._samples)
        self._mark = self._mark_val = self._waited = 0.0

    @property
    def trained(self) -> int:
        """Samples that this process has trained on so far."""
        return self._samples["train"]

    def on_train_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Start the clocks; a training that goes on within an epoch does not start an epoch.

        Count all-reduces, if there are processes to share gradients with.
        """
        self._start(trainer)
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            self._sync = SyncTimes(trainer.strategy.model)

    def on_train_epoch_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Start the clocks of an epoch."""
        self._start(trainer)

    def _start(self, trainer: Trainer) -> None:
        self._epoch = dict(self._total), dict(self._samples)
        self._mark, self._waited = time.perf_counter(), self._loader_waited(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """Add a step."""
        now, waited = time.perf_counter(), self._loader_waited(trainer)
        self._total["train"] += now - self._mark
        self._total["wait"] += waited - self._waited
        self._total["sync"] += self._sync.take() if self._sync is not None else 0.0
        self._samples["train"] += len(batch["image"])
        self._mark, self._waited = now, waited

    def on_validation_epoch_start(
        self, trainer: Trainer, module: lightning.LightningModule
    ) -> None:
        """Start the clock of a validation."""
        self._mark_val = time.perf_counter()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
    ) -> None:
        """Count what was validated."""
        if not trainer.sanity_checking:
            self._samples["val"] += len(batch["image"])

    def on_validation_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Add a validation, post-processing and metric included."""
        if trainer.sanity_checking:
            return
        self._total["val"] += time.perf_counter() - self._mark_val
        self._mark = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Log the epoch's figures, those of the first process."""
        if not trainer.is_global_zero:
            return
        before, samples = self._epoch
        spent = {name: value - before[name] for name, value in self._total.items()}
        seen = {name: value - samples[name] for name, value in self._samples.items()}
        for name, value in _figures(spent, seen).items():
            module.log(f"time/{name}", value, rank_zero_only=True)

    def on_train_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Say what the training's time went to."""
        figures = _figures(self._total, self._samples)
        if not figures:
            return
        who = f"each of {trainer.world_size} processes " if trainer.world_size > 1 else ""
        line = (
            f"{who}trained on {self._samples['train']} samples in {self._total['train']:.1f} s, "
            f"{figures['train_sample']:.1f} ms each; "
            f"waited for the loader {self._total['wait']:.2f} s, "
            f"{100 * figures['loader_wait']:.2f} % of the time"
        )
        if self._sync is not None:
            line += f"; gradients were under way {100 * figures['sync']:.1f} %"
        if "val_sample" in figures:
            line += f"; validation {figures['val_sample']:.1f} ms a sample"
        hmean = trainer.callback_metrics.get("val/hmean")
        rank_zero_info(line + (f"; val/hmean {float(hmean):.4f}" if hmean is not None else ""))
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if best:
            rank_zero_info(f"best checkpoint: {best}")

    @staticmethod
    def _loader_waited(trainer: Trainer) -> float:
        loader = trainer.train_dataloader
        return loader.waited if isinstance(loader, BatchLoader) else 0.0


def _figures(spent: dict[str, float], samples: dict[str, int]) -> dict[str, float]:
    found = {}
    if samples["train"]:
        found["train_sample"] = 1000 * spent["train"] / samples["train"]
        found["loader_wait"] = spent["wait"] / spent["train"]
        found["sync"] = spent["sync"] / spent["train"]
    if samples["val"]:
        found["val_sample"] = 1000 * spent["val"] / samples["val"]
    return found
