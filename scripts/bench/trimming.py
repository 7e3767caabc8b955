#!/usr/bin/env python3
"""What trimmed batches save: pixels, time of a validation and of whole-page steps, and H-mean.

Pixels are counted over the batches of whole epochs, left-over ones included, as a share of those of
batches at canonical size. With a checkpoint each split is validated trimmed and not, in turn, and
trained on for a few steps (forward, loss, backward) on whole pages; times are medians of rounds.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning
from common import add_out, environment, markdown_table, medians, write_report

from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.data_module import DetectionData
from ocr.datasets.samples import TRAINING
from ocr.inference.postprocess import PostProcess
from ocr.lightning_modules import TextDetector
from ocr.models import DBLoss
from ocr.models.checkpoint import read_checkpoint, saved_settings
from ocr_precompute.runtime.clock import in_turn

SIZES = (8, 16)  # of batches


def pixel_share(dataset: StoreDataset, trim: int, batch_size: int, *, shuffle: bool) -> float:
    """Pixels of the batches of an epoch, on average over some, against those of whole samples."""
    loader = BatchLoader(dataset, batch_size, shuffle=shuffle, trim=trim)
    shapes = [b["image"].shape for _ in range(10 if shuffle else 1) for b in loader]
    height, width = dataset.parameters.size
    pixels, samples = sum(n * h * w for n, h, w, _ in shapes), sum(n for n, *_ in shapes)
    return float(pixels / (height * width * samples))


def pixel_rows(arguments: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """Rows of the table of pixels."""
    for split, trim in itertools.product(arguments.splits, filter(None, arguments.trims)):
        dataset = StoreDataset(arguments.store, split, ("image",))
        content = dataset.content_sizes.prod(axis=1).mean() / (
            dataset.parameters.size[0] * dataset.parameters.size[1]
        )
        shares = [
            pixel_share(dataset, trim, batch_size, shuffle=shuffle)
            for batch_size in SIZES
            for shuffle in (False, True)
        ]
        yield split, len(dataset), trim, *(f"{100 * share:.1f} %" for share in (content, *shares))


def detector_of(checkpoint: Path) -> TextDetector:
    """The detector of a checkpoint."""
    saved = read_checkpoint(checkpoint)
    settings: dict[str, Any] = saved_settings(saved, str(checkpoint))
    settings["postprocess"] = PostProcess(**settings.get("postprocess", {}))
    detector = TextDetector(**settings)
    detector.load_state_dict(saved["state_dict"])
    return detector


def validation(
    arguments: argparse.Namespace, detector: TextDetector, split: str, trim: int
) -> dict[str, float]:
    """Metrics of a validation as `ocr-train validate` does it."""
    trainer = lightning.Trainer(
        accelerator=arguments.accelerator,
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = DetectionData(arguments.store, split, split, batch_size=arguments.batch_size, trim=trim)
    (metrics,) = trainer.validate(detector, data, verbose=False)
    return {name: float(value) for name, value in metrics.items()}


def steps(arguments: argparse.Namespace, detector: TextDetector, split: str, trim: int) -> None:
    """An epoch of whole-page steps, at most so many, in the loader's own order."""
    network, loss = detector.model.train(), DBLoss()
    dataset = StoreDataset(arguments.store, split, TRAINING)
    loader = BatchLoader(dataset, arguments.batch_size, shuffle=True, trim=trim)
    for batch in itertools.islice(loader, arguments.steps):
        loss(network(batch["image"]), batch).total.backward()  # type: ignore[no-untyped-call]
        network.zero_grad()


def time_rows(arguments: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """Rows of the table of times and H-means."""
    detector = detector_of(arguments.ckpt_path)
    for split in arguments.splits:
        found: dict[int, dict[str, float]] = {}

        def validated(trim: int, split: str = split, found: Any = found) -> None:
            found[trim] = validation(arguments, detector, split, trim)

        tasks: dict[str, Callable[[], object]] = {}
        for trim in arguments.trims:
            tasks[f"validation {trim}"] = partial(validated, trim)
            if arguments.steps:
                tasks[f"steps {trim}"] = partial(steps, arguments, detector, split, trim)
        times = medians(in_turn(tasks, arguments.rounds, lambda *t: print(*t, file=sys.stderr)))
        for name, took in times.items():
            kind, number = name.split()
            share = took / times[f"{kind} {arguments.trims[0]}"]
            hmean = f"{found[int(number)]['val/hmean']:.4f}" if kind == "validation" else ""
            yield split, kind, number, f"{took / 1000:.1f}", f"{share:.2f}", hmean


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """The tables."""
    yield "# Trimmed batches"
    yield ""
    yield from environment(("torch",))
    yield ""
    heads = ["split", "samples", "trim", "content"]
    heads += [f"{size}, {order}" for size in SIZES for order in ("in order", "shuffled")]
    yield markdown_table(heads, pixel_rows(arguments))
    if arguments.ckpt_path is None:
        return
    yield ""
    yield f"{arguments.batch_size} samples a batch, {arguments.steps} steps at most."
    yield ""
    heads = ["split", "work", "trim", "s", f"against trim {arguments.trims[0]}", "H-mean"]
    yield markdown_table(heads, time_rows(arguments))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("splits", nargs="+", help="splits of the store")
    parser.add_argument("--store", default="data/store")
    parser.add_argument("--ckpt-path", type=Path)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--trims", type=int, nargs="+", default=[0, 32, 64])
    parser.add_argument("--steps", type=int, default=100, help="0 for no training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accelerator", default="cpu")
    add_out(parser)
    arguments = parser.parse_args()
    write_report(report(arguments), arguments.out)


if __name__ == "__main__":
    main()
