#!/usr/bin/env python3
"""How a shard may lie on disk: many files, few, or one.

The same chunks, byte for byte, in three layouts, each a Zarr v3 group:

- folder: one file a map, by Zarr's sharding codec, and one a record array.
- sharding codec: the same, with all records in one array.
- ZIP: one file, its entries stored as they are; what this package writes.

All are read in the same way: files mapped, where chunks lie known of every shard, at most half of
the 1,024 files held open that a process usually may, a batch decompressed in one call. So what is
compared is what a layout costs, not who reads it. Batches are of random samples, and the layouts
take turns.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from contenders.layouts import LAYOUTS, Layout
from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment, limit_open_files
from measuring.results import Cell, Column, Result, Table
from measuring.samples import FIELDS, SPLIT, build_store
from measuring.timing import interleaved

from ocr_precompute import Split, open_store
from ocr_precompute.format.blosc import Packed
from ocr_precompute.format.chunks import decompress, strip_checksum
from ocr_precompute.format.schema import MAPS
from ocr_precompute.format.shard import MappedFile, StoredShard
from ocr_precompute.storage.store import shard_name

BATCH = 16
OPEN_FILES = 1024  # that a process may have, as shells set it
WARM_UP = 2  # epochs read before any batch is timed: files come into the page cache, and are mapped


class Reader:
    """Reads batches of a split in one layout.

    What is known of a shard is kept; its files are, up to a number.
    """

    def __init__(self, layout: Layout, root: Path, split: Split, fields: Sequence[str]) -> None:
        self._split, self._fields = split, fields
        folders = [root / entry.key for entry in split.manifest.shards]
        self.opened = len({id(file) for file in layout.files(folders[0], fields)})
        self._files = lru_cache(OPEN_FILES // 2 // self.opened)(
            lambda shard: layout.files(folders[shard], fields)
        )
        self._spans = lru_cache(None)(
            lambda shard: layout.spans(
                self._files(shard), split.manifest.shards[shard].samples, fields
            )
        )
        self._out = {
            field: np.empty((BATCH, *split.shape(field)), MAPS[field][0]) for field in fields
        }
        self._bounds = np.cumsum([entry.samples for entry in split.manifest.shards])

    def read(self, indices: np.ndarray) -> None:
        """Decompress a batch."""
        chunks, targets = [], []
        for position, index in enumerate(indices.tolist()):
            shard = int(np.searchsorted(self._bounds, index, "right"))
            row = index - (int(self._bounds[shard - 1]) if shard else 0)
            for field, file, (starts, stops) in zip(
                self._fields, self._files(shard), self._spans(shard), strict=True
            ):
                chunk = strip_checksum(file.read(int(starts[row]), int(stops[row])))
                chunks.append(Packed.of(chunk))
                targets.append(self._out[field][position])
        decompress(chunks, targets)


def write_layouts(store: Path, scratch: Path) -> tuple[Split, dict[str, Path]]:
    """Every shard of the split in every layout."""
    split = open_store(store)[SPLIT]
    roots = {layout.name: scratch / "layouts" / layout.name for layout in LAYOUTS}
    shutil.rmtree(scratch / "layouts", ignore_errors=True)
    for root in roots.values():
        root.mkdir(parents=True)
    for entry in split.manifest.shards:
        shard = StoredShard.open(MappedFile(store / shard_name(entry.key)))
        for layout in LAYOUTS:
            layout.write(shard, roots[layout.name] / entry.key)
    return split, roots


def rates(readers: Mapping[str, Reader], samples: int, turns: int) -> dict[str, float]:
    """Samples a second of each reader, one thread."""
    random = np.random.default_rng(0)
    for _ in range(WARM_UP):
        order = random.permutation(samples)
        for start in range(0, samples - BATCH + 1, BATCH):
            for reader in readers.values():
                reader.read(order[start : start + BATCH])
    batches = [random.integers(samples, size=BATCH) for _ in range(turns)]
    seconds = interleaved({name: reader.read for name, reader in readers.items()}, batches)
    return {name: BATCH / statistics.median(times) for name, times in seconds.items()}


def census(root: Path, shards: int) -> tuple[int, int, float]:
    """Files and inodes per shard, and MB in all."""
    paths = list(root.rglob("*"))
    files = [path for path in paths if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return len(files) // shards, len(paths) // shards, size / 1e6


def measure(arguments: argparse.Namespace) -> Result:
    """A row for each layout; columns of speed for each number of samples and of maps."""
    cells: dict[str, list[Cell]] = {layout.name: [layout.name] for layout in LAYOUTS}
    columns = [Column("layout"), Column("files per shard"), Column("inodes per shard")]
    columns.append(Column("", "MB", 1))
    for number, samples in enumerate(arguments.counts):
        arguments.samples = samples
        store, _ = build_store(arguments)
        split, roots = write_layouts(store, arguments.scratch)
        for name, root in roots.items() if number == 0 else ():
            cells[name] += census(root, len(split.manifest.shards))
        for fields in (FIELDS, tuple(MAPS)):
            readers = {each.name: Reader(each, roots[each.name], split, fields) for each in LAYOUTS}
            if number == 0:
                columns.append(Column(f"files, or ranges, to read {len(fields)} maps of a sample"))
                for name, reader in readers.items():
                    cells[name].append(reader.opened)
            columns.append(Column(f"{samples:,} samples, {len(fields)} maps", "samples/s", 0))
            for name, rate in rates(readers, len(split), arguments.turns).items():
                cells[name].append(rate)
            say(f"{samples} samples, {len(fields)} maps: done")
    return Result(
        "layouts",
        "How should a shard lie on disk?",
        environment(("numcodecs",)),
        (Table(tuple(columns), tuple(map(tuple, cells.values()))),),
        notes=(f"at most {OPEN_FILES} open files, one thread, batches of {BATCH}",),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__)
    options.add_argument("--counts", type=int, nargs="+", default=[400, 12_000], help="of samples")
    options.add_argument("--turns", type=int, default=60, help="batches of each layout")
    add_scratch(options)
    return options


if __name__ == "__main__":
    # Each layout as if it were alone.
    run_script(parser(), measure, before=partial(limit_open_files, len(LAYOUTS) * OPEN_FILES))
