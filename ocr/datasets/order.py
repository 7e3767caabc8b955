"""Which samples make which batch, for every epoch and rank: nothing but arithmetic."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

_MINGLE = 0.5  # how far, in kinds, left-over samples may pass the border to the next kind


@dataclass(frozen=True)
class Mixing:
    """How the samples of an epoch were mixed when it was begun; all 0 if as a whole.

    window: shards that are mixed. shards: checksum of how many samples each shard holds.
    """

    window: int = 0
    shards: int = 0

    @classmethod
    def of(cls, window: int, shards: np.ndarray) -> Mixing:
        """That of windows of so many shards; 0 for none."""
        return cls(window, zlib.crc32(shards.astype("<i8").tobytes())) if window else cls()


@dataclass(frozen=True)
class BatchOrder:
    """The batches of every epoch.

    The samples of an epoch are in one order, the same everywhere for the same seed and epoch. A
    step takes the next batch_size * world_size of them, a batch for each rank, so that it sees the
    same samples however many ranks share it, and what has been seen of an epoch is the beginning of
    its order, whatever the batches were. The last step takes what is left: when shuffling, equal
    parts of it, and up to world_size - 1 samples that make no equal parts are left out.

    With kinds, samples of one kind follow each other in groups (see `grouped`), so that a step
    whose size is that of a group finds samples that are alike. The order then depends on the size
    of the groups too, and on nothing else: whoever goes on with an epoch in other batches names the
    group that it was begun with, and what has been seen is still its beginning.

    With a window, an epoch takes the samples of so many shards, mixes them, and goes on to the next
    shards, so that whoever reads whole shards reads each of them once. Shuffled, the shards come in
    another order in each epoch. Kinds are grouped within windows, and what makes no whole group of
    a window is grouped with the next. So the order depends on window and shards too.

    samples: how many there are. shuffle: in another order in each epoch, for training. kinds: int64
    (samples,), the kind of each sample, neighbouring numbers being alike; none if all are. window:
    shards that are mixed; 0 for all. shards: int64, the samples of each shard, in order.
    """

    samples: int
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    kinds: np.ndarray | None = field(default=None, compare=False)
    window: int = 0
    shards: np.ndarray | None = field(default=None, compare=False)

    def steps(
        self, epoch: int, world_size: int = 1, seen: int = 0, group: int | None = None
    ) -> list[np.ndarray]:
        """Sample indices of all ranks' batches of each step, int64 arrays.

        seen: samples of the epoch that ranks have seen already, and that come no more. group: the
        size of the groups of this epoch; by default that of a step.
        """
        block = self.batch_size * world_size
        order = self._epoch(epoch, group or block)[seen:]
        if self.shuffle:
            order = order[: len(order) // world_size * world_size]
        return [order[start : start + block] for start in range(0, len(order), block)]

    def batches(
        self,
        epoch: int,
        rank: int = 0,
        world_size: int = 1,
        seen: int = 0,
        group: int | None = None,
    ) -> list[np.ndarray]:
        """Sample indices of each of a rank's batches, int64 arrays: its part of each step.

        seen, group: as of `steps`.
        The ranks' batches are disjoint. When shuffling there are equally many for each rank, and
        each is as large as those of the other ranks. In order, together they hold every sample; a
        rank that has none in the last step lacks that batch, or gets an empty one if it is its
        only one, so that each takes part in what they do together.
        """
        steps = self.steps(epoch, world_size, seen, group)
        parts = [np.array_split(step, world_size)[rank] for step in steps]
        return [part for part in parts if len(part)] or parts[:1]

    def length(self, rank: int = 0, world_size: int = 1, seen: int = 0) -> int:
        """How many batches a rank has in an epoch, or in what is left of one."""
        left = max(0, self.samples - seen)
        whole, rest = divmod(left, self.batch_size * world_size)
        if self.shuffle:
            return whole + (rest >= world_size)
        batches = whole + (rank < rest)
        return batches or int(left > 0)

    def _epoch(self, epoch: int, group: int) -> np.ndarray:
        """Every sample of an epoch, in order."""
        random = np.random.default_rng([self.seed, epoch]) if self.shuffle else None
        order = np.arange(self.samples) if random is None else random.permutation(self.samples)
        if not self.window or self.shards is None:
            return order if self.kinds is None else grouped(order, self.kinds, group, random)
        turns = np.arange(len(self.shards))
        turns = turns if random is None else random.permutation(turns)
        window = np.repeat(turns // self.window, self.shards)
        order = order[np.argsort(window[order], kind="stable")]
        if self.kinds is None:
            return order
        windows = np.split(order, np.cumsum(np.bincount(window))[:-1])
        return grouped_in_turn(windows, self.kinds, group, random)


def grouped(
    order: np.ndarray, kinds: np.ndarray, group: int, random: np.random.Generator | None = None
) -> np.ndarray:
    """An order in which groups of one kind follow each other.

    order: sample indices, int64 (n,). kinds: the kind of each sample by its index; neighbouring
    numbers are alike. group: samples a group. random: without it kinds and samples keep their
    order.
    Each kind gives as many whole groups as it can, and what is left over of the kinds makes groups
    with its neighbours. The last samples, fewer than a group, come from among what is left over.
    With random, so that the same samples do not meet in every epoch: a kind holds some samples
    back, left-over samples of neighbouring kinds mingle at their borders, the last samples are from
    anywhere among these, and groups come in any order.
    """
    order = order[np.argsort(kinds[order], kind="stable")]
    of = kinds[order]
    count = np.bincount(of)
    held = np.zeros_like(count) if random is None else random.integers(0, group, len(count))
    whole = np.maximum(count - held, 0) // group * group
    place = np.arange(len(order)) - (np.cumsum(count) - count)[of]
    complete = place < whole[of]
    groups, left = order[complete].reshape(-1, group), order[~complete]
    slot, short = len(left) // group, len(left) % group
    if random is not None:
        mingled = kinds[left] + random.random(len(left)) * (1 + _MINGLE)
        left = left[np.argsort(mingled, kind="stable")]
        slot = int(random.integers(slot + 1))
    cut = slice(slot * group, slot * group + short)
    last, left = left[cut], np.delete(left, cut)
    groups = np.concatenate([groups, left.reshape(-1, group)])
    if random is not None:
        groups, last = random.permutation(groups), random.permutation(last)
    return np.concatenate([groups.ravel(), last])


def grouped_in_turn(
    windows: Sequence[np.ndarray],
    kinds: np.ndarray,
    group: int,
    random: np.random.Generator | None = None,
) -> np.ndarray:
    """As `grouped`, one window of samples after the other.

    The samples of a window that make no whole group are grouped with those of the next.
    """
    parts, rest = [], np.zeros(0, np.int64)
    for samples in windows:
        order = grouped(np.concatenate([rest, samples]), kinds, group, random)
        whole = len(order) // group * group
        parts.append(order[:whole])
        rest = order[whole:]
    return np.concatenate([*parts, rest])
