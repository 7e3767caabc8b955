"""Weights averaged over the steps of a training."""

from __future__ import annotations

import lightning
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights(WeightAveraging):
    """Keeps an exponential moving average of weights and running statistics, with which it
    validates; in checkpoints it is what `state_dict` holds, and a training goes on from the
    weights beside it, `current_model_state`.
    """

    def __init__(self, decay: float) -> None:
        """decay: share of the average that stays in each step. Raises ValueError."""
        if not 0 < decay < 1:
            raise ValueError(f"ema is {decay}; it must be above 0 and below 1, or null")
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        super().__init__(multi_avg_fn=average)

    def setup(self, trainer: Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Copy the weights to where the training will have its own."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:  # or a GPU would be waited for in every step
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()
