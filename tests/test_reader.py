"""Reading: every way to read a store gives the same bytes, and says what is damaged."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
import pytest
from conftest import Dataset, same
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from local import manifest_path, shard_path
from shards import entries, flip_chunk, republish, rewrite, shards, span, transcode

from ocr_precompute.errors import StoreError
from ocr_precompute.format import blosc
from ocr_precompute.format.blosc import Packed
from ocr_precompute.format.chunks import ChunkError, decompress, encode_chunk
from ocr_precompute.format.schema import MAPS, chunk_name, record_name
from ocr_precompute.format.shard import MappedFile, is_ours, read_index, read_records
from ocr_precompute.parameters import Compression
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading import handles
from ocr_precompute.reading import split as reader
from ocr_precompute.reading.foreign import ForeignShard
from ocr_precompute.reading.opened import IndexedShard, OpenedShard
from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import open_store
from ocr_precompute.runtime.forks import undisturbed
from ocr_precompute.samples import CanonicalSample, Polygons
from ocr_precompute.settings import Settings
from ocr_precompute.storage.objects import Objects, RangedFile
from ocr_precompute.targets.sample import compute_sample

FIELDS = tuple(MAPS)


@pytest.fixture
def built(dataset: Dataset, settings: Settings) -> Path:
    dataset.document["images"]["page_003.jpg"]["words"]["0001"]["ignore"] = True
    del dataset.document["images"]["page_004.jpg"]["words"]
    dataset.save()
    build("val", dataset.source, settings)
    return settings.store


def mapped(store: Path) -> str | Path:
    return store


def transcoded(store: Path) -> str | Path:
    """The store as another tool might write it again: another ZIP, other codecs."""
    copy = store.with_name("transcoded")
    shutil.copytree(store, copy)
    for shard in shards(copy):
        transcode(shard)
    return copy


def remote(store: Path) -> str | Path:
    """The store on a file system that is not this machine's."""
    url = f"memory://{store.parent.name}/store"
    for path in (path for path in store.rglob("*") if path.is_file()):
        Objects(url).put(path.relative_to(store).as_posix(), path.read_bytes())
    return url


WAYS = {"mapped": mapped, "transcoded": transcoded, "remote": remote}


@pytest.fixture(params=WAYS)
def location(request: pytest.FixtureRequest, built: Path) -> str | Path:
    """Where the store can be read: in turn mapped, by zarr-python, and by ranges from afar."""
    return WAYS[request.param](built)


@pytest.fixture
def split(location: str | Path) -> Split:
    return open_store(location).split("val")


@pytest.fixture
def live(dataset: Dataset, settings: Settings) -> Callable[[str], CanonicalSample]:
    """Computes a sample from its source, as training without a store does."""

    def compute(name: str) -> CanonicalSample:
        words = dataset.document["images"][name].get("words", {}).values()
        polygons = Polygons.from_list(
            [np.array(word["points"], float) for word in words],
            [word.get("ignore", False) for word in words],
        )
        data = (dataset.images / name).read_bytes()
        return compute_sample(name, data, polygons, settings.parameters, 10**6)

    return compute


def reads_with(split: Split) -> type:
    return type(split._open(0))


def test_each_way_is_what_it_says(built: Path) -> None:
    opened = [open_store(way(built)).split("val")._open(0) for way in WAYS.values()]
    assert [type(shard) for shard in opened] == [IndexedShard, ForeignShard, IndexedShard]
    assert isinstance(opened[2]._file, RangedFile)


def test_stored_samples_equal_computed_ones(
    split: Split, dataset: Dataset, live: Callable[[str], CanonicalSample]
) -> None:
    assert len(split) == 24
    assert list(split.names) == sorted(dataset.document["images"])
    for index, name in enumerate(split.names):
        stored, computed = split[index], live(name)
        assert stored.name == name
        assert stored.original_size == computed.original_size == (96, 80)
        for field in (*MAPS, "ignore", "fate", "matrix"):
            assert same(getattr(stored, field), getattr(computed, field)), field
        assert len(stored.polygons) == len(computed.polygons)
        for a, b in zip(stored.polygons, computed.polygons, strict=True):
            assert same(a, b)


