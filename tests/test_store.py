"""The store as others read it, what `verify` finds, and what `gc` takes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorstore
import zarr
from conftest import Dataset, published, run, same
from local import build_lock, manifest_path, recorded_source, shard_keys, shard_path
from shards import entries, flip, flip_chunk, replace, rewrite, shards, span
from typer.testing import CliRunner

from ocr_precompute.checking.verify import verify
from ocr_precompute.cli import app
from ocr_precompute.errors import StoreError
from ocr_precompute.files import temporary_name
from ocr_precompute.format.archive import END_BYTES, archive_bytes
from ocr_precompute.format.schema import MAPS, RECORDS, chunk_name, record_name
from ocr_precompute.format.shard import MappedFile, StoredShard
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import open_store
from ocr_precompute.reports.summary import summarise
from ocr_precompute.samples import Fate
from ocr_precompute.settings import Settings, looks_like_url
from ocr_precompute.storage.garbage import collect_garbage, remove_split
from ocr_precompute.understood import DONT_CARE


@pytest.fixture
def split(dataset: Dataset, settings: Settings) -> Split:
    dataset.document["images"]["page_003.jpg"]["words"]["0001"]["ignore"] = True
    del dataset.document["images"]["page_004.jpg"]["words"]
    dataset.save()
    build("val", dataset.source, settings)
    return open_store(settings.store).split("val")


# -------------------------------------------------------------------------------------- contents


def by_tensorstore(shard: Path, field: str) -> tensorstore.TensorStore:
    kvstore = {"driver": "zip", "base": f"file://{shard}", "path": f"{field}/"}
    return tensorstore.open({"driver": "zarr3", "kvstore": kvstore}, open=True).result()


def test_any_zarr_reader_reads_the_same(split: Split, settings: Settings) -> None:
    index = 0
    for entry, path in zip(split.manifest.shards, shards(settings.store), strict=True):
        with zarr.storage.ZipStore(path, mode="r") as held:
            group = zarr.open_group(held, mode="r")
            assert sorted(group) == sorted([*MAPS, *RECORDS])
            others = {field: by_tensorstore(path, field) for field in (*MAPS, *RECORDS)}
            records = StoredShard.open(MappedFile(path)).records.arrays()
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


def test_a_shard_describes_itself_in_one_document(split: Split, settings: Settings) -> None:
    """What is consolidated is what each array says; no array needs to be looked for."""
    held = entries(shards(settings.store)[0])
    group = json.loads(held["zarr.json"])
    described = group["consolidated_metadata"]["metadata"]
    assert set(described) == {*MAPS, *RECORDS}
    assert all(json.loads(held[f"{field}/zarr.json"]) == described[field] for field in described)


def test_any_unpacker_takes_a_shard_apart(split: Split, settings: Settings, tmp_path: Path) -> None:
    """Nothing in it is packed by ZIP, and its parts are where their names say."""
    shard = shards(settings.store)[0]
    with zipfile.ZipFile(shard) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.comment == b""
        archive.extractall(tmp_path / "out")
    group = zarr.open_group(tmp_path / "out", mode="r")
    for field in MAPS:
        assert same(group[field][0], getattr(split[0], field))


def test_the_chunks_of_a_sample_lie_together(split: Split, settings: Settings) -> None:
    shard = shards(settings.store)[1]
    last = 0
    for row in range(split.manifest.shards[1].samples):
        for field in MAPS:
            start, stop = span(shard, chunk_name(field, row))
            assert last < start <= last + 30 + len(chunk_name(field, row))
            last = stop


def test_stored_fates_are_what_the_build_counted(dataset: Dataset, settings: Settings) -> None:
    """So what trains can be told from the shards alone."""
    words = dataset.document["images"]["page_003.jpg"]["words"]
    words["0001"]["ignore"] = True
    words["0002"]["points"] = [[900, 5], [930, 5], [930, 15], [900, 15]]
    words["0003"]["points"] = [[5, 5], [40, 5], [40, 5], [5, 5]]
    words["0004"] = {"points": [[5, 5], [8, 5], [8, 8], [5, 8]]}
    words["0005"] = {"points": [[5, 5], [70, 5], [70, 90], [5, 90]]}
    dataset.save()
    build("val", dataset.source, settings)
    split = open_store(settings.store)["val"]
    understood = split.manifest.understood
    counted = {tally.kind: tally.words for tally in understood.tallies if tally.kind in DONT_CARE}
    counted["trains"] = understood.trained
    fates = np.concatenate([split.record(index).fate for index in range(len(split))]).tolist()
    stored = {fate.name.lower().replace("_", "-"): fates.count(fate) for fate in Fate}
    assert {name: count for name, count in stored.items() if count} == counted
    assert set(counted) >= {"trains", "annotated", "outside", "no-area", "small"}
    record = split.record(split.index("page_003.jpg"))
    assert record.fate.dtype == np.uint8
    assert [Fate(fate) for fate in record.fate] == [
        *(Fate.ANNOTATED, Fate.OUTSIDE, Fate.NO_AREA, Fate.SMALL, Fate.TRAINS)
    ]


def test_previews_show_the_sample(split: Split, settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    result = run("preview", "--store", settings.store, "--split", "val", "--out", out, "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    pictures = document["pictures"]
    assert len(pictures) == 8
    assert document["sheets"] == [str(out / "contact-sheet-001.png")]
    picture = cv2.imread(pictures[0])
    assert picture.shape == (64, 320, 3)
    assert (picture[:, 64:128, 0] == split[0].prob * 255).all()


# ---------------------------------------------------------------------------------------- verify


def kinds(settings: Settings, **options: object) -> list[str]:
    return [finding.kind for finding in verify(settings.store, **options).problems]


def anywhere(shard: Path, chooser: random.Random) -> list[int]:
    """Bytes of a shard: one of every entry's content and header, and many of its directory."""
    places = []
    with zipfile.ZipFile(shard) as archive:
        for info in archive.infolist():
            start, stop = span(shard, info.filename)
            places += [chooser.randrange(info.header_offset, start), chooser.randrange(start, stop)]
        directory, size = archive.start_dir, shard.stat().st_size
    places += [chooser.randrange(directory, size) for _ in range(20)]
    return places + list(range(size - 22, size))  # the end's every byte


