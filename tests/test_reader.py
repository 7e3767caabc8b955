"""Reading: every way to read a store gives the same bytes, and says what is damaged."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numcodecs.blosc
import numpy as np
import pytest
import zarr
from conftest import Dataset, same

from ocr_precompute.errors import StoreError
from ocr_precompute.format import blosc
from ocr_precompute.format.chunks import (
    ChunkError,
    ChunkFile,
    decompress,
    encode_chunk,
)
from ocr_precompute.format.manifest import ShardEntry
from ocr_precompute.format.shard import MAPS, RECORDS, Records
from ocr_precompute.parameters import Compression
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading import split as reader
from ocr_precompute.reading.split import Split, _MappedMap, _ZarrMap
from ocr_precompute.reading.store import open_store
from ocr_precompute.runtime.forks import undisturbed
from ocr_precompute.samples import CanonicalSample, Polygons
from ocr_precompute.settings import Settings
from ocr_precompute.storage.store import manifest_path, shard_path
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
    """The store as another tool might write it again: other codecs, no sharding."""
    copy = store.with_name("transcoded")
    shutil.copytree(store, copy)
    for shard in (copy / "shards").iterdir():
        for field in (*MAPS, *RECORDS):
            values = zarr.open_array(shard / field, mode="r")[:]
            chunks = (1, *values.shape[1:]) if field in MAPS else "auto"
            shutil.rmtree(shard / field)
            codec = zarr.codecs.GzipCodec()
            zarr.create_array(shard / field, data=values, chunks=chunks, compressors=codec)
    return copy


def remote(store: Path) -> str | Path:
    """The store on a file system that is not this machine's."""
    url = f"memory://{store.parent.name}/store"
    fsspec.filesystem("memory").put(str(store), url, recursive=True)
    return url


WAYS = {"mapped": mapped, "transcoded": transcoded, "remote": remote}


@pytest.fixture(params=WAYS)
def location(request: pytest.FixtureRequest, built: Path) -> str | Path:
    """Where the store can be read: in turn by the fast path and in two ways by zarr-python."""
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
    return type(split._maps(0, "image"))


def test_each_way_is_what_it_says(built: Path) -> None:
    readers = [reads_with(open_store(way(built)).split("val")) for way in WAYS.values()]
    assert readers == [_MappedMap, _ZarrMap, _ZarrMap]


def test_stored_samples_equal_computed_ones(
    split: Split, dataset: Dataset, live: Callable[[str], CanonicalSample]
) -> None:
    assert len(split) == 24
    assert list(split.names) == sorted(dataset.document["images"])
    for index, name in enumerate(split.names):
        stored, computed = split[index], live(name)
        assert stored.name == name
        assert stored.original_size == computed.original_size == (96, 80)
        for field in (*MAPS, "ignore", "matrix"):
            assert same(getattr(stored, field), getattr(computed, field)), field
        assert len(stored.polygons) == len(computed.polygons)
        for a, b in zip(stored.polygons, computed.polygons, strict=True):
            assert same(a, b)


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
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(StoreError, match=r"pip install 'ocr-precompute\[remote\]'"):
        open_store("s3://bucket/store")


def test_a_url_of_an_unknown_kind() -> None:
    with pytest.raises(StoreError, match="nonsense://bucket: cannot be opened"):
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


