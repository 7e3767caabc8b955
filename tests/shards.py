"""Shards taken apart and put together again by the standard library and by zarr-python."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import zarr
from local import publish_manifest, shard_path

from ocr_precompute.format.archive import archive_bytes
from ocr_precompute.format.chunks import with_checksum
from ocr_precompute.format.manifest import ShardEntry
from ocr_precompute.format.parts import ShardContents, cut_parts
from ocr_precompute.format.schema import MAPS, RECORDS, chunk_name, record_name
from ocr_precompute.format.shard import MappedFile, read_index, read_record
from ocr_precompute.reading.store import open_store


def shards(store: Path, split: str = "val") -> list[Path]:
    """The files of a split's shards, in order."""
    entries = open_store(store).split(split).manifest.shards
    return [shard_path(store, entry.key) for entry in entries]


def entries(shard: Path) -> dict[str, bytes]:
    """The content of every entry, by name, as the standard library reads it."""
    with zipfile.ZipFile(shard) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def span(shard: Path, name: str) -> tuple[int, int]:
    """First byte of an entry's content in the file, and the one after the last."""
    with zipfile.ZipFile(shard) as archive:
        info = archive.getinfo(name)
    with shard.open("rb") as file:
        file.seek(info.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2").tolist()
    start = info.header_offset + 30 + sum(lengths)
    return start, start + info.file_size


def flip(shard: Path, byte: int, bit: int = 0) -> None:
    """Flip one bit of a file, which may be mapped."""
    with shard.open("r+b") as file:
        file.seek(byte)
        (value,) = file.read(1)
        file.seek(byte)
        file.write(bytes([value ^ 1 << bit]))


def flip_chunk(shard: Path, field: str, row: int = 0, byte: int = 20) -> None:
    """Flip one bit of a sample's chunk of a map. byte: from its start, or from its end."""
    start, stop = span(shard, chunk_name(field, row))
    flip(shard, (start if byte >= 0 else stop) + byte)


def rewrite(shard: Path, changes: Mapping[str, bytes | None]) -> None:
    """Write a shard again with other contents, and all else as it must be then.

    None leaves an entry out; a name that is not there comes after all others.
    """
    contents: dict[str, bytes | None] = {**entries(shard), **changes}
    kept = [(name, data) for name, data in contents.items() if data is not None]
    replace(shard, archive_bytes(kept))


def replace(shard: Path, data: bytes) -> None:
    """Give a shard's name to another file: who has the old one open reads on."""
    shard.unlink()
    shard.write_bytes(data)


def change_record(shard: Path, field: str, change: Callable[[np.ndarray], object]) -> None:
    """Change a record array, in place or for what is returned, and make checksums fit."""
    file = MappedFile(shard)
    array = read_record(file, read_index(file), field).copy()
    changed = change(array)
    array = changed if isinstance(changed, np.ndarray) else array
    rewrite(shard, {record_name(field): with_checksum(array.tobytes())})


def transcode(shard: Path, within: bool = False) -> None:
    """Write a shard again as zarr-python does: its own ZIP, its own metadata, gzip.

    within: the chunks of a map within one chunk of Zarr's sharding.
    """
    beside = shard.with_suffix(".again")
    source = zarr.open_group(zarr.storage.ZipStore(shard, mode="r"), mode="r")
    # By itself it leaves chunks of zeros out, and they could not be told from lost ones.
    with (
        zarr.config.set({"array.write_empty_chunks": True}),
        zarr.storage.ZipStore(beside, mode="w") as store,
    ):
        group = zarr.create_group(store)
        for field in (*MAPS, *RECORDS):
            values = source[field][:]
            layout = {"chunks": (1, *values.shape[1:])} if field in MAPS else {}
            if within and layout:
                layout["shards"] = values.shape
            codec = zarr.codecs.GzipCodec()
            group.create_array(field, data=values, compressors=codec, **layout)
    source.store.close()
    beside.replace(shard)


def republish(store: Path, named: Sequence[ShardEntry], split: str = "val") -> None:
    """Have a split's manifest name these shards, their samples by their places."""
    manifest = open_store(store).split(split).manifest
    contents, first = [], 0
    for entry in named:
        names = [f"{number:08d}" for number in range(first, first + entry.samples)]
        sizes = np.full((entry.samples, 2), 64, np.int32)
        contents.append(ShardContents(entry, names, sizes))
        first += entry.samples
    parts = dict(cut_parts(contents))
    changed = dataclasses.replace(manifest, parts=tuple(parts), shards=tuple(named))
    publish_manifest(store, changed, {part.key: data for part, data in parts.items()})
