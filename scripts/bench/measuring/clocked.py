"""Work that is clocked by stages: builds, reading, trainings, on a few of the images."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger

from measuring.plants import ENCODE_HASHES
from measuring.samples import SPLIT
from measuring.trainings import BACKBONE, trainer
from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.data_module import DetectionData
from ocr.datasets.samples import TRAINING
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.callbacks import BestAndLast, Performance
from ocr.lightning_modules.callbacks.performance import FILE_NAME
from ocr.lightning_modules.checkpoint_io import WholeCheckpointIO
from ocr_precompute.pipeline import encode
from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.stages import everything
from ocr_precompute.settings import Settings, Source

PAUSE = 0.1  # seconds
SIDE = 160

Recorded = Mapping[str, Any]  # "stages" and "waits", each {name: {"count", "seconds", ...}}


class Pause(lightning.Callback):
    """Waits, before the network is asked, until other threads have done what there is to do.

    They would else do it while a delay is planted there, and the network be faster for it.
    """

    def on_train_batch_start(self, *_: Any) -> None:
        """Let the loader come to an end."""
        time.sleep(PAUSE)

    def on_validation_batch_start(self, *_: Any) -> None:
        """Let post-processing come to an end."""
        time.sleep(PAUSE)


class Runs:
    """The work that is clocked, on a few of the images."""

    def __init__(self, source: Source, scratch: Path) -> None:
        self._source, self._store = source, scratch / "stages-store"
        self._scratch = scratch
        self._settings = {"size": (SIDE, SIDE), "backend": "sequential"}
        self.build()

    def build(self, **settings: Any) -> Recorded:
        """A build from nothing; or, with settings, one after it."""
        if not settings:
            shutil.rmtree(self._store, ignore_errors=True)
        wanted = {"store": self._store, **self._settings, **settings}
        with mock.patch.object(encode, "hashlib", ENCODE_HASHES):
            return build(SPLIT, self._source, Settings.model_validate(wanted)).as_dict()

    def copy(self) -> Recorded:
        """A build whose shards hold rows of others."""
        self.build()
        return self.build(shard_length=5)

    def read(self) -> Recorded:
        """Varied samples, then samples as they are, from a store that was not open."""
        fields = (*TRAINING, "polygons", "ignore")
        dataset = StoreDataset(self._store, SPLIT, fields)
        varied = AugmentedDataset(dataset, Augmentation(crop=128, rotation=5.0, scale=0.3))
        before = everything()
        for each in (varied, dataset):
            for _ in BatchLoader(each, 4, threads=1, prefetch=1):
                pass
        return (everything() - before).as_dict()

    def train(self) -> Recorded:
        """A training of four epochs, validated, with checkpoints."""
        torch.manual_seed(0)
        torch.set_num_threads(1)
        out = Path(tempfile.mkdtemp(dir=self._scratch))
        data = DetectionData(
            str(self._store),
            SPLIT,
            SPLIT,
            batch_size=4,
            threads=1,
            tune=False,
            augmentation=Augmentation(crop=64),
        )
        callbacks = [Performance(), BestAndLast(str(out)), Pause()]
        new = trainer(accelerator="cpu", max_epochs=4, logger=CSVLogger(out), callbacks=callbacks)
        new.strategy.checkpoint_io = WholeCheckpointIO()
        new.fit(TextDetector(str(BACKBONE), channels=16), data)
        lines = next(out.rglob(FILE_NAME)).read_text().splitlines()
        shutil.rmtree(out)
        return summed([json.loads(line) for line in lines])


def summed(lines: list[Recorded]) -> Recorded:
    """Times of several epochs together."""
    total: dict[str, dict[str, dict[str, float]]] = {"stages": {}, "waits": {}}
    for line in lines:
        for kind, found in total.items():
            for name, times in line[kind].items():
                known = found.setdefault(name, {"count": 0, "seconds": 0.0})
                known["count"] += times["count"]
                known["seconds"] += times["seconds"]
    return total
