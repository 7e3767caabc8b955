"""Build a split: scan, plan, encode, publish. Open this file first.

Everything is keyed by content (see `format.keys`), so resuming, reusing, building twice at once and
building with any number of workers need no code of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ocr_precompute.errors import InputError, Problem, StoreError, VersionError
from ocr_precompute.format.boundaries import shard_bounds
from ocr_precompute.format.keys import data_hash, geometry_hash, shard_key
from ocr_precompute.format.manifest import Damaged, Manifest, ShardEntry
from ocr_precompute.format.shard import read_records
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.encode import ShardPlan, ShardResult, encode, unwritable
from ocr_precompute.pipeline.progress import Progress
from ocr_precompute.pipeline.scan import Scan, image_problem, known_bad, scan, without_bad
from ocr_precompute.pipeline.understand import refuse_suspicions, understand
from ocr_precompute.settings import (
    SPLIT_NAME_RULE,
    Settings,
    SkipBad,
    Source,
    is_split_name,
    parse_skip_bad,
)
from ocr_precompute.storage.store import (
    build_lock,
    check_target,
    create_store,
    digest_cache,
    find_rows,
    forget_unnamed,
    publish_manifest,
    read_manifest,
    record_source,
    shard_keys,
    shard_path,
)
from ocr_precompute.understood import Understood


@dataclass(frozen=True)
class BuildReport:
    """What a build did, or with dry_run would do.

    built, reused: shards. computed, copied: rows of the built shards. skipped: images and polygons
    left out. understood: what the annotations came to. damaged: samples whose images are damaged.
    seconds: wall clock.
    """

    split: str
    data_hash: str
    samples: int
    shards: int
    built: int
    reused: int
    computed: int
    copied: int
    skipped: int
    understood: Understood
    damaged: tuple[Damaged, ...]
    up_to_date: bool
    dry_run: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class Plan:
    """All shards of a split in order, which of them to build, and rows that need no computing.

    donors: geometry hash -> (shard key, row) where the row lies already.
    """

    shards: tuple[ShardPlan, ...]
    to_build: tuple[ShardPlan, ...]
    donors: dict[bytes, tuple[str, int]]

    @property
    def data_hash(self) -> str:
        """The data hash of the split as planned."""
        return data_hash(shard.key for shard in self.shards)


def build(
    split: str,
    source: Source,
    settings: Settings,
    *,
    skip_bad: SkipBad | bool | None = None,
    strict: bool = False,
    dry_run: bool = False,
    every_name: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Build or update one split of a store.

    skip_bad: as in Settings, over what the settings and the source say; True is `polygon`.
    strict: refuse damaged images and what is legal and probably not meant. every_name: tell
    progress all names of what was understood, and not the worst alone.
    Raises InputError with every problem of the input, StoreError if the store cannot be used or
    written, WorkerError if a worker is lost. Whatever it raises, the split that was published
    before is intact, and finished shards are used by the next build.
    """
    started = time.perf_counter()
    progress = progress or Progress()
    store, parameters = settings.store, settings.parameters
    if not is_split_name(split):
        raise InputError([Problem("config", "command line", f"split {split!r}", SPLIT_NAME_RULE)])
    source = _ruled(source, settings, skip_bad)
    with _writable(store, dry_run):
        published = _published(store, split, progress)
        with digest_cache(store) as cache:
            known = known_bad(published)
            scanned = scan(source, settings.max_pixels, cache, known, progress.scanning)
        results: dict[str, ShardResult] = {}
        while True:
            planned = plan(store, scanned, parameters, settings.shard_length, published)
            understood = _understood(scanned, planned, parameters, published, every_name)
            progress.understood(understood, scanned.skipped)
            if strict:
                refuse_suspicions(understood, parameters, source.annotations)
            progress.planned(planned)
            bad = [] if dry_run else _encode(settings, planned, results, progress)
            if not bad:
                break
            scanned = without_bad(scanned, bad, source)
        manifest = Manifest(
            split=split,
            data_hash=planned.data_hash,
            parameters=parameters,
            shards=tuple(ShardEntry(shard.key, len(shard.samples)) for shard in planned.shards),
            skipped=scanned.skipped,
            damaged=damaged(store, planned, published),
            understood=understood.shortened(),
        )
        progress.damaged(manifest.damaged)
        if strict:
            _refuse_damaged(manifest, source)
        up_to_date = published == manifest and not planned.to_build
        if not dry_run:
            publish(store, manifest, source, up_to_date)
    done = _would_do(planned) if dry_run else _has_done(planned, results)
    return _report(manifest, done, up_to_date, dry_run, time.perf_counter() - started)


def _ruled(source: Source, settings: Settings, skip_bad: SkipBad | bool | None) -> Source:
    """The source with the rules that hold for this build."""
    source = source.ruled(settings.rules, settings.parameters.recipe)
    return source if skip_bad is None else source.skipping(parse_skip_bad(skip_bad))


def _understood(
    scanned: Scan,
    planned: Plan,
    parameters: Parameters,
    published: Manifest | None,
    every_name: bool,
) -> Understood:
    """What the annotations came to; taken over from the published manifest if nothing changed."""
    known = published.understood if published else None
    return understand(
        scanned.samples, scanned.reading, parameters, planned.data_hash, known, every_name
    )