def test_samples_by_number_name_and_slice(split: Split, location: str | Path) -> None:
    store = open_store(location)
    assert (list(store), len(store), "val" in store, "train" in store) == (["val"], 1, True, False)
    assert store["val"].manifest == split.manifest
    assert split["page_007.jpg"].name == split[7].name == "page_007.jpg"
    assert [sample.name for sample in split[-2:]] == list(split.names[-2:])
    assert [sample.name for sample in split[20::-9]] == [split.names[i] for i in (20, 11, 2)]
    assert split[24:] == []
    assert [sample.name for sample in split] == list(split.names)
    assert split.index("page_023.jpg") == 23
    for unknown in ("", "page", "page_024.jpg", "zzz"):
        with pytest.raises(KeyError, match=f"no sample '{unknown}' in split 'val'"):
            split[unknown]
    assert repr(store) == f"Store({str(store.path)!r}, splits: val)"
    assert repr(split) == "Split('val', 24 samples of 64 x 64)"


def test_a_store_closes_the_files_of_its_splits(location: str | Path) -> None:
    with open_store(location) as store:
        split = store["val"]
        image = split[0].image
        assert handles.HANDLES._held
        mine = {key for key in handles.HANDLES._held if key[0] == split._number}
        assert mine
    assert not mine & set(handles.HANDLES._held)
    assert same(split[0].image, image)


def test_what_lies_outside_the_content_is_empty(split: Split) -> None:
    sizes = split.content_sizes()
    assert (sizes.shape, sizes.dtype) == ((24, 2), np.int32)
    for sample, (height, width) in zip(split, sizes.tolist(), strict=True):
        assert not sample.image[height:].any()
        assert not sample.image[:, width:].any()
        assert sample.image[:height, :width].any(axis=2)[-1].any()
    assert sizes[0].tolist() == [64, 53]


def test_the_matrix_leads_back_to_the_original(split: Split, dataset: Dataset) -> None:
    sample = split[0]
    points = np.hstack([sample.polygons[0], np.ones((4, 1))]) @ sample.matrix.T
    assert np.allclose(points[:, :2], dataset.points("page_000.jpg"), atol=1e-4)


def test_read_returns_batches(split: Split) -> None:
    indices = [17, 3, 3, -1]
    batch = split.read(indices, fields=FIELDS)
    assert list(batch) == list(FIELDS)
    for position, index in enumerate(indices):
        for field, arrays in batch.items():
            assert same(arrays[position], getattr(split[index], field))
    assert set(split.read([0])) == {"image", "prob"}
    assert split.read([], fields=["thresh"])["thresh"].shape == (0, 64, 64)


def test_read_into_the_callers_arrays(split: Split) -> None:
    out = {field: np.empty((2, *split.shape(field)), MAPS[field][0]) for field in FIELDS}
    result = split.read([5, 2], FIELDS, out)
    for field in FIELDS:
        assert result[field] is out[field]
        assert same(out[field][1], getattr(split[2], field))


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


UNFIT = [
    (np.empty((1, 64, 64), np.uint8), r"of \(1, 64, 64\) uint8"),
    (np.empty((2, 64, 64), np.int8), r"of \(2, 64, 64\) int8"),
    (np.empty((2, 64, 64), bool), r"of \(2, 64, 64\) bool"),
    (np.empty((2, 64, 128), np.uint8)[:, :, ::2], "not contiguous"),
    (np.empty((3, 64, 64), np.uint8)[::-2], "not contiguous"),
    (np.empty((2, 64, 64), np.uint8, order="F"), "not contiguous"),
    (np.lib.stride_tricks.as_strided(np.empty(9, "u1"), (2, 64, 64), (0, 0, 0)), "not contig"),
    (np.broadcast_to(np.empty((1, 64, 64), np.uint8), (2, 64, 64)), "not contiguous"),
    (read_only(np.empty((2, 64, 64), np.uint8)), "read-only"),
    (np.frombuffer(bytes(2 * 64 * 64), np.uint8).reshape(2, 64, 64), "read-only"),
    (bytearray(2 * 64 * 64), "of type bytearray"),
    ([[0] * 64] * 64, "of type list"),
    (None, "of type NoneType"),
]


def test_arrays_that_do_not_fit_are_refused(built: Path) -> None:
    split = open_store(built).split("val")
    message = r"out\['prob'\] is not a contiguous, writeable array of \(2, 64, 64\) uint8, but "
    for array, found in UNFIT:
        arrays: Any = {"prob": array}
        with pytest.raises(ValueError, match=message + found):
            split.read([0, 1], ["prob"], arrays)
        with pytest.raises(ValueError, match=message + found):
            split.fill([0, 1], arrays)


