"""A training goes on in the middle of an epoch, though its batches may be cut in another way."""

from __future__ import annotations

import math
from typing import Any

import lightning
from lightning.pytorch import Trainer

from ocr.datasets import BatchLoader
from ocr.lightning_modules.schedule import WarmupPolynomialLR


class Resume(lightning.Callback):
    """Gives Lightning the place in the epoch that the loader goes on from.

    Lightning counts batches. With another batch size or number of processes the batches that were
    done are another share of an epoch, so its count, and the learning rate's, are set to that share
    of the epoch as it is cut now.
    """

    def on_train_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Set the counts, after all has been restored and before the first batch."""
        loader, loop = trainer.train_dataloader, trainer.fit_loop
        if not loop.is_resuming or not isinstance(loader, BatchLoader):
            return
        progress = loop.epoch_loop.batch_progress
        current: Any = progress.current
        # A batch counts as completed a moment after checkpoints within an epoch are written.
        missing = current.processed - current.completed
        batches = int(trainer.num_training_batches)
        place = batches if progress.is_last_batch else min(loader.place, batches)
        current.ready = current.started = current.processed = place
        current.completed = place - missing
        within = place if loader.place else 0  # nothing, where the loader's epoch is the next
        accumulated = trainer.accumulate_grad_batches
        epochs = loader.sampler.epoch * math.ceil(batches / accumulated)
        for config in trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            if (
                isinstance(scheduler, WarmupPolynomialLR)
                and scheduler.total_steps == trainer.estimated_stepping_batches
            ):
                scheduler.last_epoch = epochs + within // accumulated