def test_verify_finds_every_flipped_bit(tmp_path: Path) -> None:
    settings = Settings(
        store=tmp_path / "store", size=64, shard_length=2, backend="sequential", monitor=False
    )
    build("val", Dataset(tmp_path / "few", count=4).source, settings)
    chooser = random.Random(2)
    assert verify(settings.store).ok
    files = shards(settings.store)
    targets = [(path, byte) for path in files[:2] for byte in anywhere(path, chooser)]
    weights = [path.stat().st_size for path in files]
    targets += [
        (path, chooser.randrange(path.stat().st_size))
        for path in chooser.choices(files, weights, k=40)
    ]
    unnoticed = []
    for path, byte in targets:
        bit = chooser.randrange(8)
        flip(path, byte, bit)
        report = verify(settings.store, jobs=1)
        if not any(finding.shard == path.stem for finding in report.problems):
            unnoticed.append((path, byte, bit))
        flip(path, byte, bit)
    assert unnoticed == []
    assert verify(settings.store).ok


def test_reading_a_flipped_bit_names_shard_and_sample(split: Split, settings: Settings) -> None:
    key = split.manifest.shards[0].key
    flip_chunk(shards(settings.store)[0], "thresh", byte=30)
    with pytest.raises(StoreError, match=rf"shard {key}: sample '{split.names[0]}': thresh"):
        open_store(settings.store).split("val")[0]
    (finding,) = verify(settings.store).problems
    assert (finding.kind, finding.shard, finding.sample) == ("checksum", key, split.names[0])
    assert "thresh: checksum mismatch" in finding.detail


