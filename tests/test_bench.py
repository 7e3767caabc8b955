"""`bench` measures what it says it measures; how fast that is, no test asks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest
from conftest import Dataset, run

from ocr_precompute.errors import InputError, StoreError
from ocr_precompute.pipeline.build import build
from ocr_precompute.reports.bench import BenchReport, bench
from ocr_precompute.reports.charts import plot_bench
from ocr_precompute.settings import Settings


@pytest.fixture
def store(dataset: Dataset, settings: Settings) -> Path:
    build("val", dataset.source, settings)
    return settings.store


def measured(store: Path, dataset: Dataset, **options: int) -> BenchReport:
    return bench(store, "val", dataset.source, seconds=0, **options)


@pytest.mark.parametrize("threads", [1, 3])
def test_both_paths_stage_by_stage(store: Path, dataset: Dataset, threads: int) -> None:
    report = measured(store, dataset, samples=9, batch_size=4, threads=threads)
    assert (report.samples, report.batch_size, report.threads) == (9, 4, threads)
    live, stored = ([stage.name for stage in path.stages] for path in (report.live, report.store))
    assert live == ["read", "decode", "resize", "labels", "collate"]
    assert stored == ["read", "checksum", "decompress"]
    for path in (report.live, report.store):
        assert all(stage.milliseconds > 0 for stage in path.stages)
        assert path.samples_per_second > 0
        sample_megabytes = 64 * 64 * (3 + 1 + 1 + 4 + 1) / 1e6
        assert path.megabytes_per_second == pytest.approx(
            path.samples_per_second * sample_megabytes
        )
    assert report.factor == report.store.samples_per_second / report.live.samples_per_second


def test_the_command(store: Path, tmp_path: Path) -> None:
    chart = tmp_path / "bench.png"
    flags = ["--split", "val", "--store", store, "--seconds", 0, "--samples", 5]
    result = run("bench", *flags, "--plot", chart, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["samples"] == 5
    assert {"live", "store", "factor"} <= set(document)
    assert "times as fast as the live path" in result.stderr
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
        bench(store, "train", dataset.source)
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