def test_the_byte_order_of_arrays_counts(split: Split) -> None:
    with pytest.raises(ValueError, match=r"of .* float32, but of .* >f4"):
        split.fill([0], {"thresh": np.empty((1, 64, 64), ">f4")})


def test_arrays_that_share_memory_are_refused(split: Split) -> None:
    memory = np.zeros((3, 64, 64), np.uint8)
    with pytest.raises(ValueError, match=r"out\['prob'\] and out\['prob_mask'\] share memory"):
        split.fill([0, 1], {"prob": memory[:2], "prob_mask": memory[1:]})
    assert not memory.any()
    split.fill([0], {"prob": memory[:1], "prob_mask": memory[1:2], "thresh_mask": memory[2:]})
    assert memory.any()


def test_arrays_for_what_is_not_asked_or_not_there(split: Split) -> None:
    with pytest.raises(ValueError, match="out holds no array for image"):
        split.read([0], ["image", "prob"], {"prob": np.empty((1, 64, 64), np.uint8)})
    with pytest.raises(ValueError, match=r"unknown fields \['names'\]"):
        split.fill([0], {"names": np.empty((1, 64, 64), np.uint8)})
    with pytest.raises(TypeError, match="float"):
        split.read([0.5])


def test_read_into_mapped_files(split: Split, tmp_path: Path) -> None:
    shape = (2, *split.shape("image"))
    array = np.memmap(tmp_path / "image", np.uint8, "w+", shape=shape)
    assert split.read([3, 4], ["image"], {"image": array})["image"] is array
    assert np.fromfile(tmp_path / "image", np.uint8).tobytes() == array.tobytes()
    assert same(np.asarray(array[0]), split[3].image)


@hypothesis_settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 64), st.integers(1, 64)),
        min_size=len(FIELDS),
        max_size=len(FIELDS),
    ),
    indices=st.lists(st.integers(-24, 23), max_size=4),
    fields=st.sets(st.sampled_from(FIELDS)),
)
def test_smaller_arrays_take_the_top_left(
    split: Split, sizes: list[tuple[int, int]], indices: list[int], fields: set[str]
) -> None:
    out = {
        field: np.full((len(indices), *size, *MAPS[field][1]), 7, MAPS[field][0])
        for field, size in zip(FIELDS, sizes, strict=True)
        if field in fields
    }
    split.fill(indices, out)
    whole = split.read(indices, tuple(fields))
    for field, array in out.items():
        height, width = array.shape[1:3]
        assert same(array, np.ascontiguousarray(whole[field][:, :height, :width])), field


def test_arrays_that_are_too_large_or_empty_are_refused(split: Split) -> None:
    for shape in ((1, 65, 64), (1, 64, 65), (1, 0, 64), (1, 64, 0), (1, 64), (1, 64, 64, 1)):
        with pytest.raises(ValueError, match=r"out\['prob'\] is not .*, but of "):
            split.fill([0], {"prob": np.empty(shape, np.uint8)})
    with pytest.raises(ValueError, match=r"but of \(1, 32, 32, 1\) uint8"):
        split.fill([0], {"image": np.empty((1, 32, 32, 1), np.uint8)})


def test_reading_what_is_not_there(split: Split, location: str | Path, tmp_path: Path) -> None:
    for index in (24, -25):
        with pytest.raises(IndexError, match="of a split of 24"):
            split[index]
    with pytest.raises(ValueError, match=r"unknown fields \['names'\]; one of image, prob"):
        split.read([0], fields=["names"])
    with pytest.raises(StoreError, match=r"no split 'train' in this store; splits: val"):
        open_store(location).split("train")
    with pytest.raises(StoreError, match="there is no store here"):
        open_store(tmp_path)


def test_a_url_without_the_packages_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError, match=r"pip install 'ocr-precompute\[remote\]'"):
        open_store("s3://bucket/store")


def test_a_url_of_an_unknown_kind() -> None:
    with pytest.raises(StoreError, match="'nonsense://bucket' looks like a URL; stores lie in"):
        open_store("nonsense://bucket")


