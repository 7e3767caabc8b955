"""`bench` measures what it says it measures; how fast that is, no test asks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Dataset, run, same

from ocr.datasets import StoreDataset
from ocr.datasets.samples import TRAINING
from ocr_precompute import open_store
from ocr_precompute.augmentation import Augmentation
from ocr_precompute.augmentation.drawing import Varied, draw_varied
from ocr_precompute.errors import InputError, StoreError
from ocr_precompute.format.schema import MAPS
from ocr_precompute.pipeline.build import build
from ocr_precompute.reports.bench import Effort, Subject, bench
from ocr_precompute.reports.charts import plot_bench
from ocr_precompute.reports.contest import BenchReport, PathResult
from ocr_precompute.reports.paths import spread_items, varied_paths
from ocr_precompute.settings import Settings


@pytest.fixture
def store(dataset: Dataset, settings: Settings) -> Path:
    build("val", dataset.source, settings)
    return settings.store


def measured(store: Path, dataset: Dataset, **options: int) -> BenchReport:
    return bench("val", Subject(store, dataset.source), Effort(seconds=0, **options))


@pytest.mark.parametrize("threads", [1, 3])
def test_both_paths_stage_by_stage(store: Path, dataset: Dataset, threads: int) -> None:
    report = measured(store, dataset, samples=9, batch_size=4, threads=threads, crop=48)
    assert (report.samples, report.batch_size, report.threads) == (9, 4, threads)
    assert stages(report.plain.live) == ["read", "decode", "resize", "offset", "labels", "collate"]
    assert stages(report.plain.store) == ["checksum", "decompress"]
    drawn = ["warp", "offset", "labels"]
    assert stages(report.varied.live) == ["read", "decode", "resize", "place", *drawn]
    assert stages(report.varied.store) == ["place", "checksum", "decompress", *drawn]
    for contest, side in ((report.varied, 48), (report.plain, 64)):
        for path in (contest.live, contest.store):
            assert all(
                stage.milliseconds > 0 for stage in path.stages if stage.name in stages(path)
            )
            assert len(path.rates) == 3
            assert path.samples_per_second == sorted(path.rates)[1] > 0
            sample_megabytes = side * side * (3 + 1 + 1 + 4 + 1) / 1e6
            assert path.megabytes_per_second == pytest.approx(
                path.samples_per_second * sample_megabytes
            )
        live, store = contest.live.samples_per_second, contest.store.samples_per_second
        assert contest.factor == store / live


def stages(path: PathResult) -> list[str]:
    """Stages by name, without those of a shard that none of the first samples lies in."""
    return [stage.name for stage in path.stages if stage.name not in ("open", "records")]


def test_varied_samples_are_the_same_on_both_paths_and_as_a_training_takes_them(
    store: Path, dataset: Dataset
) -> None:
    split, augmentation = open_store(store)["val"], Augmentation(48, 0.0, 5.0, 0.3, 0.2)
    items = spread_items(split, dataset.source, 5)
    paths = varied_paths(split, items, 10**6, augmentation)
    live, stored = (
        {f: np.empty((5, 48, 48, *tail), dtype) for f, (dtype, tail) in MAPS.items()} for _ in paths
    )
    paths["live"].batch(items, live)
    paths["store"].batch(items, stored)
    taken = StoreDataset(store, "val", (*TRAINING, "polygons", "ignore"))
    for position, item in enumerate(items):
        random, page = np.random.default_rng(item.index), taken.page(item.index)
        recipe = taken.parameters.recipe
        matrix = augmentation.placement(page.polygons, page.size, recipe, random)
        light = augmentation.light(random)
        out = {field: np.empty_like(array[0]) for field, array in live.items()}
        draw_varied([Varied(page, matrix, light)], recipe, [out])
        for field in MAPS:
            assert same(live[field][position], stored[field][position])
            assert same(live[field][position], out[field])


def test_crops_are_as_large_as_the_page_unless_told(store: Path, dataset: Dataset) -> None:
    assert measured(store, dataset, samples=2).crop == 64
    with pytest.raises(ValueError, match="crop is 8; it must be at least 32"):
        measured(store, dataset, crop=8)


def test_the_command(store: Path, tmp_path: Path) -> None:
    chart = tmp_path / "bench.png"
    flags = ["--split", "val", "--store", store, "--seconds", 0, "--samples", 5]
    result = run("bench", *flags, "--plot", chart, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["samples"] == 5
    for kind in ("varied", "plain"):
        assert set(document[kind]) == {"live", "store", "factor"}
    varied, plain = (line for line in result.stderr.splitlines() if "times as fast as" in line)
    assert varied.startswith("val, varied, crops of 64: the store is ")
    assert plain.startswith("val, as stored: the store is ")
    assert document["memory"]["samples"] == 24
    assert set(document["memory"]["parts"]) >= {"names", "records", "handles"}
    assert "val: the opened split takes " in result.stderr
    assert cv2.imread(str(chart)).shape[0] > 100


def test_stored_and_live_must_be_the_same(store: Path, dataset: Dataset) -> None:
    dataset.points("page_000.jpg")[0][0] += 9
    dataset.save()
    with pytest.raises(InputError, match=r"page_000\.jpg: is no longer what the store was built"):
        measured(store, dataset)
    dataset.remove("page_000.jpg")
    dataset.save()
    with pytest.raises(InputError, match=r"does not annotate 'page_000\.jpg' any more; build"):
        measured(store, dataset)


def test_what_cannot_be_measured(store: Path, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no split 'train' in this store; splits: val"):
        bench("train", Subject(store, dataset.source), Effort())
    (dataset.images / "page_000.jpg").unlink()
    with pytest.raises(InputError, match=r"page_000\.jpg: cannot be used: .*No such file"):
        measured(store, dataset)
    result = run("bench", "--split", "val", "--store", store, cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_chart_that_cannot_be_drawn(
    store: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = measured(store, dataset, samples=2)
    with pytest.raises(StoreError, match=r"nowhere/a\.png: cannot be written: No such file"):
        plot_bench(report, tmp_path / "nowhere" / "a.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(StoreError, match=r"drawing needs matplotlib; pip install 'ocr-precompute"):
        plot_bench(report, tmp_path / "a.png")
