"""What speed depends on and no clock is needed for: how often something is done.

The numbers are in counts.json. Whoever changes one on purpose changes it there too.
"""

from __future__ import annotations

import builtins
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyclipper
import pytest
import torch
from conftest import Dataset

from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.samples import TRAINING
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr.inference.postprocess import PostProcess
from ocr_precompute import open_store
from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.stages import everything
from ocr_precompute.settings import Settings

EXPECTED = json.loads(Path(__file__).with_name("counts.json").read_text())
SAMPLES, BATCH = 24, 4


@pytest.fixture
def store(dataset: Dataset, settings: Settings) -> Path:
    build("val", dataset.source, settings)
    return settings.store


class Opened:
    """Counts how often files of a store are opened."""

    def __init__(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shards = self.others = 0
        opened, os_opened = builtins.open, os.open

        def count(path: Any) -> None:
            if isinstance(path, (str, os.PathLike)) and str(store) in str(path):
                self.shards += str(path).endswith(".zip") and "shards" in str(path)
                self.others += "shards" not in str(path)

        def counting(path: Any, *args: Any, **kwargs: Any) -> Any:
            count(path)
            return opened(path, *args, **kwargs)

        def os_counting(path: Any, *args: Any, **kwargs: Any) -> int:
            count(path)
            return os_opened(path, *args, **kwargs)

        monkeypatch.setattr(builtins, "open", counting)
        monkeypatch.setattr(os, "open", os_counting)


def counted(before: Any) -> dict[str, int]:
    return dict((everything() - before).counts)


class Offsets(Counter[str]):
    """Counts calls of pyclipper."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        counts = self

        class Counting(pyclipper.PyclipperOffset):  # type: ignore[misc]
            def Execute(self, delta: float) -> Any:
                counts["calls"] += 1
                return super().Execute(delta)

        monkeypatch.setattr(pyclipper, "PyclipperOffset", Counting)


def epoch(loader: BatchLoader) -> int:
    """Read an epoch as a training does: a batch is gone when the next but one comes."""
    batches = 0
    for batch in loader:
        batches += len(batch["image"]) > 0
    return batches


def test_opening_and_reading(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, before = Opened(store, monkeypatch), everything()
    split = open_store(store)["val"]
    files = opened.others
    names = split.names
    for start in range(0, len(split), BATCH):
        split.read(range(start, min(start + BATCH, len(split))))
    assert len(names) == SAMPLES
    assert {
        "files to open a split": files,
        "opens a shard": opened.shards / len(split.manifest.shards),
        **counted(before),
    } == EXPECTED["reading, two batches a shard"]


def test_varied_reading(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offsets, before = Offsets(monkeypatch), everything()
    dataset = StoreDataset(store, "val", (*TRAINING, "polygons", "ignore"))
    varied = AugmentedDataset(dataset, Augmentation(crop=48, rotation=5.0))
    loader = BatchLoader(varied, BATCH, shuffle=True, threads=1)
    epoch(loader)
    words = sum(len(dataset.page(index).polygons.lengths) for index in range(SAMPLES))
    assert offsets["calls"] <= 2 * words  # shrunk and dilated, where they are in the crop
    found = {name: n for name, n in counted(before).items() if name == "handle misses"}
    assert found == EXPECTED["varied reading"]


def test_validation(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = Offsets(monkeypatch)
    dataset = StoreDataset(store, "val", (*TRAINING, "polygons", "ignore"))
    found = 0
    for batch in BatchLoader(dataset, BATCH, threads=1):
        for prob in batch["prob"].numpy().astype(np.float32):
            found += len(PostProcess()(prob / max(1.0, prob.max())).polygons)
    assert {
        "detections": found,
        "calls of pyclipper": offsets["calls"],
    } == EXPECTED["validation of its own labels"]


def test_buffers_are_made_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Counter[str] = Counter()
    empty = np.empty

    def counting(shape: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        made["arrays"] += np.prod(shape) >= BATCH * 64 * 64
        return empty(shape, *args, **kwargs)

    loader = BatchLoader(StoreDataset(store, "val", TRAINING), BATCH, shuffle=True, threads=1)
    monkeypatch.setattr("ocr.datasets.buffers.np.empty", counting)
    first = epoch(loader)
    in_first = made["arrays"]
    torch.manual_seed(1)
    epoch(loader)
    assert {
        "batches an epoch": first,
        "arrays made in the first epoch": int(in_first),
        "arrays made in the second": int(made["arrays"] - in_first),
    } == EXPECTED["buffers"]
