"""Check one shard: its files, every byte and value, and its samples against their sources."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ocr_precompute.checking.values import map_problem, record_problems
from ocr_precompute.errors import ImageError
from ocr_precompute.format.blosc import Packed
from ocr_precompute.format.chunks import decompress, strip_checksum
from ocr_precompute.format.keys import shard_key
from ocr_precompute.format.manifest import Damaged, ShardEntry
from ocr_precompute.format.records import Records, SampleRecord
from ocr_precompute.format.schema import MAPS, RECORDS, shard_metadata
from ocr_precompute.format.shard import (
    Bytes,
    ShardIndex,
    check_sizes,
    entry_faults,
    read_index,
    read_record,
    read_records,
)
from ocr_precompute.images.files import read_image
from ocr_precompute.parameters import Parameters
from ocr_precompute.samples import Sample
from ocr_precompute.storage.seam import Storage
from ocr_precompute.storage.store import shard_name
from ocr_precompute.targets.sample import compute_sample

_NO_SIZES = np.zeros((0, 2), np.int32)

REMEDY = "verify --repair builds it again"
"""What to do about a damaged shard."""


@dataclass(frozen=True)
class Finding:
    """One thing `verify` found wrong.

    kind: `manifest`, `shard`, `metadata`, `index`, `checksum`, `range`, `source-missing`,
    `source-changed`, `source-added`, `recompute` or `repair`. shard, sample: what it is about, or
    empty.
    """

    kind: str
    shard: str
    sample: str
    detail: str


@dataclass(frozen=True, eq=False)
class Sources:
    """A split's sources as they are now, by sample name.

    samples: each usable sample and its geometry hash. bad: why the other images are not usable.
    """

    samples: dict[str, tuple[Sample, bytes]]
    bad: dict[str, str]


Proof = Literal["bytes", "checksum", "end"]
"""What a check rests on: every byte; the keeper's checksum of them; or the file's end alone, which
has the records, the metadata and the directory."""


@dataclass(frozen=True, eq=False)
class ShardCheck:
    """What checking one shard found, the samples it holds, and its damaged images.

    sizes: int32 (n, 2), (height, width) of the original images. proof: None if it could not be
    read.
    """

    findings: list[Finding]
    names: tuple[str, ...]
    sizes: np.ndarray
    damaged: tuple[Damaged, ...] = ()
    proof: Proof | None = None


@dataclass(frozen=True)
class _Opened:
    """A shard's file, as much of it as is wanted, and where everything lies in it."""

    file: Bytes
    index: ShardIndex
    proof: Proof


def check_shard(
    storage: Storage,
    entry: ShardEntry,
    parameters: Parameters,
    sources: Sources | None,
    recompute: set[int],
    max_pixels: int,
    proof: Proof = "bytes",
) -> ShardCheck:
    """Check one shard, and its samples against their sources.

    recompute: rows to compute again from source. proof: what is to be enough, if there are none of
    these; a checksum that does not fit has every byte read.
    """
    opened = _open(storage, entry, parameters, "bytes" if recompute else proof)
    if isinstance(opened, Finding):
        return ShardCheck([opened], (), _NO_SIZES)
    file, index = opened.file, opened.index
    try:
        records = read_records(file, index)
    except ValueError as error:
        details = _damaged_records(file, index, error)
        return ShardCheck([Finding("checksum", entry.key, "", d) for d in details], (), _NO_SIZES)
    findings = _check_identity(entry, records)
    findings += _check_metadata(file, index, records, parameters, entry.key)
    maps = _Maps(file, index, parameters)
    for row, record in enumerate(records.rows()):
        findings += [
            Finding("range", entry.key, record.name, f"{detail}; {REMEDY}")
            for detail in record_problems(record, parameters)
        ]
        stored: dict[str, np.ndarray] = {}
        if opened.proof == "bytes":
            findings += _check_maps(entry, record.name, maps, row, parameters, stored)
        if sources is not None:
            findings += _check_source(entry, record, sources)
            if row in recompute and record.name in sources.samples:
                sample = sources.samples[record.name][0]
                findings += _check_recompute(entry, record, stored, sample, parameters, max_pixels)
    if not any(finding.kind in ("checksum", "metadata") for finding in findings):
        faults = entry_faults(file, index, 0 if opened.proof == "bytes" else index.starts.size)
        findings += [Finding("index", entry.key, "", f"{each}; {REMEDY}") for each in faults]
    damaged = [
        Damaged(records.names[row], each.words, each.lost) for row, each in records.damage.items()
    ]
    sizes = records.original_size
    return ShardCheck(findings, records.names, sizes, tuple(damaged), opened.proof)


def _open(
    storage: Storage, entry: ShardEntry, parameters: Parameters, proof: Proof
) -> _Opened | Finding:
    """A shard's file and where everything lies in it, or what is in the way."""
    name = shard_name(entry.key)
    try:
        intact: bool | None = None
        if proof != "bytes":
            file, intact = storage.look(name)
        if proof == "bytes" or (proof == "checksum" and intact is False):
            file, proof = storage.fetch(name), "bytes"
    except FileNotFoundError as error:
        if storage.folder and os.path.lexists(storage.folder / name):  # a link that leads nowhere
            return Finding("shard", entry.key, "", f"cannot be read: {error}; {REMEDY}")
        return Finding("shard", entry.key, "", "the file is missing; build the split again")
    except (OSError, ValueError) as error:
        return Finding("shard", entry.key, "", f"cannot be read: {error}; {REMEDY}")
    try:
        index = read_index(file)
        check_sizes(index, parameters)
    except ValueError as error:
        return Finding("index", entry.key, "", f"{error}; {REMEDY}")
    if proof == "bytes":
        return _Opened(file, index, "bytes")
    end = _End(file, int(index.stops[-1, -1]))
    return _Opened(end, index, "checksum" if proof == "checksum" and intact else "end")


