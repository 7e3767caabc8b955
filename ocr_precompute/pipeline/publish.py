"""Publish a split: its manifest, which makes what was built visible, in one step."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from ocr_precompute.errors import InputError, StoreError, VersionError, one_line
from ocr_precompute.format.manifest import Damaged, Manifest, PartEntry, ShardEntry
from ocr_precompute.format.parts import ShardContents, cut_parts
from ocr_precompute.format.shard import StoredShard
from ocr_precompute.images.files import image_problem
from ocr_precompute.pipeline.plan import Plan, ShardPlan
from ocr_precompute.pipeline.progress import Progress
from ocr_precompute.pipeline.request import Request
from ocr_precompute.settings import Source
from ocr_precompute.storage.faults import RemoteError
from ocr_precompute.storage.seam import ConflictError, Storage
from ocr_precompute.storage.store import (
    manifest_tag,
    publish_manifest,
    read_tagged,
    record_source,
    shard_name,
)

log = logging.getLogger(__name__)

_AT_ONCE = 16  # requests for new shards


def to_go_by(
    storage: Storage, split: str, progress: Progress
) -> tuple[Manifest | None, str | None]:
    """The split's manifest, if there is one to go by, and its tag: a damaged one is replaced."""
    try:
        return read_tagged(storage, split)
    except (RemoteError, VersionError):
        raise
    except StoreError as error:
        progress.notice(str(error))
        return None, manifest_tag(storage, split)


def publish(request: Request, planned: Plan) -> tuple[Manifest, bool]:
    """Give the split the manifest of what was planned and built.

    Nothing is written for a dry run or a part, nor if the split is up to date. If somebody else has
    published it since this build began, what they published is gone by, once.
    Returns the manifest, and whether the split was up to date. Raises InputError, if the request is
    strict, for damaged images, StoreError if a shard is missing, or others publish again and again.
    """
    try:
        return _publish(request, planned)
    except ConflictError as error:
        request.progress.notice(f"{error}; looking again")
        published, tag = to_go_by(request.storage, request.split, request.progress)
        return _publish(replace(request, published=published, tag=tag), planned)


def _publish(request: Request, planned: Plan) -> tuple[Manifest, bool]:
    storage, published = request.storage, request.published
    shards = tuple(ShardEntry(shard.key, len(shard.samples)) for shard in planned.shards)
    parts: dict[PartEntry, bytes] = {}
    if published is None or published.shards != shards:
        parts = dict(cut_parts([contents_of(shard) for shard in planned.shards]))
    manifest = Manifest(
        split=request.split,
        data_hash=planned.data_hash,
        parameters=request.parameters,
        parts=tuple(parts) or (published.parts if published else ()),
        shards=shards,
        skipped=planned.scan.skipped,
        damaged=damaged(request, planned),
        understood=planned.understood.shortened(),
    )
    request.progress.damaged(manifest.damaged)
    if request.strict:
        _refuse_damaged(manifest, request.source)
    up_to_date = published == manifest and not planned.to_build
    log.info(
        "split %s: data hash %s, %s",
        request.split,
        manifest.data_hash,
        "up to date" if up_to_date else "new" if request.publishes else "not published",
    )
    if request.publishes:
        record_source(storage, request.split, request.source)  # first: if not, nothing is published
        if not up_to_date:
            bytes_of = {part.key: data for part, data in parts.items()}
            publish_manifest(storage, manifest, bytes_of, request.tag)
    return manifest, up_to_date


def contents_of(shard: ShardPlan) -> ShardContents:
    """What the index says of a planned shard's samples."""
    entry = ShardEntry(shard.key, len(shard.samples))
    return ShardContents(entry, list(shard.samples.names()), shard.samples.sizes())


def damaged(request: Request, planned: Plan) -> tuple[Damaged, ...]:
    """The split's damaged images, in order.

    The split's manifest speaks for the shards it names; all others are looked at, and so nothing is
    published that is not there. For a dry run those that are not there are left out, for a part
    those of others.
    Raises StoreError if one cannot be read.
    """
    published = request.published
    known = {entry.key for entry in published.shards} if published else set()
    told = {each.sample: each for each in published.damaged} if published else {}
    new = [s for s in planned.shards if s.key not in known and s.key not in planned.others]
    with ThreadPoolExecutor(1 if request.storage.folder else _AT_ONCE) as threads:
        of_new = dict(zip(new, threads.map(partial(_damaged_of, request), new), strict=True))
    found: list[Damaged] = []
    for shard in planned.shards:
        if shard.key in known:
            found += [told[name] for name in shard.samples.names() if name in told] if told else ()
        else:
            found += of_new.get(shard, [])
    return tuple(found)


def _damaged_of(request: Request, shard: ShardPlan) -> list[Damaged]:
    names = list(shard.samples.names())
    try:
        records = StoredShard.open(request.storage.open(shard_name(shard.key))).records
    except (OSError, ValueError) as error:
        if request.dry_run:
            return []
        raise StoreError(
            f"shard {shard.key}: cannot be read ({one_line(error)}); nothing was published. Run "
            "the build again, and `ocr-precompute verify --repair` if that does not help"
        ) from error
    return [Damaged(names[row], each.words, each.lost) for row, each in records.damage.items()]


def _refuse_damaged(manifest: Manifest, source: Source) -> None:
    """Raises InputError if the split has damaged images."""
    problems = [
        image_problem(
            source.image_path(each.sample),
            each.sample,
            f"{each.damage}; replace it, or build without --strict",
        )
        for each in manifest.damaged
    ]
    if problems:
        raise InputError(problems)
