"""Train a small network, and write what each process saw: run as a script by the tests.

Arguments: a JSON object with the keyword arguments of `train`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from ocr.datasets.data_module import DetectionData
from ocr.datasets.transforms import Augmentation
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.callbacks import (
    BestAndLast,
    Performance,
    Profile,
    ResourceMonitor,
    Resume,
)
from ocr.lightning_modules.checkpoint_io import WholeCheckpointIO

BACKBONE = Path(__file__).with_name("backbone")
"""A ResNet so small that a step takes no time. No stage has fewer than 16 channels: from 8, strided
1 x 1 convolutions of PyTorch 2.13 corrupt memory in backward, on two threads of a processor with
AVX-512, with odd batches."""


class Record(lightning.Callback):
    """Losses, samples and metrics of this process."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.images: list[list[str]] = []  # a digest of each image, a list of them for each step
        self.names: list[str] = []
        self.metrics: dict[str, float] = {}

    def on_train_batch_end(self, trainer, module, outputs, batch, index) -> None:
        self.losses.append(outputs["loss"].item())
        self.images.append(
            [hashlib.sha256(image.cpu().numpy().tobytes()).hexdigest() for image in batch["image"]]
        )

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_validation_batch_end(self, trainer, module, outputs, batch, index, *_) -> None:
        if not trainer.sanity_checking:
            self.names += batch["name"]

    def on_train_start(self, trainer, module) -> None:
        self._started = time.perf_counter()

    def on_train_end(self, trainer, module) -> None:
        self.seconds = time.perf_counter() - self._started

    def on_fit_end(self, trainer, module) -> None:
        self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}


class Stop(lightning.Callback):
    """Ends the training like a lost process would, after some steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def on_train_batch_start(self, trainer, module, batch, index) -> None:
        if trainer.global_step == self._steps:
            raise KeyboardInterrupt


def train(
    out: str,
    data: dict[str, Any],
    model: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    stop_after: int | None = None,
    checkpoint_every: int | None = None,
    ckpt_path: str | None = None,
    last: bool = False,
    monitor: dict[str, Any] | None = None,
    profile: dict[str, Any] | None = None,
    more: list[lightning.Callback] | None = None,
) -> Record:
    """One training; everything in it is decided by its arguments."""
    torch.set_num_threads(1)  # so small a network gains nothing from more
    lightning.seed_everything(0, verbose=False)
    augmentation = Augmentation(**data.pop("augmentation", {}))
    optimizer = partial(torch.optim.AdamW, lr=2e-3, weight_decay=1e-4)
    defaults = {"backbone": str(BACKBONE), "channels": 16, "optimizer": optimizer}
    module = TextDetector(**{**defaults, **(model or {})})
    record = Record()
    times = Performance()
    callbacks: list[lightning.Callback] = [record, times, Resume(), *(more or [])]
    if monitor is not None:
        callbacks.insert(0, ResourceMonitor(times, **monitor))
    if profile is not None:
        callbacks.append(Profile(times, **profile))
    if last:
        callbacks.append(BestAndLast(out))
    if checkpoint_every:
        callbacks.append(
            ModelCheckpoint(
                out,
                "step{step}",
                every_n_train_steps=checkpoint_every,
                save_top_k=-1,
                auto_insert_metric_name=False,
            )
        )
    if stop_after is not None:
        callbacks.append(Stop(stop_after))
    loop = lightning.Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": bool(checkpoint_every) or last,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "callbacks": callbacks,
            **(trainer or {}),
        }
    )
    loop.strategy.checkpoint_io = WholeCheckpointIO()
    try:
        loop.fit(
            module,
            DetectionData(augmentation=augmentation, **data),
            ckpt_path=ckpt_path,
            weights_only=True,
        )
    except (KeyboardInterrupt, SystemExit):
        if stop_after is None:
            raise
    kinds = ("losses", "rates", "images", "names", "metrics")
    seen = {kind: getattr(record, kind) for kind in kinds}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"rank{loop.global_rank}.json").write_text(json.dumps(seen))
    return record


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    train(**json.loads(sys.argv[1]))
