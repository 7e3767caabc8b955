"""Memory of datasets: what is counted, and how it compares with arrays in lists."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Dataset

from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.samples import ANNOTATIONS, TRAINING
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr.lightning_modules.callbacks.performance import memory_line
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading import split as reading
from ocr_precompute.reports import memory
from ocr_precompute.reports.memory import split_memory
from ocr_precompute.runtime.footprint import footprint
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
    kinds = ["manifest", "names", "sizes", "directories", "records", "handles", "dataset", "loader"]
    assert list(after) == kinds
    batch = 4 * 48 * 48 * (3 + 1 + 1 + 4 + 1)
    assert after["loader"] >= before["loader"] + batch
    assert after["records"] > before["records"]  # which hold the polygons
    assert memory_line(loader).startswith("the data takes ")
    assert f"loader {after['loader'] / 1e6:.2f} MB" in memory_line(loader)


@pytest.fixture
def larger(tmp_path: Path) -> Path:
    """A store of 96 pages with 24 words each, as split val."""
    made = Dataset(tmp_path / "larger", count=0)
    for number in range(96):
        made.add(f"page_{number:03d}.jpg", words=24)
    made.save()
    settings = Settings(store=tmp_path / "s", size=64, backend="sequential", monitor=False)
    build("val", made.source, settings)
    return settings.store


def test_an_opened_split_takes_less_than_its_annotations_in_lists(larger: Path) -> None:
    found = split_memory(larger, "val")
    assert (found.samples, found.looked_at) == (96, 96)
    assert found.store == pytest.approx(sum(found.parts.values()))
    assert found.saved == pytest.approx(1 - found.store / found.lists)
    assert found.saved > 0.3
    points, flags = 24 * 4 * 2 * 4, 24
    assert found.parts["records"] > points + flags
    array = sys.getsizeof(np.zeros((4, 2), np.float32))
    assert 24 * array + flags < found.lists < 24 * array + 1000


def test_some_shards_tell_of_all(larger: Path) -> None:
    whole, some = split_memory(larger, "val"), split_memory(larger, "val", looked_at=40)
    assert 0 < some.looked_at < whole.looked_at
    for name, size in whole.parts.items():
        assert some.parts[name] == pytest.approx(size, rel=0.3), name
    assert some.lists == pytest.approx(whole.lists, rel=0.05)


def test_what_is_kept_up_to_a_bound_counts_with_what_that_leaves(
    larger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = split_memory(larger, "val")
    for module in (reading, memory):
        monkeypatch.setattr(module, "MOST_CACHED", 20_000)
    monkeypatch.setattr(memory, "most_open_files", lambda: 1)
    bound = split_memory(larger, "val")
    kept = 96 * (bound.parts["directories"] + bound.parts["records"])
    assert 10_000 < kept < 50_000 < 96 * (free.parts["directories"] + free.parts["records"])
    assert 96 * bound.parts["handles"] < 8000  # one, with its directory
    assert bound.parts["names"] == free.parts["names"]
    assert bound.lists == free.lists
