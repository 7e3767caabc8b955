"""Splits that look built: of their shards there are files that hold the keys alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ocr_precompute.format.archive import archive_bytes
from ocr_precompute.format.chunks import with_checksum
from ocr_precompute.format.schema import entry_names, record_name
from ocr_precompute.pipeline.plan import ShardPlan
from ocr_precompute.samples import Polygons
from ocr_precompute.storage.store import shard_name


def write_keys(store: Path, shard: ShardPlan) -> None:
    """Make a shard's file, empty but for its keys."""
    arrays = {name.decode(): b"" for name in entry_names(len(shard.samples))}
    arrays[record_name("key")] = with_checksum(b"".join(shard.hashes))
    path = store / shard_name(shard.key)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(archive_bytes(list(arrays.items())))


def made_up_polygons(words: int) -> Polygons:
    """So many quadrilaterals, one below the other."""
    corners = np.array([[0, 0], [90, 0], [90, 20], [0, 20]], np.float64)
    quads = [corners + np.array([10, 10 + 30 * number]) for number in range(words)]
    return Polygons.from_list(quads, [False] * words)
