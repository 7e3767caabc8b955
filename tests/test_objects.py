"""Stores in object storage: built, read, verified and cleaned there, as in a folder."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import Dataset
from faulty import GoogleService
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from ocr_precompute.checking.repair import repair
from ocr_precompute.checking.verify import verify
from ocr_precompute.cli.app import app
from ocr_precompute.errors import StoreError
from ocr_precompute.format.schema import MAPS
from ocr_precompute.pipeline import build as building
from ocr_precompute.pipeline import publish
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.store import open_store
from ocr_precompute.settings import Settings
from ocr_precompute.storage import leases
from ocr_precompute.storage.folder import Folder
from ocr_precompute.storage.garbage import GRACE, collect_garbage, remove_split
from ocr_precompute.storage.objects import Objects
from ocr_precompute.storage.seam import ConflictError, Storage
from ocr_precompute.storage.store import (
    create_store,
    manifest_name,
    note_name,
    part_name,
    read_manifest,
    shard_name,
)

URL = "s3://bucket/some/store"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a service that keeps to the conditions of writes as S3 does."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    served = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    yield f"http://{host}:{port}"
    served.stop()


@pytest.fixture
def options(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mapping[str, str]:
    """An empty bucket, and what has to be said to find it."""
    for request in (
        urllib.request.Request(f"{server}/moto-api/reset", method="POST"),
        urllib.request.Request(f"{server}/bucket", method="PUT"),
    ):
        urllib.request.urlopen(request).close()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "word-that-nobody-sees")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return {"endpoint": server, "region": "us-east-1"}


@pytest.fixture
def far(settings: Settings, options: Mapping[str, str]) -> Settings:
    """Settings of a store in the bucket."""
    return settings.model_copy(update={"store": URL, "storage": dict(options)})


@pytest.fixture
def storage(options: Mapping[str, str]) -> Objects:
    return Objects(URL, 10, options)


def objects(storage: Storage, *prefixes: str) -> dict[str, bytes]:
    """Everything below some prefixes, by name."""
    names = [each.name for prefix in prefixes for each in storage.list(prefix)]
    return {name: bytes(storage.fetch(name).read(0, storage.size(name))) for name in names}


def test_the_same_bytes_as_in_a_folder(
    dataset: Dataset, settings: Settings, far: Settings, storage: Objects
) -> None:
    here, there = build("val", dataset.source, settings), build("val", dataset.source, far)
    assert there.data_hash == here.data_hash
    kinds = ("shards/", "parts/", "splits/")
    assert objects(storage, *kinds) == objects(Folder(Path(settings.store)), *kinds)
    again = build("val", dataset.source, far)
    assert (again.up_to_date, again.built) == (True, 0)
    assert {each.name.split("/")[0] for each in storage.list("")} == {
        "zarr.json", "shards", "parts", "splits",
    }  # fmt: skip
    assert sorted(os.listdir(storage.workspace())) == []


def test_samples_are_equal(
    dataset: Dataset, settings: Settings, far: Settings, options: Mapping[str, str]
) -> None:
    build("val", dataset.source, settings)
    build("val", dataset.source, far)
    near, away = open_store(settings.store)["val"], open_store(URL, options=options)["val"]
    assert away.names == near.names
    batch = away.read([0, 9, 3], tuple(MAPS))
    for field, array in near.read([0, 9, 3], tuple(MAPS)).items():
        assert np.array_equal(batch[field], array)


def test_only_what_changed_is_sent(
    dataset: Dataset, far: Settings, storage: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build("val", dataset.source, far)
    placed: list[str] = []
    place = Objects.place
    monkeypatch.setattr(
        Objects, "place", lambda self, path, name: (placed.append(name), place(self, path, name))
    )
    dataset.points("page_007.jpg")[0][0] += 0.5
    dataset.save()
    second = build("val", dataset.source, far)
    assert second.built == len(placed) < first.shards
    assert second.copied > 0
    report = verify(storage, sources={"val": dataset.source}, recompute=1.0)
    assert (report.ok, report.read) == (True, second.shards)


def test_verify_finds_and_repairs_a_flipped_bit(
    dataset: Dataset, far: Settings, storage: Objects
) -> None:
    build("val", dataset.source, far)
    manifest = read_manifest(storage, "val")
    assert manifest
    name = shard_name(manifest.shards[1].key)
    good = bytes(storage.fetch(name).data)
    storage.put(name, good[:999] + bytes([good[999] ^ 1]) + good[1000:])
    report = verify(storage, sources={"val": dataset.source}, full=True)
    assert {finding.shard for finding in report.problems} == {manifest.shards[1].key}
    done = repair(storage, report, {"val": dataset.source})
    assert done.repaired == (manifest.shards[1].key,)
    assert bytes(storage.fetch(name).data) == good
    storage.delete(name)
    report = verify(storage)
    assert "the file is missing" in report.problems[0].detail


def test_commands_take_a_url(dataset: Dataset, options: Mapping[str, str], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"storage": dict(options), "size": 64, "store": URL}))
    here = ["--images", str(dataset.images), "--annotations", str(dataset.annotations)]
    for command in (
        ["build", "--split", "val", "--jobs", "1", *here],
        ["verify", "--recompute", "0.2"],
        ["inspect", "--json"],
        ["preview", "--split", "val", "--out", str(tmp_path / "pictures"), "--count", "2"],
        ["gc", "--older-than", "0"],
        ["remove", "--split", "val"],
    ):
        done = CliRunner().invoke(app, [*command, "--config", str(config)])
        assert done.exit_code == 0, (command, done.output)
        assert "word-that-nobody-sees" not in done.output
    assert not list(Path().glob("s3:*"))


@pytest.mark.parametrize("kind", ["shard", "part", "manifest"])
def test_a_write_whose_answer_is_lost(storage: Objects, kind: str) -> None:
    """The service then refuses what is there already."""
    names = {"shard": shard_name("ab" * 32), "part": part_name("ab" * 32)}
    if kind == "manifest":
        storage.put_if("splits/val.json", b"one", None)
        storage.put_if("splits/val.json", b"one", None)
        with pytest.raises(ConflictError, match=r"splits/val.json: was written by somebody else"):
            storage.put_if("splits/val.json", b"two", None)
        assert storage.get("splits/val.json", 99) == b"one"
    else:
        storage.put_new(names[kind], b"one")
        storage.put_new(names[kind], b"one")
        storage.put_new(names[kind], b"another, since that was damaged")
        assert storage.get(names[kind], 99) == b"another, since that was damaged"


def test_of_two_that_publish_both_end_right(
    dataset: Dataset, far: Settings, storage: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused by the service, plans again, and publishes what it was asked for."""
    build("val", dataset.source, far)
    seen: list[bytes] = []
    put_if = Objects.put_if

    def overtaken(self: Objects, name: str, data: bytes, tag: str | None) -> None:
        if not seen:
            seen.append(data)
            other = far.model_copy(update={"shrink_ratio": 0.5})
            build("val", dataset.source, other)
            seen.append(self.get(name, 2**20))
        put_if(self, name, data, tag)

    monkeypatch.setattr(Objects, "put_if", overtaken)
    wanted = build("val", dataset.source, far.model_copy(update={"thresh_max": 0.6}))
    assert len(seen) == 2
    found = read_manifest(storage, "val")
    assert found
    assert found.data_hash == wanted.data_hash
    assert found.parameters.recipe.thresh_max == 0.6
    assert verify(storage, sources={"val": dataset.source}).ok


