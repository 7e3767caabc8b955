"""Ranges of chunks, and rows of stored maps: what is unpacked in part equals what is whole."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numcodecs
import numpy as np
import pytest
from conftest import Dataset, same
from hypothesis import given
from hypothesis import settings as of_test
from hypothesis import strategies as st
from local import shard_path
from shards import flip_chunk

from ocr_precompute import open_store
from ocr_precompute.errors import StoreError
from ocr_precompute.format.blocks import decompress_range
from ocr_precompute.format.chunks import ChunkError, encode_chunk
from ocr_precompute.format.schema import MAPS
from ocr_precompute.images.decoding import fitted_size
from ocr_precompute.parameters import Compression
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings

RANDOM = np.random.default_rng(0)
WORDS = np.repeat(RANDOM.integers(0, 256, 150_000, dtype=np.uint8), 5)
"""Bytes that can be compressed, of several blocks, the last one short."""
NOISE = RANDOM.integers(0, 256, 200_000, dtype=np.uint8)


def packed(array: np.ndarray, codec: str = "lz4hc", block: int = 2**16) -> bytes:
    return bytes(numcodecs.Blosc(codec, 5, numcodecs.Blosc.NOSHUFFLE, block).encode(array))


CHUNKS = {
    "lz4hc": (WORDS, packed(WORDS)),
    "zstd": (WORDS, packed(WORDS, "zstd")),
    "as stored": (WORDS, encode_chunk(WORDS, Compression())[:-4]),
    "noise, not compressed": (NOISE, packed(NOISE)),
    "partly noise": (mixed := np.concatenate([WORDS, NOISE]), packed(mixed)),
    "one block": (WORDS[:999], packed(WORDS[:999])),
    "floats": (WORDS.view(np.float32), packed(WORDS.view(np.float32))),
}


@pytest.mark.parametrize("name", CHUNKS)
@given(st.data())
@of_test(max_examples=40, deadline=None)
def test_any_range_is_that_of_the_whole(name: str, data: st.DataObject) -> None:
    array, chunk = CHUNKS[name]
    raw = array.view(np.uint8)
    cuts = st.integers(0, len(raw)) | st.integers(0, len(raw) // 2**16).map(lambda n: n * 2**16)
    start, stop = sorted((data.draw(cuts), data.draw(cuts)))
    around = np.full(stop - start + 2, 77, np.uint8)
    decompress_range(chunk, len(raw), start, around[1:-1])
    assert same(around[1:-1], raw[start:stop])
    assert around[0] == around[-1] == 77


def test_other_blocks_are_not_looked_at() -> None:
    chunk = bytearray(packed(WORDS))
    chunk[-20_000:] = bytes(20_000)
    out = np.empty(2**17, np.uint8)
    decompress_range(bytes(chunk), len(WORDS), 5, out)
    assert same(out, WORDS[5 : 5 + 2**17])
    with pytest.raises(ChunkError, match="chunk cannot be decompressed"):
        decompress_range(bytes(chunk), len(WORDS), len(WORDS) - 2**16, out[: 2**16])


@given(st.data())
@of_test(max_examples=150, deadline=None)
def test_damage_is_an_error_or_leaves_what_is_around_alone(data: st.DataObject) -> None:
    """Any change of header or table: no byte beside the range is written, nothing crashes."""
    chunk = bytearray(packed(WORDS))
    for place in data.draw(st.lists(st.integers(0, 16 + 4 * 12), min_size=1, max_size=6)):
        chunk[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(chunk)) | st.just(len(chunk)))
    around = np.full(100_002, 77, np.uint8)
    with contextlib.suppress(ChunkError):
        decompress_range(bytes(chunk[:cut]), len(WORDS), 70_000, around[1:-1])
    assert around[0] == around[-1] == 77


def test_a_range_outside_and_a_chunk_of_another_size_are_refused() -> None:
    out = np.empty(10, np.uint8)
    with pytest.raises(
        ValueError, match=f"bytes 749995 to 750005 are not in a chunk of {WORDS.size}"
    ):
        decompress_range(packed(WORDS), WORDS.size, WORDS.size - 5, out)
    with pytest.raises(ChunkError, match="chunk does not hold one sample of the expected size"):
        decompress_range(packed(WORDS), WORDS.size + 9, 0, out)


@pytest.fixture
def store(dataset: Dataset, settings: Settings) -> Path:
    build("val", dataset.source, settings)
    return settings.store


def test_rows_are_those_of_the_whole_map(store: Path) -> None:
    split = open_store(store).split("val")

    def check(number: int) -> bool:
        random = np.random.default_rng(number)
        index, field = int(random.integers(-len(split), len(split))), list(MAPS)[number % len(MAPS)]
        start, stop = sorted(random.integers(0, 65, 2).tolist())
        whole = split.read([index], [field])[field][0]
        out = np.empty_like(whole[start:stop])
        split.read_rows(index, field, start, stop, out)
        return same(out, whole[start:stop])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(check, range(200)))
    assert threading.active_count() < 20


def test_rows_that_do_not_fit_are_refused(store: Path) -> None:
    split, out = open_store(store).split("val"), np.empty((8, 64, 3), np.uint8)
    for start, stop in ((-1, 7), (60, 68), (9, 1)):
        with pytest.raises(ValueError, match=f"rows {start} to {stop} of 64"):
            split.read_rows(0, "image", start, stop, out)
    for bad in (
        out[:7],
        out.astype(np.int8),
        out[:, :, ::-1],
        np.empty((16, 64, 3), np.uint8)[::2],
    ):
        with pytest.raises(ValueError, match="out is not a contiguous, writeable array"):
            split.read_rows(0, "image", 0, 8, bad)
    with pytest.raises(ValueError, match="unknown fields"):
        split.read_rows(0, "pixels", 0, 8, out)
    with pytest.raises(IndexError):
        split.read_rows(len(split), "image", 0, 8, out)


def test_the_checksum_of_the_chunk_is_compared_though_few_rows_are_read(store: Path) -> None:
    split = open_store(store).split("val")
    entry, _ = split.locate(0)
    flip_chunk(shard_path(store, entry.key), "image", byte=300)
    with pytest.raises(StoreError, match=r"image cannot be read \(checksum mismatch"):
        open_store(store).split("val").read_rows(0, "image", 0, 1, np.empty((1, 64, 3), np.uint8))


def test_the_polygons_of_a_page_are_those_of_the_record(store: Path) -> None:
    split = open_store(store).split("val")
    for index in range(len(split)):
        record, page = split.record(index), split.page(index)
        polygons = page.polygons
        assert all(map(same, polygons.as_list(), record.polygons))
        assert len(polygons.lengths) == len(record.polygons)
        assert same(polygons.ignore, record.ignore)
        assert page.size == (64, 64)
        assert page.content == fitted_size(record.original_size, (64, 64))
