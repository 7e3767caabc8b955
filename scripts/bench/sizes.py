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
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from common import add_out, environment, markdown_table, megabytes, write_report

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


def rows(arguments: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """A row for each size. Sizes take turns, seed by seed."""
    stores = {size: built(arguments, size) for size in arguments.sizes}
    found: dict[int, list[Trained]] = {size: [] for size in stores}
    for seed in arguments.seeds:
        for size, (store, _) in stores.items():
            found[size].append(trained(arguments, store, seed))
            print(size, seed, found[size][-1], file=sys.stderr)
    for size, (store, share) in stores.items():
        stored = sum(path.stat().st_size for path in store.rglob("*.zip"))
        hmeans = [each.hmean for each in found[size]]
        spread = f"{min(hmeans):.3f} to {max(hmeans):.3f}"
        took = statistics.median(each.sample for each in found[size])
        mean = f"{statistics.mean(hmeans):.3f}"
        yield size, f"{100 * share:.1f} %", megabytes(stored), f"{took:.0f}", mean, spread


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """The table."""
    network = "a small network" if arguments.small else "ResNet-18"
    trained = f"{arguments.epochs} epochs of whole pages, trim {arguments.trim}"
    yield f"# Canonical sizes, {network}, {trained}"
    yield ""
    yield from environment(("torch",))
    yield ""
    heads = ("size", "words that train", "store", "ms a training sample", "H-mean", "over seeds")
    yield markdown_table(heads, rows(arguments))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for split in ("train", "val"):
        parser.add_argument(f"--{split}", nargs=2, required=True, metavar=("IMAGES", "ANNOTATIONS"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[640, 1024])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--trim", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--small", action="store_true", help="train a small network")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument(
        "--scratch",
        type=Path,
        default=Path(tempfile.gettempdir()) / "ocr-precompute-sizes",
        help="folder for the stores; kept for the next run",
    )
    add_out(parser)
    arguments = parser.parse_args()
    write_report(report(arguments), arguments.out)


if __name__ == "__main__":
    main()
