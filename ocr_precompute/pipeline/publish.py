"""Publish a split: its manifest, which makes what was built visible, in one step."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import numpy as np

from ocr_precompute.errors import InputError
from ocr_precompute.format.manifest import Damaged, Manifest, PartEntry, ShardEntry
from ocr_precompute.format.parts import ShardContents, cut_parts
from ocr_precompute.format.shard import StoredShard
from ocr_precompute.images.files import image_problem
from ocr_precompute.pipeline.plan import Plan, ShardPlan
from ocr_precompute.pipeline.request import Request
from ocr_precompute.settings import Source
from ocr_precompute.storage.store import publish_manifest, record_source, shard_path

log = logging.getLogger(__name__)


def publish(request: Request, planned: Plan) -> tuple[Manifest, bool]:
    """Give the split the manifest of what was planned and built.

    Nothing is written for a dry run, nor if the split is up to date.
    Returns the manifest, and whether the split was up to date. Raises InputError, if the request is
    strict, for damaged images.
    """
    store, published = request.settings.store, request.published
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
        damaged=damaged(store, planned, published),
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
        "up to date" if up_to_date else "not published, a dry run" if request.dry_run else "new",
    )
    if not request.dry_run:
        record_source(store, request.split, request.source)  # first: if not, nothing is published
        if not up_to_date:
            bytes_of = {part.key: data for part, data in parts.items()}
            publish_manifest(store, manifest, bytes_of)
    return manifest, up_to_date


def contents_of(shard: ShardPlan) -> ShardContents:
    """What the index says of a planned shard's samples."""
    sizes = np.array([sample.image.size for sample in shard.samples], np.int32)
    entry = ShardEntry(shard.key, len(shard.samples))
    return ShardContents(entry, [sample.name for sample in shard.samples], sizes)


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
            rows = StoredShard.open(shard_path(store, shard.key)).records.damage
            found += [Damaged(names[row], rows[row].words, rows[row].lost) for row in rows]
    return tuple(found)


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
