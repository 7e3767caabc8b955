"""push and pull: the same bytes on both sides, and only what is missing travels."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COMMAND, Dataset, tree_bytes
from faulty import FaultyService
from typer.testing import CliRunner

from ocr_precompute import copy_store
from ocr_precompute.checking.verify import verify
from ocr_precompute.cli.app import app
from ocr_precompute.errors import StoreError
from ocr_precompute.pipeline import copying
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.copying import CopyProgress
from ocr_precompute.settings import Settings
from ocr_precompute.storage import leases, objects
from ocr_precompute.storage.folder import Folder
from ocr_precompute.storage.garbage import collect_garbage
from ocr_precompute.storage.objects import Objects
from ocr_precompute.storage.seam import Storage
from ocr_precompute.storage.store import create_store, manifest_name, read_manifest, shard_name

URL = "s3://bucket/some/store"
KINDS = ("shards/", "parts/", "splits/")


@pytest.fixture
def far(bucket: dict[str, str]) -> Objects:
    return Objects(URL, 10, bucket)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two splits that share all shards, and one more."""
    folder = tmp_path_factory.mktemp("built")
    dataset = Dataset(folder / "data")
    settings = Settings(store=folder / "store", size=64, shard_length=8, backend="sequential")
    build("val", dataset.source, settings)
    build("same", dataset.source, settings)
    build("other", dataset.source, settings.model_copy(update={"shrink_ratio": 0.5}))
    return folder / "store"


@pytest.fixture
def near(built: Path, settings: Settings) -> Folder:
    """That store, to be changed."""
    shutil.copytree(built, settings.store)
    return Folder(Path(settings.store))


def files(storage: Storage, *kinds: str) -> dict[str, bytes]:
    """What a store holds below some prefixes."""
    names = [found.name for kind in kinds or KINDS for found in storage.list(kind)]
    return {name: b"".join(storage.pieces(name)) for name in names}


def keys(storage: Storage, split: str = "val") -> list[str]:
    manifest = read_manifest(storage, split)
    assert manifest
    return [shard.key for shard in manifest.shards]


def test_there_and_back(near: Folder, far: Objects, service: FaultyService, tmp_path: Path) -> None:
    report = copy_store(near, far)
    shards = len(list(near.list("shards/")))
    assert sum(each.sent for each in report.splits) == shards
    assert len(service.statuses("PUT", "/shards/")) == shards  # one request each
    assert files(far) == files(near)
    assert far.get("zarr.json", 999) == near.get("zarr.json", 999)
    assert {found.name.split("/")[0] for found in far.list("")} == {
        "zarr.json", "shards", "parts", "splits",
    }  # fmt: skip
    back = Folder(tmp_path / "back")
    pulled = copy_store(far, back)
    assert files(back) == files(near)
    assert [each.data_hash for each in pulled.splits] == [each.data_hash for each in report.splits]
    assert verify(back).ok
    assert list(back.list("tmp/")) == []


def test_between_folders_and_between_urls(
    near: Folder, far: Objects, bucket: dict[str, str], tmp_path: Path
) -> None:
    here, there = Folder(tmp_path / "here"), Objects("s3://bucket/another", 10, bucket)
    copy_store(near, here)
    copy_store(here, far)
    copy_store(far, there)
    assert files(near) == files(here) == files(there)
    assert not list(there.workspace().iterdir())
    for place in (near, far):
        with pytest.raises(StoreError, match="is source and target at once"):
            copy_store(place, place)
    (tmp_path / "link").symlink_to(near.path)
    with pytest.raises(StoreError, match="is source and target at once"):
        copy_store(near, tmp_path / "link")


def test_one_split_and_then_only_what_is_missing(
    near: Folder, far: Objects, service: FaultyService, dataset: Dataset, settings: Settings
) -> None:
    first = copy_store(near, far, ["val"])
    assert [each.split for each in first.splits] == ["val"]
    assert [found.name for found in far.list("splits/")] == ["splits/val.json"]
    with service.counted() as requests:
        again = copy_store(near, far, ["val"])
    assert again.splits[0].up_to_date
    assert again.splits[0].sent == again.splits[0].bytes == 0
    assert requests["PUT shards"] + requests["PUT splits"] + requests["PUT parts"] == 0
    assert copy_store(near, far, ["same"]).splits[0].sent == 0  # all its shards are there
    dataset.points("page_007.jpg")[0][0] += 0.5
    dataset.save()
    built = build("val", dataset.source, settings)
    changed = copy_store(near, far, ["val"]).splits[0]
    assert changed.sent == built.built < changed.shards
    assert changed.bytes == sum(near.size(shard_name(key)) for key in set(keys(near)) - set(
        keys(near, "same")
    ))  # fmt: skip
    assert files(far, "splits/")["splits/val.json"] == near.get("splits/val.json", 2**20)


