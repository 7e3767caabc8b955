#!/usr/bin/env python3
"""What a larger canonical size gains and costs when whole pages are trained on, batches trimmed.

For each size: the words that are large enough to train, bytes of the store, time of a sample in
training, and H-mean for each seed. H-mean counts all words that the annotation counts, at either
size. The pages are varied in colour alone, so that all of them can be trimmed. --small trains a
network of a tenth of the work, for machines without a GPU.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment
from measuring.results import Cell, Column, Result, Table

from ocr.datasets.data_module import DetectionData
from ocr.datasets.transforms import Augmentation
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.callbacks import Performance
from ocr_precompute import Settings, Source, build

SMALL = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "out_indices": [1, 2, 3, 4],
}
"""A backbone of a quarter of ResNet-18's channels and half of its blocks."""


@dataclass(frozen=True)
class Trained:
    """Of one training: H-mean, and milliseconds of a training sample."""

    hmean: float
    sample: float


def built(arguments: argparse.Namespace, size: int) -> tuple[Path, float]:
    """A store of both splits at a size, and the share of training words that train."""
    settings = Settings(store=arguments.scratch / f"store-{size}", size=(size, size))
    shares = []
    for split in ("train", "val"):
        images, annotations = getattr(arguments, split)
        source = Source(images=Path(images), annotations=Path(annotations))
        understood = build(split, source, settings).understood
        shares.append(understood.trained / max(1, understood.words))
    return Path(settings.store), shares[0]


def trained(arguments: argparse.Namespace, store: Path, seed: int) -> Trained:
    """A training on whole pages, validated once at its end."""
    lightning.seed_everything(seed, verbose=False)
    trainer = lightning.Trainer(
        accelerator=arguments.accelerator,
        devices=1,
        precision=arguments.precision,
        max_epochs=arguments.epochs,
        check_val_every_n_epoch=arguments.epochs,
        num_sanity_val_steps=0,
        gradient_clip_val=5.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Performance()],
    )
    data = DetectionData(
        str(store),
        batch_size=arguments.batch_size,
        trim=arguments.trim,
        seed=seed,
        augmentation=Augmentation(colour=0.2),
    )
    network: dict[str, Any] = {"channels": 64}
    if arguments.small:
        network = {"channels": 32, "backbone": "small", "backbone_config": SMALL}
    optimizer = partial(torch.optim.AdamW, lr=arguments.lr, weight_decay=1e-4)
    trainer.fit(TextDetector(**network, optimizer=optimizer), data)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return Trained(metrics["val/hmean"], metrics["time/train_sample"])


def rows(arguments: argparse.Namespace) -> Iterator[tuple[Cell, ...]]:
    """A row for each size. Sizes take turns, seed by seed."""
    stores = {size: built(arguments, size) for size in arguments.sizes}
    found: dict[int, list[Trained]] = {size: [] for size in stores}
    for seed in arguments.seeds:
        for size, (store, _) in stores.items():
            found[size].append(trained(arguments, store, seed))
            say(size, seed, found[size][-1])
    for size, (store, share) in stores.items():
        stored = sum(path.stat().st_size for path in store.rglob("*.zip"))
        hmeans = [each.hmean for each in found[size]]
        took = statistics.median(each.sample for each in found[size])
        yield size, 100 * share, stored / 1e6, took, *hmeans


COLUMNS = (
    Column("size", "px"),
    Column("words that train", "%", 1),
    Column("store of both splits", "MB", 1),
    Column("of training", "ms/sample", 0),
)


def measure(arguments: argparse.Namespace) -> Result:
    """A row for each size."""
    network = "a small network" if arguments.small else "ResNet-18"
    hmeans = (Column(f"H-mean, seed {seed}", "", 3) for seed in arguments.seeds)
    return Result(
        "sizes",
        "What does a larger canonical size gain and cost?",
        environment(("torch",)),
        (Table((*COLUMNS, *hmeans), tuple(rows(arguments))),),
        notes=(f"{network}, {arguments.epochs} epochs of whole pages, trim {arguments.trim}",),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, images=False)
    for split in ("train", "val"):
        options.add_argument(
            f"--{split}", nargs=2, required=True, metavar=("IMAGES", "ANNOTATIONS")
        )
    options.add_argument("--sizes", type=int, nargs="+", default=[640, 1024])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--epochs", type=int, default=60)
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument("--trim", type=int, default=64)
    options.add_argument("--lr", type=float, default=2e-3)
    options.add_argument("--small", action="store_true", help="train a small network")
    options.add_argument("--accelerator", default="auto")
    options.add_argument("--precision", default="32-true")
    add_scratch(options, "ocr-precompute-sizes")
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
