"""Builds in parts: together they give what one build gives, and publish all of it or nothing."""

from __future__ import annotations

import json
import random
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import COMMAND, Dataset, published, run
from hypothesis import given
from hypothesis import settings as drawn
from hypothesis import strategies as st
from local import manifest_path, shard_keys
from test_bad_input import damaged_png
from test_sorted_parts import as_parts, listed

from ocr_precompute.annotations import Reading
from ocr_precompute.errors import InputError, StoreError
from ocr_precompute.format.boundaries import shard_bounds
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.part import Part
from ocr_precompute.pipeline.plan import Plan, cut_shards, left_by_parts
from ocr_precompute.pipeline.scan import Scan
from ocr_precompute.pipeline.tables import Samples
from ocr_precompute.pipeline.understand import understand
from ocr_precompute.samples import ImageFile, Polygons, Sample
from ocr_precompute.settings import Settings
from ocr_precompute.storage.digests import DigestCache
from ocr_precompute.storage.folder import Folder
from ocr_precompute.storage.garbage import collect_garbage
from ocr_precompute.storage.store import take_digests

PARAMETERS = Parameters(size=(64, 64))


def at(settings: Settings, store: Path, **changes: object) -> Settings:
    return settings.model_copy(update={"store": store, **changes})


def flags(dataset: Dataset, settings: Settings, folder: Path) -> list[str]:
    """A build by the command as one by these settings."""
    config = folder / "config.yaml"
    config.write_text(json.dumps({"size": settings.size[0], "shard_length": settings.shard_length}))
    return ["build", *dataset.flags(), "--config", str(config), "--json"]