def test_a_copy_that_was_killed_goes_on(
    near: Folder, bucket: dict[str, str], far: Objects, service: FaultyService, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"storage": bucket}))
    command = ["push", str(near), URL, "--split", "val", "--jobs", "1", "--config", str(config)]
    last = service.fail("swallowed", "PUT", shard_name(keys(near)[-1]))
    process = subprocess.Popen([*COMMAND, *command], stderr=subprocess.DEVNULL)
    try:
        assert last.arrived.wait(60)
    finally:
        process.kill()
        process.wait(60)
    assert list(far.list("splits/")) == []
    there = {found.name for found in far.list("shards/")}
    service.clear()
    with service.counted() as requests:
        report = copy_store(near, far, ["val"])
    assert len(there) == report.splits[0].shards - 1
    assert requests["PUT shards"] == report.splits[0].sent == 1
    assert files(far, "splits/") == {"splits/val.json": near.get("splits/val.json", 2**20)}
    assert verify(far, full=True).ok


@pytest.mark.parametrize("place", [999, -40, 70_000])
@pytest.mark.parametrize("direction", ["push", "pull", "local"])
def test_a_damaged_shard_is_named_and_not_published(
    near: Folder, far: Objects, tmp_path: Path, place: int, direction: str
) -> None:
    source: Storage = near
    if direction == "pull":
        copy_store(near, far)
        source = far
    target = far if direction == "push" else Folder(tmp_path / "target")
    name = shard_name(keys(near)[1])
    data = bytearray(b"".join(source.pieces(name)))
    data[place % len(data)] ^= 1
    source.put(name, bytes(data))
    with pytest.raises(StoreError, match=rf"{name}: .*not published: val, same. `ocr-pre"):
        copy_store(source, target, ["val", "other", "same"])
    assert [found.name for found in target.list("splits/")] == ["splits/other.json"]
    assert name not in files(target)
    source.delete(name)
    with pytest.raises(StoreError, match=rf"{name}: .*(is no such|No such)"):
        copy_store(source, target, ["val"])


def test_what_lies_at_the_target_and_is_not_the_shard_is_replaced(
    near: Folder, far: Objects, tmp_path: Path
) -> None:
    for target in (far, Folder(tmp_path / "target")):
        create_store(target)
        one, two, *_ = keys(near)
        target.put_new(shard_name(one), bytes(near.size(shard_name(one))))
        target.put_new(shard_name(two), b"half of it")
        report = copy_store(near, target, ["val"])
        assert report.splits[0].sent == report.splits[0].shards
        assert verify(target).ok


