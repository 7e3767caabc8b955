"""Which samples make which batch, for every epoch and rank: nothing but arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BatchOrder:
    """The batches of every epoch.

    A block of batch_size * world_size samples is cut into one batch a rank, so that a step sees the
    same samples however many ranks share it. What is left at the end is shared out as evenly as
    can be.

    samples: how many there are. shuffle: in another order each epoch, the same for the same seed
    and epoch everywhere. drop_last: leave out the samples that fill no block.
    """

    samples: int
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    drop_last: bool = False

    def batches(self, epoch: int, rank: int = 0, world_size: int = 1) -> list[np.ndarray]:
        """Sample indices of each of a rank's batches, int64 arrays.

        The ranks' batches are disjoint. Together they hold every sample once, save what drop_last
        leaves out, and when shuffling up to world_size - 1 samples that could not give each rank
        one: ranks that train together need equal numbers of batches. In order, a rank that has no
        sample gets an empty batch, so that each takes part in what they do together.
        """
        order = np.arange(self.samples)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
        block = self.batch_size * world_size
        whole = self.samples // block * block
        batches = [
            order[start : start + self.batch_size]
            for start in range(rank * self.batch_size, whole, block)
        ]
        rest = order[whole:]
        if len(rest) and not self.drop_last and not (self.shuffle and len(rest) < world_size):
            share = np.array_split(rest, world_size)[rank]
            batches += [share] if len(share) or not (batches or self.shuffle) else []
        return batches

    def length(self, rank: int = 0, world_size: int = 1) -> int:
        """How many batches a rank has in an epoch."""
        whole, rest = divmod(self.samples, self.batch_size * world_size)
        if self.drop_last or (self.shuffle and rest < world_size):
            return whole
        batches = whole + (rank < rest)
        return batches or int(self.samples > 0 and not self.shuffle)