def _encode(
    settings: Settings, planned: Plan, results: dict[str, ShardResult], progress: Progress
) -> list[tuple[str, str]]:
    """Encode what is to be built, into results; returns (name, reason) of undecodable images."""
    forget_unnamed(settings.store, [shard.key for shard in planned.shards])
    bad: list[tuple[str, str]] = []
    for result in encode(
        settings.store, planned.to_build, planned.donors, settings, progress.notice
    ):
        if not result.bad:
            results[result.key] = result
        bad += result.bad
        progress.encoded(result)
    return bad


def _has_done(planned: Plan, results: Mapping[str, ShardResult]) -> tuple[int, int, int]:
    """Shards built, rows computed, rows copied.

    Shards of an earlier round that the split does not name after all count as if they had lain
    there before.
    """
    named = [results[shard.key] for shard in planned.shards if shard.key in results]
    return len(named), sum(r.computed for r in named), sum(r.copied for r in named)


def _would_do(planned: Plan) -> tuple[int, int, int]:
    rows = [geometry for shard in planned.to_build for geometry in shard.hashes]
    copied = sum(geometry in planned.donors for geometry in rows)
    return len(planned.to_build), len(rows) - copied, copied


def _report(
    manifest: Manifest,
    done: tuple[int, int, int],
    up_to_date: bool,
    dry_run: bool,
    seconds: float,
) -> BuildReport:
    built, computed, copied = done
    return BuildReport(
        split=manifest.split,
        data_hash=manifest.data_hash,
        samples=manifest.samples,
        shards=len(manifest.shards),
        built=built,
        reused=len(manifest.shards) - built,
        computed=computed,
        copied=copied,
        skipped=len(manifest.skipped),
        understood=manifest.understood,
        damaged=manifest.damaged,
        up_to_date=up_to_date,
        dry_run=dry_run,
        seconds=round(seconds, 3),
    )


def _published(store: Path, split: str, progress: Progress) -> Manifest | None:
    """The split's manifest, if there is one to go by: a damaged one is published anew."""
    try:
        return read_manifest(store, split)
    except VersionError:
        raise
    except StoreError as error:
        progress.notice(str(error))
        return None


def plan(
    store: Path,
    scanned: Scan,
    parameters: Parameters,
    shard_length: int,
    published: Manifest | None = None,
) -> Plan:
    """Cut samples into shards, and see which exist and which rows can be copied.

    published: the split's manifest, whose shards are the likeliest to hold rows to copy.
    """
    samples = scanned.samples
    hashes = [geometry_hash(parameters, s.digest, s.polygons) for s in samples]
    shards = []
    for start, stop in shard_bounds([sample.name for sample in samples], shard_length):
        part, keys = samples[start:stop], tuple(hashes[start:stop])
        shards.append(ShardPlan(shard_key([s.name for s in part], keys), part, keys))
    existing = shard_keys(store)
    to_build = tuple(shard for shard in shards if shard.key not in existing)
    wanted = {geometry for shard in to_build for geometry in shard.hashes}
    likely = [entry.key for entry in published.shards] if published else []
    return Plan(tuple(shards), to_build, find_rows(store, wanted, likely) if wanted else {})


def damaged(store: Path, planned: Plan, published: Manifest | None) -> tuple[Damaged, ...]:
    """The split's damaged images, in order, as far as their shards are built.

    published: the split's manifest, which speaks for the shards it names; all others are asked.
    """
    known = {entry.key for entry in published.shards} if published else set()
    told = {each.sample: each for each in published.damaged} if published else {}
    found: list[Damaged] = []
    for shard in planned.shards:
        names = [sample.name for sample in shard.samples]
        if shard.key in known:
            found += [told[name] for name in names if name in told]
            continue
        with suppress(OSError, ValueError):  # not built yet, or damaged: `verify` finds it
            rows = read_records(shard_path(store, shard.key)).damage
            found += [Damaged(names[row], rows[row].words, rows[row].lost) for row in rows]
    return tuple(found)


def _refuse_damaged(manifest: Manifest, source: Source) -> None:
    """Raises InputError if the split has damaged images."""
    problems = [
        image_problem(
            source.images / each.sample,
            each.sample,
            f"{each.damage}; replace it, or build without --strict",
        )
        for each in manifest.damaged
    ]
    if problems:
        raise InputError(problems)


def publish(store: Path, manifest: Manifest, source: Source, up_to_date: bool) -> None:
    """Give the split its new manifest, in one step; nothing to do if it is up to date."""
    record_source(store, manifest.split, source)  # first: if it cannot be, nothing is published
    if not up_to_date:
        publish_manifest(store, manifest)


@contextmanager
def _writable(store: Path, dry_run: bool) -> Iterator[None]:
    """A store that exists and is locked for a build; errors of the disk become StoreError."""
    try:
        if dry_run:
            check_target(store)
            yield
            return
        create_store(store)
        with build_lock(store):
            yield
    except OSError as error:
        raise unwritable(store, error) from error
