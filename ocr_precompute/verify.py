"""Verify a store: manifest against folders, folders against their keys, every byte and source."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np

from ocr_precompute.chunks import ChunkFile, decompress
from ocr_precompute.compute import compute_sample
from ocr_precompute.config import Parameters, Source
from ocr_precompute.errors import ImageError, InputError, StoreError, VersionError
from ocr_precompute.fingerprint import data_hash, geometry_hash, shard_key
from ocr_precompute.manifest import Manifest, ShardEntry
from ocr_precompute.opencv import single_thread
from ocr_precompute.samples import Sample
from ocr_precompute.scan import known_bad, scan
from ocr_precompute.shard import (
    MAPS,
    RECORDS,
    Records,
    SampleRecord,
    expected_files,
    group_metadata,
    map_file,
    map_metadata,
    read_record,
    read_records,
    record_metadata,
)
from ocr_precompute.store import check_store, digest_cache, read_manifest, shard_path, split_names


@dataclass(frozen=True)
class Finding:
    """One thing `verify` found wrong.

    kind: `manifest`, `shard`, `metadata`, `index`, `checksum`, `range`, `source-missing`,
    `source-changed`, `source-added` or `recompute`. shard, sample: what it is about, or empty.
    """

    kind: str
    shard: str
    sample: str
    detail: str


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` looked at and found. ok: nothing wrong. recomputed: samples computed again."""

    ok: bool
    samples: int
    shards: int
    recomputed: int
    problems: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class Sources:
    """A split's sources as they are now, by sample name.

    samples: each usable sample and its geometry hash. bad: why the other images are not usable.
    """

    samples: dict[str, tuple[Sample, bytes]]
    bad: dict[str, str]


@dataclass(frozen=True, eq=False)
class _ShardCheck:
    """What checking one shard found, and the names it holds."""

    findings: list[Finding]
    names: tuple[str, ...]


def verify(
    store: Path,
    splits: list[str] | None = None,
    *,
    sources: dict[str, Source] | None = None,
    recompute: float = 0.0,
    max_pixels: int = 2**27,
    jobs: int | None = None,
    on_shard: Callable[[int], None] = lambda samples: None,
) -> VerifyReport:
    """Check splits (default: all) of a store against themselves and against their sources.

    sources: where each split was built from; a split without an entry is not compared.
    recompute: share of samples, chosen at random, to compute again and compare bit for bit.
    on_shard: called with the number of samples of each shard that has been checked.
    Raises StoreError if there is no such store or split, or it is of another format version.
    """
    check_store(store)
    names = split_names(store) if splits is None else splits
    findings: list[Finding] = []
    if (store / "zarr.json").read_bytes() != group_metadata():
        detail = "the root zarr.json is not what was written; restore it from a new store"
        findings.append(Finding("metadata", "", "", detail))
    samples = shards = recomputed = 0
    for name in names:
        try:
            manifest = read_manifest(store, name)
        except VersionError:
            raise
        except StoreError as error:
            findings.append(Finding("manifest", "", "", str(error)))
            continue
        if manifest is None:
            known = ", ".join(split_names(store)) or "none"
            raise StoreError(f"{store}: no split {name!r} in this store; splits: {known}")
        findings += _check_manifest(manifest, name)
        current: Sources | None = None
        if sources and name in sources:
            current, missing = _read_sources(store, sources[name], manifest, max_pixels)
            findings += missing
        chosen = _choose(manifest, recompute if current else 0)
        tasks = [
            joblib.delayed(check_shard)(
                store, entry, manifest.parameters, current, rows, max_pixels
            )
            for entry, rows in zip(manifest.shards, chosen, strict=True)
        ]
        held: set[str] = set()
        for entry, result in zip(manifest.shards, _in_threads(tasks, jobs), strict=True):
            findings += result.findings
            held.update(result.names)
            on_shard(entry.samples)
        if current is not None:
            detail = "is annotated but not in the store; build the split again"
            added = sorted(set(current.samples) - held)
            findings += [Finding("source-added", "", sample, detail) for sample in added]
        samples += manifest.samples
        shards += len(manifest.shards)
        recomputed += sum(len(rows) for rows in chosen)
    return VerifyReport(not findings, samples, shards, recomputed, tuple(findings))


def _in_threads(tasks: list[object], jobs: int | None) -> Iterator[_ShardCheck]:
    with single_thread(), joblib.parallel_config("threading"):
        yield from joblib.Parallel(jobs or joblib.cpu_count(), return_as="generator")(tasks)


def _choose(manifest: Manifest, share: float) -> list[set[int]]:
    """Rows to compute again, for each shard: the share of all samples, at random."""
    places = [(i, row) for i, s in enumerate(manifest.shards) for row in range(s.samples)]
    chosen: list[set[int]] = [set() for _ in manifest.shards]
    for shard, row in random.sample(places, math.ceil(len(places) * share)):
        chosen[shard].add(row)
    return chosen


