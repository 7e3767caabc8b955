"""Images in a bucket: the same shards as of a folder, and no image downloaded twice for nothing."""

from __future__ import annotations

import itertools
import json
import logging
import pickle
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from conftest import Dataset, published, same
from faulty import SIGNED, FaultyService
from test_sorted_parts import as_parts
from typer.testing import CliRunner

from ocr.datasets import LiveDataset, StoreDataset
from ocr.datasets.samples import ANNOTATIONS, TRAINING
from ocr_precompute import InputError, Settings, Source, StoreError, build, open_store
from ocr_precompute.cli.app import app
from ocr_precompute.pipeline import encode, fetched
from ocr_precompute.remote_images import ImageUrl
from ocr_precompute.settings import source_with
from ocr_precompute.storage.faults import RemoteError
from ocr_precompute.storage.folder import Folder
from ocr_precompute.storage.objects import Objects
from ocr_precompute.storage.place import reached
from ocr_precompute.storage.store import recorded_source

URL = "s3://bucket/some/images"
FOLDER = "/bucket/some/images/"
SECRET = "word-that-nobody-sees"
ALL = (*TRAINING, *ANNOTATIONS)


@pytest.fixture
def there(bucket: dict[str, str], dataset: Dataset) -> Objects:
    """The dataset's images in the bucket, one of them in a folder below the others."""
    dataset.images.joinpath("more").mkdir()
    dataset.rename("page_007.jpg", "more/page é.jpg")
    dataset.save()
    objects = Objects(URL, 10, bucket)
    for path in dataset.images.rglob("*.jpg"):
        objects.put(path.relative_to(dataset.images).as_posix(), path.read_bytes())
    Objects("s3://bucket/some/images-not", 10, bucket).put("page_000.jpg", b"of somebody")
    return objects


@pytest.fixture
def far(settings: Settings, bucket: dict[str, str]) -> Settings:
    """Settings that say how the bucket is reached; the store is a folder."""
    return settings.model_copy(update={"storage": bucket})


def at_url(source: Source, url: str = URL) -> Source:
    return source_with(source, {"images": url})


def asked(service: FaultyService, of: str = "GET") -> list[str]:
    """What images were asked for so."""
    found = [path for method, path, _ in service.requests if method == of]
    return [
        path.encode("latin-1").decode().removeprefix(FOLDER) for path in found
    ]  # as WSGI has it


# ------------------------------------------------------------------------------- the same shards


@pytest.mark.parametrize(
    ("kind", "gets", "lists"),
    [
        ("document", 1, 3),  # for the digest, and to encode; is it there, of names, of stamps
        ("parts", 1, 2),  # a list for each part
        ("parts that tell", 1, 0),
    ],
)
def test_it_builds_what_a_folder_builds(
    kind: str,
    gets: int,
    lists: int,
    dataset: Dataset,
    far: Settings,
    there: Objects,
    service: FaultyService,
) -> None:
    """And asks for no image when there is nothing to do."""
    told = kind == "parts that tell"
    source = dataset.source if kind == "document" else as_parts(dataset, 7, told=told)
    local = far.model_copy(update={"store": far.store.parent / "local"})
    build("val", source, local)
    service.requests.clear()
    report = build("val", at_url(source), far)
    assert published(far.store) == published(local.store)
    assert (report.computed, report.samples) == (24, 24)
    names = [p.relative_to(dataset.images).as_posix() for p in dataset.images.rglob("*.jpg")]
    assert Counter(asked(service)) == dict.fromkeys(names, gets)
    assert Counter(method for method, *_ in service.requests) == Counter(
        {"GET": gets * 24, "LIST": lists}
    )
    service.requests.clear()
    again = build("val", at_url(source), far)
    assert (again.up_to_date, again.built) == (True, 0)
    assert [method for method, *_ in service.requests] == ["LIST"] * lists