def test_verify_finds_what_is_missing_or_does_not_belong(split: Split, settings: Settings) -> None:
    """All of a shard's file is accounted for; a whole one and a bit more is damaged, too."""
    shard = shards(settings.store)[0]
    good = shard.read_bytes()
    held, chunk = entries(shard), chunk_name("prob", 0)
    names = list(held)
    swapped = [names[1], names[0], *names[2:]]
    harmed = {
        "a record less": {**held, record_name("damage"): None},
        "a chunk less": {**held, chunk: None},
        "an entry more": {**held, "notes.txt": b"mine"},
        "one more of each map": {**held, **{chunk_name(f, 99): b"x" for f in MAPS}},
        "another name": {("../" + n if n == chunk else n): d for n, d in held.items()},
        "another order": {name: held[name] for name in swapped},
    }
    kinds = []
    for name, contents in harmed.items():
        kept = [(n, data) for n, data in contents.items() if data is not None]
        replace(shard, archive_bytes(kept))
        assert zipfile.ZipFile(shard).testzip() is None, name
        (finding,) = verify(settings.store).problems
        kinds.append(finding.kind)
        assert finding.shard == shard.stem, name
    assert kinds == ["index"] * len(harmed)
    comment = good[:-2] + b"\4\0mine"
    for data in (good[:-1], good[:1000], good[1:], good + b"\0", b"x" + good, comment, b"short"):
        replace(shard, data)
        (finding,) = verify(settings.store).problems
        assert (finding.kind, finding.shard) == ("index", shard.stem)
    replace(shard, b"")
    (finding,) = verify(settings.store).problems
    assert (finding.kind, finding.shard) == ("shard", shard.stem)
    assert "cannot be read" in finding.detail
    shard.unlink()
    (finding,) = verify(settings.store).problems
    assert (finding.kind, finding.shard) == ("shard", shard.stem)
    assert finding.detail == "the file is missing; build the split again"
    replace_missing = shards(settings.store)[1]
    flip(replace_missing, replace_missing.stat().st_size - END_BYTES)
    assert sorted(finding.kind for finding in verify(settings.store).problems) == ["index", "shard"]


def test_verify_finds_what_only_an_unpacker_would_see(split: Split, settings: Settings) -> None:
    """Its own checksums and a second copy of names: no reader here looks at them."""
    shard = shards(settings.store)[1]
    first = split.manifest.shards[0].samples
    name = chunk_name("prob", 1)
    with zipfile.ZipFile(shard) as archive:
        header = archive.getinfo(name).header_offset
        directory = archive.start_dir
    place = shard.read_bytes().index(name.encode(), directory)
    for byte, detail in (
        (header + 14, "its header is not what was written"),
        (header + 31, "its header is not what was written"),
        (place - 46 + 16, "the directory has another checksum"),
    ):
        flip(shard, byte)
        assert open_store(settings.store).split("val")[first + 1].prob.shape == (64, 64)
        (finding,) = verify(settings.store).problems
        assert (finding.kind, finding.shard) == ("index", shard.stem)
        assert finding.detail.startswith(f"{name}: {detail}")
        flip(shard, byte)
    assert verify(settings.store).ok


def test_verify_compares_shards_with_their_keys(split: Split, settings: Settings) -> None:
    first, second = shards(settings.store)[:2]
    shutil.copy(first, second)
    details = [finding.detail for finding in verify(settings.store).problems]
    assert any("do not add up to its key" in detail for detail in details)


def test_a_shard_of_other_metadata_is_found(split: Split, settings: Settings) -> None:
    shard = shards(settings.store)[0]
    held = entries(shard)
    for name in ("zarr.json", "prob/zarr.json", "points/zarr.json"):
        rewrite(shard, {name: held[name] + b" "})
        (finding,) = verify(settings.store).problems
        assert (finding.kind, finding.shard) == ("metadata", shard.stem)
        assert finding.detail.startswith(f"{name} is not what was written")
        rewrite(shard, {name: held[name]})
    assert verify(settings.store).ok


def test_verify_checks_the_manifest(split: Split, settings: Settings, dataset: Dataset) -> None:
    path = manifest_path(settings.store, "val")
    document = json.loads(path.read_bytes())
    document["data_hash"] = document["data_hash"][::-1]
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
        patched.setattr("ocr_precompute.targets.sample.letterbox", _shifted_letterbox)
        build("val", dataset.source, settings)
    assert verify(settings.store, sources={"val": dataset.source}).ok
    report = verify(settings.store, sources={"val": dataset.source}, recompute=0.25)
    assert report.recomputed == 6
    assert [finding.kind for finding in report.problems] == ["recompute"] * 6
    assert report.problems[0].detail.startswith("image differ from what the source gives now")


def _shifted_letterbox(*arguments: object) -> tuple[np.ndarray, float]:
    from ocr_precompute.images.decoding import letterbox

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


# --------------------------------------------------------------------------------- inspect


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
    content = split.content_sizes().prod(axis=1).mean() / 64**2
    assert document["splits"][0]["content"] == pytest.approx(content, abs=1e-4)
    assert 0.3 < content < 1
    assert f"val: pages fill {content:.0%} of 64 x 64; batches with trim hold little more" in shown
    shown_with_shards = run("inspect", "--store", settings.store, "--shards").stderr
    keys = [entry.key[:16] for entry in split.manifest.shards]
    assert not any(key in shown for key in keys)
    assert all(key in shown_with_shards for key in keys)


