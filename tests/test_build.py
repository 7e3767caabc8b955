"""Building: equal bytes on every way there, and only what changed is computed again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from conftest import Dataset, published, run
from local import shard_keys, shard_path
from shards import flip_chunk, shards

from ocr_precompute.checking.verify import verify
from ocr_precompute.errors import StoreError
from ocr_precompute.format.shard import MappedFile
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.report import BuildReport
from ocr_precompute.reading.store import open_store
from ocr_precompute.settings import Settings, Source


def rebuilt(dataset: Dataset, settings: Settings, **options: bool) -> BuildReport:
    return build("val", dataset.source, settings, **options)


def at(settings: Settings, store: Path, **changes: object) -> Settings:
    return settings.model_copy(update={"store": store, **changes})


def test_first_build_then_nothing_to_do(dataset: Dataset, settings: Settings) -> None:
    first = rebuilt(dataset, settings)
    assert (first.samples, first.computed, first.copied) == (24, 24, 0)
    assert first.built == first.shards == len(shard_keys(settings.store))
    before = published(settings.store)
    second = rebuilt(dataset, settings)
    assert second.up_to_date
    assert (second.built, second.computed, second.reused) == (0, 0, first.shards)
    assert second.data_hash == first.data_hash
    assert published(settings.store) == before


def test_workers_and_backends_give_equal_bytes(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    rebuilt(dataset, settings)
    for backend, jobs in (("loky", 2), ("threading", 2), ("threading", 3), ("loky", 1)):
        other = at(settings, tmp_path / f"{backend}{jobs}", backend=backend, jobs=jobs)
        rebuilt(dataset, other)
        assert published(other.store) == published(settings.store)


def test_little_work_gets_few_workers(
    dataset: Dataset, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def noted(function: Callable, tasks: Sequence, jobs: int, *_: object) -> Iterator:
        asked.append(jobs)
        return map(function, tasks)

    monkeypatch.setattr("ocr_precompute.pipeline.encode.run", noted)
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    for number, (worth, jobs) in enumerate([(64, None), (10, None), (1, None), (64, 5)]):
        monkeypatch.setattr("ocr_precompute.pipeline.encode._WORTH_A_WORKER", worth)
        rebuilt(dataset, at(settings, tmp_path / str(number), jobs=jobs))
    assert asked == [1, 3, 8, 5]


def test_one_edited_polygon(dataset: Dataset, settings: Settings) -> None:
    before = rebuilt(dataset, settings)
    dataset.points("page_007.jpg")[0][0] += 0.5
    dataset.save()
    after = rebuilt(dataset, settings)
    assert (after.built, after.computed) == (1, 1)
    assert after.copied > 0
    assert after.data_hash != before.data_hash


@pytest.mark.parametrize("position", [0, 3, 11, 23])
def test_removed_added_and_renamed(dataset: Dataset, settings: Settings, position: int) -> None:
    rebuilt(dataset, settings)
    name = f"page_{position:03d}.jpg"
    dataset.remove(name)
    dataset.save()
    removed = rebuilt(dataset, settings)
    assert removed.built <= 2
    assert (removed.computed, removed.samples) == (0, 23)
    dataset.add(f"page_{position:03d}b.jpg")
    dataset.save()
    added = rebuilt(dataset, settings)
    assert added.built <= 2
    assert (added.computed, added.samples) == (1, 24)
    dataset.rename(f"page_{position:03d}b.jpg", f"page_{position:03d}c.jpg")
    dataset.save()
    renamed = rebuilt(dataset, settings)
    assert renamed.built <= 2
    assert (renamed.computed, renamed.samples) == (0, 24)
    assert f"page_{position:03d}c.jpg" in open_store(settings.store).split("val").names


def test_a_history_of_edits_leaves_no_trace(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    rebuilt(dataset, settings)
    for step in range(8):
        dataset.remove(f"page_{3 * step:03d}.jpg")
        dataset.add(f"new_{step}.png")
        dataset.points(f"page_{3 * step + 1:03d}.jpg")[1][1] += step
        dataset.save()
        rebuilt(dataset, settings)
    fresh = at(settings, tmp_path / "fresh")
    rebuilt(dataset, fresh)
    old, new = published(settings.store), published(fresh.store)
    assert old["splits/val.json"] == new["splits/val.json"]
    assert {name: old[name] for name in new} == new


def test_a_changed_image_is_noticed(dataset: Dataset, settings: Settings) -> None:
    rebuilt(dataset, settings)
    first, second = (dataset.images / f"page_00{n}.jpg" for n in (1, 2))
    first.write_bytes(second.read_bytes())
    after = rebuilt(dataset, settings)
    assert (after.built, after.computed) == (1, 1)
    split = open_store(settings.store).split("val")
    assert (split[1].image == split[2].image).all()


def test_a_changed_parameter_builds_everything_and_changing_back_nothing(
    dataset: Dataset, settings: Settings
) -> None:
    first = rebuilt(dataset, settings)
    seed = rebuilt(dataset, at(settings, settings.store, recipe="seed"))
    assert (seed.computed, seed.reused) == (24, 0)
    back = rebuilt(dataset, settings)
    assert (back.built, back.data_hash) == (0, first.data_hash)
    assert not back.up_to_date


def test_shard_length_moves_rows_and_computes_none(dataset: Dataset, settings: Settings) -> None:
    rebuilt(dataset, settings)
    longer = rebuilt(dataset, at(settings, settings.store, shard_length=16))
    assert longer.computed == 0
    assert longer.copied > 0


def test_two_splits_share_rows(dataset: Dataset, settings: Settings) -> None:
    rebuilt(dataset, settings)
    for number in range(5):
        dataset.remove(f"page_{number:03d}.jpg")
    dataset.save()
    report = build("part", dataset.source, settings)
    assert report.computed == 0
    assert open_store(settings.store).splits == ["part", "val"]


def test_an_update_opens_only_the_shards_that_it_replaces(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilt(dataset, settings)
    before = shard_keys(settings.store)
    opened: list[str] = []

    def watched(path: Path) -> MappedFile:
        opened.append(path.stem)
        return MappedFile(path)

    monkeypatch.setattr("ocr_precompute.storage.folder.MappedFile", watched)
    dataset.points("page_007.jpg")[0][0] += 0.5
    dataset.save()
    rebuilt(dataset, settings)
    kept = {shard.key for shard in open_store(settings.store).split("val").manifest.shards}
    assert len(before) > 2
    assert before.intersection(opened) == before - kept
    assert len(before - kept) == 1


def test_a_row_is_copied_from_a_shard_that_stays(dataset: Dataset, settings: Settings) -> None:
    rebuilt(dataset, settings)
    (dataset.images / "twin.jpg").write_bytes((dataset.images / "page_000.jpg").read_bytes())
    dataset.document["images"]["twin.jpg"] = dataset.document["images"]["page_000.jpg"]
    dataset.save()
    report = rebuilt(dataset, settings)
    assert (report.computed, report.samples) == (0, 25)


def test_a_damaged_row_is_computed_not_copied(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    rebuilt(dataset, settings)
    first, *_ = open_store(settings.store).split("val").manifest.shards
    before = shard_keys(settings.store)
    for key in before:
        flip_chunk(shard_path(settings.store, key), "image", byte=40)
    dataset.points(f"page_{first.samples + 1:03d}.jpg")[0][0] += 0.5
    dataset.save()
    report = rebuilt(dataset, settings)
    assert report.computed == 2  # the edited sample, and the damaged one in its shard
    fresh = at(settings, tmp_path / "fresh")
    rebuilt(dataset, fresh)
    (new,) = shard_keys(settings.store) - before
    assert shard_path(settings.store, new).read_bytes() == shard_path(fresh.store, new).read_bytes()


def test_dry_run_changes_nothing(dataset: Dataset, settings: Settings) -> None:
    dry = rebuilt(dataset, settings, dry_run=True)
    assert not settings.store.exists()
    assert dry.built == dry.shards > 0
    real = rebuilt(dataset, settings)
    assert (dry.data_hash, dry.built, dry.computed) == (real.data_hash, real.built, real.computed)
    dataset.points("page_007.jpg")[0][0] += 0.5
    dataset.save()
    before = published(settings.store)
    edited = rebuilt(dataset, settings, dry_run=True)
    assert (edited.built, edited.computed) == (1, 1)
    assert published(settings.store) == before


def test_dry_run_refuses_what_a_build_would(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(StoreError, match="is not a store and not empty"):
        rebuilt(dataset, at(settings, tmp_path / "home"), dry_run=True)


def test_a_missing_shard_is_built_again(dataset: Dataset, settings: Settings) -> None:
    first = rebuilt(dataset, settings)
    before = published(settings.store)
    shards(settings.store)[0].unlink()
    again = rebuilt(dataset, settings)
    assert (again.built, again.reused) == (1, first.shards - 1)
    assert published(settings.store) == before


def test_rectangular_size(dataset: Dataset, settings: Settings) -> None:
    rebuilt(dataset, at(settings, settings.store, size=(48, 96)))
    sample = open_store(settings.store).split("val")[0]
    assert sample.image.shape == (48, 96, 3)
    assert sample.thresh.shape == (48, 96)


def test_the_command_prints_one_document(dataset: Dataset, tmp_path: Path) -> None:
    flags = [*dataset.flags(), "--store", tmp_path / "store", "--size", "64", "--json"]
    result = run("build", *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    wanted = {"split", "data_hash", "samples", "shards", "built", "reused", "skipped", "seconds"}
    assert wanted <= set(document)
    assert (document["split"], document["samples"], document["skipped"]) == ("val", 24, 0)
    again = run("build", *flags, cwd=tmp_path)
    assert json.loads(again.stdout)["up_to_date"]
    assert "up to date" in again.stderr
    checked = run("verify", "--store", tmp_path / "store", "--recompute", "1", "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout) == {
        "ok": True,
        "samples": 24,
        "shards": document["shards"],
        "recomputed": 24,
        "problems": [],
        "repaired": [],
        "read": document["shards"],
        "by_checksum": 0,
        "by_end": 0,
    }


@pytest.mark.parametrize("recipe", ["seed", "dbnet"])
@pytest.mark.parametrize("name", ["sroie/train", "sroie/val", "icdar2015"])
def test_real_data(shared: Path, tmp_path: Path, name: str, recipe: str) -> None:
    folder = shared / name
    labels = folder / ("gt" if name == "icdar2015" else "box")
    real = Source(images=folder / "img", annotations=labels)
    report = build("real", real, Settings(store=tmp_path / "store", recipe=recipe))
    assert report.samples == len(list((folder / "img").iterdir()))
    checked = verify(tmp_path / "store", sources={"real": real}, recompute=1)
    assert checked.problems == ()
    assert checked.recomputed == report.samples