def test_parts_of_a_build_download_an_image_once(
    dataset: Dataset,
    far: Settings,
    there: Objects,
    service: FaultyService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each on a machine of its own, with nothing in common but the bucket."""
    source = at_url(dataset.source)
    far = far.model_copy(update={"shard_length": 4})
    whole = build("val", source, far)
    apart = far.model_copy(update={"store": "s3://bucket/apart"})
    service.requests.clear()
    for options in ({"part": "1/3"}, {"part": "2/3"}, {"part": "3/3"}, {"finish": True}):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(options)))
        report = build("val", source, apart, **options)
    assert report.data_hash == whole.data_hash
    names = [p.relative_to(dataset.images).as_posix() for p in dataset.images.rglob("*.jpg")]
    found = Counter(name for name in asked(service) if not name.startswith("/bucket/apart/"))
    assert found == dict.fromkeys(names, 1)
    assert open_store("s3://bucket/apart", options=far.storage)["val"].names == tuple(sorted(names))


def test_an_image_that_was_replaced_is_seen(
    dataset: Dataset, far: Settings, there: Objects, service: FaultyService
) -> None:
    build("val", at_url(dataset.source), far)
    other = (dataset.images / "page_001.jpg").read_bytes()
    there.put("page_005.jpg", other + b"\0" * 3)
    service.requests.clear()
    report = build("val", at_url(dataset.source), far)
    assert (report.built, report.computed) == (1, 1)
    assert asked(service) == ["page_005.jpg"]
    split = open_store(far.store)["val"]
    assert same(split["page_005.jpg"].image, split["page_001.jpg"].image)


def test_a_folder_and_a_bucket_are_one_split(
    dataset: Dataset, far: Settings, there: Objects
) -> None:
    both = [
        {"name": name, "images": images, "annotations": str(dataset.annotations)}
        for name, images in (("a", str(dataset.images)), ("b", URL))
    ]
    report = build("val", Source.model_validate(both), far)
    assert report.samples == 48
    split = open_store(far.store)["val"]
    assert same(split["a/page_003.jpg"].image, split["b/page_003.jpg"].image)


def test_workers_read_there(dataset: Dataset, far: Settings, there: Objects) -> None:
    settings = far.model_copy(update={"backend": "loky", "jobs": 2})
    assert build("val", at_url(dataset.source), settings).computed == 24


def test_images_that_nothing_annotates(dataset: Dataset, far: Settings, there: Objects) -> None:
    there.put("more/other.jpg", (dataset.images / "page_001.jpg").read_bytes())
    there.put("more/.hidden.jpg", b"")
    there.put("notes.txt", b"")
    source = at_url(dataset.source).model_copy(update={"unannotated": "error"})
    with pytest.raises(InputError, match=r"more/other.jpg: has no annotation") as error:
        build("val", source, far)
    assert len(error.value.problems) == 1
    report = build("val", source.model_copy(update={"unannotated": "empty"}), far)
    assert report.samples == 25


# ----------------------------------------------------------------------------- what goes wrong


def test_an_image_that_is_missing(dataset: Dataset, far: Settings, there: Objects) -> None:
    there.delete("page_003.jpg")
    with pytest.raises(InputError) as error:
        build("val", at_url(dataset.source), far)
    assert str(error.value) == (
        f"{URL}/page_003.jpg: is missing; add it, or remove it from the annotations"
    )
    report = build("val", at_url(dataset.source), far, skip_bad=True)
    assert (report.samples, report.skipped) == (23, 1)


def test_an_object_that_is_no_image(dataset: Dataset, far: Settings, there: Objects) -> None:
    there.put("page_003.jpg", b"no image")
    with pytest.raises(InputError, match=f"^{URL}/page_003.jpg: is not a JPEG, PNG, "):
        build("val", at_url(dataset.source), far)
    small = far.model_copy(update={"max_pixels": 1, "store": far.store.parent / "other"})
    with pytest.raises(InputError, match=f"{URL}/page_004.jpg: has 80 x 96 pixels, more than"):
        build("val", at_url(dataset.source), small)


@pytest.mark.parametrize("told", [False, True])
def test_an_object_larger_than_any_image_is_not_fetched(
    told: bool,
    dataset: Dataset,
    far: Settings,
    there: Objects,
    service: FaultyService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where digests are told, nobody knows of it before it is to be encoded."""
    source = at_url(as_parts(dataset, told=told))
    data = there.get("page_003.jpg", 10**6)
    there.put("page_003.jpg", data + bytes(10**6))
    monkeypatch.setattr("ocr_precompute.images.files.memory_limit", lambda pixels: 10**5)
    service.requests.clear()
    service.sent = 0
    with pytest.raises(InputError) as error:
        build("val", source, far)
    assert str(error.value) == (
        f"{URL}/page_003.jpg: is larger than any image within the pixel limit; replace it"
    )
    assert asked(service).count("page_003.jpg") == told


@pytest.mark.parametrize("room", [False, True])
def test_an_image_that_changes_or_goes_while_a_build_runs(
    room: bool,
    dataset: Dataset,
    far: Settings,
    there: Objects,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was scanned is built, if it was kept; the next build sees the change."""
    data, tasks = there.get("page_005.jpg", 10**6), encode._tasks
    monkeypatch.setattr(fetched, "_SHARE", 0.5 * room)

    def changed(*given: object, **more: object) -> object:
        there.put("page_005.jpg", data + b"\0")
        return tasks(*given, **more)

    def gone(*given: object, **more: object) -> object:
        there.delete("page_005.jpg")
        return tasks(*given, **more)

    for change, told in ((changed, "changed while the build was run"), (gone, "is missing; add")):
        monkeypatch.setattr(encode, "_tasks", change)
        if room:
            assert build("val", at_url(dataset.source), far).samples == 24
        else:
            with pytest.raises(InputError, match=f"{URL}/page_005.jpg: {told}"):
                build("val", at_url(dataset.source), far)
    monkeypatch.setattr(encode, "_tasks", tasks)
    with pytest.raises(InputError, match=f"{URL}/page_005.jpg: is missing"):
        build("val", at_url(dataset.source), far)


@pytest.mark.parametrize("backend", ["sequential", "loky"])
def test_images_are_fetched_again_only_where_they_could_not_be_kept(
    backend: str,
    dataset: Dataset,
    far: Settings,
    there: Objects,
    service: FaultyService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = far.model_copy(update={"backend": backend, "jobs": 2})
    sizes = sorted(path.stat().st_size for path in dataset.images.rglob("*.jpg"))
    make = fetched.Fetched.__init__

    def small(self: fetched.Fetched, folder: Path) -> None:
        make(self, folder)
        self._room = sum(sizes[:5])

    monkeypatch.setattr(fetched.Fetched, "__init__", small)
    service.requests.clear()
    build("val", at_url(dataset.source), settings)
    found = Counter(asked(service))
    assert set(found.values()) == {1, 2}
    assert not list((settings.store / "tmp").iterdir())


def test_what_a_killed_build_kept_is_deleted_by_the_next(
    dataset: Dataset, far: Settings, there: Objects
) -> None:
    build("val", at_url(dataset.source), far)
    code = (
        "import os, sys; from pathlib import Path; from ocr_precompute.pipeline import fetched\n"
        "fetched.Fetched(Path(sys.argv[1])).keep(bytes(32), b'image'); os._exit(9)"
    )
    folder = far.store / "tmp"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert [path.read_bytes() for path in folder.iterdir()] == [b"image"]
    build("val", at_url(dataset.source), far)
    assert not list(folder.iterdir())


def test_a_busy_service_is_asked_again(
    dataset: Dataset, far: Settings, there: Objects, service: FaultyService
) -> None:
    service.fail("refused", share=0.3, times=20)
    service.fail("cut", "GET", share=0.1, times=3)
    assert build("val", at_url(dataset.source), far).computed == 24
    assert 503 in service.statuses("GET", "images")


@pytest.mark.parametrize("method", ["LIST", "GET"])
def test_a_service_that_stays_busy_is_one_error(
    method: str, dataset: Dataset, far: Settings, there: Objects, service: FaultyService
) -> None:
    service.fail("refused", method)
    short = far.model_copy(update={"storage": {**far.storage, "timeout": "0.5"}})
    with pytest.raises(RemoteError, match="the server fails with status 503") as error:
        build("val", at_url(dataset.source), short)
    assert len(str(error.value).splitlines()) == 1
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("method", ["LIST", "GET"])
def test_access_that_is_denied(
    method: str, dataset: Dataset, far: Settings, there: Objects, service: FaultyService
) -> None:
    service.fail("refused", method, status="403 Forbidden")
    with pytest.raises(
        RemoteError, match="access is denied; give credentials that may do"
    ) as error:
        build("val", at_url(dataset.source), far)
    assert len(str(error.value).splitlines()) == 1
    assert SECRET not in str(error.value)


def test_a_place_where_nothing_is(
    dataset: Dataset, far: Settings, there: Objects, service: FaultyService
) -> None:
    """Is one error, not one for each image; also where a console has made a folder."""
    folder, signed = f"{service.address}/bucket/some/imgs/", {"Authorization": SIGNED}
    made = urllib.request.Request(folder, method="PUT", data=b"", headers=signed)
    urllib.request.urlopen(made).close()
    with pytest.raises(InputError) as error:
        build("val", at_url(dataset.source, "s3://bucket/some/imgs"), far)
    assert (
        str(error.value) == "s3://bucket/some/imgs: there is no such image folder; correct the path"
    )


def test_a_bucket_that_is_not_there(dataset: Dataset, far: Settings, there: Objects) -> None:
    with pytest.raises(StoreError, match="there is no such bucket; correct the URL"):
        build("val", at_url(dataset.source, "s3://nowhere/images"), far)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../images-not/page_000.jpg", "leaves the image folder"),
        ("/page_000.jpg", "leaves the image folder"),
        ("a/../../images-not/page_000.jpg", "leaves the image folder"),
        ("%2e%2e/images-not/page_000.jpg", "is missing"),
    ],
)
def test_names_cannot_leave_the_prefix(
    name: str, reason: str, dataset: Dataset, far: Settings, there: Objects, service: FaultyService
) -> None:
    dataset.document["images"][name] = {"words": {}}
    dataset.save()
    service.requests.clear()
    with pytest.raises(InputError, match=reason):
        build("val", at_url(dataset.source), far)
    assert not any("images-not" in path for _, path, _ in service.requests)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("name", ["./page_000.jpg", "more//page_000.jpg", "a/./b"])
def test_names_that_no_object_has(
    name: str, told: bool, dataset: Dataset, far: Settings, there: Objects
) -> None:
    """A folder would have some of them: there they are other ways to a file."""
    path = dataset.images / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((dataset.images / "page_000.jpg").read_bytes())
    dataset.document["images"] = {name: {"words": {}}, "page_001.jpg": {"words": {}}}
    with pytest.raises(InputError) as error:
        build("val", at_url(as_parts(dataset, told=told)), far)
    assert str(error.value) == (
        f"{URL}/{name}: is missing; add it, or remove it from the annotations"
    )


def test_points_that_are_shares_need_a_folder(
    tmp_path: Path, far: Settings, there: Objects
) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "page_000.txt").write_text("0 0.25 0.2 0.4 0.2\n")
    source = source_with(None, {"images": URL, "annotations": tmp_path / "labels"})
    with pytest.raises(InputError, match="lies behind a URL, and its size is needed"):
        build("val", source, far)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (f"s3://name:{SECRET}@bucket/images", "s3://...@bucket/images: holds a name or password"),
        (f"https://name:{SECRET}@host/images", "https://...@host/images: holds a name or password"),
        (f"s3://bucket/images?sig={SECRET}", "s3://bucket/images: ends in a query or fragment"),
        ("https://host/images", "give a folder or file of this machine, or for images the URL of"),
        ("s3://", "'s3://' looks like a URL; give a folder"),
    ],
)
def test_urls_that_no_images_have(images: str, reason: str, dataset: Dataset) -> None:
    with pytest.raises(InputError) as error:
        at_url(dataset.source, images)
    (line,) = str(error.value).splitlines()
    assert reason in line
    assert SECRET not in line


def test_images_in_memory(dataset: Dataset, far: Settings) -> None:
    """Workers would not see them, and their tags mean nothing to the next process."""
    objects = Objects("memory://photographs", 10)
    for path in dataset.images.iterdir():
        objects.put(path.name, path.read_bytes())
    source = at_url(dataset.source, "memory://photographs")
    with pytest.raises(StoreError, match="memory://photographs: lies in the memory of this proc"):
        build("val", source, far.model_copy(update={"backend": "loky"}))
    assert build("val", source, far).computed == 24
    assert build("val", source, far).up_to_date
    assert {stamp.tag for _, stamp in objects.stamps()} == {""}


def test_nobody_reads_a_place_that_is_only_named() -> None:
    image = ImageUrl(URL) / "a.jpg"
    with pytest.raises(OSError, match="lies behind a URL, where this command reads no images"):
        image.read_bytes()
    assert (str(image), image.folder.name) == (f"{URL}/a.jpg", "images")


# ------------------------------------------------------------------------------------------ lists


def test_lists_begin_and_end_with_the_names_asked_for(
    bucket: dict[str, str], service: FaultyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocr_precompute.storage.objects._LISTED", 2)
    objects = pickle.loads(pickle.dumps(Objects(URL, 10, bucket)))
    names = [".a", ".b/c", "a", "a b", "a#?", "b/c", "b/d", "c", "c+d", "~", "é", "\U0001f600"]
    for name in names:
        objects.put(name, name.encode())
    found = dict(objects.stamps())
    assert list(found) == names
    assert len({stamp.tag for stamp in found.values()}) == len(names)
    for first, last in itertools.combinations_with_replacement(names, 2):
        between = names[names.index(first) : names.index(last) + 1]
        assert dict(objects.stamps(first, last)) == {name: found[name] for name in between}
    assert list(objects.stamps("d", "e")) == []
    data, stamp = objects.get_stamped("b/c", 3)
    assert (data, stamp) == (b"b/c", found["b/c"])
    with pytest.raises(OSError, match="larger than 2 bytes"):
        objects.get_stamped("b/c", 2)


def test_lists_that_are_cut_go_on(bucket: dict[str, str], service: FaultyService) -> None:
    objects = Objects(URL, 10, bucket)
    for name in "abc":
        objects.put(name, b"")
    fault = service.fail("cut", "LIST", times=3)
    assert [name for name, _ in objects.stamps("b")] == ["b", "c"]
    assert fault.met == 3


# --------------------------------------------------------------------------- commands and secrets


def test_commands(
    dataset: Dataset,
    bucket: dict[str, str],
    there: Objects,
    service: FaultyService,
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.yaml"
    store = {"store": str(tmp_path / "store"), "storage": bucket, "size": 64, "shard_length": 8}
    source = {"images": URL, "annotations": str(dataset.annotations)}
    rest = {"backend": "sequential", "monitor": False}
    config.write_text(json.dumps({**store, **rest, "splits": {"val": source}}))
    flags = ["--images", URL, "--annotations", str(dataset.annotations)]

    def command(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--config", str(config)])
        assert done.exit_code == 0, done.stderr
        return done.stderr

    command("build", "--split", "val")
    assert "up to date" in command("build", "--split", "val", *flags)
    service.requests.clear()
    command("verify")
    assert asked(service) == []
    assert "24 computed again" in command("verify", "--recompute", "1", "-vv")
    command("inspect")
    command("preview", "--split", "val", "--out", str(tmp_path / "pictures"))
    command("bench", "--split", "val", "--samples", "8", "--threads", "1", "--seconds", "0")
    there.put("page_001.jpg", there.get("page_002.jpg", 10**6))
    done = CliRunner().invoke(app, ["verify", "--config", str(config)])
    assert done.exit_code == 1
    assert "source-changed" in done.stderr


def test_no_secret_is_written(
    dataset: Dataset, far: Settings, there: Objects, caplog: pytest.LogCaptureFixture
) -> None:
    storage = {**far.storage, "secret_access_key": SECRET, "access_key_id": "name"}
    with caplog.at_level(logging.DEBUG):
        build("val", at_url(dataset.source), far.model_copy(update={"storage": storage}))
    written = b"".join(p.read_bytes() for p in far.store.rglob("*") if p.is_file())
    assert SECRET not in caplog.text
    assert SECRET.encode() not in written
    source = reached(at_url(dataset.source), storage)
    assert SECRET not in repr(source)
    recorded = recorded_source(Folder(far.store), "val")
    assert recorded is not None
    assert recorded.images == ImageUrl(URL)


def test_convert(
    dataset: Dataset,
    bucket: dict[str, str],
    there: Objects,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has no configuration: the service is found by the environment alone."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket["endpoint"])
    monkeypatch.setenv("AWS_REGION", bucket["region"])
    for name, images in (("near", str(dataset.images)), ("far", URL)):
        given = ["--images", images, "--annotations", str(dataset.annotations), "--to", "coco"]
        done = CliRunner().invoke(app, ["convert", *given, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.stderr
    assert (tmp_path / "near").read_bytes() == (tmp_path / "far").read_bytes()
    there.put("page_003.jpg", b"no image")
    done = CliRunner().invoke(app, ["convert", *given, "--out", str(tmp_path / "other")])
    assert done.exit_code == 2
    assert f"error: {URL}/page_003.jpg: is not a JPEG" in done.stderr


def test_training_live(dataset: Dataset, far: Settings, there: Objects) -> None:
    source = at_url(dataset.source)
    build("val", source, far)
    stored = StoreDataset(far.store, "val", ALL)
    live = LiveDataset.from_settings(far.model_copy(update={"splits": {"val": source}}), "val", ALL)
    assert list(live.names) == list(stored.names)
    for index in range(len(stored)):
        assert all(map(same, live[index].values(), stored[index].values()))
    assert same(live.content_sizes, stored.content_sizes)
    there.delete("page_003.jpg")
    with pytest.raises(InputError, match=f"{URL}/page_003.jpg: cannot be read: there is no such"):
        live[live.names.index("page_003.jpg")]
