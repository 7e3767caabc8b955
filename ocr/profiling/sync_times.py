"""How long processes take to bring their gradients together."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from ocr.profiling.device import covered


class SyncTimes:
    """Clocks the all-reduce of every bucket of gradients of a DistributedDataParallel model.

    Gradients are averaged as they are without it. Buckets are sent while the backward pass goes on,
    so that this is the time under way and not the time lost.
    """

    def __init__(self, model: DistributedDataParallel) -> None:
        self._spans: list[tuple[float, float]] = []
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._group = model.process_group
        # A lambda: PyTorch compares annotations with types, and these are strings.
        model.register_comm_hook(self, lambda times, bucket: times.reduce(bucket))

    def take(self) -> float:
        """Seconds since the last call in which at least one bucket was under way."""
        for first, last in self._events:
            last.synchronize()
            begun = self._spans[-1][1] if self._spans else 0.0
            self._spans.append((begun, begun + first.elapsed_time(last) / 1000))
        total = covered(self._spans)
        self._spans, self._events = [], []
        return total

    def reduce(self, bucket: Any) -> torch.futures.Future[Tensor]:
        """Average one bucket, and note how long it takes."""
        if bucket.buffer().is_cuda:
            return self._reduce_on_device(bucket)
        start = time.perf_counter()

        def done(future: torch.futures.Future[Tensor]) -> Tensor:
            self._spans.append((start, time.perf_counter()))
            return future.value()

        return allreduce_hook(self._group, bucket).then(done)

    def _reduce_on_device(self, bucket: Any) -> torch.futures.Future[Tensor]:
        first = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        last = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        first.record()

        def done(future: torch.futures.Future[Tensor]) -> Tensor:
            last.record()  # on the stream that waits for the reduction
            self._events.append((first, last))
            return future.value()

        return allreduce_hook(self._group, bucket).then(done)
