"""The loss of DBNet: Liao et al. 2020 (arXiv 1911.08947), section 3.5."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ocr.models.dbnet import DBOutput


class Losses(NamedTuple):
    """Scalars, float32: the weighted sum, and its three parts without their weights."""

    total: Tensor
    prob: Tensor
    thresh: Tensor
    binary: Tensor


@dataclass(frozen=True)
class DBLoss:
    """Balanced cross-entropy on prob, L1 on thresh, dice on their approximate binary map.

    Each sample has a loss of its own, and the batch has their mean. So a sample counts the same
    whichever samples share its batch, and processes that share a batch compute together what one
    would compute alone. Computed in float32 whatever the precision around it.

    The weights are the paper's: alpha = 1 for binary, beta = 10 for thresh. negative_ratio: hard
    negative pixels for each pixel of text. fallback_negatives: how many a sample without text has.
    k: steepness of the approximate step function.
    """

    prob_weight: float = 1.0
    thresh_weight: float = 10.0
    binary_weight: float = 1.0
    negative_ratio: float = 3.0
    fallback_negatives: int = 1000
    k: float = 50.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < math.inf:
                raise ValueError(
                    f"{field.name} is {getattr(self, field.name)}; it must be 0 or more"
                )

    def __call__(self, output: DBOutput, labels: Mapping[str, Tensor]) -> Losses:
        """Losses of a batch.

        output: logits, any floating dtype. labels: `prob`, `prob_mask`, `thresh_mask` uint8 and
        `thresh` float32, all (B, H, W).
        """
        with torch.autocast(output.prob.device.type, enabled=False):
            prob_logits, thresh_logits = output.prob.float().flatten(1), output.thresh.float()
            text = labels["prob"].flatten(1).float()
            mask = labels["prob_mask"].flatten(1).float()
            thresh = torch.sigmoid(thresh_logits).flatten(1)
            inside = labels["thresh_mask"].flatten(1).float()
            prob_loss = self._cross_entropy(prob_logits, text * mask, mask)
            thresh_loss = self._distance(thresh, labels["thresh"].float().flatten(1), inside)
            binary = torch.sigmoid(self.k * (torch.sigmoid(prob_logits) - thresh))
            binary_loss = self._dice(binary, text, mask)
            total = (
                self.prob_weight * prob_loss
                + self.thresh_weight * thresh_loss
                + self.binary_weight * binary_loss
            )
        return Losses(total, prob_loss, thresh_loss, binary_loss)

    def _cross_entropy(self, logits: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Mean over pixels of text and the hardest others, negative_ratio times as many."""
        losses = functional.binary_cross_entropy_with_logits(logits, text, reduction="none")
        positives = text.sum(1)
        others = mask - text  # 1 where there is no text and the loss may look
        wanted = torch.where(
            positives > 0, positives * self.negative_ratio, float(self.fallback_negatives)
        ).floor()
        negatives = torch.minimum(wanted, others.sum(1))
        most = int(negatives.max())
        hardest = (losses * others).topk(most, dim=1).values
        taken = torch.arange(most, device=logits.device) < negatives[:, None]
        summed = (losses * text).sum(1) + (hardest * taken).sum(1)
        return (summed / (positives + negatives).clamp(min=1)).mean()

    @staticmethod
    def _distance(thresh: Tensor, wanted: Tensor, inside: Tensor) -> Tensor:
        """Mean distance inside dilated polygons; 0 for a sample that has none."""
        distance = ((thresh - wanted).abs() * inside).sum(1)
        return (distance / inside.sum(1).clamp(min=1)).mean()

    @staticmethod
    def _dice(binary: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """1 - dice; 0 for a sample without text, which has nothing to overlap with."""
        text = text * mask
        both = (binary * text).sum(1)
        either = (binary * mask).sum(1) + text.sum(1)
        dice = 2 * both / either.clamp(min=1e-6)
        return torch.where(text.sum(1) > 0, 1 - dice, 0.0 * dice).mean()