def test_parts_in_two_processes_then_finish(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    build("val", dataset.source, settings)
    store = tmp_path / "parts"
    command = [*flags(dataset, settings, tmp_path), "--store", str(store)]
    parts = [
        subprocess.Popen([*COMMAND, *command, "--part", f"{n}/2"], stdout=-1, stderr=-1, text=True)
        for n in (1, 2)
    ]
    reports = []
    for number, process in enumerate(parts, 1):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert f"val, part {number}/2: built" in err
        assert "nothing is published before all parts are done" in err
        reports.append(json.loads(out))
    assert not manifest_path(store, "val").exists()
    assert [report["part"] for report in reports] == ["1/2", "2/2"]
    assert [report["reused"] for report in reports] == [0, 0]
    assert [report["data_hash"] for report in reports] == ["", ""]
    for report in reports:
        assert report["built"] == report["shards"] > 0
        assert report["computed"] == report["samples"] == report["understood"]["images"]
    finished = run(*command, "--finish")
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert (report["built"], report["reused"], report["samples"]) == (0, report["shards"], 24)
    assert report["shards"] == sum(part["shards"] for part in reports)
    assert published(store) == published(settings.store)


def test_a_part_that_is_killed_and_run_again(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    large = at(settings, settings.store, size=(640, 640), shard_length=2)
    for name in [*dataset.document["images"]][10:]:
        dataset.remove(name)
    dataset.save()
    build("val", dataset.source, large)
    store = tmp_path / "parts"
    command = [*flags(dataset, large, tmp_path), "--store", str(store), "--jobs", "1"]
    killed = subprocess.Popen([*COMMAND, *command, "--part", "1/2"], stdout=-3, stderr=-3)
    while not list(store.glob("shards/*/*.zip")):
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    there = len(shard_keys(store))
    refused = run(*command, "--finish")
    assert refused.returncode == 2
    assert "shards of split 'val' are missing" in refused.stderr
    parts = [build("val", dataset.source, at(large, store), part=f"{n}/2") for n in (1, 2)]
    assert sum(part.reused for part in parts) == there
    build("val", dataset.source, at(large, store), finish=True)
    assert published(store) == published(settings.store)


def test_which_shards_are_there_does_not_change_the_parts(
    dataset: Dataset, settings: Settings
) -> None:
    small = at(settings, settings.store, shard_length=2)
    first = build("val", dataset.source, small, part="1/3")
    done = shard_keys(settings.store)
    again = build("val", dataset.source, small, part="1/3")
    assert (again.built, again.reused, again.up_to_date) == (0, first.built, False)
    counts = [build("val", dataset.source, small, part=f"{n}/3").built for n in (2, 3)]
    assert sum(counts) + len(done) == len(shard_keys(settings.store))
    assert build("val", dataset.source, small, finish=True).shards == sum(counts) + first.shards
    update = build("val", dataset.source, small, part="2/3")
    assert update.up_to_date


def test_finish_refuses_what_is_not_complete(dataset: Dataset, settings: Settings) -> None:
    small = at(settings, settings.store, shard_length=2)
    part = build("val", dataset.source, small, part="2/3")
    total = len(shard_bounds(sorted(dataset.document["images"]), 2))
    wanted = f"{total - part.built} of {total} shards of split 'val' are missing"
    for options in ({}, {"dry_run": True}, {"skip_bad": True}):
        with pytest.raises(StoreError, match=wanted):
            build("val", dataset.source, small, finish=True, **options)
    assert not manifest_path(settings.store, "val").exists()


def test_a_dry_run_of_a_part(dataset: Dataset, settings: Settings) -> None:
    dry = build("val", dataset.source, settings, part="1/2", dry_run=True)
    assert not Path(settings.store).exists()
    real = build("val", dataset.source, settings, part="1/2")
    assert (dry.built, dry.computed, dry.reused) == (real.built, real.computed, real.reused)
    assert 0 < dry.computed < 24


@pytest.mark.parametrize("bad", [{5, 20}, {2, 3, 8, 9, 10, 16, 21}, set(range(1, 24))])
def test_images_that_parts_skip_are_skipped_by_finish(
    bad: set[int], dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    """Some are no images at all, as the scan sees; of others only who decodes them."""
    for number in bad:
        data = b"no image" if number % 3 == 1 else damaged_png(b"")
        (dataset.images / f"page_{number:03d}.jpg").write_bytes(data)
    small = at(settings, settings.store, shard_length=4)
    for number in (1, 2, 3):
        build("val", dataset.source, small, part=f"{number}/3", skip_bad=True)
    with pytest.raises((StoreError, InputError), match=r"are missing|is not a JPEG"):
        build("val", dataset.source, small, finish=True)
    done = build("val", dataset.source, small, finish=True, skip_bad=True)
    assert (done.samples, done.skipped) == (24 - len(bad), len(bad))
    whole = at(small, tmp_path / "whole")
    build("val", dataset.source, whole, skip_bad=True)
    assert published(settings.store)["splits/val.json"] == published(whole.store)["splits/val.json"]


def test_a_part_without_images(dataset: Dataset, settings: Settings, tmp_path: Path) -> None:
    """Of which nothing can be suspected."""
    command = [*flags(dataset, settings, tmp_path), "--store", str(settings.store), "--strict"]
    done = run(*command, "--part", "9/9")
    assert done.returncode == 0, done.stderr
    assert "this part has no images: there are more parts than shards" in done.stderr
    assert "warning" not in done.stderr
    assert json.loads(done.stdout)["samples"] == 0


def test_what_is_probably_not_meant_is_judged_of_all_words(
    dataset: Dataset, settings: Settings
) -> None:
    for word in ("0001", "0002", "0003"):
        for number in range(8):
            page = dataset.points(f"page_{number:03d}.jpg", word)
            page[:] = [[300, 300], [310, 300], [310, 309]]
    dataset.save()
    small = at(settings, settings.store, shard_length=4)
    for number in (1, 2):
        build("val", dataset.source, small, part=f"{number}/2", strict=True)
    with pytest.raises(InputError, match="build without --strict"):
        build("val", dataset.source, small, finish=True, strict=True)
    assert not manifest_path(settings.store, "val").exists()


def test_a_part_needs_no_images_but_its_own(dataset: Dataset, settings: Settings) -> None:
    small = at(settings, settings.store, shard_length=2)
    names = sorted(dataset.document["images"])
    share = Part(2, 3).share(lambda: names, 2)
    elsewhere = dataset.images.parent / "elsewhere"
    elsewhere.mkdir()
    for name in names:
        if not share.holds(name):
            (dataset.images / name).rename(elsewhere / name)
    own = list(dataset.images.iterdir())
    part = build("val", dataset.source, small, part="2/3")
    assert part.samples == len(own) > 4
    own[0].unlink()
    with pytest.raises(InputError, match=f"{own[0].name}: is missing"):
        build("val", dataset.source, small, part="2/3")


@pytest.mark.parametrize("kind", ["document", "lines", "lines that tell", "both"])
def test_parts_make_the_split_of_one_build(
    kind: str, dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    source = dataset.source
    if kind != "document":
        source = as_parts(dataset, 7, 15, told=kind == "lines that tell")
    if kind == "both":
        source = listed({"a": dataset.source, "a-b": source, "b": dataset.source})
    whole = at(settings, tmp_path / "whole", shard_length=3)
    expected = build("val", source, whole)
    parts = at(whole, settings.store)
    reports = [build("val", source, parts, part=f"{number}/4") for number in range(1, 5)]
    assert [report.reused for report in reports] == [0] * 4
    assert sum(report.samples for report in reports) == expected.samples
    assert build("val", source, parts, finish=True).data_hash == expected.data_hash
    assert published(parts.store) == published(whole.store)


def test_what_parts_learnt_of_images_is_not_read_again(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on another machine, which knows the store and the images, and has no digest cache."""
    monkeypatch.setattr(DigestCache, "_SETTLED_NS", -1)
    for number in (1, 2):
        build("val", dataset.source, settings, part=f"{number}/2")
    learnt = sorted(settings.store.glob("digests/*.jsonl"))
    assert len(learnt) == 2
    (settings.store / "digests.sqlite").unlink()
    (settings.store / "digests" / f"{'0' * 64}.jsonl").write_text('["of somebody"]')
    read: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    build("val", dataset.source, settings, finish=True)
    assert not [path for path in read if path.suffix == ".jpg"]
    (settings.store / "digests.sqlite").unlink()
    assert build("val", dataset.source, settings).up_to_date
    assert len([path for path in read if path.suffix == ".jpg"]) == 24


def test_digests_of_parts_go_as_shards_without_a_name_do(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DigestCache, "_SETTLED_NS", -1)
    build("val", dataset.source, settings, part="1/1")
    build("val", dataset.source, settings, finish=True)
    (learnt,) = settings.store.glob("digests/*.jsonl")
    foreign = learnt.with_name("notes.txt")
    foreign.write_text("of somebody")
    found = collect_garbage(settings.store)
    assert (found.digests, [kept.key for kept in found.kept]) == ((), [learnt.stem])
    found = collect_garbage(settings.store, grace=timedelta(0))
    assert (found.digests, found.shards, found.parts) == ((learnt.stem,), (), ())
    assert found.foreign == ("digests/notes.txt",)
    assert list(learnt.parent.iterdir()) == [foreign]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "[" * 100_000,
        '["p", "s", "00", 1, 1, false]',
        f'["p", "s", "{"00" * 32}", 1, 1]',
        f'["p", "s", "{"00" * 32}", 0, 1, false]',
        f'["p", "s", "{"00" * 32}", true, 1, false]',
        f'["p", "s", "{"00" * 32}", {2**70}, 1, false]',
        f'["\\ud800", "s", "{"00" * 32}", 1, 1, false]',
    ],
)
def test_digests_that_are_none(line: str, settings: Settings, tmp_path: Path) -> None:
    storage = Folder(settings.store)
    storage.put(f"digests/{'0' * 64}.jsonl", line.encode())
    with DigestCache(tmp_path / "cache") as cache:
        take_digests(storage, cache)
    assert not (tmp_path / "cache").exists()


# ----------------------------------------------------------------------- which part has what

names = st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), unique=True, max_size=300)


@drawn(max_examples=200, deadline=None)
@given(names, st.integers(2, 20), st.integers(1, 9))
def test_parts_share_whole_shards_equally(names: list[str], length: int, of: int) -> None:
    ordered = sorted(names)
    shards = [ordered[a:b] for a, b in shard_bounds(ordered, length)]
    shares = [Part(number, of).share(lambda: ordered, length) for number in range(1, of + 1)]
    counts = [0] * of
    for shard in shards:
        held = [[share.holds(name) for name in shard] for share in shares]
        (owner,) = (number for number, each in enumerate(held) if any(each))
        assert all(held[owner])
        counts[owner] += 1
    assert max(counts) - min(counts) <= max(1, len(shards) // (32 * of))


@drawn(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 6), st.integers(1, 5))
def test_no_shard_is_left_to_nobody(seed: int, length: int, of: int) -> None:
    """Whatever each part skips of its own, without a word of what the others skip."""
    draw = random.Random(seed)
    ordered = sorted({f"{draw.getrandbits(40):010x}" for _ in range(draw.randint(1, 300))})
    skipped = set(draw.sample(ordered, draw.randint(0, len(ordered) // 4)))
    built: set[str] = set()
    for number in range(1, of + 1):
        share = Part(number, of).share(lambda: ordered, length)
        own = [name for name in ordered if share.holds(name) and name not in skipped]
        others = [name for name in ordered if not share.holds(name)]
        shards = cut_shards(samples_of(own), PARAMETERS, length, (others.__iter__,))
        built.update(shard.key for shard in shards)
    good = samples_of([name for name in ordered if name not in skipped])
    shards = tuple(cut_shards(good, PARAMETERS, length))
    scanned = Scan(good, (), Reading("", [], []), dropped=frozenset(skipped))
    missing = tuple(shard for shard in shards if shard.key not in built)
    planned = Plan(scanned, shards, missing, {}, understand(good, scanned.reading, PARAMETERS, ""))
    assert not left_by_parts(planned, length)
    assert skipped or not missing


def samples_of(names: list[str]) -> Samples:
    image, nothing = ImageFile(bytes(32), (9, 9), False), Polygons.from_list([], [])
    return Samples.of(Sample(name, Path("images"), image, nothing, None, 0) for name in names)


@pytest.mark.parametrize("part", ["3", "0/2", "3/2", "1/0", "a/b", "-1/2", "1/2/3"])
def test_a_part_that_is_none(dataset: Dataset, settings: Settings, part: str) -> None:
    with pytest.raises(InputError, match=r"--part '.*': give two whole numbers, I/N"):
        build("val", dataset.source, settings, part=part)


def test_a_part_does_not_finish(dataset: Dataset, settings: Settings) -> None:
    with pytest.raises(InputError, match="--part, --finish: give one of them"):
        build("val", dataset.source, settings, part="1/2", finish=True)
