"""Batches from a dataset, made by threads in this process."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import joblib
import numpy as np
import torch
import torch.distributed

from ocr.datasets.buffers import BatchBuffers
from ocr.datasets.order import BatchOrder, Mixing
from ocr.datasets.samples import SampleDataset
from ocr.datasets.trim import Groups, TrimmedSizes, check_trim
from ocr.datasets.tuning import Pace, Setting, TunedPace, most_setting
from ocr.datasets.under_way import make_batches
from ocr_precompute.runtime.stages import waited_for


class EpochSampler:
    """Which epoch comes next; trainers that know samplers set it through this."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch


class BatchLoader:
    """An epoch of batches a time: dicts with a tensor a map, images in uint8 as they are stored.

    Threads decompress samples straight into the batch. They wait for no interpreter lock meanwhile,
    and nothing is sent between processes, which for such samples costs more than decoding them.
    `matrix` and `original_size` are stacked to tensors too; `name`, `polygons` and `ignore` are
    lists, one entry a sample.

    In order every sample comes once. Shuffled, every sample comes once except at most
    world_size - 1, in the same number of batches for each rank; and a loader that goes on from the
    state of another, with whatever batch size and number of ranks, gives exactly the samples that
    were not yet seen.

    With trim no batch has padding that none of its samples needs: what all of them leave free at
    the bottom and right is cut off, coordinates staying as they are, and samples of like content
    share batches (see BatchOrder), so that samples also come in another order. All else stays: what
    is left of an epoch too is the same with other batches, ranks, or trim. It asks the dataset for
    its content_sizes; where these are all of the sample, as those of crops, nothing changes.

    With a window, samples are mixed within so many shards and not over all of an epoch (see
    BatchOrder), so that each shard is read once. A dataset with a cache fetches shards ahead, in
    the order of the epoch.

    Works as a train or validation dataloader of Lightning. Under torch.distributed each rank gets
    its share of every epoch (see BatchOrder).
    """

    batch_sampler = None  # Lightning looks for it beside `sampler`
    _MEMORY = 2**31  # bytes that batches may take where their number is searched for

    def __init__(
        self,
        dataset: SampleDataset,
        batch_size: int = 16,
        *,
        shuffle: bool = False,
        trim: int | None = None,
        threads: int | None = None,
        seed: int = 0,
        prefetch: int = 4,
        rank: int | None = None,
        world_size: int | None = None,
        pin_memory: bool | None = None,
        cores: int | None = None,
        tune: bool = False,
        window: int = 0,
    ) -> None:
        """Make a loader; nothing runs until it is iterated over.

        trim: to what height and width of batches are rounded up, a multiple of 32; none or 0 leaves
        all padding there. threads: one a core by default. prefetch: batches under way ahead of the
        one in use. rank, world_size: those of torch.distributed by default. pin_memory: page-locked
        memory; by default if there is a CUDA device. cores: that this process may use; all by
        default. tune: search, from threads and prefetch on, for those that suit best (see
        ocr.datasets.tuning); the batches stay the same. window: shards whose samples are mixed; 0
        for all.
        Raises ValueError if a number is out of range.
        """
        cores = int(joblib.cpu_count()) if cores is None else cores
        threads = cores if threads is None else threads
        numbers = {"batch_size": batch_size, "threads": threads, "prefetch": prefetch}
        numbers["cores"] = cores
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        check_trim(trim or 0)
        if window < 0:
            raise ValueError(f"window is {window}; it must be at least 1, or 0 for all shards")
        if (rank is None) != (world_size is None):
            raise ValueError("give rank and world_size together, or neither")
        if rank is not None and world_size is not None and not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of {world_size}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.sampler = EpochSampler()
        self._seed, self._trim, self._window = seed, trim or 0, window
        self._order = BatchOrder(len(dataset), batch_size, shuffle, seed)
        self._trimmed: dict[int, TrimmedSizes] = {}  # by what they are rounded to
        self._pace = Pace(Setting(threads, prefetch))
        self._place = None if rank is None or world_size is None else (rank, world_size)
        pinned = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._left_at: Mapping[str, int] = {}  # a loaded state
        self._begun, self._mixing = Groups(), Mixing()  # of the epoch that _seen belongs to
        self._seen = 0  # samples that all ranks together have been handed of this epoch
        self._buffers = BatchBuffers(dataset.layout, batch_size, pinned)
        if tune:
            sample = sum(dtype.itemsize * math.prod(s) for dtype, s in dataset.layout.values())
            most = most_setting(cores, batch_size * sample, self._MEMORY)
            self._pace = TunedPace(self._pace.setting, most, cores)

    @property
    def threads(self) -> int:
        """Threads that fill batches, now."""
        return self._pace.setting.threads

    @property
    def prefetch(self) -> int:
        """Batches under way ahead of the one in use, now."""
        return self._pace.setting.prefetch

    @property
    def settled(self) -> bool:
        """Whether these stay as they are; false while they are searched for."""
        return self._pace.settled

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, and so the order, of the next iteration.

        It advances by one whenever an epoch has been iterated over to its end.
        """
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches in a whole epoch of this rank."""
        return self._order.length(*self._rank())

    @property
    def memory(self) -> dict[str, object]:
        """What loader and dataset hold in memory, by what it is, between two epochs."""
        return {**self.dataset.memory, "loader": self}

    @property
    def place(self) -> int:
        """Batches of the epoch that lie behind, if all of it was cut as it is now."""
        return len(self) - self._order.length(*self._rank(), self._seen)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches of one epoch. Raises SampleError when the batch of a bad sample is asked for."""
        epoch = self.sampler.epoch
        state, self._left_at = self._left_at, {}
        self._seen = state.get("seen", 0) if state.get("epoch") == epoch else 0
        rank, world_size = self._rank()
        if not self._seen:
            step = self.batch_size * world_size
            self._begun = self._sizes(self._trim).groups(step) if self._trim else Groups()
            self._mixing = Mixing.of(self._window, self.dataset.shards)
        order, group, window = self._order, None, self._mixing.window
        if window:
            order = replace(order, window=window, shards=self.dataset.shards)
        if self._begun.group:
            order = replace(order, kinds=self._sizes(self._begun.trim).kinds())
            group = self._begun.group
        batches = order.batches(epoch, rank, world_size, self._seen, group)
        sizes = self._step_sizes(order.steps(epoch, world_size, self._seen, group))
        dataset = self.dataset.at_epoch(epoch)
        coming = make_batches(dataset, self._buffers, batches, sizes, self._pace)
        with dataset.reading_ahead(np.concatenate([[], *batches]).astype(np.int64), window or 1):
            for batch in waited_for(coming, "loader"):
                self._seen = min(self._seen + self.batch_size * world_size, len(self.dataset))
                yield batch
                del batch  # or it would be held while the next is made
        self.sampler.epoch = epoch + 1
        self._seen = 0

    def state_dict(self) -> dict[str, int]:
        """Where the loader is: the epoch, and how many of its samples all ranks have been handed;
        and what its order follows from: the seed, the number of samples, and within an epoch of
        groups those with which it was begun: `trim`, `group`, and a checksum of `sizes`; within one
        of windows `window` and a checksum of `shards`.
        """
        epoch, seen = self.sampler.epoch, self._seen
        if self._order.length(*self._rank(), seen) == 0:  # whether or not more was asked for
            epoch, seen = epoch + 1, 0
        state = {"epoch": epoch, "seen": seen, "seed": self._seed, "samples": len(self.dataset)}
        if seen and self._mixing.window:
            state |= asdict(self._mixing)
        return state | (asdict(self._begun) if seen and self._begun.group else {})

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from where another loader was: the next iteration begins with what it had left.

        An epoch that was begun is gone on with in its own order, whatever batches, trim and window
        are now.
        Raises ValueError if the other's order is not this one's.
        """
        for name, has in (("seed", self._seed), ("samples", len(self.dataset))):
            if state.get(name) != has:
                raise ValueError(f"{name} is {has}, and was {state.get(name)} before")
        begun = Groups(*(state.get(name, 0) for name in ("trim", "group", "sizes")))
        if begun.group and self._sizes(begun.trim).checksum() != begun.sizes:
            raise ValueError(
                "the samples' content is of other sizes than before, and so is the order of the "
                "epoch that was begun"
            )
        mixing = Mixing(state.get("window", 0), state.get("shards", 0))
        if mixing != Mixing.of(mixing.window, self.dataset.shards):
            raise ValueError(
                "the samples lie in other shards than before, and so the order of the epoch that "
                "was begun is another"
            )
        self._left_at, self._begun, self._mixing = state, begun, mixing
        self.sampler.epoch, self._seen = state["epoch"], state["seen"]

    def _sizes(self, trim: int) -> TrimmedSizes:
        if trim not in self._trimmed:
            self._trimmed[trim] = TrimmedSizes(self.dataset, trim)
        return self._trimmed[trim]

    def _rank(self) -> tuple[int, int]:
        if self._place is not None:
            return self._place
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def _step_sizes(self, steps: Sequence[np.ndarray]) -> list[tuple[int, int]]:
        """Height and width of the batches of each step, the same for all ranks: the time of a step
        is that of the largest anyway, and so it sees the same pixels however many ranks share it.
        """
        if not self._trim:
            return [self.dataset.parameters.size] * len(steps)
        return [self._sizes(self._trim).largest(step) for step in steps]
