"""Ways to lay out a shard on disk, each with how its chunks are found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ocr_precompute.format.chunks import strip_checksum, with_checksum
from ocr_precompute.format.schema import MAPS, RECORDS
from ocr_precompute.format.shard import MappedFile, StoredShard, read_index

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
