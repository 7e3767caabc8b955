"""Validations and short trainings of one network, which take turns: from the store and live."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch.loggers import CSVLogger

from measuring.command import say
from measuring.samples import SPLIT, live_settings
from measuring.trainings import detector_of, trainer, validated
from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.data_module import DetectionData
from ocr.datasets.samples import TRAINING
from ocr.datasets.transforms import Augmentation
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.callbacks import Performance
from ocr.lightning_modules.callbacks.performance import FILE_NAME
from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.clock import in_turn
from ocr_precompute.runtime.footprint import footprint
from ocr_precompute.settings import Settings, Source

VAL = "val"
SIDE = 640
STEPS = 8  # of a training between two validations
PAGES = 40  # of such a validation, about


@dataclass(frozen=True)
class Validations:
    """Validations of one network, in turn.

    seconds: of each round, by what is validated from. hmean: the same, and of a trained network
    with its weights in bfloat16, from the store. samples: of a validation.
    """

    seconds: dict[str, list[float]]
    hmean: dict[str, float]
    samples: int


def add_network(options: argparse.ArgumentParser) -> None:
    """Give a parser what a network is, and the batches that it has."""
    options.add_argument("--ckpt-path", type=Path, help="of a trained network, for H-mean")
    options.add_argument("--backbone", default="resnet-18", help="of all trainings")
    options.add_argument("--channels", type=int, default=64)
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument("--crop", type=int, default=320)


def network(arguments: argparse.Namespace) -> list[str]:
    """What `ocr-train fit` trains, in words of its own."""
    return [
        f"--model.backbone={arguments.backbone}",
        f"--model.channels={arguments.channels}",
        f"--data.batch_size={arguments.batch_size}",
        f"--data.augmentation.crop={arguments.crop}",
    ]


def detector(arguments: argparse.Namespace) -> TextDetector:
    """The network that is validated."""
    if arguments.ckpt_path is not None:
        return detector_of(arguments.ckpt_path)
    torch.manual_seed(0)
    return TextDetector(arguments.backbone, channels=arguments.channels)


def data(arguments: argparse.Namespace, live: str | None = None) -> DetectionData:
    """The training images, and those of the validation, stored or computed live."""
    augmentation = Augmentation(crop=arguments.crop, rotation=5.0, scale=0.3, colour=0.2)
    store, size = str(arguments.scratch / "store"), arguments.batch_size
    return DetectionData(
        store, SPLIT, VAL, live=live, batch_size=size, tune=False, augmentation=augmentation
    )


def build_val(arguments: argparse.Namespace) -> tuple[Source, int]:
    """The split that is validated, beside the other one; where it is from, and its samples."""
    source = Source(images=arguments.val_images, annotations=arguments.val_annotations)
    settings = Settings(store=arguments.scratch / "store", size=(SIDE, SIDE))
    return source, build(VAL, source, settings).samples


def validations(arguments: argparse.Namespace) -> Validations:
    """Whole validations from the store and live; one of each before those that count."""
    source, samples = build_val(arguments)
    store, path = arguments.scratch / "store", arguments.scratch / "live.yaml"
    live = live_settings(store, SIDE, {VAL: source}, path)
    hmean: dict[str, float] = {}
    judge = detector(arguments)

    def validate(name: str, live: str | None) -> None:
        hmean[name] = validated(judge, data(arguments, live), "cpu")["val/hmean"]

    ways = {"live": partial(validate, "live", live), "store": partial(validate, "store", None)}
    found = in_turn(ways, arguments.rounds + 1, say)
    if arguments.ckpt_path is not None:
        judge.model.to(torch.bfloat16)
        validate("bfloat16", None)
    return Validations({name: times[1:] for name, times in found.items()}, hmean, samples)


def trained_epochs(arguments: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Figures of each epoch of a training but the first: a few steps, then a validation."""
    build_val(arguments)
    with tempfile.TemporaryDirectory() as folder:
        new = trainer(
            accelerator="cpu",
            max_epochs=arguments.rounds + 1,
            limit_train_batches=STEPS,
            limit_val_batches=-(-PAGES // arguments.batch_size),
            log_every_n_steps=1,
            enable_checkpointing=False,
            logger=CSVLogger(folder),
            callbacks=[Performance()],
        )
        new.fit(detector(arguments), data(arguments))
        (lines,) = (file.read_text() for file in Path(folder).rglob(FILE_NAME))
    yield from (json.loads(line)["figures"] for line in lines.splitlines()[1:])


def held_of_arrays(arguments: argparse.Namespace) -> float:
    """What a loader holds after an epoch, as a share of its samples in arrays."""
    fields = (*TRAINING, "polygons", "ignore")
    dataset = StoreDataset(arguments.scratch / "store", SPLIT, fields)
    loader = BatchLoader(dataset, arguments.batch_size)
    for _ in loader:
        pass
    held = sum(footprint(loader.memory).values())
    sample = sum(dataset[0][field].nbytes for field in TRAINING)
    return float(held / (sample * len(dataset)))


def share_in_bfloat16(arguments: argparse.Namespace) -> float:
    """Bytes of a network's weights and statistics in bfloat16, as a share of those in float32."""
    model = detector(arguments).model
    whole, half = (
        sum(int(tensor.nbytes) for tensor in model.to(dtype).state_dict().values())
        for dtype in (torch.float32, torch.bfloat16)
    )
    return half / whole
