#!/usr/bin/env python3
"""Reading one stored sample (image, prob, thresh) on one core, by everything that can read it.

All read the same store, whose files lie in the page cache, in the same random order, and take turns
sample by sample. Files and arrays are opened beforehand and stay open, which is kind to the general
readers. The floor is Blosc alone: the same chunks, already in memory, unpacked into arrays that
are there already, with no file, no checksum and no index. What every reader returns is compared
with the floor first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
import zarr
from measuring.command import add_scratch, argument_parser, run_script
from measuring.machine import environment, is_installed, one_core
from measuring.results import Column, Result, Table
from measuring.samples import FIELDS, SPLIT, build_store, zipped
from measuring.timing import interleaved, medians, random_indices

from ocr_precompute import open_store
from ocr_precompute.format.schema import MAPS
from ocr_precompute.format.shard import MappedFile, read_index
from ocr_precompute.reading.split import Split
from ocr_precompute.storage.store import shard_name

PACKAGES = ("numcodecs", "zarr", "zarrs", "tensorstore")
WARM_UP = 20  # samples read before any is timed

Sample = dict[str, np.ndarray]
Reader = Callable[[int], Sample]

FLOOR, OURS, OURS_NEW = "floor: Blosc alone", "ours, into arrays", "ours, new arrays"
ZARR, ZARRS, TENSORSTORE = "zarr-python", "zarr-python with zarrs", "tensorstore"


def empty_sample(split: Split) -> Sample:
    """Arrays for one sample, in memory that has been touched."""
    return {field: np.ones((1, *split.shape(field)), MAPS[field][0]) for field in FIELDS}


def floor(split: Split) -> Reader:
    """Blosc alone. use_threads is off, as in ocr_precompute.format.chunks."""
    numcodecs.blosc.use_threads = False
    rows = empty_sample(split)
    packed: list[dict[str, bytes]] = []
    for entry in split.manifest.shards:
        file = MappedFile(Path(str(split.storage)) / shard_name(entry.key))
        index = read_index(file)
        packed += [
            {field: bytes(file.read(*index.span(field, row))[:-4]) for field in FIELDS}
            for row in range(entry.samples)
        ]

    def read(index: int) -> Sample:
        for field, chunk in packed[index].items():
            numcodecs.blosc.decompress(chunk, rows[field])
        return {field: array[0] for field, array in rows.items()}

    return read


def ours(split: Split, out: Sample | None) -> Reader:
    """This package's reader, into given arrays or into new ones."""

    def read(index: int) -> Sample:
        return {field: array[0] for field, array in split.read([index], FIELDS, out).items()}

    return read


def from_arrays(
    split: Split, open_arrays: Callable[[Path], dict[str, Any]]
) -> Callable[[int], dict[str, Any]]:
    """Rows of arrays that are all opened here: of a shard's file those of FIELDS."""
    arrays = {
        entry.key: open_arrays(Path(str(split.storage)) / shard_name(entry.key))
        for entry in split.manifest.shards
    }

    def read(index: int) -> dict[str, Any]:
        entry, row = split.locate(index)
        return {field: array[row] for field, array in arrays[entry.key].items()}

    return read


def by_zarr(split: Split) -> Reader:
    """zarr-python with its own codecs."""

    def open_arrays(shard: Path) -> dict[str, Any]:
        group = zarr.open_group(zarr.storage.ZipStore(shard, mode="r"), mode="r")
        return {field: group[field] for field in FIELDS}

    return from_arrays(split, open_arrays)


def by_zarrs(split: Split) -> Reader:
    """zarr-python with zarrs, which an array takes up when it is opened, and keeps."""
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        return by_zarr(split)


def by_tensorstore(split: Split) -> Reader:
    """tensorstore: the three fields asked for at once."""
    import tensorstore

    def open_arrays(shard: Path) -> dict[str, Any]:
        opening = {field: tensorstore.open(zipped(shard, field)) for field in FIELDS}
        return {field: future.result() for field, future in opening.items()}

    located = from_arrays(split, open_arrays)

    def read(index: int) -> Sample:
        waiting = {field: row.read() for field, row in located(index).items()}
        return {field: future.result() for field, future in waiting.items()}

    return read


def all_readers(split: Split) -> dict[str, Reader]:
    """Every reader that is installed."""
    readers = {
        ZARR: by_zarr(split),
        OURS_NEW: ours(split, None),
        OURS: ours(split, empty_sample(split)),
        FLOOR: floor(split),
    }
    if is_installed("zarrs"):
        readers[ZARRS] = by_zarrs(split)
    if is_installed("tensorstore"):
        readers[TENSORSTORE] = by_tensorstore(split)
    return readers


def check_equal(readers: Mapping[str, Reader], indices: Iterable[int]) -> None:
    """Stop unless all readers return the same arrays; also opens and warms all there is."""
    for index in indices:
        expected = {field: array.copy() for field, array in readers[FLOOR](index).items()}
        for name, read in readers.items():
            for field, array in read(index).items():
                if array.dtype != expected[field].dtype or not np.array_equal(
                    array, expected[field]
                ):
                    sys.exit(f"{name}: {field} of sample {index} is not what is stored")


def measure(arguments: argparse.Namespace) -> Result:
    """Build the store, read it in turns: a row for each reader, the slowest first."""
    store, _ = build_store(arguments)
    split = open_store(store).split(SPLIT)
    readers = all_readers(split)
    check_equal(readers, random_indices(len(split), WARM_UP, seed=1))
    found = medians(interleaved(readers, random_indices(len(split), arguments.reads)))
    ordered = sorted(found.items(), key=lambda item: -item[1])
    pairs = ((ZARR, OURS), (ZARR, OURS_NEW), (OURS, FLOOR), (OURS_NEW, FLOOR))
    return Result(
        "reading",
        "How long does reading one sample on one core take?",
        environment(PACKAGES),
        (
            Table(
                (Column("reader"), Column("", "ms/sample", 3), Column("times the floor", "", 2)),
                tuple((name, ms, ms / found[FLOOR]) for name, ms in ordered),
            ),
        ),
        {f"{name} / {other}": found[name] / found[other] for name, other in pairs},
        (f"{len(split)} samples, median of {arguments.reads} reads",),
        tuple(name for name in (ZARRS, TENSORSTORE) if name not in readers),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=128)
    options.add_argument("--reads", type=int, default=400, help="samples read; default: 400")
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure, before=one_core)  # before any library starts its threads
