"""A store in a bucket, read through a cache: what it costs, what it survives, and what it says."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import random
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bucket import SECRET, URL, Bucket, serving
from cache_process import read_all, read_one, read_what_is_open, split_of
from conftest import Dataset
from typer.testing import CliRunner

from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.data_module import DetectionData
from ocr_precompute.cli.app import app
from ocr_precompute.errors import StoreError
from ocr_precompute.format.schema import MAPS
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import open_store
from ocr_precompute.settings import Settings, parse_bytes
from ocr_precompute.storage.faults import RemoteError

FIELDS = ("image", "thresh")


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in a folder, of a dozen shards."""
    folder = tmp_path_factory.mktemp("near")
    dataset = Dataset(folder / "data")
    settings = Settings(store=folder / "s", size=64, shard_length=2, backend="sequential")
    build("val", dataset.source, settings)
    return folder / "s"


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def options(
    bucket: Bucket, near: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """What leads to the bucket, which holds the store."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with serving(bucket) as found:
        bucket.fill(near, found)
        yield {**found, "timeout": "20"}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def dataset_of(options: Mapping[str, str], cache: Path, **more: Any) -> StoreDataset:
    return StoreDataset(URL, "val", FIELDS, options=options, cache=cache, **more)


def kept(cache: Path) -> dict[str, int]:
    """Bytes of each shard in a cache, by key."""
    return {path.stem: path.stat().st_size for path in cache.glob("*.shard")}


def assert_right(split: Split, near: Path, indices: list[int] | None = None) -> None:
    """Every map is that of the local store, byte for byte."""
    local = open_store(near)["val"]
    indices = list(range(len(local))) if indices is None else indices
    found, wanted = split.read(indices, tuple(MAPS)), local.read(indices, tuple(MAPS))
    for field in MAPS:
        assert np.array_equal(found[field], wanted[field])
    for index in indices:
        assert split.record(index).name == local.record(index).name


def epoch(dataset: StoreDataset, **more: Any) -> list[np.ndarray]:
    """The images of an epoch, in its order."""
    loader = BatchLoader(dataset, 4, shuffle=True, threads=2, window=3, **more)
    return [image.numpy().copy() for batch in loader for image in batch["image"]]


# ------------------------------------------------------------------------------ what it costs


def test_one_request_a_shard_cold_and_none_warm(
    bucket: Bucket, options: dict[str, str], cache: Path, near: Path
) -> None:
    local = epoch(StoreDataset(near, "val", FIELDS))
    cold = epoch(dataset_of(options, cache))
    shards = [entry.key for entry in open_store(near)["val"].manifest.shards]
    assert len(shards) >= 8
    assert bucket.shards == dict.fromkeys(shards, 1)
    assert set(kept(cache)) == set(shards)
    bucket.gets.clear()
    warm = epoch(dataset_of(options, cache))
    assert not bucket.shards
    assert {path.split("/")[4] for path in bucket.gets} == {"zarr.json", "splits", "parts"}
    assert np.array_equal(cold, local)
    assert np.array_equal(warm, local)


def test_shards_are_fetched_ahead_of_who_reads(
    bucket: Bucket, options: dict[str, str], cache: Path
) -> None:
    """Eight requests are under way while nobody reads."""
    split = split_of(options, cache)
    split.record(0)
    bucket.fault = lambda number: "stop"
    with split.reading_ahead(range(len(split))):
        for _ in range(8):
            assert bucket.held.acquire(timeout=60)
    assert set(bucket.shards.values()) == {1}
    assert len(bucket.shards) == 9
    bucket.ended.set()


def test_the_bound_is_kept_and_what_was_not_used_for_longest_goes(
    options: dict[str, str], cache: Path, near: Path
) -> None:
    sizes = [p.stat().st_size for p in near.glob("shards/*/*.zip")]
    most = 5 * max(sizes)
    split = split_of(options, cache, cache_size=most)
    shards = split.manifest.shards
    firsts = [0, *np.cumsum([entry.samples for entry in shards])[:-1].tolist()]
    for number, index in enumerate(firsts):
        if number:
            os.utime(cache / f"{shards[0].key}.shard")
        assert_right(split, near, [index])
        assert sum(path.stat().st_size for path in cache.glob("*.*")) <= most
        assert {shards[0].key, shards[number].key} <= set(kept(cache))
    assert len(kept(cache)) < len(shards)
    assert shards[1].key not in kept(cache)
    assert_right(split, near)


def test_sizes_as_people_write_them() -> None:
    assert [parse_bytes(text) for text in (7, "7", "1.5 kB", "50GB", "2 tb")] == [
        7, 7, 1500, 50 * 10**9, 2 * 10**12,
    ]  # fmt: skip
    for text in ("", "GB", "5 GiB", "-1", "1e9", True):
        with pytest.raises(ValueError, match="is no number of bytes"):
            parse_bytes(text)


# ------------------------------------------------------------------------------ what it says


def test_a_bound_that_is_too_small_is_one_error_at_the_start(
    options: dict[str, str], cache: Path, near: Path
) -> None:
    with pytest.raises(StoreError, match=r"cache_size is 1000 bytes, and a shard takes \d+; give"):
        split_of(options, cache, cache_size="1 kB").record(0)
    size = max(p.stat().st_size for p in near.glob("shards/*/*.zip"))
    dataset = dataset_of(options, cache, cache_size=3 * size)
    with pytest.raises(StoreError, match=r"too small for the \d+ shards of \d+ bytes that are un"):
        next(iter(BatchLoader(dataset, 4, shuffle=True, window=3)))


def test_what_cannot_be_a_cache(options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="looks like a URL; give a folder"):
        split_of(options, "s3://bucket/cache")  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file: cannot be written: File exists; see to the disk"):
        split_of(options, tmp_path / "file").record(0)
    with pytest.raises(StoreError, match="timeout is 'soon'; give seconds"):
        open_store(URL, options={**options, "timeout": "soon"})
    with pytest.raises(ValueError, match=r"data\.storage holds secret_access_key; credentials bel"):
        DetectionData(URL, storage={"secret_access_key": SECRET})


def test_nobody_sees_the_credentials(
    bucket: Bucket, options: dict[str, str], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    dataset = dataset_of(options, cache)
    epoch(dataset)
    bucket.fault = lambda number: "503"
    with pytest.raises(RemoteError) as caught:
        split_of(options, cache / "other")
    said = "\n".join(each.getMessage() for each in caplog.records if "ocr" in each.name)
    assert "asked" in said
    for text in (said, str(caught.value), repr(dataset.split.storage), str(os.listdir(cache))):
        assert SECRET not in text
    assert SECRET.encode() not in pickle.dumps(dataset)


# -------------------------------------------------------------------------- what it survives


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "directory"])
def test_what_is_damaged_in_the_cache_is_fetched_again(
    bucket: Bucket, options: dict[str, str], cache: Path, near: Path, damage: str
) -> None:
    assert_right(split_of(options, cache), near)
    damaged = sorted(cache.glob("*.shard"))[:2]
    for path in damaged:
        data = bytearray(path.read_bytes())
        data[{"directory": -10}.get(damage, 300)] ^= 4
        size = {"cut": len(data) // 2, "empty": 0}.get(damage, len(data))
        path.write_bytes(data[:size])
    bucket.gets.clear()
    assert_right(split_of(options, cache), near)
    assert bucket.shards == {path.stem: 1 for path in damaged}
    assert_right(split_of(options, cache), near)
    assert sum(bucket.shards.values()) == 2


def test_what_is_damaged_in_the_bucket_is_an_error(
    bucket: Bucket, options: dict[str, str], cache: Path, near: Path
) -> None:
    split = split_of(options, cache)
    key = split.manifest.shards[0].key
    name = f"shards/{key[:2]}/{key}.zip"
    data = bytearray((near / name).read_bytes())
    data[300] ^= 1
    split.storage.put(name, bytes(data))
    with pytest.raises(StoreError, match=r"zip: is damaged, or not as this version writes shards"):
        split.record(0)
    assert bucket.shards == {key: 2}
    assert not kept(cache)
    split.storage.delete(name)
    with pytest.raises(StoreError, match=r"cannot be read \(.*there is no such object"):
        split.record(0)


@pytest.mark.parametrize("fault", ["503", "cut", "short"])
def test_faults_of_the_server_change_no_byte(
    bucket: Bucket, options: dict[str, str], cache: Path, near: Path, fault: str
) -> None:
    dataset, chance = dataset_of(options, cache), random.Random(4)
    faults = [fault if chance.random() < 0.2 else "" for _ in range(999)]
    faults[1], faults[2] = fault, ""
    bucket.gets.clear()
    bucket.latency, bucket.fault = 0.03, lambda number: faults[number]
    found = epoch(dataset)
    assert len(bucket.gets) > len(dataset.split.manifest.shards)
    assert np.array_equal(found, epoch(StoreDataset(near, "val", FIELDS)))


def test_a_server_that_stops_is_one_error_in_bounded_time(
    bucket: Bucket, options: dict[str, str], cache: Path
) -> None:
    dataset = dataset_of({**options, "timeout": "0.3"}, cache)
    bucket.gets.clear()
    bucket.fault = lambda number: "stop" if number > 4 else ""
    began = time.monotonic()
    with pytest.raises(RemoteError, match=r"gave no answer within 0\.3 s; see to the network"):
        epoch(dataset)
    assert time.monotonic() - began < 30  # a bound, not a speed
    assert {path.suffix for path in cache.iterdir()} <= {".shard", ".part", ""}


def test_a_shard_that_is_open_is_read_on_when_it_is_gone(
    options: dict[str, str], cache: Path, near: Path
) -> None:
    split = split_of(options, cache)
    assert_right(split, near)
    for path in cache.iterdir():
        path.unlink()
    assert_right(split, near)
    split.close()
    assert_right(split, near)


@pytest.mark.parametrize("shards", [12, 3])
def test_processes_share_a_cache(
    bucket: Bucket, options: dict[str, str], cache: Path, near: Path, shards: int
) -> None:
    """With room each shard is asked for once; without, each process deletes what others read."""
    local = open_store(near)["val"]
    wanted = int(local.read(range(len(local)), ["image"])["image"].sum())
    size = shards * max(path.stat().st_size for path in near.glob("shards/*/*.zip"))
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    processes = [
        context.Process(target=read_all, args=(options, cache, size, seed, answer))
        for seed in range(2)
    ]
    for process in processes:
        process.start()
    answers = [answer.get() for _ in processes]
    for process in processes:
        process.join()
    assert answers == [wanted] * 2
    assert (set(bucket.shards.values()) == {1}) == (shards == 12)
    assert sum(kept(cache).values()) <= size


def test_a_process_that_is_killed_leaves_no_lock(
    bucket: Bucket, options: dict[str, str], cache: Path, near: Path
) -> None:
    bucket.fault = lambda number: "stop" if bucket.shards else ""
    process = multiprocessing.get_context("spawn").Process(target=read_one, args=(options, cache))
    process.start()
    assert bucket.held.acquire(timeout=60)
    (part,) = cache.glob("*.part")
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    bucket.fault = lambda number: ""
    split = split_of(options, cache)
    assert_right(split, near)
    assert part.stem in kept(cache)
    assert not list(cache.glob("*.part"))


def test_what_the_killed_have_left_makes_room(
    options: dict[str, str], cache: Path, near: Path
) -> None:
    size = sum(path.stat().st_size for path in near.glob("shards/*/*.zip"))
    cache.mkdir()
    left, foreign = cache / f"{'ab' * 32}.part", cache / "notes.txt"
    left.write_bytes(bytes(size))
    foreign.write_bytes(bytes(size))
    (cache / "bytes").write_text("what is this")
    assert_right(split_of(options, cache, cache_size=size + 99), near)
    assert not left.exists()
    assert foreign.exists()
    assert sum(kept(cache).values()) <= size


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_cache_that_is_filled_serves_forks_and_copies(
    options: dict[str, str], cache: Path, near: Path
) -> None:
    split = split_of(options, cache)
    with split.reading_ahead(range(len(split))):
        assert_right(split, near)
        copy = pickle.loads(pickle.dumps(split))
        assert_right(copy, near)
        process = multiprocessing.get_context("fork").Process(
            target=read_what_is_open, args=(split,)
        )
        process.start()
        process.join(60)
    assert process.exitcode == 0


def test_a_gallery_is_drawn_from_the_cache(
    bucket: Bucket, options: dict[str, str], cache: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    kept = {"cache": str(cache), "cache_size": "1 MB"}
    config.write_text(json.dumps({"store": URL, "storage": options, **kept}))
    flags = ["preview", "--split", "val", "--html", str(tmp_path / "val.html")]
    for wanted in ({1}, set()):
        done = CliRunner().invoke(app, [*flags, "--config", str(config)])
        assert done.exit_code == 0, done.output
        assert set(bucket.shards.values()) == wanted
        bucket.gets.clear()
    config.write_text(json.dumps({"store": URL, "cache_size": "much"}))
    done = CliRunner().invoke(app, [*flags, "--config", str(config)])
    assert "'much' is no number of bytes" in done.output
    assert done.exit_code != 0


def test_a_folder_of_a_slow_disk_can_have_a_cache(near: Path, cache: Path) -> None:
    split = open_store(near, cache=cache)["val"]
    assert_right(split, near)
    assert set(kept(cache)) == {shard.key for shard in split.manifest.shards}