def test_nothing_is_published_with_a_shard_missing(
    dataset: Dataset, far: Settings, storage: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = publish.publish

    def gone(request: object, planned: object) -> object:
        storage.delete(shard_name(planned.shards[0].key))  # type: ignore[attr-defined]
        return whole(request, planned)  # type: ignore[arg-type]

    monkeypatch.setattr("ocr_precompute.pipeline.build.publish", gone)
    with pytest.raises(StoreError, match=r"cannot be read .*; nothing was published"):
        build("val", dataset.source, far)
    assert read_manifest(storage, "val") is None


def test_of_two_builds_at_once_each_finds_what_the_other_did(
    dataset: Dataset, far: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = building.encode

    def overtaken(request: object, planned: object) -> object:
        monkeypatch.setattr(building, "encode", encode)
        assert build("val", dataset.source, far).computed == 24
        return encode(request, planned)  # type: ignore[arg-type]

    monkeypatch.setattr(building, "encode", overtaken)
    report = build("val", dataset.source, far)
    assert (report.built, report.computed, report.reused) == (0, 0, report.shards)


def _lives(dataset: Dataset, settings: Settings, storage: Objects) -> None:
    """A store is built, refused to whoever has seen an older state, built anew, and collected."""
    build("val", dataset.source, settings)
    _, tag = storage.get_tagged(manifest_name("val"), 2**20)
    report = build("val", dataset.source, settings.model_copy(update={"shrink_ratio": 0.5}))
    assert report.built == report.shards
    with pytest.raises(ConflictError):
        storage.put_if(manifest_name("val"), b"{}", tag)
    assert verify(storage, sources={"val": dataset.source}).ok
    assert len(collect_garbage(storage, grace=timedelta(0)).shards) == report.shards
    assert open_store(storage)["val"]["page_000.jpg"].image.shape == (64, 64, 3)


def test_google_knows_files_by_their_generation(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with GoogleService() as service:
        # what the service's own emulators are named by; there is no key in it
        named = {"gcs_base_url": service.address, "disable_oauth": True}
        account = {**named, "client_email": "", "private_key": "", "private_key_id": ""}
        options = {"service_account_key": json.dumps(account)}
        far = settings.model_copy(update={"store": "gs://bucket/some/store", "storage": options})
        _lives(dataset, far, Objects("gs://bucket/some/store", 10, options))


def test_a_store_in_memory(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    near = settings.model_copy(update={"store": f"memory://{tmp_path.name}"})
    _lives(dataset, near, Objects(str(near.store)))
    for backend in ("loky", "dask"):
        with pytest.raises(StoreError, match=rf"workers of the backend {backend} do not see"):
            build("val", dataset.source, near.model_copy(update={"backend": backend}))


@pytest.mark.parametrize("ignored", ["create", "tag"])
def test_a_service_that_ignores_conditions(
    storage: Objects, monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    put = Objects._put

    def careless(self: Objects, name: str, data: bytes, mode: object) -> None:
        kind = "create" if mode == "create" else "tag"
        put(self, name, data, "overwrite" if kind == ignored else mode)

    monkeypatch.setattr(Objects, "_put", careless)
    with pytest.raises(StoreError, match="this service ignores the conditions of writes"):
        create_store(storage)
    assert list(storage.list("")) == []


def test_gc_keeps_what_is_named_and_lets_grace_pass(
    dataset: Dataset, far: Settings, storage: Objects
) -> None:
    build("val", dataset.source, far)
    old = read_manifest(storage, "val")
    build("val", dataset.source, far.model_copy(update={"shrink_ratio": 0.5}))
    new = read_manifest(storage, "val")
    assert old
    assert new
    assert not set(old.keys) & set(new.keys)
    kept = collect_garbage(storage)
    assert {each.key for each in kept.kept} == set(old.keys)
    assert {each.name for each in storage.list("unnamed/")} == {note_name(k) for k in old.keys}
    done = collect_garbage(storage, grace=timedelta(0))
    assert {*done.shards, *done.parts} == set(old.keys)
    assert verify(storage).ok
    assert list(storage.list("unnamed/")) == []
    remove_split(storage, "val")
    assert not any(each.name == manifest_name("val") for each in storage.list("splits/"))
    assert timedelta(0) < GRACE


def test_gc_and_builds_do_not_meet(
    dataset: Dataset, far: Settings, storage: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("val", dataset.source, far)
    with leases.build_lease(storage):
        with pytest.raises(StoreError, match=r"a build is running; nothing was deleted"):
            collect_garbage(storage)
        with leases.build_lease(storage):  # builds do not mind each other
            pass
    monkeypatch.setattr(leases, "_LOOK", 0.01)
    built: list[str] = []
    with leases.gc_lease(storage):
        thread = threading.Thread(
            target=lambda: built.append(build("val", dataset.source, far).data_hash)
        )
        thread.start()
        while not leases.alive(storage, "builds/", ""):
            pass
        assert not built
    thread.join(60)
    assert len(built) == 1


def test_who_was_lost_is_left_out_of_account(
    storage: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_store(storage)
    storage.put("builds/lost", b"")
    with pytest.raises(StoreError, match="a build is running"):
        collect_garbage(storage)
    monkeypatch.setattr(leases, "_LOST", timedelta(seconds=-1))
    collect_garbage(storage)
    assert list(storage.list("builds/")) == []


def _fork_reads(options: Mapping[str, str], answer: object) -> None:
    try:
        open_store(URL, options=options)
        answer.put("read")  # type: ignore[attr-defined]
    except StoreError as error:
        answer.put(str(error))  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_says_so_and_a_new_process_reads(
    dataset: Dataset, far: Settings, options: Mapping[str, str]
) -> None:
    build("val", dataset.source, far)
    for method, wanted in (
        ("fork", "cannot be read in a process that was forked"),
        ("spawn", "read"),
    ):
        context = multiprocessing.get_context(method)
        answer = context.SimpleQueue()
        process = context.Process(target=_fork_reads, args=(options, answer))
        process.start()
        assert wanted in answer.get()
        process.join()
