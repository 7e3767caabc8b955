"""The store as others read it, what `verify` finds, and what `gc` takes."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorstore
import zarr
from conftest import Dataset, published, run, same

from ocr_precompute.build import build
from ocr_precompute.config import Settings
from ocr_precompute.errors import StoreError
from ocr_precompute.reader import Split, open_store
from ocr_precompute.shard import MAPS, RECORDS, read_records
from ocr_precompute.store import collect_garbage, manifest_path, shard_keys, shard_path
from ocr_precompute.summary import summarise
from ocr_precompute.verify import verify


@pytest.fixture
def split(dataset: Dataset, settings: Settings) -> Split:
    dataset.document["images"]["page_003.jpg"]["words"]["0001"]["ignore"] = True
    del dataset.document["images"]["page_004.jpg"]["words"]
    dataset.save()
    build("val", dataset.source, settings)
    return open_store(settings.store).split("val")


# -------------------------------------------------------------------------------------- contents


def test_any_zarr_reader_reads_the_same(split: Split, settings: Settings) -> None:
    index = 0
    for entry in split.manifest.shards:
        path = shard_path(settings.store, entry.key)
        group = zarr.open_group(path, mode="r")
        assert sorted(group) == sorted([*MAPS, *RECORDS])
        others = {
            field: tensorstore.open(
                {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / field)}},
                open=True,
            ).result()
            for field in (*MAPS, *RECORDS)
        }
        records = read_records(path).arrays()
        for field in RECORDS:
            assert same(group[field][:], records[field]), field
            assert same(others[field].read().result(), records[field]), field
        for row in range(entry.samples):
            sample = split[index + row]
            for field in MAPS:
                assert same(group[field][row], getattr(sample, field)), field
                assert same(others[field][row].read().result(), getattr(sample, field)), field
        index += entry.samples
    assert index == len(split)
    assert zarr.open_group(settings.store, mode="r").attrs["ocr_precompute"]


def test_previews_show_the_sample(split: Split, settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    result = run("preview", "--store", settings.store, "--split", "val", "--out", out, "--json")
    assert result.returncode == 0, result.stderr
    pictures = json.loads(result.stdout)["pictures"]
    assert len(pictures) == 8
    picture = cv2.imread(pictures[0])
    assert picture.shape == (64, 320, 3)
    assert (picture[:, 64:128, 0] == split[0].prob * 255).all()


# ---------------------------------------------------------------------------------------- verify


def kinds(settings: Settings, **options: object) -> list[str]:
    return [finding.kind for finding in verify(settings.store, **options).problems]


def test_verify_finds_every_flipped_bit(split: Split, settings: Settings) -> None:
    chooser = random.Random(2)
    files = [p for p in (settings.store / "shards").rglob("*") if p.is_file()]
    # Small files first, so that every kind of file is hit, then bits anywhere, by size.
    targets = [(path, chooser.randrange(path.stat().st_size * 8)) for path in files]
    weights = [path.stat().st_size for path in files]
    anywhere = chooser.choices(files, weights, k=200)
    targets += [(path, chooser.randrange(path.stat().st_size * 8)) for path in anywhere]
    assert verify(settings.store).ok
    unnoticed = []
    for path, bit in targets:
        original = path.read_bytes()
        damaged = bytearray(original)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        report = verify(settings.store, jobs=1)
        shard = path.relative_to(settings.store / "shards").parts[0]
        if not any(finding.shard == shard for finding in report.problems):
            unnoticed.append((path, bit))
        path.write_bytes(original)
    assert unnoticed == []
    assert verify(settings.store).ok


def test_reading_a_flipped_bit_names_shard_and_sample(split: Split, settings: Settings) -> None:
    key = split.manifest.shards[0].key
    path = shard_path(settings.store, key) / "thresh" / "c.0.0.0"
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=rf"shard {key}: sample '{split.names[0]}': thresh"):
        open_store(settings.store).split("val")[0]
    (finding,) = verify(settings.store).problems
    assert (finding.kind, finding.shard, finding.sample) == ("checksum", key, split.names[0])
    assert "thresh: checksum mismatch" in finding.detail


def test_verify_finds_what_is_missing_or_does_not_belong(split: Split, settings: Settings) -> None:
    first, second = (shard_path(settings.store, s.key) for s in split.manifest.shards[:2])
    (first / "notes.txt").write_text("mine")
    (first / "prob" / "c.0.0.0").unlink()
    found = {finding.detail for finding in verify(settings.store).problems}
    assert any(detail.startswith("prob/c.0.0.0 is missing") for detail in found)
    assert any(detail.startswith("notes.txt does not belong") for detail in found)
    shutil.rmtree(first)
    (second / "image" / "c.0.0.0.0").write_bytes(b"short")
    report = verify(settings.store)
    assert sorted(finding.kind for finding in report.problems) == ["index", "shard"]


def test_verify_compares_folders_with_their_keys(split: Split, settings: Settings) -> None:
    first, second = (shard_path(settings.store, s.key) for s in split.manifest.shards[:2])
    shutil.rmtree(second)
    shutil.copytree(first, second)
    details = [finding.detail for finding in verify(settings.store).problems]
    assert any("do not add up to its key" in detail for detail in details)


def test_verify_checks_the_manifest(split: Split, settings: Settings, dataset: Dataset) -> None:
    path = manifest_path(settings.store, "val")
    document = json.loads(path.read_bytes())
    document["shards"] = document["shards"][::-1]
    path.write_text(json.dumps(document))
    assert "manifest" in kinds(settings)
    path.write_bytes(path.read_bytes()[:-40])
    (finding,) = verify(settings.store).problems
    assert finding.kind == "manifest"
    assert re.search(r"val\.json: is damaged .*; build the split again", finding.detail)
    assert build("val", dataset.source, settings).built == 0
    assert verify(settings.store).ok
    (settings.store / "zarr.json").write_bytes(b" " + (settings.store / "zarr.json").read_bytes())
    assert kinds(settings) == ["metadata"]


def test_a_folder_of_something_else_is_left_alone(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    home = settings.model_copy(update={"store": tmp_path / "home"})
    with pytest.raises(StoreError, match=r"is not a store and not empty \(it holds 'letter.txt'\)"):
        build("val", dataset.source, home)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]


def test_verify_reports_sources(split: Split, settings: Settings, dataset: Dataset) -> None:
    sources = {"val": dataset.source}
    assert verify(settings.store, sources=sources, recompute=1).ok
    dataset.points("page_001.jpg")[0][0] += 1
    dataset.remove("page_002.jpg")
    dataset.add("page_999.jpg")
    (dataset.images / "page_005.jpg").unlink()
    shutil.copy(dataset.images / "page_007.jpg", dataset.images / "page_006.jpg")
    dataset.save()
    found = {(f.kind, f.sample) for f in verify(settings.store, sources=sources).problems}
    assert found == {
        ("source-changed", "page_001.jpg"),
        ("source-missing", "page_002.jpg"),
        ("source-missing", "page_005.jpg"),
        ("source-changed", "page_006.jpg"),
        ("source-added", "page_999.jpg"),
    }


def test_recompute_finds_a_valid_shard_with_wrong_pixels(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("ocr_precompute.compute.letterbox", _shifted_letterbox)
        build("val", dataset.source, settings)
    assert verify(settings.store, sources={"val": dataset.source}).ok
    report = verify(settings.store, sources={"val": dataset.source}, recompute=0.25)
    assert report.recomputed == 6
    assert [finding.kind for finding in report.problems] == ["recompute"] * 6
    assert report.problems[0].detail.startswith("image differ from what the source gives now")


def _shifted_letterbox(*arguments: object) -> tuple[np.ndarray, float]:
    from ocr_precompute.images import letterbox

    image, scale = letterbox(*arguments)
    return np.roll(image, 1, axis=0), scale


def test_verify_command(split: Split, settings: Settings, dataset: Dataset) -> None:
    assert run("verify", "--store", settings.store, "--recompute", "0.5").returncode == 0
    dataset.points("page_001.jpg")[0][0] += 1
    dataset.save()
    result = run("verify", "--store", settings.store, "--json")
    assert result.returncode == 1
    (problem,) = json.loads(result.stdout)["problems"]
    assert set(problem) == {"kind", "shard", "sample", "detail"}
    assert problem["kind"] == "source-changed"
    assert "source-changed" in result.stderr
    assert run("verify", "--store", settings.store, "--no-sources").returncode == 0


# --------------------------------------------------------------------------------- inspect and gc


def test_summary_counts_bytes(split: Split, settings: Settings) -> None:
    (summary,) = summarise(settings.store).splits
    assert summary.samples == 24
    assert summary.raw_bytes == 24 * 64 * 64 * (3 + 1 + 1 + 4 + 1)
    files = published(settings.store)
    assert summary.stored_bytes == sum(
        len(data) for name, data in files.items() if name.startswith("shards/")
    )
    result = run("inspect", "--store", settings.store, "--json")
    document = json.loads(result.stdout)
    assert document["splits"][0]["data_hash"] == summary.data_hash
    assert document["splits"][0]["parameters"]["size"] == [64, 64]
    lengths = sorted(entry.samples for entry in split.manifest.shards)
    shards = document["splits"][0]["shards"]
    median = lengths[(len(lengths) - 1) // 2]
    assert shards["count"] == len(lengths)
    assert shards["samples"] == {"min": lengths[0], "median": median, "max": lengths[-1]}
    assert shards["bytes"]["min"] <= shards["bytes"]["median"] <= shards["bytes"]["max"]
    assert "all" not in shards
    listed = run("inspect", "--store", settings.store, "--json", "--shards")
    every = json.loads(listed.stdout)["splits"][0]["shards"]["all"]
    assert [s["samples"] for s in every] == [entry.samples for entry in split.manifest.shards]
    shown = run("inspect", "--store", settings.store).stderr
    shown_with_shards = run("inspect", "--store", settings.store, "--shards").stderr
    keys = [entry.key[:16] for entry in split.manifest.shards]
    assert not any(key in shown for key in keys)
    assert all(key in shown_with_shards for key in keys)


def test_gc_takes_what_no_manifest_names(
    split: Split, settings: Settings, dataset: Dataset
) -> None:
    old = shard_keys(settings.store)
    dataset.points("page_001.jpg")[0][0] += 1
    dataset.save()
    build("val", dataset.source, settings)
    (settings.store / "tmp" / "left").mkdir()
    (settings.store / "tmp" / "left" / "file").write_bytes(b"x" * 100)
    before = published(settings.store)
    dry = collect_garbage(settings.store, dry_run=True)
    assert published(settings.store) == before
    done = collect_garbage(settings.store, dry_run=False)
    assert dry == done
    assert len(done.shards) == 1
    assert set(done.shards) <= old
    assert done.leftovers == ("left",)
    assert list((settings.store / "tmp").iterdir()) == []
    assert verify(settings.store, sources={"val": dataset.source}, recompute=1).ok


def test_gc_stops_at_a_manifest_it_cannot_read(split: Split, settings: Settings) -> None:
    manifest_path(settings.store, "val").write_text("{")
    before = shard_keys(settings.store)
    with pytest.raises(StoreError, match="is damaged"):
        collect_garbage(settings.store, dry_run=False)
    assert shard_keys(settings.store) == before
