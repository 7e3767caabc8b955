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
import json
import resource
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from common import (
    FIELDS,
    SPLIT,
    add_out,
    argument_parser,
    build_store,
    environment,
    interleaved,
    markdown_table,
    megabytes,
    write_report,
)

from ocr_precompute import Split, open_store
from ocr_precompute.format.blosc import Packed
from ocr_precompute.format.chunks import decompress, strip_checksum, with_checksum
from ocr_precompute.format.schema import MAPS, RECORDS
from ocr_precompute.format.shard import MappedFile, StoredShard, read_index
from ocr_precompute.storage.store import shard_name

BATCH = 16
OPEN_FILES = 1024  # that a process may have, as shells set it
TURNS = 60  # batches of each layout
WARM_UP = 2  # epochs read before any batch is timed: files come into the page cache, and are mapped

Spans = list[tuple[np.ndarray, np.ndarray]]
"""For each map, where the chunks of a shard's samples begin and end in their file."""


@dataclass(frozen=True)
class Layout:
    """A way to lay out shards.

    write(shard, folder): the shard, in a folder or a file of that name. files(folder, fields): the
    file of each of these maps, opened; the same one where maps share it. spans(files, samples,
    fields): where chunks lie.
    """

    name: str
    write: Callable[[StoredShard, Path], None]
    files: Callable[[Path, Sequence[str]], list[MappedFile]]
    spans: Callable[[list[MappedFile], int, Sequence[str]], Spans]


# ------------------------------------------------------------------------------------- the layouts


def write_folder(shard: StoredShard, folder: Path, one_record: bool) -> None:
    """A file a map, its chunks and then the sharding index; records beside them."""
    samples = shard.index.samples
    for field in MAPS:
        chunks = [bytes(shard.file.read(*shard.index.span(field, row))) for row in range(samples)]
        sizes = np.array([len(chunk) for chunk in chunks], "<u8")
        index = with_checksum(np.stack([np.cumsum(sizes) - sizes, sizes], axis=1).tobytes())
        write_array(folder / field, b"".join(chunks) + index)
    records = {field: bytes(shard.file.read(*shard.index.records[field])) for field in RECORDS}
    if one_record:
        write_array(folder / "records", b"".join(records.values()))
    else:
        for field, data in records.items():
            write_array(folder / field, data)
    (folder / "zarr.json").write_bytes(bytes(shard.file.read(*shard.index.metadata["zarr.json"])))


def write_array(folder: Path, data: bytes) -> None:
    """An array of one file, and a description of the length that one has."""
    folder.mkdir(parents=True)
    (folder / "c.0").write_bytes(data)
    (folder / "zarr.json").write_text(json.dumps({"zarr_format": 3}).ljust(700))


def folder_files(folder: Path, fields: Sequence[str]) -> list[MappedFile]:
    """The file of each map."""
    return [MappedFile(folder / field / "c.0") for field in fields]


def folder_spans(files: list[MappedFile], samples: int, fields: Sequence[str]) -> Spans:
    """From the sharding index at the end of each file."""
    found = []
    for file in files:
        tail = file.read(file.size - 16 * samples - 4, file.size)
        index = np.frombuffer(strip_checksum(tail), "<u8").reshape(-1, 2).astype(np.int64)
        found.append((index[:, 0], index[:, 0] + index[:, 1]))
    return found


def write_zip(shard: StoredShard, folder: Path) -> None:
    """The shard as it is."""
    folder.with_suffix(".zip").write_bytes(bytes(shard.file.read(0, shard.file.size)))


def zip_files(folder: Path, fields: Sequence[str]) -> list[MappedFile]:
    """The one file."""
    return [MappedFile(folder.with_suffix(".zip"))] * len(fields)


def zip_spans(files: list[MappedFile], samples: int, fields: Sequence[str]) -> Spans:
    """From the ZIP's directory."""
    index = read_index(files[0])
    columns = [list(MAPS).index(field) for field in fields]
    return [(index.starts[:, column], index.stops[:, column]) for column in columns]


LAYOUTS = (
    Layout("folder", partial(write_folder, one_record=False), folder_files, folder_spans),
    Layout("sharding codec", partial(write_folder, one_record=True), folder_files, folder_spans),
    Layout("ZIP", write_zip, zip_files, zip_spans),
)


# ------------------------------------------------------------------------------------- the reading


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


def rates(readers: Mapping[str, Reader], samples: int) -> dict[str, float]:
    """Samples a second of each reader, one thread."""
    random = np.random.default_rng(0)
    for _ in range(WARM_UP):
        order = random.permutation(samples)
        for start in range(0, samples - BATCH + 1, BATCH):
            for reader in readers.values():
                reader.read(order[start : start + BATCH])
    batches = [random.integers(samples, size=BATCH) for _ in range(TURNS)]
    seconds = interleaved({name: reader.read for name, reader in readers.items()}, batches)
    return {name: BATCH / statistics.median(times) for name, times in seconds.items()}


def census(root: Path, shards: int) -> tuple[float, float, int]:
    """Files and inodes a shard, and bytes in all."""
    paths = list(root.rglob("*"))
    files = [path for path in paths if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return len(files) / shards, len(paths) / shards, size


def report(arguments: argparse.Namespace) -> Iterator[str]:
    """Measure, and say so."""
    yield "# Layouts of a shard"
    yield ""
    yield from environment(("numcodecs",))
    yield f"- at most {OPEN_FILES} open files, one thread, batches of {BATCH}"
    found: dict[str, list[str]] = {layout.name: [] for layout in LAYOUTS}
    head = ["layout", "files a shard", "inodes", "bytes"]
    for number, samples in enumerate(arguments.counts):
        arguments.samples = samples
        store, _ = build_store(arguments)
        split, roots = write_layouts(store, arguments.scratch)
        for name, root in roots.items() if number == 0 else ():
            files, inodes, size = census(root, len(split.manifest.shards))
            found[name] += [f"{files:.0f}", f"{inodes:.0f}", megabytes(size)]
        for fields in (FIELDS, tuple(MAPS)):
            readers = {each.name: Reader(each, roots[each.name], split, fields) for each in LAYOUTS}
            if number == 0:
                head.append(f"files, or ranges, to read {len(fields)} maps of a sample")
                for name, reader in readers.items():
                    found[name].append(str(reader.opened))
            head.append(f"{samples:,} samples, {len(fields)} maps, samples/s")
            for name, rate in rates(readers, len(split)).items():
                found[name].append(f"{rate:,.0f}")
            print(f"{samples} samples, {len(fields)} maps: done", file=sys.stderr)
    yield ""
    yield markdown_table(head, [[name, *cells] for name, cells in found.items()])


def main() -> None:
    """Measure, and write the table."""
    parser = argument_parser(__doc__, samples=400)
    parser.add_argument("--counts", type=int, nargs="+", default=[400, 12_000])
    add_out(parser)
    arguments = parser.parse_args()
    most = len(LAYOUTS) * OPEN_FILES  # each as if it were alone
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    write_report(report(arguments), arguments.out)


if __name__ == "__main__":
    main()