def test_another_has_published_meanwhile(
    near: Folder,
    far: Objects,
    dataset: Dataset,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy_store(near, far, ["val"])
    theirs = far.get("splits/val.json", 2**20).replace(b'"val"', b'"val" ')
    dataset.remove("page_003.jpg")
    dataset.save()
    build("val", dataset.source, settings)
    read_parts = copying.read_parts

    def slow(*arguments: object) -> object:
        far.put(manifest_name("val"), theirs)
        return read_parts(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(copying, "read_parts", slow)
    with pytest.raises(StoreError, match=r"val.json: was written by .* Run it again to replace"):
        copy_store(near, far, ["val"])
    assert far.get("splits/val.json", 2**20) == theirs


def test_gc_beside_a_copy_takes_nothing(near: Folder, far: Objects) -> None:
    refused: list[str] = []

    class Collecting(CopyProgress):
        def sent(self, size: int) -> None:
            with pytest.raises(StoreError, match="a build is running") as error:
                collect_garbage(far)
            refused.append(str(error.value))

    copy_store(near, far, progress=Collecting())
    assert len(refused) == len(list(near.list("shards/")))
    assert verify(far, full=True).ok


def test_shards_that_gc_took_all_the_same_are_missed(
    near: Folder, far: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a copy sleeps for longer than its lease is believed."""

    class Deleting(CopyProgress):
        def sent(self, size: int) -> None:
            for found in far.list("shards/"):
                far.delete(found.name)

    with pytest.raises(StoreError, match=r"shards were deleted while .* is not published"):
        copy_store(near, far, ["val"], progress=Deleting(), jobs=1)
    assert list(far.list("splits/")) == []
    assert list(far.list(leases._BUILDS)) == []


def test_large_shards_are_sent_in_parts(
    near: Folder, far: Objects, service: FaultyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_WHOLE", 2**15)
    monkeypatch.setattr(objects, "_PART", 5 * 2**20)
    with service.counted() as requests:
        copy_store(near, far, ["val"])
    assert requests["POST shards"] == 2 * len(keys(near))
    assert files(far, "splits/", "parts/").items() <= files(near).items()
    assert files(far, "shards/").items() <= files(near).items()
    report = verify(far)
    assert (report.ok, report.by_checksum) == (True, report.shards)
    with service.counted() as requests:
        far.place(near.path / shard_name(keys(near)[0]), shard_name(keys(near)[0]))
    assert dict(requests) == {"HEAD shards": 1}


def test_the_commands(near: Folder, far: Objects, bucket: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"storage": bucket}))
    more = ["--config", str(config)]
    back = tmp_path / "back"
    (tmp_path / "foreign" / "pictures").mkdir(parents=True)

    def done(*arguments: str) -> tuple[dict, str]:
        result = CliRunner().invoke(app, [*arguments, *more, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout), result.stderr

    shards = [near.size(found.name) for found in near.list("shards/")]
    document, said = done("push", str(near), URL, "--dry-run")
    assert sum(split["bytes"] for split in document["splits"]) == sum(shards)
    assert sum(split["sent"] for split in document["splits"]) == len(shards)
    assert f"would send {len(keys(near))} shards" in said
    assert list(far.list("")) == []
    document, said = done("push", str(near), URL, "--split", "val", "--split", "other")
    assert [split["split"] for split in document["splits"]] == ["val", "other"]
    assert f"val: sent {len(keys(near))} shards" in said
    assert "up to date" in done("push", str(near), URL, "--split", "val")[1]
    document, _ = done("pull", URL, str(back), "--jobs", "2")
    assert document["target"] == str(back)
    assert verify(back).ok
    for wrong, message in (
        (["pull", URL, str(back), "--split", "none"], "no split 'none' in this store"),
        (["push", str(tmp_path / "nowhere"), URL], "there is no store here"),
        (["push", str(near), str(tmp_path / "foreign")], "is not a store and not empty"),
        (["push", str(near), "s3://none/store"], "there is no such bucket"),
    ):
        result = CliRunner().invoke(app, [*wrong, *more])
        assert (result.exit_code, message in result.stderr) == (2, True), result.output


def test_a_pull_over_plain_http(near: Folder, tmp_path: Path) -> None:
    """Such a server lists nothing and takes nothing."""
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "-b", "127.0.0.1", "0"],
        cwd=near.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().split(' port ')[1].split()[0]}"
        report = copy_store(url, tmp_path / "back", ["val"])
        assert report.splits[0].bytes == sum(near.size(shard_name(key)) for key in keys(near))
        with pytest.raises(StoreError, match="plain HTTP does not say what is there"):
            copy_store(url, tmp_path / "back")
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    back = tree_bytes(tmp_path / "back" / "shards")
    assert back == {k: v for k, v in tree_bytes(near.path / "shards").items() if k in back}
    assert verify(tmp_path / "back").ok


def test_a_service_that_fails_now_and_then(
    near: Folder, far: Objects, service: FaultyService, tmp_path: Path
) -> None:
    service.fail("refused", share=0.2)
    service.fail("lost", "PUT", share=0.2)
    copy_store(near, far)
    service.fail("cut", "GET", share=0.3)
    service.fail("cut", "LIST", share=0.3)
    copy_store(far, tmp_path / "back")
    assert {503, 412} <= {status for _, _, status in service.requests}
    service.clear()
    assert files(Folder(tmp_path / "back")) == files(far) == files(near)


def test_an_upload_in_parts_whose_answer_is_lost(
    near: Folder, far: Objects, service: FaultyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_WHOLE", 2**15)
    lost = service.fail("lost", "POST", "uploadId", times=1)
    copy_store(near, far, ["val"], jobs=1)
    assert lost.met == 1
    assert verify(far, full=True).ok
