"""Which samples make which batch, for every epoch and rank: nothing but arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BatchOrder:
    """The batches of every epoch.

    The samples of an epoch are in one order, the same everywhere for the same seed and epoch. A
    step takes the next batch_size * world_size of them, a batch for each rank, so that it sees the
    same samples however many ranks share it, and what has been seen of an epoch is the beginning of
    its order, whatever the batches were. The last step takes what is left: when shuffling, equal
    parts of it, and up to world_size - 1 samples that make no equal parts are left out.

    samples: how many there are. shuffle: in another order in each epoch, for training.
    """

    samples: int
    batch_size: int
    shuffle: bool = False
    seed: int = 0

    def batches(
        self, epoch: int, rank: int = 0, world_size: int = 1, seen: int = 0
    ) -> list[np.ndarray]:
        """Sample indices of each of a rank's batches, int64 arrays.

        seen: samples of the epoch that ranks have seen already, and that come no more.
        The ranks' batches are disjoint. When shuffling there are equally many for each rank, and
        each is as large as those of the other ranks. In order, together they hold every sample, and
        a rank that has no sample gets an empty batch, so that each takes part in what they do
        together.
        """
        order = np.arange(self.samples)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
        order = order[seen:]
        block = self.batch_size * world_size
        whole = len(order) // block * block
        batches = [
            order[start : start + self.batch_size]
            for start in range(rank * self.batch_size, whole, block)
        ]
        rest = order[whole:]
        if self.shuffle:
            rest = rest[: len(rest) // world_size * world_size]
        share = np.array_split(rest, world_size)[rank]
        if len(share) or (len(order) and not batches and not self.shuffle):
            batches.append(share)
        return batches

    def length(self, rank: int = 0, world_size: int = 1, seen: int = 0) -> int:
        """How many batches a rank has in an epoch, or in what is left of one."""
        left = max(0, self.samples - seen)
        whole, rest = divmod(left, self.batch_size * world_size)
        if self.shuffle:
            return whole + (rest >= world_size)
        batches = whole + (rank < rest)
        return batches or int(left > 0)
