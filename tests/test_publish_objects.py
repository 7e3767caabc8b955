"""Publishing in object storage: whatever fails, and whoever else is at work."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import COMMAND, Dataset
from faulty import FaultyService
from typer.testing import CliRunner

from ocr_precompute import copy_store
from ocr_precompute.checking.verify import verify
from ocr_precompute.cli.app import app
from ocr_precompute.errors import StoreError
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.progress import Progress
from ocr_precompute.settings import Settings
from ocr_precompute.storage import leases, objects
from ocr_precompute.storage.faults import RemoteError
from ocr_precompute.storage.garbage import collect_garbage, remove_split
from ocr_precompute.storage.objects import Objects
from ocr_precompute.storage.seam import ConflictError
from ocr_precompute.storage.store import create_store, read_manifest

URL = "s3://bucket/some/store"
SECRETS = ("word-that-nobody-sees", "token-that-nobody-sees")


@pytest.fixture
def far(bucket: dict[str, str]) -> Objects:
    return Objects(URL, 10, bucket)


@pytest.fixture
def there(settings: Settings, bucket: dict[str, str]) -> Settings:
    """Settings of a store in the bucket."""
    return settings.model_copy(update={"store": URL, "storage": bucket})


@pytest.fixture
def config(bucket: dict[str, str], tmp_path: Path) -> Path:
    """The same settings for the command."""
    path = tmp_path / "config.yaml"
    same = {"size": 64, "shard_length": 8, "backend": "sequential", "monitor": False}
    path.write_text(json.dumps({"store": URL, "storage": bucket, **same}))
    return path


class Notices(Progress):
    """What a build says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, message: str) -> None:
        self.said.append(message)


def other(settings: Settings) -> Settings:
    return settings.model_copy(update={"shrink_ratio": 0.5})


