"""The parts of a manifest: what they say, where they are cut, and what becomes of damaged ones."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import Dataset, published, run, tree_bytes
from hypothesis import given
from hypothesis import settings as drawn
from hypothesis import strategies as st
from local import manifest_path, part_path, publish_manifest, read_manifest, shard_keys
from shards import flip

from ocr_precompute import Settings, build, open_store, verify
from ocr_precompute.errors import StoreError
from ocr_precompute.format.manifest import Manifest, PartEntry, ShardEntry
from ocr_precompute.format.parts import (
    ARRAYS,
    ShardContents,
    cut_parts,
    part_index,
    part_shards,
)
from ocr_precompute.storage.garbage import collect_garbage

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def store(dataset: Dataset, settings: Settings) -> Path:
    (dataset.images / "äß").mkdir()
    dataset.add("äß/page 1.png", (50, 120))
    dataset.save()
    build("val", dataset.source, settings)
    return settings.store


def part_of(store: Path) -> Path:
    (path,) = (store / "parts").iterdir()
    return path


def contents(names: list[str], seed: int = 0) -> list[ShardContents]:
    """A shard for each name, of that name and two more samples."""
    found = []
    for number, name in enumerate(names):
        key = hashlib.sha256(f"{name} {seed}".encode()).hexdigest()
        sizes = np.full((3, 2), number + 1, np.int32)
        found.append(ShardContents(ShardEntry(key, 3), [name, f"{name}/b", f"{name}/c"], sizes))
    return found


# -------------------------------------------------------------------------------------- contents


def test_a_part_is_an_archive_that_zarr_reads(store: Path) -> None:
    split = open_store(store)["val"]
    path = part_of(store)
    assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()
    with zarr.storage.ZipStore(path, mode="r") as held:
        group = zarr.open_group(held, mode="r")
        assert set(group.array_keys()) == set(ARRAYS)
        keys = [bytes(key).hex() for key in group["shard_key"][:]]
        assert list(map(ShardEntry, keys, group["shard_samples"][:].tolist())) == list(
            split.manifest.shards
        )
        text, ends = bytes(group["name_bytes"][:]), group["name_offsets"][:].tolist()
        names = [text[a:b].decode() for a, b in itertools.pairwise(ends)]
        assert names == list(split.names)
        sizes = group["original_size"][:].tolist()
    assert sizes == [list(split.record(index).original_size) for index in range(len(split))]


def test_names_and_sizes_are_known_without_a_shard(store: Path) -> None:
    before = open_store(store)["val"]
    names = [before.record(index).name for index in range(len(before))]
    shutil.rmtree(store / "shards")
    split = open_store(store)["val"]
    assert list(split.names) == names
    assert split.index(names[7]) == 7
    # Of 96 x 80 and 50 x 120, letterboxed into 64 x 64.
    assert {tuple(size) for size in split.content_sizes().tolist()} == {(64, 53), (27, 64)}


def test_the_root_names_parts_alone(store: Path) -> None:
    document = json.loads(manifest_path(store, "val").read_text())
    path = part_of(store)
    split = open_store(store)["val"]
    assert document["parts"] == [
        {"key": path.stem, "shards": len(split.manifest.shards), "samples": len(split)}
    ]
    assert not any(shard.key in json.dumps(document) for shard in split.manifest.shards)


names = st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), unique=True, max_size=80)


@drawn(max_examples=40, deadline=None)
@given(names=names, length=st.integers(2, 20), seed=st.integers(0, 9))
def test_parts_hold_all_shards_and_samples_in_order(
    names: list[str], length: int, seed: int
) -> None:
    shards = contents(names, seed)
    parts = list(cut_parts(shards, length))
    read = [entry for part, data in parts for entry in part_shards(data, part)]
    assert read == [shard.entry for shard in shards]
    found = [part_index(data, part) for part, data in parts]
    assert [name for part in found for name in part.names] == [
        name for shard in shards for name in shard.names
    ]
    assert [size for part in found for size in part.sizes.tolist()] == [
        size for shard in shards for size in shard.sizes.tolist()
    ]
    assert all(part.shards <= 2 * length for part, _ in parts)


def test_a_change_stays_in_its_part() -> None:
    shards = contents([f"{number:04d}" for number in range(600)])
    before = {part.key for part, _ in cut_parts(shards, 16)}
    assert len(before) > 25
    draw = random.Random(5)
    for _ in range(20):
        at = draw.randrange(len(shards))
        changed = [*shards[:at], *contents([f"{at:04d} new"]), *shards[at + draw.randint(0, 1) :]]
        after = {part.key for part, _ in cut_parts(changed, 16)}
        assert 1 <= len(after - before) <= 4


# ---------------------------------------------------------------------------------------- damage


def test_every_flipped_bit_of_a_part_is_found(store: Path) -> None:
    path = part_of(store)
    good = path.read_bytes()
    draw = random.Random(3)
    for _ in range(40):
        flip(path, draw.randrange(len(good)), draw.randrange(8))
        with pytest.raises(StoreError, match=rf"{path.stem}\.zip: is damaged \(its bytes are not"):
            open_store(store)["val"]
        (finding,) = verify(store).problems
        assert finding.kind == "manifest"
        assert "build the split again" in finding.detail
        path.write_bytes(good)
    assert verify(store).ok


@pytest.mark.parametrize("kind", ["damaged", "cut short", "missing", "folder", "another"])
def test_a_bad_part_is_one_line_and_built_again(
    store: Path, dataset: Dataset, settings: Settings, kind: str
) -> None:
    path, before, keys = part_of(store), published(store), shard_keys(store)
    good = path.read_bytes()
    path.unlink()
    if kind == "damaged":
        path.write_bytes(good[:99] + b"?" + good[100:])
    elif kind == "cut short":
        path.write_bytes(good[:-7])
    elif kind == "another":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    found = run("inspect", "--store", store)
    assert found.returncode == 2
    (line,) = [line for line in found.stderr.splitlines() if path.name in line]
    assert "build the split again" in line
    with pytest.raises(StoreError, match=path.name):  # which shards it names is not known
        collect_garbage(store, grace=timedelta())
    assert shard_keys(store) == keys
    if kind == "folder":
        with pytest.raises(StoreError, match=rf"parts/\S*{path.name}"):
            build("val", dataset.source, settings)
        path.rmdir()
    report = build("val", dataset.source, settings)
    assert (report.built, report.up_to_date) == (0, False)
    assert published(store) == before
    assert verify(store).ok


def resealed(store: Path, change: Callable[[ShardContents], ShardContents]) -> None:
    """Publish the split with parts that say something else, and fit in themselves."""
    manifest = read_manifest(store, "val")
    assert manifest is not None
    split, shards, first = open_store(store)["val"], [], 0
    sizes = np.array([split.record(index).original_size for index in range(len(split))], np.int32)
    for entry in manifest.shards:
        rows = slice(first, first + entry.samples)
        shards.append(ShardContents(entry, split.names[rows], sizes[rows]))
        first += entry.samples
    assert tuple(part for part, _ in cut_parts(shards)) == manifest.parts
    parts = dict(cut_parts([change(shards[0]), *shards[1:]]))
    changed = replace(manifest, parts=tuple(parts))
    publish_manifest(store, changed, {part.key: data for part, data in parts.items()})


@pytest.mark.parametrize(
    "change",
    [
        lambda shard: replace(shard, names=["other.jpg", *shard.names[1:]]),
        lambda shard: replace(shard, sizes=shard.sizes + 1),
    ],
    ids=["names", "sizes"],
)
def test_what_parts_say_is_compared_with_the_shards(
    store: Path, change: Callable[[ShardContents], ShardContents]
) -> None:
    resealed(store, change)
    (finding,) = verify(store).problems
    assert "the names and sizes in its parts are not those of its shards" in finding.detail


@pytest.mark.parametrize(
    "counts", [{"shards": 1}, {"samples": 1}, {"samples": 10**12}, {"shards": 2**40}]
)
def test_a_root_that_claims_other_counts(store: Path, counts: dict[str, int]) -> None:
    path = manifest_path(store, "val")
    document = json.loads(path.read_text())
    document["parts"][0] |= counts
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="it holds other shards than the manifest says"):
        open_store(store)["val"]


def test_a_part_of_shards_of_no_sensible_length(store: Path) -> None:
    (odd,) = cut_parts([ShardContents(ShardEntry("0" * 64, 2**30), [], np.zeros((0, 2)))])
    with pytest.raises(ValueError, match="a length that none has"):
        part_shards(odd[1], odd[0])


# ------------------------------------------------------------------------------------------- gc


def test_old_parts_go_with_their_grace(store: Path, dataset: Dataset, settings: Settings) -> None:
    reader = open_store(store)["val"]
    old = part_of(store)
    dataset.points("page_003.jpg")[0][0] += 1
    dataset.save()
    build("val", dataset.source, settings)
    garbage = collect_garbage(store, now=NOW)
    assert garbage.parts == garbage.shards == ()
    assert old.stem in {kept.key for kept in garbage.kept}
    assert len(reader.names) == len(reader)  # read now, from a part that nothing names
    garbage = collect_garbage(store, now=NOW + timedelta(days=1))
    assert garbage.parts == (old.stem,)
    assert not old.exists()
    assert len(garbage.shards) == 1
    assert verify(store).ok


def test_a_part_that_is_named_again_stays(
    store: Path, dataset: Dataset, settings: Settings
) -> None:
    old = part_of(store)
    before = published(store)
    dataset.points("page_003.jpg")[0][0] += 1
    dataset.save()
    build("val", dataset.source, settings)
    collect_garbage(store, now=NOW)
    dataset.points("page_003.jpg")[0][0] -= 1
    dataset.save()
    build("val", dataset.source, settings)
    assert not (store / "unnamed" / old.stem).exists()
    assert collect_garbage(store, now=NOW + timedelta(days=9)).parts != (old.stem,)
    after = published(store)
    assert {name: after[name] for name in before} == before
    assert verify(store).ok


def test_what_is_no_part_of_ours_stays(store: Path) -> None:
    mine = store / "parts" / "notes.txt"
    mine.write_text("mine")
    before = tree_bytes(store / "parts")
    garbage = collect_garbage(store, grace=timedelta())
    assert garbage.foreign == ("parts/notes.txt",)
    assert tree_bytes(store / "parts") == before


def test_parts_belong_to_no_split_alone(store: Path, dataset: Dataset, settings: Settings) -> None:
    """Two splits of the same samples share them, and one goes without the other."""
    build("again", dataset.source, settings)
    manifest = read_manifest(store, "again")
    assert isinstance(manifest, Manifest)
    assert manifest.parts == (PartEntry(part_of(store).stem, len(manifest.shards), 25),)
    assert run("remove", "--split", "again", "--store", store).returncode == 0
    collect_garbage(store, grace=timedelta())
    assert part_path(store, manifest.parts[0].key).exists()
