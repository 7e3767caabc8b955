"""Repair a store: build its damaged shards again, each under the key it had."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ocr_precompute.checking.shard import Finding, Sources
from ocr_precompute.checking.verify import VerifyReport, read_sources
from ocr_precompute.errors import InputError, StoreError
from ocr_precompute.format.keys import Hashes, shard_key
from ocr_precompute.format.manifest import Manifest, ShardEntry
from ocr_precompute.format.schema import group_metadata
from ocr_precompute.format.shard import StoredShard
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.encode import ShardTask, encode_shard
from ocr_precompute.pipeline.plan import ShardPlan
from ocr_precompute.pipeline.tables import Samples
from ocr_precompute.settings import Source
from ocr_precompute.storage.locks import build_lock, unwritable
from ocr_precompute.storage.place import storage_at
from ocr_precompute.storage.seam import Storage
from ocr_precompute.storage.store import read_manifest, shard_name, split_names

_DAMAGE = {"shard", "metadata", "index", "checksum", "range", "recompute"}


@dataclass(frozen=True, eq=False)
class _Place:
    """A damaged shard as a manifest names it, and the number of the sample it began with."""

    manifest: Manifest
    entry: ShardEntry
    start: int


@dataclass(frozen=True)
class Repair:
    """Keys of the shards that were built again, and for each that could not be, why."""

    repaired: tuple[str, ...]
    failed: tuple[Finding, ...]


def repair(
    store: str | Path | Storage,
    report: VerifyReport,
    sources: Mapping[str, Source],
    *,
    max_pixels: int = 2**27,
) -> Repair:
    """Build the shards again that `verify` found damaged or missing, from their sources.

    A shard is built beside the damaged one and takes its place when it is complete; who has that
    one open reads on. One that cannot be built again is left as it is, and a finding of kind
    `repair` says why. Verify the store again to see what it is like afterwards.
    Raises StoreError if the store cannot be written.
    """
    storage = storage_at(store)
    damaged = {f.shard for f in report.problems if f.kind in _DAMAGE}
    repaired: list[str] = []
    failed: list[Finding] = []
    try:
        with build_lock(storage):
            if "" in damaged:
                storage.put("zarr.json", group_metadata())
            for name, places in _places(storage, damaged):
                current, reason = _sources(storage, name, sources, places[0].manifest, max_pixels)
                for place in places:
                    if why := reason or _rebuild(storage, place, current, max_pixels):
                        detail = f"cannot be built again: {why}"
                        failed.append(Finding("repair", place.entry.key, "", detail))
                    else:
                        repaired.append(place.entry.key)
    except OSError as error:
        raise unwritable(storage, error) from error
    return Repair(tuple(repaired), tuple(failed))


def _places(storage: Storage, damaged: set[str]) -> Iterator[tuple[str, list[_Place]]]:
    """For each split that names damaged shards those, each shard once."""
    left = set(damaged)
    for name in split_names(storage):
        try:
            manifest = read_manifest(storage, name)
        except StoreError:
            continue
        places, start = [], 0
        for entry in manifest.shards if manifest else ():
            if manifest and entry.key in left:
                left.discard(entry.key)
                places.append(_Place(manifest, entry, start))
            start += entry.samples
        if places:
            yield name, places


def _sources(
    storage: Storage,
    name: str,
    sources: Mapping[str, Source],
    manifest: Manifest,
    max_pixels: int,
) -> tuple[Sources, str]:
    """A split's sources as they are now, and if they are of no use, why."""
    nothing = Sources({}, {})
    if name not in sources:
        return nothing, (
            "it is not known where the split was built from; give --images and --annotations"
        )
    now, then = Parameters().libraries, manifest.parameters.libraries
    if now != then:
        return nothing, f"it was built with {then}, here are {now}; build the split again"
    current, missing = read_sources(storage, sources[name], manifest, max_pixels)
    return current or nothing, "" if current else missing[0].detail


def _rebuild(storage: Storage, place: _Place, sources: Sources, max_pixels: int) -> str:
    """Build a shard again, in the damaged one's place; returns why not, if not."""
    planned = _plan(storage, place, sources)
    if planned is None:
        return "its images or annotations have changed since; build the split again"
    if storage.folder and (storage.folder / shard_name(place.entry.key)).is_dir():
        return "a folder lies where it belongs; move that elsewhere"
    try:
        task = ShardTask(storage, planned, place.manifest.parameters, max_pixels, {})
        result = encode_shard(task)
    except InputError as error:
        return str(error.problems[0])
    return f"its image {result.bad[0][0]} {result.bad[0][1]}" if result.bad else ""


def _plan(storage: Storage, place: _Place, sources: Sources) -> ShardPlan | None:
    """The samples that the shard's key was made of; None if they are not to be had any more.

    They are those that the shard names, if it can be read. If not they follow each other in the
    split, most likely where they were when it was built.
    """
    entry = place.entry
    ordered = sorted(sources.samples)
    follow = (ordered[start : start + entry.samples] for start in _starts(place, len(ordered)))
    try:
        named = [list(StoredShard.open(storage.open(shard_name(entry.key))).records.names)]
    except (OSError, ValueError):
        named = []
    for names in itertools.chain(named, follow):
        found = [sources.samples[name] for name in names if name in sources.samples]
        hashes = Hashes.of(geometry for _, geometry in found)
        if len(found) == len(names) and shard_key(names, hashes) == entry.key:
            return ShardPlan(entry.key, Samples.of(sample for sample, _ in found), hashes)
    return None


def _starts(place: _Place, samples: int) -> list[int]:
    return sorted(
        range(samples - place.entry.samples + 1), key=lambda start: abs(start - place.start)
    )