# ---------------------------------------------------------------------- what may become a store


@pytest.mark.parametrize(
    "entries",
    [
        *(["letter.txt"], ["tmp/work/draft"], ["sources/main.c", "tmp/"], [".git/config"]),
        *(["shards/"], ["lock"], [".zarr.json-2026-11-20261126"], ["digests.sqlite"]),
    ],
)
def test_a_folder_of_something_else_is_left_alone(
    dataset: Dataset, settings: Settings, tmp_path: Path, entries: list[str]
) -> None:
    """Also one that holds only what bears a name as in a store."""
    home = tmp_path / "home"
    for entry in entries:
        (home / entry).parent.mkdir(parents=True, exist_ok=True)
        (home / entry).mkdir() if entry.endswith("/") else (home / entry).write_text("dear")
    before = sorted(home.rglob("*"))
    held = min(os.listdir(home))
    with pytest.raises(StoreError, match=rf"is not a store and not empty \(it holds '{held}'\)"):
        build("val", dataset.source, settings.model_copy(update={"store": home}))
    for refusing in (collect_garbage, partial(remove_split, split="val")):
        with pytest.raises(StoreError, match="there is no store here"):
            refusing(home)
    assert sorted(home.rglob("*")) == before


def test_a_shard_is_no_store(
    split: Split, settings: Settings, dataset: Dataset, tmp_path: Path
) -> None:
    """Its zarr.json is a store's, if it is unpacked."""
    file, unpacked = shards(settings.store)[0], tmp_path / "unpacked"
    with zipfile.ZipFile(file) as archive:
        archive.extractall(unpacked)
    for shard, message in (
        (unpacked, "is a shard, not a store; name the store"),
        (file, "is a file, not a store; name the folder that holds the store"),
    ):
        for refusing in (
            partial(build, "val", dataset.source, settings.model_copy(update={"store": shard})),
            partial(collect_garbage, shard),
            partial(remove_split, shard, "val"),
            partial(open_store, shard),
            partial(verify, shard),
        ):
            with pytest.raises(StoreError, match=message):
                refusing()
    assert verify(settings.store).ok


def test_what_may_lie_where_a_store_is_made(dataset: Dataset, settings: Settings) -> None:
    """What systems put into folders, and what a build killed at its very beginning left."""
    settings.store.mkdir()
    ordinary = [".DS_Store", ".nfs00000000a", "lost+found", temporary_name(".zarr.json")]
    for name in ordinary:
        (settings.store / name).write_text("")
    assert build("val", dataset.source, settings).samples == 24
    assert set(ordinary) <= set(os.listdir(settings.store))
    shutil.rmtree(settings.store / "tmp")  # a build killed after zarr.json has not even that
    collect_garbage(settings.store)
    assert build("val", dataset.source, settings).up_to_date


@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "dangling", "too large"])
@pytest.mark.parametrize("name", ["lock", "zarr.json", "splits/val.json", "sources/val.json"])
def test_odd_files_in_a_stores_places(
    split: Split, settings: Settings, dataset: Dataset, name: str, kind: str
) -> None:
    """One line, or no difference; nothing waits for a pipe or reads without end."""
    path = settings.store / name
    path.unlink()
    put_odd(path, kind)
    said = []
    for command in (
        lambda: build("val", dataset.source, settings),
        lambda: verify(settings.store),
        lambda: recorded_source(settings.store, "val"),
        lambda: collect_garbage(settings.store),
        lambda: open_store(settings.store).split("val")[0],
    ):
        try:
            command()
        except StoreError as error:
            said.append(str(error))
    assert all(str(settings.store) in line and "\n" not in line for line in said)


URL = "s3://bucket/store"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "ftp://host/store",
            "'ftp://host/store' looks like a URL; stores lie in folders",
        ),
        (
            "s3:/bucket/store",
            "'s3:/bucket/store' looks like a URL; stores lie in folders",
        ),
        ("s3://", "'s3://' looks like a URL; stores lie in folders"),
        (
            "https://me:word@host/s",
            "https://...@host/s: holds a name or password",
        ),
        ("s3://b/s?sig=abc", "s3://b/s: ends in a query or fragment"),
    ],
)
def test_urls_that_no_store_has(dataset: Dataset, url: str, reason: str) -> None:
    here = ["--split", "val", "--images", dataset.images, "--annotations", dataset.annotations]
    refused = CliRunner().invoke(app, list(map(str, ["build", *here, "--store", url])))
    assert refused.exit_code == 2
    assert f"error: command line: store: {reason}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_file_url_is_its_folder(tmp_path: Path) -> None:
    assert Settings(store=f"file://{tmp_path}/my%20store").store == tmp_path / "my store"


