"""Plan a build: cut samples into shards, see which are there, and what rows can be copied."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ocr_precompute.format.boundaries import bounds_of_names, bounds_of_ranges, undisturbed
from ocr_precompute.format.keys import Hashes, data_hash, shard_key
from ocr_precompute.format.manifest import Manifest
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.request import Request
from ocr_precompute.pipeline.scan import Names, Scan
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

    scan: what is planned for; shards of a part of a build are its own. donors: where such rows
    lie. understood: what the annotations came to.
    """

    scan: Scan
    shards: tuple[ShardPlan, ...]
    to_build: tuple[ShardPlan, ...]
    donors: Rows
    understood: Understood

    @property
    def data_hash(self) -> str:
        """The data hash of the split as planned."""
        return data_hash(shard.key for shard in self.shards)


def plan(request: Request, scanned: Scan) -> Plan:
    """What is to be done for the samples, and what was understood of them, told to the watcher.

    Raises InputError, if the request is strict, for what is legal and probably not meant; of a part
    of a build that is not known, for it comes of how many words are concerned.
    """
    settings, published = request.settings, request.published
    of = scanned.samples, request.parameters, settings.shard_length
    shards = tuple(cut_shards(*of, scanned.others))
    to_build, donors = work_left(request.storage, shards, published)
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
    if request.strict and not request.part:
        refuse_suspicions(understood, request.parameters, request.source.annotations)
    planned = Plan(scanned, shards, to_build, donors, understood)
    request.progress.planned(planned)
    return planned


def cut_shards(
    samples: Samples, parameters: Parameters, length: int, others: Names = ()
) -> Iterator[ShardPlan]:
    """The shards of about `length` samples that samples, ordered by name, are cut into.

    others: samples among them of which names alone are known; shards with any are left out.
    """
    for start, stop in _bounds_among(samples, length, others):
        part = samples[start:stop]
        hashes = part.hashes(parameters)
        yield ShardPlan(shard_key(part.names(), hashes), part, hashes)


def _bounds_among(samples: Samples, length: int, others: Names) -> Iterator[tuple[int, int]]:
    """Where samples are cut, as (start, stop) pairs; without shards that hold any of the others."""
    if not others:
        yield from bounds_of_ranges((each.names() for each in samples.stretches), length)
        return
    known = bytearray()  # whether each is one of the samples

    def names() -> Iterator[str]:
        rest = (((name, 0) for name in each()) for each in others)
        for name, is_known in heapq.merge(((name, 1) for name in samples.names()), *rest):
            known.append(is_known)
            yield name

    first = 0  # of the samples, number of the next
    for start, stop in bounds_of_names(names(), length):
        count = sum(known[start:stop])
        if count == stop - start:
            yield first, first + count
        first += count


def left_by_parts(planned: Plan, length: int) -> tuple[ShardPlan, ...]:
    """The shards to build that a part of the build would have built, whatever others left out."""
    if not (dropped := planned.scan.dropped):
        return planned.to_build
    names = heapq.merge(planned.scan.samples.names(), sorted(dropped))
    calm = bytearray(len(planned.scan.samples))  # whether a sample's shard is the same to all parts
    for start, stop in undisturbed(names, dropped, length):
        calm[start:stop] = b"\1" * (stop - start)
    missing = {shard.key for shard in planned.to_build}
    firsts = accumulate((len(shard.samples) for shard in planned.shards), initial=0)
    return tuple(
        shard
        for shard, first in zip(planned.shards, firsts, strict=False)
        if calm[first] and shard.key in missing
    )


def work_left(
    storage: Storage,
    shards: Sequence[ShardPlan],
    published: Manifest | None,
) -> tuple[tuple[ShardPlan, ...], Rows]:
    """The shards that are not there yet, and where rows of theirs lie already.

    published: the split's manifest, whose shards are the likeliest to hold such rows. Behind a URL
    no other shards are opened, for that takes a request each.
    """
    existing = shard_keys(storage)
    to_build = tuple(shard for shard in shards if shard.key not in existing)
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
