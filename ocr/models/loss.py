"""The loss of DBNet: Liao et al. 2020 (arXiv 1911.08947), section 3.5."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn import functional

from ocr.models.dbnet import DBOutput
from ocr.models.mining import by_sorting, by_threshold

_EPSILON = 1e-6  # the release's
_MINING = {"threshold": by_threshold, "sort": by_sorting}


class Losses(NamedTuple):
    """Scalars, float32: the weighted sum, and its three parts without their weights."""

    total: Tensor
    prob: Tensor
    thresh: Tensor
    binary: Tensor


@dataclass(frozen=True)
class DBLoss:
    """Balanced cross-entropy on prob, L1 on thresh, dice on their approximate binary map.

    reduction: `sample` gives each sample a loss of its own, and a part of the loss is the mean over
    the samples that have it: cross-entropy needs a pixel that is not masked out, L1 a dilated
    polygon, dice a pixel of text. So a sample counts the same whichever samples share its batch.
    `batch` takes every sum over the whole batch, as the authors' release does.

    What is divided by is summed over processes first: together they compute what one would. One
    thing differs: in `batch` each process chooses hard negatives among its own pixels. Computed in
    float32 whatever the precision around it.

    The weights are the release's: 5 for prob, 10 for thresh, 1 for binary. negative_ratio: hard
    negative pixels for each pixel of text. fallback_negatives: how many a sample without text has;
    in `batch`, a batch without text has none. k: steepness of the approximate step function.
    mining: how the hard negatives are found: `threshold` by the smallest of their losses, without
    waiting for a GPU; `sort` by sorting, as the release does. They take the same pixels, but of
    some that are equal `threshold` takes the first, and `sort` any.
    """

    prob_weight: float = 5.0
    thresh_weight: float = 10.0
    binary_weight: float = 1.0
    reduction: Literal["sample", "batch"] = "sample"
    negative_ratio: float = 3.0
    fallback_negatives: int = 1000
    k: float = 50.0
    mining: Literal["threshold", "sort"] = "threshold"

    def __post_init__(self) -> None:
        choices = {"reduction": ("sample", "batch"), "mining": tuple(_MINING)}
        for field in fields(self):
            value, known = getattr(self, field.name), choices.get(field.name)
            if known is not None and value not in known:
                raise ValueError(f"{field.name} is {value!r}; one of {', '.join(known)}")
            if known is None and not 0 <= value < math.inf:
                raise ValueError(f"{field.name} is {value}; it must be 0 or more")

    def __call__(self, output: DBOutput, labels: Mapping[str, Tensor]) -> Losses:
        """Losses of a batch; in several processes, of the batches of all of them.

        output: logits, any floating dtype. labels: `prob`, `prob_mask`, `thresh_mask` uint8 and
        `thresh` float32, all (B, H, W). Every process must call it, or none. Gradients are meant
        to be averaged over processes, as DistributedDataParallel does.
        """
        with torch.autocast(output.prob.device.type, enabled=False):
            prob_logits, thresh_logits = self._rows(output.prob), self._rows(output.thresh)
            mask = self._rows(labels["prob_mask"])
            text = self._rows(labels["prob"]) * mask
            inside = self._rows(labels["thresh_mask"])
            thresh = torch.sigmoid(thresh_logits)
            binary = torch.sigmoid(self.k * (torch.sigmoid(prob_logits) - thresh))
            parts = (
                self._cross_entropy(prob_logits, text, mask),
                self._distance(thresh, self._rows(labels["thresh"]), inside),
                self._dice(binary, text, mask),
            )
            sums = _over_processes(torch.stack([torch.stack(self._sums(*part)) for part in parts]))
            prob, thresh, binary = sums[:, 0] / sums[:, 1].clamp(min=_EPSILON)
            total = (
                self.prob_weight * prob + self.thresh_weight * thresh + self.binary_weight * binary
            )
        return Losses(total, prob, thresh, binary)

    def _rows(self, maps: Tensor) -> Tensor:
        """What has a loss of its own, one row each: a sample, or all of the batch; float32."""
        return (
            maps.float().flatten(1) if self.reduction == "sample" else maps.float().reshape(1, -1)
        )

    def _sums(self, numerator: Tensor, denominator: Tensor, defined: Tensor) -> tuple[Tensor, ...]:
        """Numerator and denominator of a part, scalars, from those of each row."""
        if self.reduction == "batch":
            return numerator.sum(), denominator.sum()
        quotients = numerator / denominator.clamp(min=_EPSILON)
        return torch.where(defined, quotients, 0.0).sum(), defined.float().sum()

    def _cross_entropy(self, logits: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Over pixels of text and the hardest others, negative_ratio times as many."""
        losses = functional.binary_cross_entropy_with_logits(logits, text, reduction="none")
        others = mask - text  # 1 where there is no text and the loss may look
        positives = text.sum(1, dtype=torch.int64)  # float32 counts to 2**24
        wanted = (positives * self.negative_ratio).long()
        if self.reduction == "sample":
            wanted = torch.where(positives > 0, wanted, int(self.fallback_negatives))
        negatives = torch.minimum(wanted, others.sum(1, dtype=torch.int64))
        possible = torch.where(others > 0, losses.detach(), -1.0)
        looked_at = text + _MINING[self.mining](possible, negatives)
        pixels = (positives + negatives).float()
        return (losses * looked_at).sum(1), pixels, pixels > 0

    @staticmethod
    def _distance(thresh: Tensor, wanted: Tensor, inside: Tensor) -> tuple[Tensor, ...]:
        """Distance inside dilated polygons."""
        area = inside.sum(1)
        return ((thresh - wanted).abs() * inside).sum(1), area, area > 0

    @staticmethod
    def _dice(binary: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """1 - 2 I / U of the binary map with text."""
        both, area = (binary * text).sum(1), text.sum(1)
        either = (binary * mask).sum(1) + area + _EPSILON
        return either - 2 * both, either, area > 0


def _over_processes(sums: Tensor) -> Tensor:
    """Sums over all processes. Their gradient is that of this process's share.

    As gradients are then averaged over processes, each share counts as often as there are any.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return sums
    total = sums.detach().clone()
    distributed.all_reduce(total)
    return total + distributed.get_world_size() * (sums - sums.detach())
