"""One shard on disk: its arrays and their metadata, its records, its writer.

A shard is a folder that any Zarr v3 reader opens. Map arrays hold one sample a chunk in one sharded
file (chunks in order, index at the end), so a row is a byte range that can be copied from shard to
shard. Metadata is written here, to the Zarr v3 specification, so that its bytes depend on nothing
but this file.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ocr_precompute.files import flush, inside, is_litter, json_bytes, read_bounded, temporary_name
from ocr_precompute.format.chunks import (
    ChunkFile,
    index_bytes,
    shuffle_of,
    strip_checksum,
    with_checksum,
)
from ocr_precompute.format.keys import FORMAT_VERSION
from ocr_precompute.parameters import Compression, Parameters
from ocr_precompute.samples import CanonicalSample, Damage

MAPS: dict[str, tuple[np.dtype, tuple[int, ...]]] = {
    "image": (np.dtype("<u1"), (3,)),
    "prob": (np.dtype("<u1"), ()),
    "prob_mask": (np.dtype("<u1"), ()),
    "thresh": (np.dtype("<f4"), ()),
    "thresh_mask": (np.dtype("<u1"), ()),
}
"""Per-pixel arrays: dtype, and the axes after (n, H, W)."""

RECORDS: dict[str, tuple[np.dtype, tuple[int, ...]]] = {
    "key": (np.dtype("<u1"), (32,)),
    "name_bytes": (np.dtype("<u1"), ()),
    "name_offsets": (np.dtype("<i8"), ()),
    "original_size": (np.dtype("<i4"), (2,)),
    "matrix": (np.dtype("<f8"), (3, 3)),
    "points": (np.dtype("<f4"), (2,)),
    "polygon_offsets": (np.dtype("<i8"), ()),
    "sample_offsets": (np.dtype("<i8"), ()),
    "ignore": (np.dtype("|b1"), ()),
    "damage": (np.dtype("<u1"), ()),
}
"""Per-sample and ragged arrays: dtype, and the axes after the first.