def test_a_url_is_no_folder(dataset: Dataset, tmp_path: Path) -> None:
    """Also where it has lost a slash on its way; nothing is made anywhere."""
    here = ["--split", "val", "--images", dataset.images, "--annotations", dataset.annotations]
    before = sorted(tmp_path.rglob("*"))
    for entry, arguments in {
        "images": ["build", *here, "--images", "file:///data/img"],
        "annotations": ["build", *here, "--annotations", "https://host/labels.json"],
        "--config": ["inspect", "--config", "gs://bucket/config.yaml"],
        "--report": ["build", *here, "--report", "s3://bucket/report.json"],
        "--out": ["preview", "--split", "val", "--out", "hf://datasets/x"],
        "--html": ["preview", "--split", "val", "--html", "s3://bucket/val.html"],
        "--predictions": ["preview", "--split", "val", "--html", "x", "--predictions", "s3://b/p"],
        "--plot": ["bench", "--split", "val", "--plot", "memory://x.png"],
    }.items():
        refused = CliRunner().invoke(app, list(map(str, arguments)))
        given = next(str(a) for a in arguments[::-1] if looks_like_url(str(a)))
        assert refused.exit_code == 2, arguments
        message = f"error: command line: {entry}: {given!r} looks like a URL; give a folder or file"
        assert message in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    with pytest.raises(StoreError, match=r"looks like a URL"):
        collect_garbage(Path(URL))
    assert sorted(tmp_path.rglob("*")) == before
    assert not any(looks_like_url(path) for path in ("/data", "a:/b", "data/s3://x", "x:y", ""))


# --------------------------------------------------------------------------------- gc and remove

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
AT_ONCE = timedelta(0)


@pytest.fixture
def rebuilt(split: Split, settings: Settings, dataset: Dataset) -> str:
    """A store whose split was built anew with a reader open; the shard that lost its name."""
    dataset.points("page_001.jpg")[0][0] += 1
    dataset.save()
    build("val", dataset.source, settings)
    named = {s.key for s in open_store(settings.store).split("val").manifest.shards}
    (key,) = shard_keys(settings.store) - named
    return key


def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def left_in(folder: Path, name: str, days: float = 0) -> Path:
    """What a killed process left, last written so many days ago."""
    path = folder / name
    path.write_bytes(b"x" * 100)
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


def named_by(process: int, machine: str | None = None) -> str:
    """A temporary name as another process, perhaps on another machine, gives it."""
    own, number = temporary_name("0123456789abcdef"), f"-{os.getpid()}-"
    here = own.removeprefix("0123456789abcdef-").partition(number)[0]
    return own.replace(number, f"-{process}-").replace(here, machine or here)


def test_gc_takes_what_no_manifest_names(
    rebuilt: str, settings: Settings, dataset: Dataset
) -> None:
    left = left_in(settings.store / "tmp", named_by(dead_process()))
    before = published(settings.store)
    dry = collect_garbage(settings.store, dry_run=True, grace=AT_ONCE)
    assert published(settings.store) == before
    done = collect_garbage(settings.store, grace=AT_ONCE)
    assert dry == done
    assert done.shards == (rebuilt,)
    assert done.leftovers == (f"tmp/{left.name}",)
    assert done.bytes > 100
    assert (done.kept, done.foreign) == ((), ())
    assert list((settings.store / "tmp").iterdir()) == []
    assert verify(settings.store, sources={"val": dataset.source}, recompute=1).ok


def test_a_reader_reads_on_through_a_build_and_gc(
    split: Split, rebuilt: str, settings: Settings
) -> None:
    """`split` was opened before the split was built anew, and has read nothing yet."""
    kept = collect_garbage(settings.store).kept
    parts = [part.key for part in split.manifest.parts]
    assert [each.key for each in kept] == [rebuilt, *parts]
    assert len(split.names) == len(split)
    assert all(split[i].image.any() for i in range(len(split)))


