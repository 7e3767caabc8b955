"""`verify` on stores that somebody meant harm to, and `verify --repair`."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Dataset, published, run_apart
from local import manifest_path
from shards import change_record, entries, flip_chunk, replace, rewrite, shards, span, transcode

from ocr_precompute.checking.repair import Repair, repair
from ocr_precompute.checking.verify import verify
from ocr_precompute.errors import StoreError
from ocr_precompute.format.archive import archive_bytes, directory_bytes, header_bytes
from ocr_precompute.format.schema import RECORDS, chunk_name, record_name
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.store import open_store
from ocr_precompute.settings import Settings


@pytest.fixture
def store(dataset: Dataset, settings: Settings) -> Path:
    """A split of many small shards."""
    settings = settings.model_copy(update={"shard_length": 2})
    assert build("val", dataset.source, settings).shards >= 10
    return settings.store


# -------------------------------------------------------------------------------------- values


def put(value: float, *place: int) -> Callable[[np.ndarray], object]:
    return lambda array: array.__setitem__(place, value)


def as_text(text: bytes) -> Callable[[np.ndarray], object]:
    return lambda _: np.frombuffer(text, np.uint8)


VALUES: list[tuple[str, Callable[[np.ndarray], object], str]] = [
    ("points", put(np.nan, 1, 0), "points: holds coordinates that no annotation may have"),
    ("points", put(np.inf, 0, 1), "points: holds coordinates that no annotation may have"),
    ("points", put(-3e6, 0, 1), "points: holds coordinates that no annotation may have"),
    ("matrix", put(np.nan, 0, 0, 0), "matrix: does not lead back to an image of that size"),
    ("matrix", put(np.inf, 0, 1, 1), "matrix: does not lead back to an image of that size"),
    ("matrix", put(3.0, 0, 0, 0), "matrix: does not lead back to an image of that size"),
    ("matrix", put(1e-3, 0, 2, 0), "matrix: does not lead back to an image of that size"),
    ("original_size", put(0, 0, 0), "original_size: (0, 80) is no size of an image"),
    ("original_size", put(-5, 0, 1), "original_size: (96, -5) is no size of an image"),
    ("original_size", put(2**30, 0, 1), "original_size: (96, 1073741824) is no size of an image"),
    ("polygon_offsets", put(2, 1), "polygon_offsets: a polygon has fewer than three points"),
    ("polygon_offsets", put(99, 1), "polygon_offsets does not fit the array it points into"),
    ("sample_offsets", put(-1, 1), "sample_offsets does not fit the array it points into"),
    ("ignore", lambda a: a.view(np.uint8) + 2, "ignore holds flags that are neither 0 nor 1"),
    ("fate", put(200, 0), "fate does not fit the polygons"),
    ("fate", lambda a: a[:-1], "fate does not fit the polygons"),
    ("name_bytes", put(0x2F, 0), "name: leaves the image folder, or is no file name"),
    ("name_bytes", put(0x0A, 3), "name: leaves the image folder, or is no file name"),
    ("name_bytes", put(0xFF, 0), "'utf-8' codec can't decode byte 0xff"),
    ("damage", as_text(b"[[0, 3, null]]"), "damage holds what cannot be"),
    ("damage", as_text(b"[[0, "), "damage is not the text that was written"),
    ("damage", as_text(b"[" * 100_000), "damage is not the text that was written"),
    ("name_bytes", put(0x7A, 0), "its names are not in the order of the split"),
]


def test_every_value_of_a_record_is_checked(store: Path) -> None:
    shard = shards(store)[2]
    assert verify(store).ok
    good = shard.read_bytes()
    for field, change, detail in VALUES:
        change_record(shard, field, change)
        details = [finding.detail for finding in verify(store, jobs=1).problems]
        assert any(detail in found for found in details), (field, detail, details)
        replace(shard, good)
    assert verify(store).ok


@pytest.mark.parametrize("field", RECORDS)
def test_a_missing_record_is_no_record_of_zeros(store: Path, field: str) -> None:
    rewrite(shards(store)[0], {record_name(field): None})
    with pytest.raises(StoreError, match=f"cannot be read .*{record_name(field)} is missing"):
        open_store(store).split("val")[0]


def test_flags_that_are_no_flags_are_not_read(store: Path) -> None:
    change_record(shards(store)[0], "ignore", lambda array: array.view(np.uint8) + 2)
    with pytest.raises(StoreError, match="neither 0 nor 1"):
        open_store(store).split("val")[0]


# ---------------------------------------------------------------------------- hostile files


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(2**40)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/full")


def empty(path: Path) -> None:
    replace(path, b"")


def cut(path: Path) -> None:
    replace(path, path.read_bytes()[:-1000])


def claims_entries(path: Path) -> None:
    """Two thousand million of them, in a file that would have room for some."""
    data = bytearray(path.read_bytes())
    data[-14:-10] = b"\xff" * 4
    data[-10:-2] = b"\xff" * 8
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2**31, 2**31, 2**37, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(data) - 22, 1)
    replace(path, bytes(data[:-22]) + wide + locator + bytes(data[-22:]))


def claims_bytes(path: Path) -> None:
    """A sample of 4 GB, in a file without bytes on the disk."""
    harm_sizes(path, chunk_name("image", 0))


def claims_record(path: Path) -> None:
    """Points of 4 GB."""
    harm_sizes(path, record_name("points"))


def harm_sizes(path: Path, name: str) -> None:
    """Have an entry be of 4 GB, a hole in the file, and what follows and the directory fit."""
    held = entries(path)
    names = tuple(each.encode() for each in held)
    sizes = np.array([len(data) for data in held.values()], np.int64)
    at = list(held).index(name)
    size, added = 2**32 - 2, 2**32 - 2 - int(sizes[at])
    _, stop = span(path, name)
    crcs = np.array([zlib.crc32(data) for data in held.values()], np.uint32)
    data = path.read_bytes()
    length = int(sizes.sum()) + sum(header_bytes(each) for each in names)
    sizes[at] = size
    path.unlink()
    with path.open("wb") as file:
        file.write(data[:stop])
        file.seek(added, os.SEEK_CUR)
        file.write(data[stop:length])
        file.write(directory_bytes(names, sizes, crcs))


def bomb(path: Path) -> None:
    """A chunk that ZIP's own compression blows up."""
    held = entries(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in held.items():
            with archive.open(name, "w") as entry:
                for _ in range(300 if name == chunk_name("image", 0) else 0):
                    entry.write(bytes(2**20))
                entry.write(data)


def leaves(path: Path) -> None:
    """Names that lead out of the folder in which somebody may unpack it."""
    held = entries(path)
    replace(path, archive_bytes([(f"../../{name}", data) for name, data in held.items()]))


def foreign(path: Path) -> None:
    """Good, but not what was written."""
    transcode(path)


FILES = [
    *(pipe, endless, huge, folder, device, empty, cut, claims_entries, claims_bytes),
    *(claims_record, bomb, leaves, foreign),
]
READABLE = {foreign}

MANIFESTS = {
    "with space.json": "is not named as a manifest is; move it elsewhere",
    "notes.txt": "is not named as a manifest is; move it elsewhere",
    "pipe.json": "pipe.json: cannot be read: is not a regular file",
    "endless.json": "endless.json: cannot be read: is not a regular file",
    "huge.json": "huge.json: cannot be read: is larger than",
    "longer.json": "longer.json: is damaged (parts.0.samples: ",
    "half.json": "half.json: is damaged (parts.0.samples: ",
    "newer.json": "newer.json: has format version 99",
    "deep.json": "deep.json: is damaged",
}


def harm(store: Path) -> None:
    """Put all of FILES and MANIFESTS into a store, each into a shard of its own."""
    for shard, change in zip(shards(store), FILES, strict=False):
        change(shard)
    good = json.loads(manifest_path(store, "val").read_bytes())
    part = good["parts"][0]
    texts = {
        "longer": {**good, "parts": [{**part, "samples": 10**30}]},
        "half": {**good, "parts": [{**part, "samples": 0.5}]},
        "newer": {**good, "format_version": 99},
    }
    for name in MANIFESTS:
        document = texts.get(name.removesuffix(".json"), good)
        (store / "splits" / name).write_text(json.dumps(document))
    (store / "splits" / "deep.json").write_text("[" * 100_000)
    pipe(store / "splits" / "pipe.json")
    endless(store / "splits" / "endless.json")
    huge(store / "splits" / "huge.json")


def test_hostile_files_in_every_place(
    store: Path, dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    for number in range(24, 40):
        dataset.add(f"page_{number:03d}.jpg")
    dataset.save()
    build("val", dataset.source, settings.model_copy(update={"shard_length": 2}))
    before = published(store)
    keys = [shard.stem for shard in shards(store)]
    assert len(keys) > len(FILES)
    harm(store)

    def limited(*flags: str) -> tuple[int, dict, str]:
        done = run_apart(
            *("verify", "--store", store, "--json", *flags),
            cwd=tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30)),
        )
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr

    status, report, shown = limited()
    assert status == 1, shown
    assert "Traceback" not in shown
    details = [problem["detail"] for problem in report["problems"]]
    for name, detail in MANIFESTS.items():
        assert sum(name in found and detail in found for found in details) == 1, (name, details)
    assert all("\n" not in detail and len(detail) < 500 for detail in details)
    found = {problem["shard"] for problem in report["problems"] if problem["shard"]}
    assert found == set(keys[: len(FILES)])
    assert not {p["sample"] for p in report["problems"] if p["kind"].startswith("source")}

    split = open_store(store).split("val")
    for number, change in enumerate(FILES):
        first = split._starts[number]
        if change in READABLE:
            assert split[first].image.any()
            continue
        with pytest.raises(StoreError, match=f"shard {keys[number]}: ") as caught:
            split[first]
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500

    status, report, shown = limited("--repair")
    assert status == 1, shown  # for the odd manifests, and the folder
    odd = [problem for problem in report["problems"] if problem["kind"] != "manifest"]
    lain = FILES.index(folder)
    assert {problem["shard"] for problem in odd} == {keys[lain]}
    assert "a folder lies where it belongs; move that elsewhere" in odd[-1]["detail"]
    assert sorted(report["repaired"]) == sorted({*keys[: len(FILES)]} - {keys[lain]})
    assert f"repaired: {keys[0][:16]}: built again" in shown
    for name in MANIFESTS:
        (store / "splits" / name).unlink()
    shards(store)[lain].rmdir()
    assert repaired(store, dataset) == Repair((keys[lain],), ())
    assert verify(store, sources={"val": dataset.source}, recompute=1).ok
    assert published(store) == before
    assert list((store / "tmp").iterdir()) == []