`name_bytes[name_offsets[i]:name_offsets[i + 1]]` is sample i's name in UTF-8. Sample i holds the
polygons sample_offsets[i] to sample_offsets[i + 1], and polygon j the points polygon_offsets[j] to
polygon_offsets[j + 1]. `damage` is JSON text: [row, decoder's words, lost share or null] of each
damaged image.
"""

MOST_RECORD = 2**29
"""Bytes of a record array; even the points of 4096 crowded pages take less."""

_PLAIN_RECORDS = (
    *("original_size", "matrix", "points", "polygon_offsets", "sample_offsets", "ignore"),
)
_ZARR_TYPES = {"u1": "uint8", "f4": "float32", "i4": "int32", "i8": "int64", "f8": "float64"}


def map_file(field: str) -> str:
    """Path of a map array's only file, relative to its shard's folder."""
    return f"{field}/c." + ".".join("0" * (3 + len(MAPS[field][1])))


def record_file(field: str) -> str:
    """Path of a record array's only file, relative to its shard's folder."""
    return f"{field}/c." + ".".join("0" * (1 + len(RECORDS[field][1])))


def group_metadata() -> bytes:
    """The `zarr.json` of the root group and of every shard."""
    attributes = {"ocr_precompute": {"format_version": FORMAT_VERSION}}
    return json_bytes({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def map_metadata(field: str, samples: int, size: Sequence[int], compression: Compression) -> bytes:
    """The `zarr.json` of a map array of (samples, H, W, ...), one chunk a sample."""
    dtype, tail = MAPS[field]
    shape = [samples, *size, *tail]
    blosc = {
        "typesize": dtype.itemsize,
        "cname": compression.cname,
        "clevel": compression.clevel,
        "shuffle": shuffle_of(dtype, compression),
        "blocksize": 0,
    }
    sharding = {
        "chunk_shape": [1, *shape[1:]],
        "codecs": [
            _bytes_codec(dtype),
            {"name": "blosc", "configuration": blosc},
            {"name": "crc32c"},
        ],
        "index_codecs": [_bytes_codec(np.dtype("<u8")), {"name": "crc32c"}],
        "index_location": "end",
    }
    codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    return _array_metadata(dtype, shape, codecs)


def record_metadata(field: str, length: int) -> bytes:
    """The `zarr.json` of a record array of the given length, one chunk in all."""
    dtype, tail = RECORDS[field]
    return _array_metadata(dtype, [length, *tail], [_bytes_codec(dtype), {"name": "crc32c"}])


def _bytes_codec(dtype: np.dtype) -> dict[str, Any]:
    if dtype.itemsize == 1:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _array_metadata(dtype: np.dtype, shape: list[int], codecs: list[dict[str, Any]]) -> bytes:
    boolean, floating = dtype.kind == "b", dtype.kind == "f"
    return json_bytes(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": "bool" if boolean else _ZARR_TYPES[dtype.str[1:]],
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [max(1, side) for side in shape]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": False if boolean else 0.0 if floating else 0,
            "codecs": codecs,
            "attributes": {},
        }
    )


@dataclass(frozen=True, eq=False)
class SampleRecord:
    """All of a stored sample but its maps; fields as in CanonicalSample, key = geometry hash."""

    name: str
    key: bytes
    original_size: tuple[int, int]
    matrix: np.ndarray
    polygons: list[np.ndarray]
    ignore: np.ndarray
    damage: Damage | None = None

    @classmethod
    def of(cls, sample: CanonicalSample, key: bytes) -> SampleRecord:
        """The record of a computed sample."""
        return cls(
            sample.name,
            key,
            sample.original_size,
            sample.matrix,
            sample.polygons,
            sample.ignore,
            sample.damage,
        )

    def copy(self) -> SampleRecord:
        """The same record with arrays of its own."""
        return replace(
            self,
            matrix=self.matrix.copy(),
            polygons=[polygon.copy() for polygon in self.polygons],
            ignore=self.ignore.copy(),
        )


@dataclass(frozen=True, eq=False)
class Records:
    """All of a shard but its maps.

    names, keys (geometry hashes): one a sample. original_size: int32 (n, 2). matrix: float64
    (n, 3, 3). points: float32 (P, 2). polygon_offsets: int64 (N + 1,). sample_offsets: int64
    (n + 1,). ignore: bool (N,). damage: of damaged images, by row.
    """

    names: tuple[str, ...]
    keys: tuple[bytes, ...]
    original_size: np.ndarray
    matrix: np.ndarray
    points: np.ndarray
    polygon_offsets: np.ndarray
    sample_offsets: np.ndarray
    ignore: np.ndarray
    damage: Mapping[int, Damage]

    @classmethod
    def of(cls, rows: Sequence[SampleRecord]) -> Records:
        """The record arrays of samples, in their order."""
        polygons = [polygon for row in rows for polygon in row.polygons]
        return cls(
            names=tuple(row.name for row in rows),
            keys=tuple(row.key for row in rows),
            original_size=np.array([row.original_size for row in rows], "<i4"),
            matrix=np.array([row.matrix for row in rows], "<f8"),
            points=np.concatenate(polygons) if polygons else np.zeros((0, 2), "<f4"),
            polygon_offsets=_offsets([len(polygon) for polygon in polygons]),
            sample_offsets=_offsets([len(row.polygons) for row in rows]),
            ignore=np.concatenate([row.ignore for row in rows]).astype(bool),
            damage={i: row.damage for i, row in enumerate(rows) if row.damage},
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Records:
        """The opposite of arrays(). Raises ValueError if they contradict each other."""
        _check_offsets(arrays)
        text, ends = arrays["name_bytes"].tobytes(), arrays["name_offsets"].tolist()
        return cls(
            names=tuple(text[a:b].decode() for a, b in itertools.pairwise(ends)),
            keys=tuple(key.tobytes() for key in arrays["key"]),
            damage=_damage_from_json(arrays["damage"].tobytes(), len(arrays["key"])),
            **{field: arrays[field] for field in _PLAIN_RECORDS},
        )

    def __getitem__(self, row: int) -> SampleRecord:
        """One sample's record. Its arrays are views."""
        first, last = self.sample_offsets[row : row + 2]
        ends = self.polygon_offsets
        height, width = self.original_size[row]
        return SampleRecord(
            name=self.names[row],
            key=self.keys[row],
            original_size=(int(height), int(width)),
            matrix=self.matrix[row],
            polygons=[self.points[ends[i] : ends[i + 1]] for i in range(first, last)],
            ignore=self.ignore[first:last],
            damage=self.damage.get(row),
        )

    def rows(self) -> Iterator[SampleRecord]:
        """Every sample's record, in order."""
        return (self[row] for row in range(len(self.names)))

    def arrays(self) -> dict[str, np.ndarray]:
        """The record arrays as stored."""
        names = [name.encode() for name in self.names]
        damage = [[row, each.words, each.lost] for row, each in self.damage.items()]
        return {
            "key": np.frombuffer(b"".join(self.keys), "<u1").reshape(-1, 32),
            "name_bytes": np.frombuffer(b"".join(names), "<u1"),
            "name_offsets": _offsets([len(name) for name in names]),
            "original_size": self.original_size,
            "matrix": self.matrix,
            "points": self.points,
            "polygon_offsets": self.polygon_offsets,
            "sample_offsets": self.sample_offsets,
            "ignore": self.ignore,
            "damage": np.frombuffer(json.dumps(damage).encode(), "<u1"),
        }


def expected_files() -> set[str]:
    """Paths, relative to its folder, of the files every shard has."""
    arrays = {**{f: map_file(f) for f in MAPS}, **{f: record_file(f) for f in RECORDS}}
    return {"zarr.json", *arrays.values(), *(f"{field}/zarr.json" for field in arrays)}


def foreign_files(shard: Path) -> list[str]:
    """Paths, relative to its folder, of what lies in a finished or half-written shard but is none
    of its files, nor what systems leave in any folder.
    """
    expected = expected_files() | {*MAPS, *RECORDS}
    found = {str(path.relative_to(shard)) for path in inside(shard) if not is_litter(path.name)}
    return sorted(found - expected)


def read_row(shard: Path, records: Records, row: int) -> tuple[dict[str, bytes], SampleRecord]:
    """One sample as stored: its encoded chunks by map, checksums checked, and its record.

    Raises ValueError if it is damaged, OSError if a file is missing.
    """
    chunks: dict[str, bytes] = {}
    for field in MAPS:
        chunks[field] = bytes(ChunkFile(shard / map_file(field), len(records.names)).chunk(row))
        strip_checksum(chunks[field])
    return chunks, records[row]


def _damage_from_json(data: bytes, samples: int) -> dict[int, Damage]:
    """Damage by row. Raises ValueError unless the text is what was written."""
    try:
        found = {row: Damage(words, lost) for row, words, lost in json.loads(data)}
        fits = all(
            type(row) is int
            and 0 <= row < samples
            and isinstance(each.words, str)
            and (each.lost is None or 0 <= each.lost <= 1)
            for row, each in found.items()
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError("damage is not the text that was written") from error
    if not fits:
        raise ValueError("damage holds what cannot be")
    return found


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")


def read_record(shard: Path, field: str) -> np.ndarray:
    """One record array of a shard. Raises ValueError if damaged, OSError if missing."""
    dtype, tail = RECORDS[field]
    data = strip_checksum(read_bounded(shard / record_file(field), MOST_RECORD))
    return np.frombuffer(data, dtype).reshape(-1, *tail)


def read_records(shard: Path) -> Records:
    """All record arrays of a shard. Raises ValueError if damaged, OSError if missing."""
    arrays = {field: read_record(shard, field) for field in RECORDS}
    return Records.from_arrays(arrays)


def _check_offsets(arrays: Mapping[str, np.ndarray]) -> None:
    samples = len(arrays["key"])
    polygons = len(arrays["ignore"])
    for field, count, end in (
        ("name_offsets", samples, len(arrays["name_bytes"])),
        ("sample_offsets", samples, polygons),
        ("polygon_offsets", polygons, len(arrays["points"])),
    ):
        offsets = arrays[field]
        fits = len(offsets) == count + 1 and offsets[0] == 0 and offsets[-1] == end
        if not fits or (np.diff(offsets) < 0).any():
            raise ValueError(f"{field} does not fit the array it points into")
    if (arrays["ignore"].view(np.uint8) > 1).any():
        raise ValueError("ignore holds flags that are neither 0 nor 1")
    if len(arrays["original_size"]) != samples or len(arrays["matrix"]) != samples:
        raise ValueError("record arrays differ in length")


class ShardWriter:
    """Writes one shard, row by row, under a temporary name; `publish` gives it its own.

    target: the shard's folder. workspace: a folder on the same file system for the temporary name.
    Only one sample is held in memory at a time. Used as a context manager, it removes what it wrote
    unless it was published.
    """

    def __init__(self, target: Path, workspace: Path) -> None:
        self._target = target
        self._folder = workspace / temporary_name(target.name[:16])
        self._chunks: dict[str, list[int]] = {field: [] for field in MAPS}
        self._files: dict[str, Any] = {}

    def __enter__(self) -> ShardWriter:
        try:
            for field in MAPS:
                (self._folder / field).mkdir(parents=True)
                self._files[field] = (self._folder / map_file(field)).open("wb")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):  # closing flushes, and the disk may be full
                file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def append(self, chunks: Mapping[str, bytes]) -> None:
        """Add one row: an encoded chunk for each map."""
        for field in MAPS:
            self._files[field].write(chunks[field])
            self._chunks[field].append(len(chunks[field]))

    def publish(self, records: Records, parameters: Parameters) -> None:
        """Write index, records and metadata, flush all to disk, and rename the shard into place.

        If another build has published the same shard meanwhile, that one stays.
        """
        samples = len(records.names)
        for field in MAPS:
            self._files[field].write(index_bytes(self._chunks[field]))
            metadata = map_metadata(field, samples, parameters.size, parameters.compression)
            (self._folder / field / "zarr.json").write_bytes(metadata)
            self._files[field].close()
        for field, array in records.arrays().items():
            (self._folder / field).mkdir()
            (self._folder / field / "zarr.json").write_bytes(record_metadata(field, len(array)))
            data = np.ascontiguousarray(array, RECORDS[field][0]).tobytes()
            (self._folder / record_file(field)).write_bytes(with_checksum(data))
        (self._folder / "zarr.json").write_bytes(group_metadata())
        for folder, _, files in os.walk(self._folder, topdown=False):
            for name in files:
                flush(Path(folder, name))
            flush(Path(folder))
        try:
            os.rename(self._folder, self._target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        flush(self._target.parent)