def test_the_grace_begins_when_the_last_name_is_lost(
    split: Split, rebuilt: str, settings: Settings, dataset: Dataset
) -> None:
    shards = len(split.manifest.shards) + 1
    files = shards + 2  # with the part of each of two builds

    def gc(days: float) -> tuple[tuple[str, ...], list[str]]:
        garbage = collect_garbage(settings.store, now=NOW + timedelta(days=days))
        return garbage.shards, [kept.until for kept in garbage.kept]

    assert gc(0) == ((), ["2026-11-27T12:00:00+00:00"] * 2)
    assert gc(0.9) == ((), ["2026-11-27T12:00:00+00:00"] * 2)
    dataset.points("page_001.jpg")[0][0] -= 1
    dataset.save()
    assert build("val", dataset.source, settings).built == 0  # it has its name again
    other = settings.model_copy(update={"size": (32, 32)})
    build("val", dataset.source, other)
    assert gc(2) == ((), ["2026-11-29T12:00:00+00:00"] * files)
    assert len(gc(3)[0]) == shards
    assert gc(4) == ((), [])
    assert verify(settings.store, sources={"val": dataset.source}, recompute=1).ok


@pytest.mark.parametrize(
    "note", ["", "yesterday", "2026-11-01", "2099-01-01T00:00:00+00:00", "folder", "pipe"]
)
def test_gc_starts_afresh_where_its_notes_are_damaged(
    rebuilt: str, settings: Settings, note: str
) -> None:
    collect_garbage(settings.store, now=NOW)
    path = settings.store / "unnamed" / rebuilt
    path.unlink()
    if note == "pipe":
        os.mkfifo(path)
    elif note == "folder":
        path.mkdir()
        with pytest.raises(StoreError, match=rf"unnamed/{rebuilt}: Is a directory; nothing more"):
            collect_garbage(settings.store, now=NOW)
        path.rmdir()
    else:
        path.write_text(note)
    (kept,) = collect_garbage(settings.store, now=NOW + timedelta(days=9)).kept
    assert kept.until == "2026-12-06T12:00:00+00:00"
    assert collect_garbage(settings.store, now=NOW + timedelta(days=10)).shards == (rebuilt,)