def test_of_two_publishers_one_is_refused_and_both_end_right(
    dataset: Dataset, there: Settings, far: Objects, config: Path, service: FaultyService
) -> None:
    held = service.fail("held", "PUT", "/splits/", times=1)
    command = [*COMMAND, "build", *dataset.flags(), "--config", str(config), "--json"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert held.arrived.wait(60)
        second = build("val", dataset.source, other(there))
        held.released.set()
        document, said = first.communicate(timeout=60)
    finally:
        first.kill()
        first.communicate()
    assert first.returncode == 0, said
    assert service.statuses("PUT", "/splits/") == [200, 412, 200]
    assert "val.json: was written by somebody else meanwhile; looking again" in said
    manifest = read_manifest(far, "val")
    assert manifest
    assert manifest.data_hash == json.loads(document)["data_hash"] != second.data_hash
    assert verify(far, sources={"val": dataset.source}, full=True).ok
    again = build("val", dataset.source, other(there))
    assert (again.built, again.data_hash) == (0, second.data_hash)


def test_a_writer_killed_before_the_manifest(
    dataset: Dataset, there: Settings, far: Objects, config: Path, service: FaultyService
) -> None:
    manifest = service.fail("swallowed", "PUT", "/splits/")
    command = [*COMMAND, "build", *dataset.flags(), "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        assert manifest.arrived.wait(60)
    finally:
        process.kill()
        process.wait(60)
    service.clear()
    assert read_manifest(far, "val") is None
    assert list(far.list("builds/"))  # it could not take back that it is at work
    with pytest.raises(StoreError, match="a build is running; nothing was deleted"):
        collect_garbage(far, grace=timedelta(0))
    with service.counted() as requests:
        report = build("val", dataset.source, there)
    assert (report.built, report.reused) == (0, report.shards)
    assert requests["PUT shards"] == 0
    assert verify(far, sources={"val": dataset.source}, full=True).ok


def test_writes_whose_answers_are_lost(
    dataset: Dataset, there: Settings, far: Objects, service: FaultyService
) -> None:
    lost = service.fail("lost", "PUT", share=0.5)
    report = build("val", dataset.source, there)
    assert lost.met > 3
    assert 412 in service.statuses("PUT", "/shards/")
    service.clear()
    assert verify(far, full=True).ok
    service.requests.clear()
    service.fail("lost", "PUT", "/splits/", times=1)
    notices = Notices()
    changed = build("val", dataset.source, other(there), progress=notices)
    assert service.statuses("PUT", "/splits/") == [200, 412]  # If-Match, against its own write
    assert not [each for each in notices.said if "looking again" in each]
    manifest = read_manifest(far, "val")
    assert manifest
    assert manifest.data_hash == changed.data_hash != report.data_hash


def test_an_answer_that_comes_too_late(bucket: dict[str, str], service: FaultyService) -> None:
    """Nobody knows then whether it was written; who tries again finds out."""
    hasty = Objects("s3://bucket/hasty", 1, bucket)
    late = service.fail("held", "PUT", times=1)
    with pytest.raises(RemoteError, match=r"gave no answer within 1 s; see to the network, or"):
        hasty.put_if("splits/val.json", b"mine", None)
    late.released.set()
    service.until(1)
    hasty.put_if("splits/val.json", b"mine", None)
    with pytest.raises(ConflictError):
        hasty.put_if("splits/val.json", b"another", None)


def test_gc_beside_builds_takes_nothing_that_is_needed(
    dataset: Dataset, there: Settings, far: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Builds take turns with two recipes: each needs shards that had no name the moment before."""
    monkeypatch.setattr(leases, "_LOOK", 0.01)
    build("val", dataset.source, there)
    failed: list[BaseException] = []

    def builds() -> None:
        try:
            for number in range(6):
                build("val", dataset.source, other(there) if number % 2 else there)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=builds)
    thread.start()
    outcomes: list[str] = []
    while thread.is_alive():
        try:
            collect_garbage(far, grace=timedelta(0))
            outcomes.append("done")
        except StoreError as error:
            outcomes.append(str(error))
        assert read_manifest(far, "val")
    thread.join()
    assert not failed
    refused = {f"{URL}: a build is running; nothing was deleted. Run gc again when it is done"}
    assert refused <= set(outcomes) <= refused | {"done"}
    assert verify(far, full=True).ok
    kept = {shard.key for shard in read_manifest(far, "val").shards}  # type: ignore[union-attr]
    collect_garbage(far, grace=timedelta(0))
    assert {found.name[10:74] for found in far.list("shards/")} == kept
    assert list(far.list("builds/")) == list(far.list("gc/")) == []


def test_grace_counts_from_the_loss_of_the_last_name(
    dataset: Dataset, there: Settings, far: Objects
) -> None:
    build("val", dataset.source, there)
    build("test", dataset.source, there)
    day, start = timedelta(days=1), datetime(2030, 1, 1, tzinfo=UTC)
    shards = {found.name[10:74] for found in far.list("shards/")}

    def gone(now: datetime) -> set[str]:
        return shards & set(collect_garbage(far, grace=day, now=now).shards)

    remove_split(far, "val")
    assert not gone(start)
    assert not gone(start + 3 * day)  # `test` names them all this time
    remove_split(far, "test")
    assert not gone(start + 4 * day)
    assert not gone(start + 5 * day - timedelta(seconds=1))
    build("val", dataset.source, there)
    assert not gone(start + 6 * day)
    remove_split(far, "val")
    assert not gone(start + 7 * day)  # counted anew
    assert gone(start + 8 * day) == shards


def test_a_service_that_leaves_conditions_out_of_account(
    dataset: Dataset, config: Path, far: Objects, service: FaultyService
) -> None:
    service.careless = True
    shown = CliRunner().invoke(app, ["build", *dataset.flags(), "--config", str(config)])
    assert shown.exit_code == 2
    assert f"error: {URL}: this service ignores the conditions of writes" in shown.stderr
    assert len(shown.stderr.strip().splitlines()) == 1
    assert list(far.list("")) == []
    with pytest.raises(StoreError, match="build into a folder, and copy that"):
        create_store(far)


def test_a_service_that_is_busy_now_and_then(
    dataset: Dataset, there: Settings, far: Objects, service: FaultyService
) -> None:
    busy = service.fail("refused", share=0.3)
    build("val", dataset.source, there)
    assert verify(far, sources={"val": dataset.source}).ok
    assert busy.met > 5


def test_a_service_that_is_always_busy(bucket: dict[str, str], service: FaultyService) -> None:
    """Bounded by the time that a request may take."""
    hasty = Objects("s3://bucket/busy", 1, bucket)
    service.fail("refused")
    for work in (
        lambda: hasty.put_new("shards/a", b"1"),
        lambda: hasty.put_if("splits/a.json", b"1", None),
        lambda: hasty.get("zarr.json", 99),
        lambda: list(hasty.list("shards/")),
        lambda: hasty.delete("zarr.json"),
    ):
        with pytest.raises(RemoteError, match="busy: the server fails with status 503; try again"):
            work()
    assert 10 < len(service.requests) < 60


def test_a_server_that_stops(
    dataset: Dataset, bucket: dict[str, str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_RETRIES", 2)
    with FaultyService() as stopping:
        place = {"store": "s3://bucket/stops", "storage": {**bucket, "endpoint": stopping.address}}
        held = stopping.fail("held", "PUT", "/shards/", times=1)
        errors: list[Exception] = []

        def work() -> None:
            try:
                build("val", dataset.source, settings.model_copy(update=place))
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert held.arrived.wait(60)
        stopping.stop()
        thread.join(60)
        assert not thread.is_alive()
    assert [type(error) for error in errors] == [RemoteError]
    assert "s3://bucket/stops: cannot be reached; see to the network" in str(errors[0])
    assert "\n" not in str(errors[0])


DENIED = b"""<Error><Code>SignatureDoesNotMatch</Code><Message>wrong</Message>
<AWSAccessKeyId>name</AWSAccessKeyId><StringToSign>AWS4-HMAC-SHA256 2030</StringToSign></Error>"""


def test_credentials_reach_nobody(
    dataset: Dataset,
    far: Objects,
    config: Path,
    service: FaultyService,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRETS[1])
    monkeypatch.setattr(objects, "_RETRIES", 1)
    objects._client.cache_clear()
    said: list[str] = []

    def run(status: int, *command: str) -> None:
        shown = CliRunner().invoke(app, [*command, "-vv", "--config", str(config)])
        assert shown.exit_code == status, shown.output
        said.append(shown.output)
        assert status == 0 or "error: s3://bucket" in shown.stderr

    flags = ["build", *dataset.flags()]
    run(0, *flags)
    for fault in (
        {"what": "refused", "status": "403 Forbidden", "body": DENIED},
        {"what": "refused", "status": "400 Bad Request", "body": DENIED},
        {"what": "refused"},
        {"what": "lost"},
    ):
        service.fail(**fault)  # type: ignore[arg-type]
        run(2, *flags)
        run(2, "push", URL, str(tmp_path / "copy"))
        service.clear()
    run(0, "push", URL, str(tmp_path / "copy"))
    run(0, "verify")
    run(0, "inspect", "--json")
    given = json.loads(config.read_text())
    given["storage"] |= {"secret_access_key": SECRETS[0], "acess_key_id": SECRETS[1]}
    config.write_text(json.dumps(given))
    run(2, *flags)
    held = [b"".join(far.pieces(found.name)) for found in far.list("")]
    held += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != config]
    assert len(held) > 20
    for secret in SECRETS:
        assert not [text for text in said if secret in text]
        assert not [data for data in held if secret.encode() in data]
    assert os.environ["AWS_SESSION_TOKEN"] == SECRETS[1]


def test_what_it_costs(
    tmp_path: Path, there: Settings, far: Objects, service: FaultyService
) -> None:
    """docs/scale.md has these counts: so many a shard, and so many more whatever the size."""
    place = there.model_copy(update={"shard_length": 4})
    counts: dict[str, list[Counter[str]]] = {}
    shards: list[int] = []
    for images in (12, 36):
        service.reset()
        dataset = Dataset(tmp_path / str(images), images)
        shards.append(build("val", dataset.source, place, dry_run=True).shards)
        local = tmp_path / f"copy of {images}"
        for name, work in (
            ("build", lambda: build("val", dataset.source, place)),  # noqa: B023
            ("again", lambda: build("val", dataset.source, place)),  # noqa: B023
            ("verify", lambda: verify(far)),
            ("full", lambda: verify(far, full=True)),
            ("gc", lambda: collect_garbage(far)),
            ("pull", lambda: copy_store(far, local)),  # noqa: B023
            ("reset", service.reset),
            ("push", lambda: copy_store(local, far)),  # noqa: B023
            ("push again", lambda: copy_store(local, far)),  # noqa: B023
        ):
            with service.counted() as requests:
                work()
            counts.setdefault(name, []).append(requests)
    few, many = shards
    per_shard = {
        name: {kind: (large[kind] - small[kind]) / (many - few) for kind in large}
        for name, (small, large) in counts.items()
    }
    found = {n: {k: v for k, v in each.items() if v} for n, each in per_shard.items()}
    assert found == {
        "build": {"HEAD shards": 1, "PUT shards": 1, "GET shards": 1},
        "again": {},
        "verify": {"GET shards": 1},
        "full": {"GET shards": 1},
        "gc": {},
        "pull": {"GET shards": 1},
        "reset": {},
        "push": {"PUT shards": 1},
        "push again": {},
    }
    usual = ("HEAD shards", "GET shards", "PUT shards", "LIST shards", "GET parts", "PUT parts")
    more = {
        name: sum(count for kind, count in small.items() if kind not in usual)
        for name, (small, _) in counts.items()
    }
    del more["reset"]
    assert more == {
        "build": 18,
        "again": 7,
        "verify": 6,
        "full": 5,
        "gc": 15,
        "pull": 3,
        "push": 17,
        "push again": 6,
    }


@pytest.mark.parametrize(("length", "copying"), [(3, 1 + 2), (8, 1)])
def test_what_an_update_costs(
    dataset: Dataset, there: Settings, service: FaultyService, length: int, copying: int
) -> None:
    """Few rows come one by one, as they do not lie in the shard's end; many at once, with all."""
    large = there.model_copy(update={"size": (256, 256), "shard_length": length})
    build("val", dataset.source, large)
    dataset.points("page_007.jpg")[0][0] += 0.5
    dataset.save()
    with service.counted() as requests:
        report = build("val", dataset.source, large)
    assert report.built == requests["PUT shards"] == 1
    assert report.copied >= 2
    assert requests["GET shards"] == 1 + copying + 1  # to find rows, to copy them, to look at it