# --------------------------------------------------------------------------------------- manifest


def _check_manifest(manifest: Manifest, name: str) -> list[Finding]:
    findings = []
    if manifest.split != name:
        detail = f"the manifest splits/{name}.json is of split {manifest.split!r}"
        findings.append(Finding("manifest", "", "", detail))
    if manifest.data_hash != data_hash(shard.key for shard in manifest.shards):
        detail = f"split {name}: the data hash does not fit the shard keys; build the split again"
        findings.append(Finding("manifest", "", "", detail))
    return findings


def _read_sources(
    store: Path, source: Source, manifest: Manifest, max_pixels: int
) -> tuple[Sources | None, list[Finding]]:
    """The split's sources as they are now, or why they cannot be read at all."""
    try:
        with digest_cache(store) as cache:
            scanned = scan(source, max_pixels, cache, skip_bad=True, known=known_bad(manifest))
    except InputError as error:
        return None, [
            Finding("source-missing", "", problem.sample, str(problem))
            for problem in error.problems
        ]
    samples = {
        s.name: (s, geometry_hash(manifest.parameters, s.digest, s.polygons))
        for s in scanned.samples
    }
    return Sources(samples, {s.sample: s.reason for s in scanned.skipped if s.kind == "image"}), []


# ----------------------------------------------------------------------------------------- shards


def check_shard(
    store: Path,
    entry: ShardEntry,
    parameters: Parameters,
    sources: Sources | None,
    recompute: set[int],
    max_pixels: int,
) -> _ShardCheck:
    """Check all of one shard, and its samples against their sources.

    recompute: rows to compute again from source.
    """
    shard = shard_path(store, entry.key)
    if not shard.is_dir():
        detail = "the folder is missing; build the split again"
        return _ShardCheck([Finding("shard", entry.key, "", detail)], ())
    findings = [Finding("shard", entry.key, "", detail) for detail in _check_files(shard)]
    try:
        records = read_records(shard)
    except (OSError, ValueError) as error:
        findings += [Finding("checksum", entry.key, "", d) for d in _damaged_records(shard, error)]
        return _ShardCheck(findings, ())
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
        stored = {field: check.read(row) for field, check in maps.items()}
        for field, outcome in stored.items():
            if isinstance(outcome, Finding):
                findings.append(outcome)
            elif detail := _out_of_range(outcome, field, parameters):
                findings.append(Finding("range", entry.key, record.name, detail))
        if sources is not None:
            findings += _check_source(entry, record, sources)
            if row in recompute and record.name in sources.samples:
                sample = sources.samples[record.name][0]
                findings += _check_recompute(entry, record, stored, sample, parameters, max_pixels)
    return _ShardCheck(findings, records.names)


_REMEDY = "remove the shard's folder and build the split again"


def _check_files(shard: Path) -> list[str]:
    found = {str(path.relative_to(shard)) for path in shard.rglob("*") if not path.is_dir()}
    expected = expected_files()
    return [f"{name} is missing; {_REMEDY}" for name in sorted(expected - found)] + [
        f"{name} does not belong in a shard; remove it" for name in sorted(found - expected)
    ]


def _damaged_records(shard: Path, error: Exception) -> list[str]:
    """What is wrong with the record arrays, each by name; error if it takes several to see it."""
    details = []
    for field in RECORDS:
        try:
            read_record(shard, field)
        except (OSError, ValueError) as reason:
            details.append(f"{field}: {reason}; {_REMEDY}")
    return details or [f"{error}; {_REMEDY}"]


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
            f"{name} is not what was written: shape, dtype or codecs are damaged; {_REMEDY}",
        )
        for name, data in expected.items()
        if (shard / name).is_file() and (shard / name).read_bytes() != data
    ]


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
            self.findings.append(Finding("index", self._key, "", f"{field}: {error}; {_REMEDY}"))

    def read(self, row: int) -> np.ndarray | Finding | None:
        """One sample's array, good until the next is read, or the finding that it is damaged.

        None if the whole file is.
        """
        if self._file is None:
            return None
        try:
            decompress([self._file.packed(row)], [self._array])
        except (OSError, ValueError) as error:
            detail = f"{self._field}: {error}; {_REMEDY}"
            return Finding("checksum", self._key, self._records.names[row], detail)
        return self._array


def _out_of_range(array: np.ndarray | None, field: str, parameters: Parameters) -> str:
    """What is wrong with a map's values; empty if nothing is."""
    if array is None or field == "image":
        return ""
    low, high = 0.0, 1.0
    if field == "thresh":
        recipe = parameters.recipe
        low, high = float(np.float32(recipe.thresh_min)), float(np.float32(recipe.thresh_max))
    if array.min() >= low and array.max() <= high:  # false for not-a-number too
        return ""
    return f"{field}: holds values outside {low:g} to {high:g}"


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
    for field in ("original_size", "matrix", "ignore"):
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
