"""Verify a store: manifests against shards, shards against their keys, every byte and source."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import joblib

from ocr_precompute.checking.shard import (
    REMEDY,
    Finding,
    Proof,
    ShardCheck,
    Sources,
    check_shard,
)
from ocr_precompute.errors import InputError, StoreError, printable
from ocr_precompute.files import temporary_stem
from ocr_precompute.format.keys import data_hash, geometry_hash
from ocr_precompute.format.manifest import Damaged, Manifest
from ocr_precompute.format.parts import ShardContents, cut_parts
from ocr_precompute.format.schema import group_metadata
from ocr_precompute.pipeline.scan import known_bad, scan
from ocr_precompute.runtime.opencv import single_thread
from ocr_precompute.settings import Rules, Source, is_split_name
from ocr_precompute.storage.faults import RemoteError
from ocr_precompute.storage.place import storage_at
from ocr_precompute.storage.seam import Storage
from ocr_precompute.storage.store import (
    check_store,
    digest_cache,
    no_split,
    read_manifest,
    split_names,
)

log = logging.getLogger(__name__)

_AT_ONCE = 8  # shards behind a URL: waiting takes no processor


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` looked at and found.

    ok: nothing is wrong. recomputed: samples computed again. read: shards of which every byte was
    read. by_checksum: shards whose bytes are, by the checksum of who keeps them, those that were
    written. by_end: shards of which only records, metadata and directory were read, so that of
    pixels and maps no more is known than how many bytes there are.
    """

    ok: bool
    samples: int
    shards: int
    recomputed: int
    read: int
    by_checksum: int
    by_end: int
    problems: tuple[Finding, ...]


def verify(
    store: str | Path | Storage,
    splits: list[str] | None = None,
    *,
    sources: dict[str, Source] | None = None,
    recompute: float = 0.0,
    full: bool = False,
    max_pixels: int = 2**27,
    jobs: int | None = None,
    on_shard: Callable[[int], None] = lambda samples: None,
) -> VerifyReport:
    """Check splits (default: all) of a store against themselves and against their sources.

    sources: where each split was built from; a split without an entry is not compared.
    recompute: share of samples, chosen at random, to compute again and compare bit for bit.
    full: read every byte behind a URL too, as is done in a folder. Otherwise only the end of each
    shard is read there, and its bytes are taken for good if the service's checksum is that of what
    was written; where it is not, or a sample is computed again, the shard is read to the last byte.
    on_shard: called with the number of samples of each shard that has been checked.
    Raises StoreError if there is no such store or split, or the store is of another format version.
    """
    storage = storage_at(store)
    check_store(storage)
    findings = _check_root(storage) + (_check_names(storage) if splits is None else [])
    samples = shards = recomputed = 0
    enough, proofs = _enough(storage, full), Counter[Proof | None]()
    for name in split_names(storage) if splits is None else splits:
        try:
            manifest = read_manifest(storage, name)
        except RemoteError:
            raise
        except StoreError as error:
            findings.append(Finding("manifest", "", "", str(error)))
            continue
        if manifest is None:
            raise no_split(storage, name)
        current: Sources | None = None
        if sources and name in sources:
            current, missing = read_sources(storage, sources[name], manifest, max_pixels)
            findings += missing
        chosen = _choose(manifest, recompute if current else 0)
        findings += _check_manifest(manifest, name)
        tasks = _tasks(storage, manifest, current, chosen, max_pixels, enough)
        results = _in_threads(tasks, jobs or _jobs(storage))
        findings += _check_split(manifest, current, results, proofs, on_shard)
        samples += manifest.samples
        shards += len(manifest.shards)
        recomputed += sum(map(len, chosen.values()))
    by = (proofs["bytes"], proofs["checksum"], proofs["end"])
    return VerifyReport(not findings, samples, shards, recomputed, *by, tuple(findings))


def _enough(storage: Storage, full: bool) -> Proof:
    """What a check of a shard may rest on."""
    if full or storage.folder:
        return "bytes"
    try:
        return "checksum" if storage.sums("zarr.json") else "end"
    except OSError:
        return "end"


def _jobs(storage: Storage) -> int:
    cores: int = joblib.cpu_count()
    return cores if storage.folder else max(_AT_ONCE, cores)


def _tasks(
    storage: Storage,
    manifest: Manifest,
    current: Sources | None,
    chosen: dict[int, set[int]],
    max_pixels: int,
    enough: Proof,
) -> Iterator[object]:
    """A task for each shard of a split."""
    for number, entry in enumerate(manifest.shards):
        rows = chosen.get(number, set())
        yield joblib.delayed(check_shard)(
            storage, entry, manifest.parameters, current, rows, max_pixels, enough
        )