def flip(path: Path, byte: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("field", MAPS)
def test_a_flipped_bit_names_shard_and_sample(built: Path, field: str) -> None:
    split = open_store(built).split("val")
    key = split.manifest.shards[0].key
    (file,) = (shard_path(built, key) / field).glob("c.*")
    flip(file, 18)
    message = rf"shard {key}: sample '{split.names[0]}': {field} cannot be read \(checksum mismatch"
    with pytest.raises(StoreError, match=message):
        split.read([0], [field])
    split.read([1], [field])


def test_a_flipped_bit_through_zarr(built: Path) -> None:
    split = open_store(built).split("val")
    key = split.manifest.shards[0].key
    (metadata,) = (shard_path(built, key) / "image").glob("zarr.json")
    metadata.write_bytes(metadata.read_bytes() + b" ")  # the same to zarr, unknown to the fast path
    assert reads_with(open_store(built).split("val")) is _ZarrMap
    flip(shard_path(built, key) / "image" / "c.0.0.0.0", 18)
    with pytest.raises(StoreError, match=rf"shard {key}: sample '{split.names[0]}': image cannot"):
        open_store(built).split("val").read([0])


def test_checksums_can_be_left_out(built: Path) -> None:
    key = open_store(built).split("val").manifest.shards[0].key
    index = (shard_path(built, key) / "prob" / "c.0.0.0").read_bytes()
    first = ChunkFile(shard_path(built, key) / "prob" / "c.0.0.0", index_length(built, key))
    flip(shard_path(built, key) / "prob" / "c.0.0.0", len(first.chunk(0)) - 1)  # its checksum
    with pytest.raises(StoreError, match="checksum mismatch"):
        open_store(built).split("val").read([0])
    unchecked = open_store(built, checksums=False).split("val").read([0])
    assert unchecked["prob"].shape == (1, 64, 64)
    assert len(index) == first.size


def index_length(store: Path, key: str) -> int:
    shards = open_store(store).split("val").manifest.shards
    return next(entry.samples for entry in shards if entry.key == key)


def test_damaged_records_are_reported(built: Path) -> None:
    split = open_store(built).split("val")
    key = split.manifest.shards[0].key
    flip(shard_path(built, key) / "name_bytes" / "c.0", 3)
    with pytest.raises(StoreError, match=rf"shard {key}: cannot be read \(.*run `ocr-precompute"):
        split[0]
    flip(shard_path(built, key) / "image" / "c.0.0.0.0", 18)
    with pytest.raises(StoreError, match=rf"shard {key}: sample in row 0: image cannot be read"):
        split.read([0])


def test_a_store_that_claims_too_much_is_refused(built: Path) -> None:
    key = open_store(built).split("val").manifest.shards[0].key
    path = shard_path(built, key) / "image" / "zarr.json"
    path.write_text(path.read_text().replace("64", "640000"))
    with pytest.raises(StoreError, match=r"image cannot be read \(it is no array"):
        open_store(built).split("val")[0]
    manifest = manifest_path(built, "val")
    manifest.write_text(manifest.read_text().replace("64", "640000"))
    with pytest.raises(StoreError, match="is damaged"):
        open_store(built).split("val")


def test_a_chunk_that_claims_another_size_is_not_decompressed(built: Path) -> None:
    entry = open_store(built).split("val").manifest.shards[0]
    file = ChunkFile(shard_path(built, entry.key) / "prob" / "c.0.0.0", entry.samples)
    packed = file.chunk(0)[:-4]
    out = np.empty((64, 64), np.uint8)
    decompress([packed], [out])
    for place in (4, 12):  # raw and compressed bytes in the header
        wrong = bytearray(packed)
        wrong[place : place + 4] = (2**31 - 1).to_bytes(4, "little")
        with pytest.raises(ValueError, match="does not hold one sample of the expected size"):
            decompress([wrong], [out])
    with pytest.raises(ValueError, match="too short"):
        decompress([packed[:10]], [out])


def test_a_shard_of_another_length_than_the_manifest_says(built: Path) -> None:
    path = manifest_path(built, "val")
    document = json.loads(path.read_bytes())
    document["shards"][0]["samples"] += 1
    path.write_text(json.dumps(document))
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
    monkeypatch.setattr(
        "ocr_precompute.reading.split.most_open_maps", lambda: 2
    )  # always opening again
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


def test_many_shards_do_not_exhaust_file_handles(built: Path) -> None:
    """600 shards of three maps each, in a process that may open 256 files."""
    path = manifest_path(built, "val")
    document = json.loads(path.read_bytes())
    real = document["shards"][0]
    document["shards"] = [{**real, "key": f"{number:064x}"} for number in range(600)]
    for shard in document["shards"]:
        (built / "shards" / shard["key"]).symlink_to(built / "shards" / real["key"])
    path.write_text(json.dumps(document))
    code = (
        "import ocr_precompute as p\n"
        f"split = p.open_store({str(built)!r}).split('val')\n"
        f"for i in range(0, len(split), {real['samples']}):\n"
        "    split.read([i], ('image', 'prob', 'thresh'))\n"
        "print(len(split.manifest.shards))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "600\n"


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


@pytest.mark.parametrize("direct", [True, False])
def test_decompressing_several_chunks_at_once(
    direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not direct:
        through_numcodecs(monkeypatch)
    arrays = [np.arange(n * 100, dtype=np.float32) % (n + 2) for n in (1, 2, 300, 4, 5, 6)]
    packed = [encode_chunk(array, Compression())[:-4] for array in arrays]
    out = [np.zeros_like(array) for array in arrays]
    decompress(packed, out)
    for array, restored in zip(arrays, out, strict=True):
        assert restored.tobytes() == array.tobytes()
    decompress([], [])
    broken = bytearray(packed[1])
    broken[16:] = bytes(len(broken) - 16)  # the header is right, what it promises is not there
    with pytest.raises(ChunkError, match="cannot be decompressed") as caught:
        decompress([packed[0], bytes(broken), *packed[2:]], out)
    with pytest.raises(ChunkError, match="cannot be decompressed"):
        decompress([bytes(broken)], out[1:2])
    assert caught.value.position == 1


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
    decompress([chunk[:-4]], [out])
    assert same(out, array)
    assert numcodecs.blosc.use_threads is setting


def test_blosc_writes_into_no_array_that_it_may_not() -> None:
    array = np.arange(4096, dtype=np.uint8)
    packed = encode_chunk(array, Compression())[:-4]
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
    parent, original = os.getpid(), reader._open_records

    def opening(store: Path, entry: ShardEntry) -> Records:
        if os.getpid() == parent:
            reached.set()
            go_on.wait(60)
        return original(store, entry)

    monkeypatch.setattr(reader, "_open_records", opening)
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
