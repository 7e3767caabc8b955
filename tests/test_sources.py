"""A split of several sources: names kept apart, and everything else as of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Dataset, run
from local import recorded_source

from ocr.datasets import LiveDataset, StoreDataset
from ocr_precompute import open_store
from ocr_precompute.errors import InputError
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.scan import read_source
from ocr_precompute.settings import Settings, Source, load_settings


@pytest.fixture
def both(tmp_path: Path) -> Settings:
    """Two folders whose images are called alike, as splits val (both) and one (the first)."""
    sources = []
    for name in ("receipts", "street"):
        made = Dataset(tmp_path / name, count=5)
        sources.append({"name": name, **made.source.model_dump(include={"images", "annotations"})})
    given = {"store": tmp_path / "store", "size": 64, "shard_length": 4, "backend": "sequential"}
    return Settings.model_validate({**given, "splits": {"val": sources, "one": sources[0]}})


def test_names_begin_with_those_of_sources(both: Settings) -> None:
    report = build("val", both.source("val"), both)
    assert (report.samples, report.computed) == (10, 10)
    split = open_store(both.store).split("val")
    assert split.names[0] == "receipts/page_000.jpg"
    assert split.names[9] == "street/page_004.jpg"
    again = build("val", both.source("val"), both)
    assert again.up_to_date


def test_samples_are_those_of_each_source(both: Settings) -> None:
    build("val", both.source("val"), both)
    build("one", both.source("one"), both)
    store = open_store(both.store)
    whole, alone = store.split("val"), store.split("one")
    for index in range(5):
        first, second = whole[index], alone[index]
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.prob, second.prob)


def test_live_samples_are_the_stored_ones(both: Settings) -> None:
    build("val", both.source("val"), both)
    live, stored = LiveDataset.from_settings(both, "val"), StoreDataset(both.store, "val")
    assert list(live.names) == list(stored.names)
    for a, b in zip(live[7].items(), stored[7].items(), strict=True):
        assert a[0] == b[0]
        assert np.array_equal(a[1], b[1])


def test_the_store_remembers_all_of_them(both: Settings) -> None:
    build("val", both.source("val"), both)
    source = recorded_source(both.store, "val")
    assert source is not None
    assert [part.name for part in source.parts] == ["receipts", "street"]
    image = source.image_path("street/page_001.jpg")
    assert image == (both.source("val").parts[1].images / "page_001.jpg").resolve()
    done = run("verify", "--store", both.store, "--split", "val", "--recompute", "1")
    assert done.returncode == 0
    image.write_bytes(both.source("val").image_path("receipts/page_000.jpg").read_bytes())
    done = run("verify", "--store", both.store, "--split", "val")
    assert done.returncode == 1
    assert "street/page_001.jpg" in done.stdout + done.stderr


def test_problems_of_all_at_once(both: Settings) -> None:
    for part in both.source("val").parts:
        document = json.loads(part.annotations.read_text())
        document["images"]["page_001.jpg"]["words"]["0001"]["points"] = [[1, 2]]
        part.annotations.write_text(json.dumps(document))
    with pytest.raises(InputError) as error:
        build("val", both.source("val"), both)
    lines = str(error.value)
    for part in both.source("val").parts:
        assert f"{part.annotations}: {part.name}/page_001.jpg: word 0001: has 1 points" in lines
    report = build("val", both.source("val").skipping("image"), both)
    assert (report.samples, report.skipped) == (8, 2)
    part.annotations.unlink()
    with pytest.raises(InputError) as error:
        read_source(both.source("val"))
    assert "there is no such annotation file" in str(error.value)
    assert "receipts/page_001.jpg" in str(error.value)


def test_changes_of_one_compute_its_samples_alone(both: Settings) -> None:
    build("val", both.source("val"), both)
    second = both.source("val").parts[1]
    document = json.loads(second.annotations.read_text())
    document["images"]["page_004.jpg"]["words"]["0001"]["ignore"] = True
    second.annotations.write_text(json.dumps(document))
    report = build("val", both.source("val"), both)
    assert report.computed == 1


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "must be one source, or a list of them"),
        (["a"], "must be one source, or a list of them"),
        (
            [{"images": "a/img", "annotations": "a"}, {"images": "b/img", "annotations": "b"}],
            "two sources are called 'img'; give each a `name` of its own",
        ),
        (
            [
                {"images": "a", "annotations": "a", "name": "x/y"},
                {"images": "b", "annotations": "b"},
            ],
            "source name 'x/y'",
        ),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, sources: Any, message: str) -> None:
    config = tmp_path / "precompute.yaml"
    config.write_text(yaml.safe_dump({"splits": {"val": sources}}))
    with pytest.raises(InputError) as error:
        load_settings(config, {})
    assert message in str(error.value)


def test_names_are_those_of_folders_where_none_is_given() -> None:
    given = [{"images": "data/a", "annotations": "a"}, {"images": "data/b/", "annotations": "b"}]
    source = Source.model_validate(given)
    assert [part.name for part in source.parts] == ["a", "b"]
    assert source.image_path("b/sub/x.jpg") == Path("data/b/sub/x.jpg")
    assert Source.model_validate(given[:1]).image_path("b/x.jpg") == Path("data/a/b/x.jpg")


def test_flags_of_the_command_line(both: Settings, tmp_path: Path) -> None:
    config = tmp_path / "precompute.yaml"
    document = both.model_dump(mode="json", include={"store", "size"})
    listed = [part.model_dump(mode="json") for part in both.source("val").parts]
    document["splits"] = {"val": listed}
    config.write_text(yaml.safe_dump(document))
    done = run("build", "--config", config, "--split", "val", "--images", tmp_path)
    assert done.returncode == 2
    assert "has several sources; give both --images and --annotations, or neither" in done.stderr
    done = run("build", "--config", config, "--split", "val", "--ignore-text", "a", "--json")
    assert json.loads(done.stdout)["samples"] == 10
    source = recorded_source(both.store, "val")
    assert source is not None
    assert [part.ignore_texts for part in source.parts] == [("a",), ("a",)]
