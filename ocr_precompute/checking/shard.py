"""Check one shard: its files, every byte and value, and its samples against their sources."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ocr_precompute.checking.values import map_problem, record_problems
from ocr_precompute.errors import ImageError
from ocr_precompute.files import read_bounded
from ocr_precompute.format.chunks import ChunkFile, decompress
from ocr_precompute.format.keys import shard_key
from ocr_precompute.format.manifest import Damaged, ShardEntry
from ocr_precompute.format.shard import (
    MAPS,
    RECORDS,
    Records,
    SampleRecord,
    expected_files,
    foreign_files,
    group_metadata,
    map_file,
    map_metadata,
    read_record,
    read_records,
    record_metadata,
)
from ocr_precompute.parameters import Parameters
from ocr_precompute.samples import Sample
from ocr_precompute.storage.store import shard_path
from ocr_precompute.targets.sample import compute_sample

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


@dataclass(frozen=True, eq=False)
class ShardCheck:
    """What checking one shard found, the names it holds, and its damaged images."""

    findings: list[Finding]
    names: tuple[str, ...]
    damaged: tuple[Damaged, ...] = ()


def check_shard(
    store: Path,
    entry: ShardEntry,
    parameters: Parameters,
    sources: Sources | None,
    recompute: set[int],
    max_pixels: int,
) -> ShardCheck:
    """Check all of one shard, and its samples against their sources.

    recompute: rows to compute again from source.
    """
    shard = shard_path(store, entry.key)
    if not shard.is_dir():
        detail = "the folder is missing; build the split again"
        return ShardCheck([Finding("shard", entry.key, "", detail)], ())
    findings = [Finding("shard", entry.key, "", detail) for detail in _check_files(shard)]
    try:
        records = read_records(shard)
    except (OSError, ValueError) as error:
        findings += [Finding("checksum", entry.key, "", d) for d in _damaged_records(shard, error)]
        return ShardCheck(findings, ())
    if shard_key(records.names, records.keys) != entry.key:
        detail = "the names and geometry hashes in the shard do not add up to its key"
        findings.append(Finding("shard", entry.key, "", detail))
    if len(records.names) != entry.samples:
        detail = f"holds {len(records.names)} samples, the manifest says {entry.samples}"
        findings.append(Finding("manifest", entry.key, "", detail))
    findings += _check_metadata(shard, records, parameters)
    maps = {field: _MapCheck(shard, field, records, parameters) for field in MAPS}
    for check in maps.values():
        findings += check.findings
    for row, record in enumerate(records.rows()):
        findings += [
            Finding("range", entry.key, record.name, f"{detail}; {REMEDY}")
            for detail in record_problems(record, parameters)
        ]
        stored = {field: check.read(row) for field, check in maps.items()}
        for field, outcome in stored.items():
            if isinstance(outcome, Finding):
                findings.append(outcome)
            elif outcome is not None and (detail := map_problem(outcome, field, parameters)):
                findings.append(Finding("range", entry.key, record.name, f"{detail}; {REMEDY}"))
        if sources is not None:
            findings += _check_source(entry, record, sources)
            if row in recompute and record.name in sources.samples:
                sample = sources.samples[record.name][0]
                findings += _check_recompute(entry, record, stored, sample, parameters, max_pixels)
    damaged = [
        Damaged(records.names[row], each.words, each.lost) for row, each in records.damage.items()
    ]
    return ShardCheck(findings, records.names, tuple(damaged))


def _check_files(shard: Path) -> list[str]:
    expected = expected_files()
    lacking = [name for name in sorted(expected) if not os.path.lexists(shard / name)]
    odd = [name for name in sorted(expected.difference(lacking)) if not (shard / name).is_file()]
    return [
        *(f"{name} is missing; {REMEDY}" for name in lacking),
        *(f"{name} is not a regular file; {REMEDY}" for name in odd),
        *(f"{name} does not belong in a shard; move it elsewhere" for name in foreign_files(shard)),
    ]


def _damaged_records(shard: Path, error: Exception) -> list[str]:
    """What is wrong with the record arrays, each by name; error if it takes several to see it."""
    details = []
    for field in RECORDS:
        try:
            read_record(shard, field)
        except (OSError, ValueError) as reason:
            details.append(f"{field}: {reason}; {REMEDY}")
    return details or [f"{error}; {REMEDY}"]


def _check_metadata(shard: Path, records: Records, parameters: Parameters) -> list[Finding]:
    """Every zarr.json, byte for byte: shapes, dtypes and codecs."""
    expected = {"zarr.json": group_metadata()}
    for field, array in records.arrays().items():
        expected[f"{field}/zarr.json"] = record_metadata(field, len(array))
    for field in MAPS:
        expected[f"{field}/zarr.json"] = map_metadata(
            field, len(records.names), parameters.size, parameters.compression
        )
    return [
        Finding(
            "metadata",
            shard.name,
            "",
            f"{name} is not what was written: shape, dtype or codecs are damaged; {REMEDY}",
        )
        for name, data in expected.items()
        if (shard / name).is_file() and not holds(shard / name, data)
    ]


def holds(path: Path, data: bytes) -> bool:
    """Whether a file holds just these bytes."""
    try:
        return read_bounded(path, len(data)) == data
    except OSError:
        return False


class _MapCheck:
    """One map array's file, its index checked; reads rows as arrays or as what is wrong."""

    def __init__(self, shard: Path, field: str, records: Records, parameters: Parameters) -> None:
        self._key, self._field, self._records = shard.name, field, records
        dtype, tail = MAPS[field]
        self._array = np.empty((*parameters.size, *tail), dtype)
        self._file: ChunkFile | None = None
        self.findings: list[Finding] = []
        try:
            self._file = ChunkFile(shard / map_file(field), len(records.names))
        except FileNotFoundError:
            pass  # reported with the shard's files
        except (OSError, ValueError) as error:
            self.findings.append(Finding("index", self._key, "", f"{field}: {error}; {REMEDY}"))

    def read(self, row: int) -> np.ndarray | Finding | None:
        """One sample's array, good until the next is read, or the finding that it is damaged.

        None if the whole file is.
        """
        if self._file is None:
            return None
        try:
            decompress([self._file.packed(row)], [self._array])
        except (OSError, ValueError) as error:
            detail = f"{self._field}: {error}; {REMEDY}"
            return Finding("checksum", self._key, self._records.names[row], detail)
        return self._array


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
    stored: dict[str, np.ndarray | Finding | None],
    sample: Sample,
    parameters: Parameters,
    max_pixels: int,
) -> list[Finding]:
    """Compare a stored sample, bit for bit, with what its source gives now."""
    try:
        data = sample.path.read_bytes()
        live = compute_sample(sample.name, data, sample.polygons, parameters, max_pixels)
    except (OSError, ImageError) as error:
        detail = f"cannot be computed again: {error}"
        return [Finding("recompute", entry.key, record.name, detail)]
    again = SampleRecord.of(live, record.key)
    pairs: dict[str, tuple[object, object]] = {
        field: (array, getattr(live, field))
        for field, array in stored.items()
        if isinstance(array, np.ndarray)
    }
    for field in ("original_size", "matrix", "ignore", "damage"):
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
