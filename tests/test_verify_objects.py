"""What `verify` asks of a service, and what it may say after that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Dataset
from faulty import FaultyService
from typer.testing import CliRunner

from ocr_precompute.checking.verify import verify
from ocr_precompute.cli.app import app
from ocr_precompute.format.shard import read_index
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings
from ocr_precompute.storage import objects
from ocr_precompute.storage.objects import Objects
from ocr_precompute.storage.store import read_manifest, shard_name

URL = "s3://bucket/some/store"


@pytest.fixture
def far(bucket: dict[str, str], dataset: Dataset, settings: Settings) -> Objects:
    """A store of one split in a bucket."""
    place = settings.model_copy(update={"store": URL, "storage": bucket})
    build("val", dataset.source, place)
    return Objects(URL, 10, bucket)


def shards(storage: Objects) -> list[str]:
    manifest = read_manifest(storage, "val")
    assert manifest
    return [shard_name(shard.key) for shard in manifest.shards]


def damaged(storage: Objects, name: str, place: int) -> bytes:
    data = bytearray(storage.fetch(name).data)
    data[place] ^= 1
    return bytes(data)


def test_a_request_a_shard(far: Objects, service: FaultyService, dataset: Dataset) -> None:
    names = shards(far)
    service.sent = 0
    with service.counted() as requests:
        report = verify(far, sources={"val": dataset.source})
    assert (report.ok, report.samples, report.shards) == (True, 24, len(names))
    assert (report.read, report.by_checksum, report.by_end) == (0, len(names), 0)
    assert requests["GET shards"] == len(names)
    assert requests["HEAD shards"] == requests["PUT shards"] == 0
    sizes = sum(far.size(name) for name in names)
    assert service.sent < 0.8 * sizes  # samples are small here, and the end is of 64 kB
    with service.counted() as requests:
        full = verify(far, full=True)
    assert (full.ok, full.read, full.by_checksum) == (True, len(names), 0)
    assert requests["GET shards"] == len(names)


def test_long_records_take_two_requests_more(
    far: Objects, service: FaultyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_END", 2000)
    with service.counted() as requests:
        assert verify(far).ok
    assert requests["GET shards"] == 3 * len(shards(far))


@pytest.mark.parametrize("of", ["map", "records", "directory"])
def test_damage_is_found_by_the_checksum_alone(
    far: Objects, service: FaultyService, of: str
) -> None:
    """The object is not what its writer recorded: it is downloaded, and all of it checked."""
    name = shards(far)[1]
    index = read_index(far.open(name))
    place = {"map": 999, "records": index.records["points"][0] + 3, "directory": -60}[of]
    tag = objects._md5(far.fetch(name).data)
    far._put(name, damaged(far, name, place), "overwrite", tag)
    report = verify(far)
    assert {finding.shard for finding in report.problems} == {name[10:74]}
    assert report.by_checksum == report.shards - 1
    with service.counted() as requests:
        verify(far)
    assert requests["GET shards"] == report.shards + 1


def test_without_a_checksum_it_says_what_it_did_not_see(
    far: Objects, bucket: dict[str, str], tmp_path: Path
) -> None:
    name, other = shards(far)[:2]
    far.put(name, damaged(far, name, 999))  # by somebody who records none
    report = verify(far)
    assert (report.ok, report.by_end, report.by_checksum) == (True, 1, report.shards - 1)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"storage": bucket, "store": URL}))
    command = ["verify", "--no-sources", "--config", str(config), "--json"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0
    assert "of 1 shards only records, metadata and directory were looked at" in shown.stderr
    assert f"{report.by_checksum} shards were not downloaded: their bytes are" in shown.stderr
    assert json.loads(shown.stdout)["by_end"] == 1
    shown = CliRunner().invoke(app, [*command, "--full"])
    assert (shown.exit_code, name[10:26] in shown.stderr) == (1, True)
    assert json.loads(shown.stdout)["read"] == report.shards
    # Records are read in any case, and so is the directory.
    index = read_index(far.open(other))
    far.put(other, damaged(far, other, index.records["points"][0] + 3))
    assert {finding.shard for finding in verify(far).problems} == {other[10:74]}


def test_tags_that_are_no_checksums_prove_nothing(
    far: Objects, service: FaultyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a bucket that encrypts with keys of its user: no shard is downloaded for that."""
    monkeypatch.setattr(objects, "_md5", lambda data: "0" * 32)
    with service.counted() as requests:
        report = verify(far)
    assert (report.ok, report.by_checksum, report.by_end) == (True, 0, report.shards)
    assert requests["GET shards"] == report.shards
