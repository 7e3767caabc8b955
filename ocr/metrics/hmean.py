"""The metric of trainings: ICDAR's counts, summed over all processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from ocr.metrics.icdar import MatchCounts


class DetectionHmean(Metric):
    """Precision, recall and H-mean over all images of all processes, from summed counts."""

    full_state_update = False
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        # Counts, not ratios, are summed, in whole numbers: exact however images are shared out.
        self.add_state("counts", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")
        self.counts: Tensor

    def update(self, counts: MatchCounts) -> None:
        """Add one image."""
        self.counts += torch.tensor(counts, device=self.counts.device)

    def compute(self) -> dict[str, Tensor]:
        """`precision`, `recall` and `hmean`, float32 scalars; each 0 where it is undefined."""
        tally = MatchCounts(*self.counts.tolist()).tally
        named = {"precision": tally.precision, "recall": tally.recall, "hmean": tally.hmean}
        device = self.counts.device
        return {
            name: torch.tensor(value, dtype=torch.float32, device=device)
            for name, value in named.items()
        }
