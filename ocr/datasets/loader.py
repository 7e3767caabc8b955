"""Batches from a dataset, made by threads in this process."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import joblib
import numpy as np
import torch
import torch.distributed

from ocr.datasets.buffers import BatchBuffers
from ocr.datasets.order import BatchOrder
from ocr.datasets.samples import SampleDataset
from ocr.datasets.trim import Groups, TrimmedSizes, check_trim
from ocr_precompute.runtime.stages import waited_for

# The fields besides maps that have one shape for all.
_STACKED = {"matrix": (np.float64, (3, 3)), "original_size": (np.int64, (2,))}


class SampleError(RuntimeError):
    """A sample could not be loaded; names it. The reason is also the exception's cause."""


class EpochSampler:
    """Which epoch comes next; trainers that know samplers set it through this."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch


@dataclass(frozen=True, eq=False)
class _Batch:
    """A batch under way: its maps, the rest of each sample, and the work that fills both."""

    maps: dict[str, torch.Tensor]
    rest: list[dict[str, Any]]
    work: list[Future[None]]


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

    Works as a train or validation dataloader of Lightning. Under torch.distributed each rank gets
    its share of every epoch (see BatchOrder).
    """

    batch_sampler = None  # Lightning looks for it beside `sampler`

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
    ) -> None:
        """Make a loader; nothing runs until it is iterated over.

        trim: to what height and width of batches are rounded up, a multiple of 32; none or 0 leaves
        all padding there. threads: one a core by default. prefetch: batches under way ahead of the
        one in use. rank, world_size: those of torch.distributed by default. pin_memory: page-locked
        memory; by default if there is a CUDA device.
        Raises ValueError if a number is out of range.
        """
        threads = joblib.cpu_count() if threads is None else threads
        numbers = {"batch_size": batch_size, "threads": threads, "prefetch": prefetch}
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        check_trim(trim or 0)
        if (rank is None) != (world_size is None):
            raise ValueError("give rank and world_size together, or neither")
        if rank is not None and world_size is not None and not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of {world_size}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.threads = threads
        self.sampler = EpochSampler()
        self._seed = seed
        self._trim = trim or 0
        self._order = BatchOrder(len(dataset), batch_size, shuffle, seed)
        self._trimmed: dict[int, TrimmedSizes] = {}  # by what they are rounded to
        self._prefetch = prefetch
        self._place = None if rank is None or world_size is None else (rank, world_size)
        pinned = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._left_at: Mapping[str, int] = {}  # a loaded state
        self._begun = Groups()  # of the epoch that _seen belongs to
        self._seen = 0  # samples that all ranks together have been handed of this epoch
        self._buffers = BatchBuffers(dataset.layout, batch_size, pinned)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, and so the order, of the next iteration.

        It advances by one whenever an epoch has been iterated over to its end.
        """
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches in a whole epoch of this rank."""
        return self._order.length(*self._rank())

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
        order, group = self._order, None
        if self._begun.group:
            order = replace(order, kinds=self._sizes(self._begun.trim).kinds())
            group = self._begun.group
        batches = order.batches(epoch, rank, world_size, self._seen, group)
        sizes = self._step_sizes(order.steps(epoch, world_size, self._seen, group))
        coming = self._run(self.dataset.at_epoch(epoch), batches, sizes)
        for batch in waited_for(coming, "loader"):
            self._seen = min(self._seen + self.batch_size * world_size, len(self.dataset))
            yield batch
            del batch  # or it would be held while the next is made
        self.sampler.epoch = epoch + 1
        self._seen = 0

    def state_dict(self) -> dict[str, int]:
        """Where the loader is: the epoch, and how many of its samples all ranks have been handed;
        and what its order follows from: the seed, the number of samples, and within an epoch of
        groups those with which it was begun: `trim`, `group`, and a checksum of `sizes`.
        """
        epoch, seen = self.sampler.epoch, self._seen
        if self._order.length(*self._rank(), seen) == 0:  # whether or not more was asked for
            epoch, seen = epoch + 1, 0
        state = {"epoch": epoch, "seen": seen, "seed": self._seed, "samples": len(self.dataset)}
        return state | (asdict(self._begun) if seen and self._begun.group else {})

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from where another loader was: the next iteration begins with what it had left.

        An epoch that was begun is gone on with in its own order, whatever batches and trim are now.
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
        self._left_at, self._begun = state, begun
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

    def _run(
        self,
        dataset: SampleDataset,
        batches: Sequence[np.ndarray],
        sizes: Sequence[tuple[int, int]],
    ) -> Iterator[dict[str, Any]]:
        stop = threading.Event()
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="batch-loader")
        try:
            coming = (
                self._start(
                    pool, stop, dataset, indices.tolist(), size, self._parts(len(batches) - number)
                )
                for number, (indices, size) in enumerate(zip(batches, sizes, strict=False))
            )
            under_way = deque(itertools.islice(coming, self._prefetch))
            while under_way:
                first = self._finish(under_way.popleft())
                under_way.extend(itertools.islice(coming, 1))
                yield first
                del first  # or the batch would be held while the next is made
        finally:  # also when the caller stops in the middle, or is interrupted
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _parts(self, left: int) -> int:
        """Into how many tasks a batch is cut when so many are left of the epoch.

        As few as keep every thread busy, for the fewer there are, the less threads wait for each
        other; at the end of an epoch that takes more.
        """
        return self.threads if left < self.threads else -(-self.threads // self._prefetch)

    def _start(
        self,
        pool: ThreadPoolExecutor,
        stop: threading.Event,
        dataset: SampleDataset,
        indices: list[int],
        size: tuple[int, int],
        parts: int,
    ) -> _Batch:
        maps = self._buffers.take(len(indices), size)
        arrays = {field: tensor.numpy() for field, tensor in maps.items()}
        rest: list[dict[str, Any]] = [{} for _ in indices]

        def fill(part: slice) -> None:
            if stop.is_set():
                return
            out = {field: array[part] for field, array in arrays.items()}
            try:
                rest[part] = dataset.fill(indices[part], out)
            except Exception as error:
                raise self._sample_error(dataset, indices[part], error) from error

        parts = max(1, min(parts, len(indices)))
        bounds = [len(indices) * part // parts for part in range(parts + 1)]
        work = [pool.submit(fill, slice(*part)) for part in itertools.pairwise(bounds)]
        return _Batch(maps, rest, work)

    def _sample_error(
        self, dataset: SampleDataset, indices: list[int], error: Exception
    ) -> SampleError:
        """What goes wrong with a batch, as an error of the sample at fault."""
        for index in indices:
            try:
                dataset[index]
            except Exception as reason:
                failed = SampleError(f"sample {self._name(index)}: {reason}")
                failed.__cause__ = reason
                return failed
        return SampleError(f"one of samples {indices}: {error}")

    def _name(self, index: int) -> str:
        try:
            return repr(self.dataset.names[index])
        except Exception:  # the names are damaged too; the error that is reported says how
            return f"number {index}"

    def _finish(self, batch: _Batch) -> dict[str, Any]:
        for work in batch.work:
            work.result()
        return {
            field: batch.maps[field] if field in batch.maps else self._gather(batch, field)
            for field in self.dataset.fields
        }

    def _gather(self, batch: _Batch, field: str) -> Any:
        values = [rest[field] for rest in batch.rest]
        if field not in _STACKED:
            return values
        dtype, shape = _STACKED[field]
        return torch.from_numpy(np.array(values, dtype).reshape(-1, *shape))
