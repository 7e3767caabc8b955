"""Memory of datasets: what is counted, and how it compares with arrays in lists."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import Dataset

from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.samples import ANNOTATIONS, TRAINING
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr.lightning_modules.callbacks.performance import memory_line
from ocr.profiling import footprint
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings


def test_everything_held_counts_once() -> None:
    array = np.zeros(1000)
    text = "x" * 500
    held = {"first": [array, array[10:], text], "second": {"again": text, "more": b"y" * 300}}
    found = footprint(held)
    assert 8000 + 500 < found["first"] < 8000 + 500 + 800
    assert 300 < found["second"] < 300 + 600  # the text counts for the first
    assert footprint({"only": held["second"]})["only"] > found["second"] + 500


def test_a_view_counts_with_the_memory_it_keeps() -> None:
    assert footprint({"view": np.zeros(10_000)[:1]})["view"] > 80_000
    assert footprint({"class": [np.ndarray, sys]})["class"] < 200


@pytest.fixture
def stored(dataset: Dataset, settings: Settings) -> StoreDataset:
    build("val", dataset.source, settings)
    return StoreDataset(settings.store, "val", (*TRAINING, *ANNOTATIONS))


def test_a_dataset_takes_less_than_its_samples_in_lists(stored: StoreDataset) -> None:
    samples = [stored[index] for index in range(len(stored))]
    assert sum(footprint(stored.memory).values()) < 0.7 * footprint({"lists": samples})["lists"]


def test_a_loader_says_what_takes_memory(stored: StoreDataset) -> None:
    varied = AugmentedDataset(stored, Augmentation(crop=48))
    loader = BatchLoader(varied, 4)
    before = footprint(loader.memory)
    for _ in loader:
        pass
    after = footprint(loader.memory)
    assert list(after) == ["manifest", "names", "caches", "dataset", "loader"]
    batch = 4 * 48 * 48 * (3 + 1 + 1 + 4 + 1)
    assert after["loader"] >= before["loader"] + batch
    assert after["caches"] > before["caches"]  # records, which hold the polygons
    assert memory_line(loader).startswith("the data takes ")
    assert f"loader {after['loader'] / 1e6:.2f} MB" in memory_line(loader)