class _End:
    """A file's end, read in one piece."""

    def __init__(self, file: Bytes, start: int) -> None:
        self.size, self._start = file.size, start
        self._data = file.read(start, file.size)

    def read(self, start: int, stop: int) -> memoryview:
        """The bytes from start to stop, a view."""
        return self._data[start - self._start : stop - self._start]


def _check_maps(
    entry: ShardEntry,
    name: str,
    maps: _Maps,
    row: int,
    parameters: Parameters,
    stored: dict[str, np.ndarray],
) -> list[Finding]:
    """Check one sample's maps. stored: gets those that can be read."""
    findings = []
    for field in MAPS:
        try:
            stored[field] = maps.read(field, row)
        except ValueError as error:
            findings.append(Finding("checksum", entry.key, name, f"{field}: {error}; {REMEDY}"))
            continue
        if detail := map_problem(stored[field], field, parameters):
            findings.append(Finding("range", entry.key, name, f"{detail}; {REMEDY}"))
    return findings


def _check_identity(entry: ShardEntry, records: Records) -> list[Finding]:
    """That the shard is the one that the manifest names."""
    findings = []
    if shard_key(records.names, records.keys) != entry.key:
        detail = "the names and geometry hashes in the shard do not add up to its key"
        findings.append(Finding("shard", entry.key, "", detail))
    if len(records.names) != entry.samples:
        detail = f"holds {len(records.names)} samples, the manifest says {entry.samples}"
        findings.append(Finding("manifest", entry.key, "", detail))
    return findings


def _damaged_records(file: Bytes, index: ShardIndex, error: Exception) -> list[str]:
    """What is wrong with the record arrays, each by name; error if it takes several to see it."""
    details = []
    for field in RECORDS:
        try:
            read_record(file, index, field)
        except ValueError as reason:
            details.append(f"{field}: {reason}; {REMEDY}")
    return details or [f"{error}; {REMEDY}"]


def _check_metadata(
    file: Bytes, index: ShardIndex, records: Records, parameters: Parameters, key: str
) -> list[Finding]:
    """Every zarr.json, byte for byte: shapes, dtypes and codecs."""
    lengths = {field: len(array) for field, array in records.arrays().items()}
    detail = f"is not what was written: shape, dtype or codecs are damaged; {REMEDY}"
    return [
        Finding("metadata", key, "", f"{name} {detail}")
        for name, data in shard_metadata(lengths, parameters).items()
        if file.read(*index.metadata[name]) != data
    ]


class _Maps:
    """The maps of a shard, each read into an array that the next one of its kind takes over."""

    def __init__(self, file: Bytes, index: ShardIndex, parameters: Parameters) -> None:
        self._file, self._index = file, index
        self._arrays = {
            field: np.empty((*parameters.size, *tail), dtype)
            for field, (dtype, tail) in MAPS.items()
        }

    def read(self, field: str, row: int) -> np.ndarray:
        """One sample's map. Raises ValueError if it is damaged."""
        chunk = self._file.read(*self._index.span(field, row))
        decompress([Packed.of(strip_checksum(chunk))], [self._arrays[field]])
        return self._arrays[field]


# ---------------------------------------------------------------------------------------- sources


def _check_source(entry: ShardEntry, record: SampleRecord, sources: Sources) -> list[Finding]:
    if record.name not in sources.samples:
        gone = "is no longer annotated; build the split again"
        detail = f"its image {sources.bad[record.name]}" if record.name in sources.bad else gone
        return [Finding("source-missing", entry.key, record.name, detail)]
    if sources.samples[record.name][1] != record.key:
        detail = "its image or its annotation has changed since; build the split again"
        return [Finding("source-changed", entry.key, record.name, detail)]
    return []


def _check_recompute(
    entry: ShardEntry,
    record: SampleRecord,
    stored: dict[str, np.ndarray],
    sample: Sample,
    parameters: Parameters,
    max_pixels: int,
) -> list[Finding]:
    """Compare a stored sample, bit for bit, with what its source gives now."""
    try:
        data = read_image(sample.path, max_pixels)
        live = compute_sample(sample.name, data, sample.polygons, parameters, max_pixels)
    except (OSError, ImageError) as error:
        detail = f"cannot be computed again: {error}"
        return [Finding("recompute", entry.key, record.name, detail)]
    again = SampleRecord.of(live, record.key)
    pairs: dict[str, tuple[object, object]] = {
        field: (array, getattr(live, field)) for field, array in stored.items()
    }
    for field in ("original_size", "matrix", "ignore", "fate", "damage"):
        pairs[field] = (getattr(record, field), getattr(again, field))
    pairs["polygons"] = (_flat(record.polygons), _flat(again.polygons))
    differing = [field for field, (a, b) in pairs.items() if not _same_bits(a, b)]
    if not differing:
        return []
    now = Parameters().libraries
    detail = f"{', '.join(differing)} differ from what the source gives now"
    if now != parameters.libraries:
        detail += f" (built with {parameters.libraries}, here are {now})"
    return [Finding("recompute", entry.key, record.name, detail)]


def _flat(polygons: list[np.ndarray]) -> list[tuple[int, bytes]]:
    return [(len(polygon), polygon.astype("<f4").tobytes()) for polygon in polygons]


def _same_bits(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and a.astype(b.dtype).tobytes() == b.tobytes()
    return a == b