def put_odd(path: Path, kind: str) -> None:
    """Something else where a file should be."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "too large":
        with path.open("wb") as file:
            file.truncate(2**33)
    else:
        path.symlink_to({"endless": "/dev/zero", "dangling": "nowhere"}[kind])


def odd_manifest(folder: Path, kind: str) -> None:
    """Something in splits/ that is no manifest."""
    path = folder / "val.json"
    if kind == "damaged":
        path.write_text("{")
    elif kind == "another name":
        path.rename(folder / "val.json.bak")
        (folder / "val.json.bak").write_bytes((folder / "val.json.bak").read_bytes()[:-9])
    elif kind == "notes":
        (folder / ".notes").write_text("mine")
    elif kind == "not UTF-8":
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_text("mine")
    else:
        path.unlink()
        put_odd(path, kind)


@pytest.mark.parametrize(
    "kind",
    [
        *("damaged", "dangling", "endless", "pipe", "folder", "another name", "notes", "not UTF-8"),
        "too large",
    ],
)
def test_gc_stops_at_what_it_cannot_read_as_a_manifest(
    rebuilt: str, settings: Settings, kind: str
) -> None:
    odd_manifest(settings.store / "splits", kind)
    before = shard_keys(settings.store)
    with pytest.raises(StoreError, match=r"splits/.*(is damaged|cannot be read as a manifest)"):
        collect_garbage(settings.store, grace=AT_ONCE)
    assert shard_keys(settings.store) == before


def test_what_reads_as_a_manifest_names_its_shards(
    rebuilt: str, split: Split, settings: Settings
) -> None:
    """Also under another name, and through a link; what systems put into folders is no matter."""
    splits = settings.store / "splits"
    (splits / "copy of val").write_bytes(split.manifest.to_bytes())
    (splits / ".DS_Store").write_bytes(b"\0")
    (splits / ".nfs000000000001").write_bytes(b"\0")
    (splits / temporary_name(".val.json")).write_bytes(b"{")
    assert collect_garbage(settings.store, grace=AT_ONCE).shards == ()
    (splits / "copy of val").rename(settings.store / "kept.json")
    (splits / "old").symlink_to("../kept.json")
    assert collect_garbage(settings.store, grace=AT_ONCE).shards == ()
    (splits / "old").unlink()
    assert collect_garbage(settings.store, grace=AT_ONCE).shards == (rebuilt,)


def test_gc_without_a_folder_for_manifests(rebuilt: str, settings: Settings) -> None:
    shutil.rmtree(settings.store / "splits")
    before = shard_keys(settings.store)
    with pytest.raises(StoreError, match=r"splits: is not there, so it is not known"):
        collect_garbage(settings.store, grace=AT_ONCE)
    assert shard_keys(settings.store) == before


def test_gc_leaves_alone_what_is_not_of_the_store(
    rebuilt: str, settings: Settings, tmp_path: Path
) -> None:
    store, mine = settings.store, tmp_path / "mine"
    mine.mkdir()
    (mine / "letter").write_text("dear")
    shard = shard_path(store, rebuilt)
    left = left_in(store / "tmp", named_by(dead_process()))
    folder, link = (store / "tmp" / named_by(dead_process()) for _ in range(2))
    folder.mkdir()
    (folder / "notes").write_text("mine")
    link.symlink_to(mine)
    (store / "tmp" / "work").mkdir()
    (store / "tmp" / "link").symlink_to(mine)
    odd = [
        f"{'a' * 64}.zip",
        f"{'b' * 64}.zip",
        "notes.txt",
        f"{rebuilt}.ZIP",
        f"{rebuilt}.zip.bak",
    ]
    places = [store / "shards" / "aa" / odd[0], store / "shards" / "bb" / odd[1]]
    places += [shard.with_name(name) for name in odd[2:]]
    places += [store / "shards" / name for name in ("x" * 64, "cc", f"{rebuilt}.zip", "b")]
    places += [store / "shards" / "aa" / f"{'b' * 64}.zip"]
    for place in places[:2]:
        place.parent.mkdir(exist_ok=True)
    places[0].mkdir()
    places[1].symlink_to(mine)
    for place in places[2:]:
        place.symlink_to(mine) if place.name == "cc" else place.write_text("mine")
    for litter in (shard.parent, store / "shards", store / "tmp"):
        (litter / ".DS_Store").write_text("")
        (litter / ".nfs0001").write_text("")
    before = {place: os.lstat(place).st_ino for place in places}
    found = collect_garbage(store, grace=AT_ONCE)
    assert found.shards == (rebuilt,)
    assert found.leftovers == (f"tmp/{left.name}",)
    held = {folder, link, store / "tmp" / "work", store / "tmp" / "link", *places}
    assert set(found.foreign) == {str(place.relative_to(store)) for place in held}
    assert {place: os.lstat(place).st_ino for place in places} == before
    assert (mine / "letter").read_text() == (folder / "notes").read_text().replace("mine", "dear")
    assert not shard.exists()
    assert not left.exists()
    assert all(os.path.lexists(place) for place in held)
    assert (shard.parent / ".DS_Store").exists()


@pytest.mark.parametrize("folder", ["shards", "tmp"])
def test_gc_deletes_nothing_through_a_link(rebuilt: str, settings: Settings, folder: str) -> None:
    (settings.store / folder).rename(settings.store.parent / "elsewhere")
    (settings.store / folder).symlink_to(settings.store.parent / "elsewhere")
    left = left_in(settings.store.parent / "elsewhere", named_by(dead_process()))
    with pytest.raises(StoreError, match=rf"{folder}: is a symbolic link, and nothing is deleted"):
        collect_garbage(settings.store, grace=AT_ONCE)
    with build_lock(settings.store):
        assert left.exists()
    assert len(open_store(settings.store).split("val")[0].image) == 64


def test_gc_of_a_store_that_is_named_by_a_link(rebuilt: str, settings: Settings) -> None:
    link = settings.store.parent / "link"
    link.symlink_to(settings.store)
    shutil.rmtree(settings.store / "tmp")
    assert collect_garbage(link, grace=AT_ONCE).shards == (rebuilt,)


def test_only_abandoned_leftovers_are_swept(split: Split, settings: Settings) -> None:
    """By builds and by gc; a process of another machine cannot be asked, only its files."""
    tmp = settings.store / "tmp"
    elsewhere = "other.host.01234567"
    stay = [
        left_in(tmp, named_by(os.getpid()), days=9),
        left_in(tmp, named_by(1), days=9),
        left_in(tmp, named_by(dead_process(), elsewhere), days=0.9),
        left_in(tmp, "0123456789abcdef-12-01234567", days=9),
        left_in(tmp, "2026-11-26-20261126", days=9),
    ]
    at_work = left_in(tmp, named_by(1, elsewhere), days=9)
    at_work.write_bytes(b"a bit more")
    stay.append(at_work)
    go = [
        left_in(tmp, named_by(dead_process())),
        left_in(tmp, named_by(os.getpid(), elsewhere), days=1.1),
    ]
    found = collect_garbage(settings.store, dry_run=True).leftovers
    assert set(found) == {f"tmp/{path.name}" for path in go}
    with build_lock(settings.store):
        assert set(tmp.iterdir()) == set(stay)


@contextlib.contextmanager
def read_only(store: Path) -> Iterator[None]:
    """A store that the user, for as long, may not write; root becomes somebody else."""
    tree = [store, *(path for path in store.rglob("*") if path.is_dir())]
    user, here = os.geteuid(), Path.cwd()
    store.parent.chmod(0o755)
    os.chdir(store.parent)  # what is above may be closed to others
    for folder in tree:
        folder.chmod(0o555)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        for folder in tree:
            folder.chmod(0o755)
        os.chdir(here)


def test_a_store_that_cannot_be_written(rebuilt: str, settings: Settings, dataset: Dataset) -> None:
    """One line each, and what only reads works."""
    store = Path(settings.store.name)
    elsewhere = settings.model_copy(update={"store": store})
    with read_only(settings.store):
        for change in (collect_garbage, partial(remove_split, split="val")):
            with pytest.raises(StoreError, match=r"store/.*: Permission denied; nothing more was"):
                change(store)
        with pytest.raises(StoreError, match=r"cannot be written: Permission denied; nothing was"):
            build("val", dataset.source, elsewhere)
        assert collect_garbage(store, dry_run=True, grace=AT_ONCE).shards == (rebuilt,)
        assert open_store(store).splits == ["val"]


def test_gc_on_a_full_disk(rebuilt: str, settings: Settings) -> None:
    """It is when one needs it; only its notes need room. A limit on file size stands in for it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(StoreError, match="store: File too large; nothing more was deleted"):
            collect_garbage(settings.store)
        assert collect_garbage(settings.store, grace=AT_ONCE).shards == (rebuilt,)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_gc_command(rebuilt: str, settings: Settings) -> None:
    flags = ["gc", "--store", settings.store]
    kept = run(*flags, "--json")
    assert kept.returncode == 0
    assert "deleted 0 shards" in kept.stderr
    assert "kept 2 files that no split names until 2" in kept.stderr
    document = json.loads(kept.stdout)
    keys = {"shards", "parts", "digests", "leftovers", "bytes", "kept", "foreign", "dry_run"}
    assert set(document) == keys
    assert document["kept"][0]["key"] == rebuilt
    for wrong in ("1", "1w", "-1d", "", "1.5d", "999999d"):
        refused = run(*flags, f"--older-than={wrong}")
        assert refused.returncode == 2
        assert f"--older-than {wrong!r}: give a whole number and d, h, m or s" in refused.stderr
    assert "deleted 0" in run(*flags, "--older-than", "12h").stderr
    assert "deleted 1" in run(*flags, "--older-than", "0").stderr