def _check_split(
    manifest: Manifest,
    current: Sources | None,
    results: Iterator[ShardCheck],
    proofs: Counter[Proof | None],
    on_shard: Callable[[int], None],
) -> list[Finding]:
    """That the shards of a split are good, and hold its samples in order, each once.

    proofs: shards are added by what their checks rest on.
    """
    findings: list[Finding] = []
    held: set[str] = set()
    contents: list[ShardContents] = []
    damaged: list[Damaged] = []
    last = ""
    for entry, result in zip(manifest.shards, results, strict=True):
        findings += result.findings
        proofs[result.proof] += 1
        names = [last, *result.names]
        if any(a >= b for a, b in itertools.pairwise(names if last else names[1:])):
            detail = "its names are not in the order of the split; build the split again"
            findings.append(Finding("shard", entry.key, "", detail))
        held.update(result.names)
        contents.append(ShardContents(entry, result.names, result.sizes))
        damaged += result.damaged
        last = names[-1]
        log.info("shard %s: checked, %d findings", entry.key[:16], len(result.findings))
        on_shard(entry.samples)
    if len(held) < manifest.samples:  # some names could not be read
        return findings
    again = f"split {manifest.split}: {{}} are not those of its shards; build the split again"
    if tuple(damaged) != manifest.damaged:
        detail = again.format("the damaged images it names")
        findings.append(Finding("manifest", "", "", detail))
    if tuple(part for part, _ in cut_parts(contents)) != manifest.parts:
        detail = again.format("the names and sizes in its parts")
        findings.append(Finding("manifest", "", "", detail))
    if current is not None:
        detail = "is annotated but not in the store; build the split again"
        added = sorted(set(current.samples) - held)
        findings += [Finding("source-added", "", sample, detail) for sample in added]
    return findings


def _in_threads(tasks: Iterable[object], jobs: int) -> Iterator[ShardCheck]:
    with single_thread(), joblib.parallel_config("threading"):
        yield from joblib.Parallel(jobs, return_as="generator")(tasks)


def _choose(manifest: Manifest, share: float) -> dict[int, set[int]]:
    """Rows to compute again, for each shard that has any: the share of all samples, at random."""
    ends = list(itertools.accumulate(shard.samples for shard in manifest.shards))
    chosen: dict[int, set[int]] = {}
    for place in random.sample(range(manifest.samples), math.ceil(manifest.samples * share)):
        shard = bisect_right(ends, place)
        chosen.setdefault(shard, set()).add(place - ends[shard] + manifest.shards[shard].samples)
    return chosen


# --------------------------------------------------------------------------------------- manifest


def _check_root(storage: Storage) -> list[Finding]:
    expected = group_metadata()
    with contextlib.suppress(OSError):
        if storage.get("zarr.json", len(expected)) == expected:
            return []
    detail = f"the root zarr.json is not what was written; {REMEDY}"
    return [Finding("metadata", "", "", detail)]


def _check_names(storage: Storage) -> list[Finding]:
    """What lies among the manifests and is none by its name."""
    if storage.folder and not (storage.folder / "splits").is_dir():
        detail = "splits: cannot be read: there is no such folder; build a split again"
        return [Finding("manifest", "", "", detail)]
    names = [each.name.removeprefix("splits/") for each in storage.list("splits/")]
    detail = "is not named as a manifest is; move it elsewhere"
    return [
        Finding("manifest", "", "", f"splits/{printable(name)}: {detail}")
        for name in names
        if not temporary_stem(name)
        and not (name.endswith(".json") and is_split_name(name.removesuffix(".json")))
    ]


def _check_manifest(manifest: Manifest, name: str) -> list[Finding]:
    findings = []
    if manifest.split != name:
        detail = f"the manifest splits/{name}.json is of split {manifest.split!r}"
        findings.append(Finding("manifest", "", "", detail))
    if manifest.data_hash != data_hash(shard.key for shard in manifest.shards):
        detail = f"split {name}: the data hash does not fit the shard keys; build the split again"
        findings.append(Finding("manifest", "", "", detail))
    return findings


def read_sources(
    storage: Storage, source: Source, manifest: Manifest, max_pixels: int
) -> tuple[Sources | None, list[Finding]]:
    """A split's sources as they are now; None if they cannot be read at all, and findings why."""
    source = source.ruled(Rules(), manifest.parameters.recipe)
    if source.rules and source.rules.skip_bad == "no":
        source = source.skipping("polygon")  # what is bad is a finding, not the end
    try:
        with digest_cache(storage) as cache:
            scanned = scan(source, manifest.parameters, max_pixels, cache, known_bad(manifest))
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
