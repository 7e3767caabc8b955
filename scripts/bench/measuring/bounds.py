"""Trainings and builds that are slowed down in one place each, by what bounds them there."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from lightning.pytorch.core.hooks import DataHooks

from ocr.inference.postprocess import PostProcess
from ocr.models import DBNet
from ocr.profiling import sync_times
from ocr_precompute.augmentation import drawing
from ocr_precompute.pipeline import engines, scan
from ocr_precompute.targets import sample

BALLAST = bytes(2_000_000)


def wait(seconds: float) -> None:
    """For something that is not the processor."""
    time.sleep(seconds)


def work(megabytes: int) -> None:
    """On the processor, without holding the interpreter lock."""
    for _ in range(megabytes // 2):
        hashlib.sha256(BALLAST)


def multiply() -> None:
    """On the GPU, tens of ms; it takes no time to hand over."""
    matrix = torch.zeros(8192, 8192, device="cuda")
    for _ in range(3):
        matrix = matrix @ matrix


def copy() -> None:
    """To the GPU, from memory that is not page-locked; tens of ms."""
    pageable().to("cuda")


@functools.cache
def pageable() -> torch.Tensor:
    """512 MiB of the host's memory."""
    return torch.ones(2**27)


@dataclass(frozen=True)
class Bound:
    """A training or a build that is bound by something.

    owner, name: what is slowed down, by `slow`. only: tells which calls are. data: settings of the
    data, or of the build. live: whether samples are computed from their image files. trainer:
    settings of the trainer.
    """

    bottleneck: str
    owner: Any
    name: str
    slow: Callable[[], None]
    only: Callable[..., bool] = lambda *_: True
    data: dict[str, Any] = field(default_factory=dict)
    live: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)

    def slowed(self) -> Any:
        """That it is, within a `with`."""
        original = getattr(self.owner, self.name)

        def slower(*args: Any, **kwargs: Any) -> Any:
            if self.only(*args):
                self.slow()
            return original(*args, **kwargs)

        return mock.patch.object(self.owner, self.name, slower)


def _is_image(path: Path) -> bool:
    return path.suffix in (".jpg", ".png", ".tif")


TRAININGS = (
    Bound("data", drawing, "draw_page", lambda: wait(0.05), data={"threads": 1}),
    Bound("disk", Path, "read_bytes", lambda: wait(0.08), _is_image, {"threads": 1}, live=True),
    Bound("processor", drawing, "draw_page", lambda: work(100), data={"threads": 8}),
    Bound("transfer", DataHooks, "transfer_batch_to_device", lambda: wait(0.05)),
    Bound("compute", DBNet, "forward", lambda: wait(0.08), lambda model, *_: model.training),
    Bound(
        "synchronisation",
        sync_times,
        "allreduce_hook",
        lambda: wait(0.08),
        trainer={"strategy": "ddp"},
    ),
    Bound("validation", DBNet, "forward", lambda: wait(0.15), lambda model, *_: not model.training),
    Bound("post-processing", PostProcess, "__call__", lambda: wait(0.15)),
)

ON_GPU = (
    Bound("transfer", DataHooks, "transfer_batch_to_device", copy),
    Bound("compute", DBNet, "forward", multiply, lambda model, *_: model.training),
)

# On threads, for workers in processes of their own know nothing of what is slowed down here.
THREADS: dict[str, Any] = {"backend": "threading", "jobs": 2}
BUILDS = (
    Bound("processor", sample, "decode", lambda: work(40), data=THREADS),
    Bound("disk", Path, "read_bytes", lambda: wait(0.05), _is_image, THREADS),
    Bound("workers", sample, "decode", lambda: work(20), data={**THREADS, "jobs": 1}),
    Bound("scan", scan, "read_annotations", lambda: work(3000), data=THREADS),
    Bound("start-up", engines, "compile_kernel", lambda: work(8000), data=THREADS),
)


def there(bound: Bound, accelerator: str) -> Bound:
    """What is bound by the same on that accelerator."""
    found = {each.bottleneck: each for each in ON_GPU if accelerator == "gpu"}
    return found.get(bound.bottleneck, bound)
