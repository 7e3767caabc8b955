"""Varied samples as trainers make them: OpenCV, albumentations, labels by numpy, DataLoader."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from measuring.samples import checked_annotations
from torch.utils.data import DataLoader

from contenders.labels import edge_distance_by_cosines, numpy_targets
from ocr.datasets.samples import TRAINING
from ocr_precompute.parameters import RECIPES
from ocr_precompute.settings import Source

ROTATION, SCALE, COLOUR = 5.0, 0.3, 0.2  # as in configs/train.yaml

Batches = Iterator[Any]


class UsualTrainer:
    """A map-style dataset as trainers write it."""

    def __init__(self, source: Source, size: int, crop: int) -> None:
        self._size = size
        self._images = Path(source.images)
        self._annotated = checked_annotations(self._images, source.annotations)
        self._crop = crop
        new = import_module("albumentations")
        self._vary = new.Compose(
            [
                new.Affine(scale=(1 / (1 + SCALE), 1 + SCALE), rotate=(-ROTATION, ROTATION), p=1),
                new.RandomCrop(crop, crop, pad_if_needed=True),
                new.ColorJitter((1 - COLOUR, 1 + COLOUR), (1 - COLOUR, 1 + COLOUR),
                                (1 - COLOUR, 1 + COLOUR), (0, 0), p=1),
            ],
            keypoint_params=new.KeypointParams("xy", remove_invisible=False),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._annotated)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        annotation = self._annotated[index]
        read = cv2.imread(str(self._images / annotation.name))
        if read is None:
            raise ValueError(f"{annotation.name}: cannot be decoded")
        pixels = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
        scale = self._size / max(pixels.shape[:2])
        height, width = (round(side * scale) for side in pixels.shape[:2])
        image = np.zeros((self._size, self._size, 3), np.uint8)
        image[:height, :width] = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        polygons = annotation.polygons.scaled(scale)
        varied = self._vary(image=image, keypoints=polygons.points)
        moved = np.split(np.array(varied["keypoints"]), polygons.starts[1:-1])
        pairs = [
            (polygon, bool(ignored))
            for polygon, ignored in zip(moved, polygons.ignore, strict=True)
            if (polygon.max(axis=0) > 0).all() and (polygon.min(axis=0) < self._crop).all()
        ]
        targets = numpy_targets(
            [polygon for polygon, _ in pairs],
            [ignored for _, ignored in pairs],
            self._crop,
            RECIPES["dbnet"],
            edge_distance_by_cosines,
        )
        return {"image": varied["image"], **{f: getattr(targets, f) for f in TRAINING[1:]}}


def usual(source: Source, size: int, crop: int, workers: int, batch_size: int) -> Batches:
    """Endless batches of the usual trainer."""
    dataset: Any = UsualTrainer(source, size, crop)
    loader: Any = DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))