# -------------------------------------------------------------------------------------- repair


def repaired(store: Path, dataset: Dataset, known: bool = True) -> Repair:
    sources = {"val": dataset.source} if known else {}
    return repair(store, verify(store, sources=sources), sources)


def test_a_reader_reads_on_during_a_repair(store: Path, dataset: Dataset) -> None:
    split = open_store(store).split("val")
    image = split[0].image
    before = published(store)
    shard = shards(store)[0]
    replace(shard, shard.read_bytes())  # another file, which the open split does not see
    flip_chunk(shard, "image")
    with pytest.raises(StoreError):
        open_store(store).split("val")[0]
    assert repaired(store, dataset) == Repair((shard.stem,), ())
    assert published(store) == before
    assert np.array_equal(split[0].image, image)


def test_what_is_missing_is_built_again_from_where_it_was(store: Path, dataset: Dataset) -> None:
    """No names are left to go by; samples that came and went elsewhere do not matter."""
    before = published(store)
    lost = shards(store)[5]
    names = open_store(store).split("val").names
    first = open_store(store).split("val")._starts[5]
    dataset.remove(names[0])
    dataset.add("aaa.jpg")
    dataset.add("aab.jpg")
    dataset.save()
    lost.unlink()
    assert repaired(store, dataset) == Repair((lost.stem,), ())
    kinds = {p.kind for p in verify(store, sources={"val": dataset.source}).problems}
    assert kinds == {"source-added", "source-missing"}
    assert published(store) == before
    assert open_store(store).split("val")[first].name == names[first]


