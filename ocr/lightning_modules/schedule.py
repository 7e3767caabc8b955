"""Optimiser and schedule: what decays, and how the learning rate moves over a training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_SETTINGS = ("total_steps", "warmup", "power")


class WarmupPolynomialLR(LRScheduler):
    """Rises evenly to the optimiser's learning rate, then falls as (1 - step / steps) ^ power.

    It is stepped once per step of the optimiser. What a checkpoint holds of it is the step alone:
    settings are those of the training that goes on.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int | None = None,
        warmup: float = 0.05,
        power: float = 0.9,
    ) -> None:
        """Schedule an optimiser.

        Args:
            optimizer: Whose learning rates are the highest that are reached.
            total_steps: Steps until the learning rate is zero; by default those of the training.
            warmup: Share of the steps in which the learning rate rises.
            power: Of the fall; 1 is a straight line, 0 no fall.
        """
        if total_steps is not None and total_steps < 1:
            raise ValueError(f"total_steps is {total_steps}; it must be at least 1")
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup is {warmup}; it must be from 0 to below 1")
        if not 0 <= power < math.inf:
            raise ValueError(f"power is {power}; it must be 0 or more")
        self.total_steps, self.warmup, self.power = total_steps, warmup, power
        super().__init__(optimizer)

    def end_at(self, steps: float) -> None:
        """Set the steps of the training, unless total_steps was given.

        Raises MisconfigurationException if they have no end.
        """
        if self.total_steps is None:
            if not math.isfinite(steps):
                raise MisconfigurationException(
                    "the learning rate falls until a training's end, and this one has none; set "
                    "trainer.max_epochs, trainer.max_steps or lr_scheduler.total_steps"
                )
            self.total_steps = int(steps)
            self._last_lr = self.get_lr()
            for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
                group["lr"] = rate

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each group at the current step."""
        factor = 1.0 if self.total_steps is None else self._factor(self.total_steps)
        return [factor * float(rate) for rate in self.base_lrs]

    def _factor(self, total: int) -> float:
        rising, step = round(total * self.warmup), self.last_epoch
        if step < rising:
            return (step + 1) / rising
        return float(max(0.0, 1 - (step - rising) / max(1, total - rising)) ** self.power)

    def state_dict(self) -> dict[str, Any]:
        """As of any scheduler, without the settings."""
        return {k: v for k, v in super().state_dict().items() if k not in _SETTINGS}


def parameter_groups(parameters: Iterable[Tensor], decay_norms: bool) -> list[dict[str, Any]]:
    """Parameters for an optimiser: all in one group, or norms and biases apart, without decay."""
    decaying: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in parameters:
        (decaying if decay_norms or parameter.ndim > 1 else others).append(parameter)
    apart = [] if decay_norms else [{"params": others, "weight_decay": 0.0}]
    return [{"params": decaying}, *apart]


def fuse(optimizer: Optimizer) -> None:
    """Let an optimiser take its step in one pass over weights, gradients and state, where it can.

    That is Adam, AdamW or SGD of float32 weights on a CPU or a CUDA device, unless its settings
    `fused` or `foreach` say otherwise. Unlike one that is made with `fused`, it goes with clipped
    gradients in mixed precision.
    """
    if not isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW | torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        places = {(weights.device.type, weights.dtype) for weights in group["params"]}
        automatic = group["fused"] is None and group["foreach"] is None
        plain = not group["differentiable"] and not group.get("capturable")
        if automatic and plain and places <= {("cpu", torch.float32), ("cuda", torch.float32)}:
            group["fused"] = True


def settings_of(
    optimizer: OptimizerCallable, lr_scheduler: LRSchedulerCallable, decay_norms: bool
) -> set[str]:
    """Names of an optimiser's settings, found by making one.

    Raises ValueError if optimiser or schedule refuse their settings.
    """
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((1, 1), (1,))]
    try:
        made = optimizer(parameter_groups(parameters, decay_norms))
        names = set(made.param_groups[0])
        lr_scheduler(made)
    except (TypeError, ValueError) as error:
        raise ValueError(f"optimizer or lr_scheduler: {error}; correct its settings") from error
    return names