def test_remove_a_split(split: Split, settings: Settings, dataset: Dataset) -> None:
    build("test", dataset.source, settings.model_copy(update={"size": (32, 32)}))
    flags = ["remove", "--store", settings.store, "--json", "--split"]
    shards = len(split.manifest.shards)
    before = published(settings.store)
    assert run(*flags, "val", "--dry-run").returncode == 0
    assert published(settings.store) == before
    removed = run(*flags, "val")
    expected = {"split": "val", "shards": shards, "samples": 24, "readable": True}
    assert json.loads(removed.stdout) == {**expected, "dry_run": False}
    assert f"removed split val (24 samples in {shards} shards)" in removed.stderr
    assert open_store(settings.store).splits == ["test"]
    assert not (settings.store / "sources" / "val.json").exists()
    assert split[0].image.any()
    assert len(collect_garbage(settings.store, grace=AT_ONCE).shards) == len(split.manifest.shards)
    assert verify(settings.store).ok
    for name in ("val", "../splits/test", ""):
        unknown = run(*flags, name)
        assert unknown.returncode == 2
        assert f"no split {name!r} in this store; splits: test" in unknown.stderr


@pytest.mark.parametrize("kind", ["damaged", "dangling", "endless", "pipe", "too large"])
def test_remove_a_split_that_cannot_be_read(split: Split, settings: Settings, kind: str) -> None:
    """It stands in the way of gc."""
    odd_manifest(settings.store / "splits", kind)
    assert not remove_split(settings.store, "val").readable
    assert len(collect_garbage(settings.store, grace=AT_ONCE).shards) == len(split.manifest.shards)