def test_what_is_read_can_be_changed(split: Split) -> None:
    first, again = split[0], None
    for array in (first.image, first.polygons[0], first.matrix):
        array[...] = 0
    again = split[0]
    assert again.image.any()
    assert again.polygons[0].any()
    assert again.matrix.any()


# -------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("field", MAPS)
def test_a_flipped_bit_names_shard_and_sample(built: Path, field: str) -> None:
    split = open_store(built).split("val")
    key = split.manifest.shards[0].key
    flip_chunk(shards(built)[0], field)
    message = rf"shard {key}: sample '{split.names[0]}': {field} cannot be read \(checksum mismatch"
    with pytest.raises(StoreError, match=message):
        split.read([0], [field])
    split.read([1], [field])


def test_a_flipped_bit_through_zarr(built: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ocr_precompute.reading")
    split = open_store(built).split("val")
    key, shard = split.manifest.shards[0].key, shards(built)[0]
    name = "image/zarr.json"
    rewrite(shard, {name: entries(shard)[name] + b" "})  # the same to zarr, unknown to us
    assert reads_with(open_store(built).split("val")) is ForeignShard
    assert caplog.messages == [f"{shard}: not as this version writes shards, read by zarr-python"]
    assert same(open_store(built).split("val")[0].image, split[0].image)
    flip_chunk(shard, "image")
    with pytest.raises(StoreError, match=rf"shard {key}: sample '{split.names[0]}': image cannot"):
        open_store(built).split("val").read([0])
    with pytest.raises(StoreError, match=rf"shard {key}: sample '{split.names[0]}': image cannot"):
        open_store(built, checksums=False).split("val").read([0])
    assert same(open_store(built).split("val")[1].image, split[1].image)


def test_checksums_can_be_left_out(built: Path) -> None:
    flip_chunk(shards(built)[0], "prob", byte=-1)  # its checksum
    with pytest.raises(StoreError, match="checksum mismatch"):
        open_store(built).split("val").read([0])
    unchecked = open_store(built, checksums=False).split("val").read([0])
    assert unchecked["prob"].shape == (1, 64, 64)


def test_damaged_records_are_reported(built: Path) -> None:
    split = open_store(built).split("val")
    key, shard = split.manifest.shards[0].key, shards(built)[0]
    name = record_name("name_bytes")
    data = entries(shard)[name]
    rewrite(shard, {name: data[:3] + b"!" + data[4:]})
    with pytest.raises(StoreError, match=rf"shard {key}: cannot be read \(.*run `ocr-precompute"):
        split[0]
    flip_chunk(shard, "image")
    split.close()
    with pytest.raises(StoreError, match=rf"shard {key}: sample in row 0: image cannot be read"):
        split.read([0])


def test_a_store_that_claims_too_much_is_refused(built: Path) -> None:
    shard, name = shards(built)[0], "image/zarr.json"
    for group in (name, "zarr.json"):
        claims = re.sub(rb"\b64\b", b"640000", entries(shard)[group])
        rewrite(shard, {group: claims})
    with pytest.raises(StoreError, match=r"image cannot be read \(it is no array"):
        open_store(built).split("val")[0]
    manifest = manifest_path(built, "val")
    manifest.write_text(manifest.read_text().replace("64", "640000"))
    with pytest.raises(StoreError, match="is damaged"):
        open_store(built).split("val")


def test_a_chunk_larger_than_a_sample_is_not_read(built: Path) -> None:
    shard = shards(built)[0]
    rewrite(shard, {chunk_name("prob", 0): bytes(64 * 64 + 65)})
    with pytest.raises(StoreError, match=r"cannot be read \(prob claims to have 4161 bytes"):
        open_store(built).split("val").read([0])


@pytest.mark.parametrize("name", [chunk_name("prob", 0), record_name("name_bytes")])
@pytest.mark.parametrize("way", ["mapped", "transcoded"])
def test_what_is_missing_is_not_taken_for_zeros(built: Path, way: str, name: str) -> None:
    store = Path(WAYS[way](built))
    shard = shards(store)[0]
    if way == "transcoded":
        name = name.replace(".", "/")
    assert name in entries(shard)
    rewrite(shard, {name: None})
    key = shard.stem
    with pytest.raises(StoreError, match=rf"shard {key}: .*cannot be read .*{name} is missing"):
        open_store(store).split("val")[0]


def test_chunks_within_chunks_are_refused(built: Path) -> None:
    """There zarr-python alone can tell what is missing, and takes zeros for it."""
    transcode(shards(built)[0], within=True)
    with pytest.raises(StoreError, match="has chunks within chunks"):
        open_store(built).split("val")[0]


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_entries_that_zip_compresses_are_refused(built: Path, compression: int) -> None:
    """They could become any number of bytes: here a chunk of a thousand times its size."""
    shard = shards(built)[0]
    held = entries(shard)
    with zipfile.ZipFile(shard, "w", compression) as archive:
        for name, data in held.items():
            archive.writestr(name, bytes(10**7) if name == "image/c.0.0.0.0" else data)
    with pytest.raises(StoreError, match=r"is not stored as it is but compressed by ZIP"):
        open_store(built).split("val")[0]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_is_there_twice_is_refused(built: Path) -> None:
    shard = shards(built)[0]
    with zipfile.ZipFile(shard, "a") as archive:
        archive.writestr("image/c.0.0.0.0", b"another")
    with pytest.raises(StoreError, match=r"it holds image/c\.0\.0\.0\.0 twice"):
        open_store(built).split("val")[0]


def test_a_zip_by_another_writer_reads_the_same(built: Path) -> None:
    """Other order, other dates, a comment, entries that are none of ours."""
    shard, split = shards(built)[0], open_store(built).split("val")
    held = entries(shard)
    with zipfile.ZipFile(shard.with_name("other"), "w") as archive:
        archive.comment = b"packed again"
        for name in sorted(held):
            archive.writestr(zipfile.ZipInfo(name, (2026, 11, 26, 0, 0, 0)), held[name])
        archive.writestr("../../outside", b"mine")
    shard.with_name("other").replace(shard)
    other = open_store(built).split("val")
    assert reads_with(other) is ForeignShard
    assert other.names == split.names
    for field in MAPS:
        assert same(getattr(other[0], field), getattr(split[0], field))
    assert not (built.parent / "outside").exists()


def test_a_foreign_shard_is_local(built: Path) -> None:
    transcode(shards(built)[0])
    url = remote(built)
    with pytest.raises(StoreError, match="cannot be read"):
        open_store(url).split("val")[0]


def test_a_chunk_that_claims_another_size_is_not_decompressed(built: Path) -> None:
    packed = entries(shards(built)[0])[chunk_name("prob", 0)][:-4]
    out = np.empty((64, 64), np.uint8)
    decompress([Packed.of(packed)], [out])
    for place in (4, 12):  # raw and compressed bytes in the header
        wrong = bytearray(packed)
        wrong[place : place + 4] = (2**31 - 1).to_bytes(4, "little")
        with pytest.raises(ValueError, match="does not hold one sample of the expected size"):
            decompress([Packed.of(bytes(wrong))], [out])
    with pytest.raises(ValueError, match="too short"):
        decompress([Packed.of(packed[:10])], [out])


def test_a_shard_of_another_length_than_the_manifest_says(built: Path) -> None:
    first, *others = open_store(built)["val"].manifest.shards
    republish(built, [first._replace(samples=first.samples + 1), *others])
    with pytest.raises(StoreError, match=r"holds \d+ samples, not \d+ as the manifest says"):
        open_store(built).split("val")[0]


# --------------------------------------------------------------------------- many at the same time


def digests(split: Split, indices: list[int]) -> list[int]:
    return [hash(split.read([i], ["image", "thresh"])["image"].tobytes()) for i in indices]


def read_in_process(split: Split, seed: int, results: multiprocessing.Queue) -> None:
    indices = random.Random(seed).choices(range(len(split)), k=60)
    images = [split.read([i], ["image"])["image"].tobytes() for i in indices]
    results.put((indices, [image[:2000] for image in images]))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_several_processes_read_at_once(split: Split, location: str | Path, method: str) -> None:
    if method == "spawn" and "memory" in str(location):
        method = "fork"  # a file system in memory does not reach a new process
    expected = [split.read([i], ["image"])["image"].tobytes()[:2000] for i in range(len(split))]
    context = multiprocessing.get_context(method)
    results = context.Queue()
    processes = [
        context.Process(target=read_in_process, args=(split, seed, results)) for seed in range(4)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        indices, images = results.get(timeout=120)
        assert images == [expected[i] for i in indices]
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_threads_read_at_once(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "most_open_files", lambda: 2)  # always opening again
    split = pickle.loads(pickle.dumps(split))
    expected = digests(split, list(range(len(split))))
    wrong: list[int] = []

    def work(seed: int) -> None:
        copy = open_copy if seed % 2 else split
        indices = random.Random(seed).choices(range(len(split)), k=100)
        wrong.extend(
            i for i, d in zip(indices, digests(copy, indices), strict=True) if d != expected[i]
        )

    open_copy = pickle.loads(pickle.dumps(split))
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def many_shards(store: Path, count: int) -> int:
    """A manifest of so many shards, all links to one; returns the samples of each."""
    real = open_store(store)["val"].manifest.shards[0]
    named = [real._replace(key=f"{number:064x}") for number in range(count)]
    for shard in named:
        link = shard_path(store, shard.key)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(shard_path(store, real.key))
    republish(store, named)
    return real.samples


@pytest.mark.proc
def test_many_shards_do_not_exhaust_file_handles(built: Path) -> None:
    """Two splits of 600 shards in a process that may open 256 files: half are left to others."""
    each = many_shards(built, 600)
    code = (
        "import os, resource\n"
        "def limits():\n"
        "    return [resource.getrlimit(getattr(resource, n)) for n in dir(resource)\n"
        "            if n.startswith('RLIMIT_')]\n"
        "before = limits()\n"
        "import ocr_precompute as p\n"
        "found = len(os.listdir('/proc/self/fd'))\n"
        f"split = p.open_store({str(built)!r}).split('val')\n"
        f"other = p.open_store({str(built)!r}).split('val')\n"
        f"for i in range(0, len(split), {each}):\n"
        "    split.read([i], ('image', 'prob', 'thresh'))\n"
        "    other.read([i], ('image',))\n"
        "print(len(split.manifest.shards), len(os.listdir('/proc/self/fd')) - found)\n"
        "assert limits() == before\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024)),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "600 128\n"


def test_half_of_the_files_but_not_all_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((1024, 512), (2**20, 2**15), (resource.RLIM_INFINITY, 2**15)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert handles.most_open_files() == most


def test_what_was_not_used_for_longest_is_closed(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "most_open_files", lambda: 2)
    opened: list[int] = []

    class Shard:
        def __init__(self, number: int) -> None:
            opened.append(number)

    held = handles.Handles()
    for number in (1, 2, 1, 3, 1, 2):
        held.get((0, number), lambda number=number: Shard(number))
    assert opened == [1, 2, 3, 2]
    held.close(0)
    held.get((0, 1), lambda: Shard(1))
    assert opened == [1, 2, 3, 2, 1]


class Noted:
    """A shard's file with a note of what is read of it."""

    def __init__(self, path: Path) -> None:
        self.file, self.asked = MappedFile(path), 0
        self.size = self.file.size

    def read(self, start: int, stop: int) -> memoryview:
        self.asked += 1
        return self.file.read(start, stop)


def test_what_describes_a_shard_is_read_in_few_pieces(built: Path) -> None:
    """However large it is: the end and the directory, the metadata, the records."""
    file, parameters = Noted(shards(built)[0]), open_store(built)["val"].manifest.parameters
    index = read_index(file)
    assert file.asked == 2
    assert is_ours(file, index, parameters)
    assert file.asked == 3
    assert read_records(file, index).names == open_store(built)["val"].names[: index.samples]
    assert file.asked == 4


@pytest.mark.parametrize("size", [0, 10, 100, 5000, -1])
def test_a_shard_from_afar_that_was_cut_short(built: Path, size: int) -> None:
    shard = shards(built)[0]
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.raises(StoreError, match=rf"shard {shard.stem}: cannot be read \(") as caught:
        open_store(remote(built)).split("val")[0]
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match=rf"shard {shard.stem}: cannot be read \("):
        open_store(built).split("val")[0]


@pytest.mark.proc
def test_a_shard_is_one_file_one_open_one_map(built: Path) -> None:
    path = shards(built)[0]
    assert [p for p in (built / "shards").rglob("*") if path.stem in str(p)] == [path]
    assert path.stat().st_nlink == 1
    code = (
        "import os, sys, ocr_precompute as p\n"
        f"path = {str(path)!r}\n"
        f"split = p.open_store({str(built)!r}).split('val')\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, given: event == 'open' and opened.append(given[0]))\n"
        "for row in range(split.manifest.shards[0].samples):\n"
        "    split[row]\n"
        "    split.read([row], ('image', 'prob', 'prob_mask', 'thresh', 'thresh_mask'))\n"
        "maps = open('/proc/self/maps').read()\n"
        "print(opened.count(path), maps.count(path))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "1 1\n"


def test_a_sample_from_afar_is_one_request(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is known where everything lies in its shard; to know that takes one."""
    build("val", dataset.source, settings.model_copy(update={"size": (512, 512)}))
    near, far = open_store(settings.store).split("val"), open_store(remote(settings.store))["val"]
    asked: list[tuple[str, object]] = []
    end, part = Objects.end, Objects.part

    def noted_end(self: Objects, name: str, length: int) -> tuple[memoryview, int]:
        asked.append((name, length))
        return end(self, name, length)

    def noted_part(self: Objects, name: str, start: int, stop: int) -> memoryview:
        asked.append((name, (start, stop)))
        return part(self, name, start, stop)

    first = next(i for i in range(24) if near.locate(i)[1] == 0 and near.locate(i + 1)[1] == 1)
    shard = shard_path(settings.store, near.locate(first)[0].key)
    name = shard.relative_to(settings.store).as_posix()
    assert shard.stat().st_size > 2**17
    monkeypatch.setattr(Objects, "end", noted_end)
    monkeypatch.setattr(Objects, "part", noted_part)
    for other in ("get", "get_tagged", "fetch", "size", "list"):
        monkeypatch.setattr(Objects, other, lambda *_: pytest.fail("asked for something else"))
    far.read([first], FIELDS)
    assert asked[0] == (name, 2**16)
    assert len(asked) == 2
    for fields in (FIELDS, ("image", "thresh_mask"), ("prob",)):
        for row in (0, 1):
            asked.clear()
            expected = near.read([first + row], fields)
            for field, array in far.read([first + row], fields).items():
                assert same(array, expected[field])
            start, _ = span(shard, chunk_name(fields[0], row))
            _, stop = span(shard, chunk_name(fields[-1], row))
            assert asked == [(name, (start, stop))]


def test_files_close_with_the_split(built: Path) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0

    before = open_files()
    split = open_store(built).split("val")
    for index in range(len(split)):
        split.read([index], FIELDS)
    if before:
        assert open_files() > before
    del split
    assert open_files() == before


def test_a_local_store_is_read_without_zarr(built: Path) -> None:
    code = (
        "import sys, ocr_precompute as p\n"
        f"p.open_store({str(built)!r}).split('val')[0]\n"
        "print('zarr' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def through_numcodecs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocr_precompute.format.chunks.library", blosc.ThroughNumcodecs)


@pytest.mark.parametrize("way", ["one by one", "together", "through numcodecs"])
def test_decompressing_several_chunks_at_once(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "through numcodecs":
        through_numcodecs(monkeypatch)
    else:
        monkeypatch.setattr(blosc.library(), "_done", 0 if way == "one by one" else blosc._FEW)
    arrays = [np.arange(n * 100, dtype=np.float32) % (n + 2) for n in (1, 2, 300, 4, 5, 6)]
    chunks = [Packed.of(encode_chunk(array, Compression())[:-4]) for array in arrays]
    out = [np.zeros_like(array) for array in arrays]
    decompress(chunks, out)
    for array, restored in zip(arrays, out, strict=True):
        assert restored.tobytes() == array.tobytes()
    decompress([], [])
    data = chunks[1].data
    # The header is right, what it promises is not there.
    broken = Packed.of(bytes(data[:16]) + bytes(len(data) - 16))
    with pytest.raises(ChunkError, match="cannot be decompressed") as caught:
        decompress([chunks[0], broken, *chunks[2:]], out)
    with pytest.raises(ChunkError, match="cannot be decompressed"):
        decompress([broken], out[1:2])
    assert caught.value.position == 1


def test_the_first_batches_need_no_compiler(built: Path) -> None:
    """Half a second for its import would be most of what a short look at a store takes."""
    code = (
        "import sys\n"
        "from ocr_precompute import open_store\n"
        f"split = open_store({str(built)!r})['val']\n"
        "for _ in range(4):\n"
        "    split.read(range(24))\n"
        "print('numba' in sys.modules)\n"
        "for _ in range(10):\n"
        "    split.read(range(24))\n"
        "print('numba' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_blosc_is_found_in_the_library_that_numcodecs_brings() -> None:
    assert isinstance(blosc.library(), blosc.Direct)


def test_without_that_blosc_numcodecs_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    blosc.library.cache_clear()
    monkeypatch.setattr("numcodecs.blosc.__file__", "nothing.so")
    assert isinstance(blosc.library(), blosc.ThroughNumcodecs)
    blosc.library.cache_clear()


@pytest.mark.parametrize("setting", [None, True, False])
@pytest.mark.parametrize("cname", ["lz4hc", "zstd"])
def test_chunks_are_the_same_whatever_numcodecs_is_set_to(
    setting: bool | None, cname: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numcodecs.blosc.use_threads", setting)
    array = np.random.default_rng(0).random((640, 640), np.float32).round(2)
    compression = Compression(cname=cname, shuffle="shuffle")
    chunk = encode_chunk(array, compression)
    through_numcodecs(monkeypatch)
    assert encode_chunk(array, compression) == chunk
    assert numcodecs.blosc.use_threads is setting
    out = np.empty_like(array)
    decompress([Packed.of(chunk[:-4])], [out])
    assert same(out, array)
    assert numcodecs.blosc.use_threads is setting


def test_blosc_writes_into_no_array_that_it_may_not() -> None:
    array = np.arange(4096, dtype=np.uint8)
    packed = Packed.of(encode_chunk(array, Compression())[:-4])
    for out in (read_only(np.empty(4096, np.uint8)), np.empty(8192, np.uint8)[::2]):
        for count in (1, 9):
            with pytest.raises((TypeError, ValueError, BufferError)):
                decompress([packed] * count, [out] * count)


# --------------------------------------------------------------------------------------- forks


def forked(work: Callable[[], object]) -> int:
    """Do the work in a child made by fork, and end it if it is not done in a minute.

    Returns the child's wait status: 0 if all went well.
    """
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_another_thread_opens_a_split(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread stands still in the middle of it until the child is done."""
    reached, go_on = threading.Event(), threading.Event()
    parent, original = os.getpid(), reader.open_shard

    def opening(*arguments: Any) -> OpenedShard:
        if os.getpid() == parent:
            reached.set()
            go_on.wait(60)
        return original(*arguments)

    monkeypatch.setattr(reader, "open_shard", opening)
    split = open_store(built).split("val")
    thread = threading.Thread(target=lambda: (split.names, split[0]))
    thread.start()
    assert reached.wait(60)
    status = forked(lambda: (split.names, split[0], open_store(built).split("val").names))
    go_on.set()
    thread.join()
    assert status == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_waits_for_what_it_must_not_cut_in_two() -> None:
    """A thread loads or compiles; the child must find nothing locked that it needs."""
    reached, forking, done = threading.Event(), threading.Event(), []

    def loading() -> None:
        with undisturbed:
            reached.set()
            forking.wait(60)
            done.append(True)

    def work() -> None:
        assert done
        assert undisturbed.acquire(blocking=False)

    thread = threading.Thread(target=loading)
    thread.start()
    assert reached.wait(60)
    forking.set()
    status = forked(work)
    thread.join()
    assert status == 0


def test_arrays_that_a_reader_does_not_know_are_left_alone(built: Path) -> None:
    """As a later version may add to a shard, in its place in the group."""
    before = open_store(built)["val"]
    expected = before.read(range(len(before)), FIELDS)
    shard = shards(built)[0]
    held = entries(shard)
    group = json.loads(held["zarr.json"])
    group["consolidated_metadata"]["metadata"]["later"] = json.loads(held["fate/zarr.json"])
    group["attributes"]["later"] = 1
    rewrite(
        shard,
        {
            "zarr.json": json.dumps(group).encode(),
            "later/zarr.json": held["fate/zarr.json"],
            "later/c.0": held["fate/c.0"],
        },
    )
    split = open_store(built)["val"]
    found = split.read(range(len(split)), FIELDS)
    assert all(same(found[field], expected[field]) for field in FIELDS)
    assert split[0].name == before.names[0]
