"""Publish a split: its manifest, which makes what was built visible, in one step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import overload

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
    part_name,
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
    broken = damaged(request, planned)
    request.progress.damaged(broken)
    if request.strict:
        _refuse_damaged(broken, request.source)
    if request.publishes:
        record_source(storage, request.split, request.source)  # first: if not, nothing is published
    manifest = Manifest(
        split=request.split,
        data_hash=planned.data_hash,
        parameters=request.parameters,
        parts=_parts(request, planned, shards),
        shards=shards,
        skipped=planned.scan.skipped,
        damaged=broken,
        understood=planned.understood.shortened(),
    )
    up_to_date = published == manifest
    if request.part and published:
        up_to_date = set(published.shards).issuperset(shards)
    up_to_date = up_to_date and not planned.to_build
    log.info(
        "split %s: data hash %s, %s",
        request.split,
        manifest.data_hash,
        "up to date" if up_to_date else "new" if request.publishes else "not published",
    )
    if request.publishes and not up_to_date:
        publish_manifest(storage, manifest, {}, request.tag)
    return manifest, up_to_date


def _parts(
    request: Request, planned: Plan, shards: tuple[ShardEntry, ...]
) -> tuple[PartEntry, ...]:
    """The parts of a manifest of what was planned; each is written as soon as it is cut.

    None for a part of a build, which knows no more than its own shards.
    """
    if request.part:
        return ()
    if request.published and request.published.shards == shards:
        return request.published.parts
    found = []
    for part, data in cut_parts(Contents(planned.shards)):
        if request.publishes:
            request.storage.put_new(part_name(part.key), data)
        found.append(part)
    return tuple(found)


class Contents(Sequence[ShardContents]):
    """What the index says of planned shards, made when it is asked for."""

    def __init__(self, shards: Sequence[ShardPlan]) -> None:
        self._shards = shards

    def __len__(self) -> int:
        return len(self._shards)

    @overload
    def __getitem__(self, index: int) -> ShardContents: ...
    @overload
    def __getitem__(self, index: slice) -> list[ShardContents]: ...
    def __getitem__(self, index: int | slice) -> ShardContents | list[ShardContents]:
        if isinstance(index, slice):
            return list(map(contents_of, self._shards[index]))
        return contents_of(self._shards[index])


def contents_of(shard: ShardPlan) -> ShardContents:
    """What the index says of a planned shard's samples."""
    entry = ShardEntry(shard.key, len(shard.samples))
    return ShardContents(entry, list(shard.samples.names()), shard.samples.sizes())


def damaged(request: Request, planned: Plan) -> tuple[Damaged, ...]:
    """The split's damaged images, in order.

    The split's manifest speaks for the shards it names; all others are looked at, and so nothing is
    published that is not there. For a dry run those that are not there are left out.
    Raises StoreError if one cannot be read.
    """
    published = request.published
    known = {entry.key for entry in published.shards} if published else set()
    told = {each.sample: each for each in published.damaged} if published else {}
    new = [shard for shard in planned.shards if shard.key not in known]
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


def _refuse_damaged(broken: Sequence[Damaged], source: Source) -> None:
    """Raises InputError if there are damaged images."""
    problems = [
        image_problem(
            source.image_path(each.sample),
            each.sample,
            f"{each.damage}; replace it, or build without --strict",
        )
        for each in broken
    ]
    if problems:
        raise InputError(problems)