def test_why_a_shard_cannot_be_built_again(store: Path, dataset: Dataset) -> None:
    shard = shards(store)[3]
    names = open_store(store).split("val").names
    first = open_store(store).split("val")._starts[3]
    flip_chunk(shard, "image")
    damaged = published(store)

    def reason(known: bool = True) -> str:
        done = repaired(store, dataset, known)
        assert done.repaired == ()
        assert published(store) == damaged
        (finding,) = done.failed
        assert (finding.kind, finding.shard) == ("repair", shard.stem)
        return finding.detail

    assert "not known where the split was built from; give --images" in reason(known=False)
    shard.rename(shard.with_suffix(".bak"))
    shard.mkdir()
    (shard / "notes.txt").write_text("mine")
    damaged = published(store)
    assert "a folder lies where it belongs; move that elsewhere" in reason()
    shutil.rmtree(shard)
    shard.with_suffix(".bak").rename(shard)
    damaged = published(store)
    dataset.points(names[first])[0][0] += 1
    dataset.save()
    assert "have changed since; build the split again" in reason()
    dataset.annotations.unlink()
    assert "there is no such annotation file" in reason()


def test_a_shard_of_other_libraries_is_not_drawn_with_these(
    store: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_chunk(shards(store)[0], "image")
    monkeypatch.setattr(
        "ocr_precompute.checking.repair.Parameters",
        lambda: Parameters(libraries={"opencv": "9", "pyclipper": "9"}),
    )
    (finding,) = repaired(store, dataset).failed
    assert "it was built with {'opencv'" in finding.detail
    assert "here are {'opencv': '9'" in finding.detail


def test_the_root_is_written_again(store: Path, dataset: Dataset) -> None:
    root = store / "zarr.json"
    good = root.read_bytes()
    root.write_bytes(good + b" ")
    assert repaired(store, dataset) == Repair((), ())
    assert verify(store).ok
    assert root.read_bytes() == good


def test_all_records_are_known_to_these_tests() -> None:
    assert {field for field, *_ in VALUES} | {"key", "name_offsets"} == set(RECORDS)
