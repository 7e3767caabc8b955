"""Plan a build: cut samples into shards, see which are there, and what rows can be copied."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ocr_precompute.format.boundaries import bounds_of_ranges
from ocr_precompute.format.keys import Hashes, data_hash, shard_key
from ocr_precompute.format.manifest import Manifest
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.request import Request
from ocr_precompute.pipeline.scan import Scan
from ocr_precompute.pipeline.tables import Samples
from ocr_precompute.pipeline.understand import refuse_suspicions, understand
from ocr_precompute.storage.seam import Storage
from ocr_precompute.storage.store import find_rows, rows_among, shard_keys
from ocr_precompute.understood import Understood

log = logging.getLogger(__name__)

Rows = dict[bytes, tuple[str, int]]
"""Where rows lie: geometry hash -> (shard key, row)."""


@dataclass(frozen=True, eq=False, slots=True)
class ShardPlan:
    """One shard to be: its key, its samples, and each sample's geometry hash."""

    key: str
    samples: Samples
    hashes: Hashes


@dataclass(frozen=True, eq=False)
class Plan:
    """All shards of a split in order, which of them to build, and rows that need no computing.

    scan: what is planned for. donors: where such rows lie. understood: what the annotations came
    to. others: keys of shards that are left to other parts of the build.
    """

    scan: Scan
    shards: tuple[ShardPlan, ...]
    to_build: tuple[ShardPlan, ...]
    donors: Rows
    understood: Understood
    others: frozenset[str] = frozenset()

    @property
    def data_hash(self) -> str:
        """The data hash of the split as planned."""
        return data_hash(shard.key for shard in self.shards)


def plan(request: Request, scanned: Scan, before: Plan | None = None) -> Plan:
    """What is to be done for the samples, and what was understood of them, told to the watcher.

    before: what was planned until some samples turned out bad. Of a build in parts, what becomes of
    the shards around those is done by the part that had them, for no other one knows.
    Raises InputError, if the request is strict, for what is legal and probably not meant.
    """
    settings, published = request.settings, request.published
    shards = tuple(cut_shards(scanned.samples, request.parameters, settings.shard_length))
    others = before.others if before else frozenset[str]()
    if request.part and not before:
        others = request.part.others([shard.key for shard in shards])
    to_build, donors = work_left(request.storage, shards, published, others)
    log.info(
        "%d samples in %d shards: %d are there, %d to build, %d rows to copy",
        *(len(scanned.samples), len(shards), len(shards) - len(to_build), len(to_build)),
        len(donors),
    )
    understood = understand(
        scanned.samples,
        scanned.reading,
        request.parameters,
        data_hash(shard.key for shard in shards),
        published.understood if published else None,
        request.every_name,
    )
    request.progress.understood(understood, scanned.skipped)
    if request.strict:
        refuse_suspicions(understood, request.parameters, request.source.annotations)
    planned = Plan(scanned, shards, to_build, donors, understood, others)
    request.progress.planned(planned)
    return planned


def cut_shards(samples: Samples, parameters: Parameters, length: int) -> Iterator[ShardPlan]:
    """The shards of about `length` samples that samples, ordered by name, are cut into."""
    names = (each.names() for each in samples.stretches)
    for start, stop in bounds_of_ranges(names, length):
        part = samples[start:stop]
        hashes = part.hashes(parameters)
        yield ShardPlan(shard_key(part.names(), hashes), part, hashes)


def work_left(
    storage: Storage,
    shards: Sequence[ShardPlan],
    published: Manifest | None,
    others: frozenset[str] = frozenset(),
) -> tuple[tuple[ShardPlan, ...], Rows]:
    """The shards that are not there yet, and where rows of theirs lie already.

    published: the split's manifest, whose shards are the likeliest to hold such rows. Behind a URL
    no other shards are opened, for that takes a request each. others: keys of shards to leave out.
    """
    existing = shard_keys(storage)
    to_build = tuple(s for s in shards if s.key not in existing and s.key not in others)
    if not to_build or not existing:
        return to_build, {}
    wanted = np.unique(np.concatenate([shard.hashes.prefixes for shard in to_build]))
    there = [shard for shard in shards if shard.key in existing]  # what they hold is known
    found = {
        shard.hashes[row]: (shard.key, row)
        for shard in there
        for row in rows_among(wanted, shard.hashes.prefixes)
    }
    unread = existing.difference(shard.key for shard in there)
    likely = [entry.key for entry in published.shards if entry.key in unread] if published else []
    order = [*likely, *(sorted(unread.difference(likely)) if storage.folder else ())]
    left = np.setdiff1d(wanted, Hashes.of(found).prefixes, assume_unique=True)
    return to_build, found | find_rows(storage, left, order)
