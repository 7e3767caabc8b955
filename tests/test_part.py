"""Builds in parts: together they give what one build gives, and publish all of it or nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from conftest import COMMAND, Dataset, published, run
from local import manifest_path, shard_keys
from test_bad_input import damaged_png

from ocr_precompute.errors import InputError, StoreError
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings


def at(settings: Settings, store: Path, **changes: object) -> Settings:
    return settings.model_copy(update={"store": store, **changes})


def flags(dataset: Dataset, settings: Settings, folder: Path) -> list[str]:
    """A build by the command as one by these settings."""
    config = folder / "config.yaml"
    config.write_text(json.dumps({"size": settings.size[0], "shard_length": settings.shard_length}))
    return ["build", *dataset.flags(), "--config", str(config), "--json"]


def test_parts_in_two_processes_then_finish(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    build("val", dataset.source, settings)
    store = tmp_path / "parts"
    command = [*flags(dataset, settings, tmp_path), "--store", str(store)]
    parts = [
        subprocess.Popen([*COMMAND, *command, "--part", f"{n}/2"], stdout=-1, stderr=-1, text=True)
        for n in (1, 2)
    ]
    reports = []
    for number, process in enumerate(parts, 1):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert f"val, part {number}/2: built" in err
        assert "nothing is published before all parts are done" in err
        reports.append(json.loads(out))
    assert not manifest_path(store, "val").exists()
    assert [report["part"] for report in reports] == ["1/2", "2/2"]
    assert [report["reused"] for report in reports] == [0, 0]
    assert sum(report["built"] for report in reports) == reports[0]["shards"]
    assert sum(report["computed"] for report in reports) == 24
    finished = run(*command, "--finish")
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert (report["built"], report["reused"]) == (0, report["shards"])
    assert published(store) == published(settings.store)


def test_a_part_that_is_killed_and_run_again(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    large = at(settings, settings.store, size=(640, 640), shard_length=2)
    for name in [*dataset.document["images"]][10:]:
        dataset.remove(name)
    dataset.save()
    build("val", dataset.source, large)
    store = tmp_path / "parts"
    command = [*flags(dataset, large, tmp_path), "--store", str(store), "--jobs", "1"]
    killed = subprocess.Popen([*COMMAND, *command, "--part", "1/2"], stdout=-3, stderr=-3)
    while not list(store.glob("shards/*/*.zip")):
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    there = len(shard_keys(store))
    refused = run(*command, "--finish")
    assert refused.returncode == 2
    assert "shards of split 'val' are missing" in refused.stderr
    parts = [build("val", dataset.source, at(large, store), part=f"{n}/2") for n in (1, 2)]
    assert sum(part.reused for part in parts) == there
    build("val", dataset.source, at(large, store), finish=True)
    assert published(store) == published(settings.store)


def test_which_shards_are_there_does_not_change_the_parts(
    dataset: Dataset, settings: Settings
) -> None:
    small = at(settings, settings.store, shard_length=2)
    first = build("val", dataset.source, small, part="1/3")
    done = shard_keys(settings.store)
    again = build("val", dataset.source, small, part="1/3")
    assert (again.built, again.reused, again.up_to_date) == (0, first.built, False)
    counts = [build("val", dataset.source, small, part=f"{n}/3").built for n in (2, 3)]
    assert sum(counts) + len(done) == first.shards == len(shard_keys(settings.store))
    assert build("val", dataset.source, small, finish=True).data_hash == first.data_hash
    update = build("val", dataset.source, small, part="2/3")
    assert update.up_to_date


def test_finish_refuses_what_is_not_complete(dataset: Dataset, settings: Settings) -> None:
    small = at(settings, settings.store, shard_length=2)
    part = build("val", dataset.source, small, part="2/3")
    wanted = f"{part.shards - part.built} of {part.shards} shards of split 'val' are missing"
    for options in ({}, {"dry_run": True}, {"skip_bad": True}):
        with pytest.raises(StoreError, match=wanted):
            build("val", dataset.source, small, finish=True, **options)
    assert not manifest_path(settings.store, "val").exists()


def test_a_dry_run_of_a_part(dataset: Dataset, settings: Settings) -> None:
    dry = build("val", dataset.source, settings, part="1/2", dry_run=True)
    assert not Path(settings.store).exists()
    real = build("val", dataset.source, settings, part="1/2")
    assert (dry.built, dry.computed, dry.reused) == (real.built, real.computed, real.reused)
    assert 0 < dry.computed < 24


def test_images_that_parts_skip_are_skipped_by_finish(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    for number in (5, 20):
        (dataset.images / f"page_{number:03d}.jpg").write_bytes(damaged_png(b""))
    small = at(settings, settings.store, shard_length=4)
    for number in (1, 2, 3):
        build("val", dataset.source, small, part=f"{number}/3", skip_bad=True)
    with pytest.raises(StoreError, match="shards of split 'val' are missing"):
        build("val", dataset.source, small, finish=True)
    done = build("val", dataset.source, small, finish=True, skip_bad=True)
    assert (done.samples, done.skipped) == (22, 2)
    whole = at(small, tmp_path / "whole")
    build("val", dataset.source, whole, skip_bad=True)
    assert published(settings.store)["splits/val.json"] == published(whole.store)["splits/val.json"]


@pytest.mark.parametrize("part", ["3", "0/2", "3/2", "1/0", "a/b", "-1/2", "1/2/3"])
def test_a_part_that_is_none(dataset: Dataset, settings: Settings, part: str) -> None:
    with pytest.raises(InputError, match=r"--part '.*': give two whole numbers, I/N"):
        build("val", dataset.source, settings, part=part)


def test_a_part_does_not_finish(dataset: Dataset, settings: Settings) -> None:
    with pytest.raises(InputError, match="--part, --finish: give one of them"):
        build("val", dataset.source, settings, part="1/2", finish=True)
