"""What a store holds: splits, shards, sizes, parameters, keys."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ocr_precompute.format.manifest import Damaged, Manifest, Skipped
from ocr_precompute.format.schema import MAPS
from ocr_precompute.parameters import Parameters
from ocr_precompute.reading.split import Split
from ocr_precompute.storage.place import storage_at
from ocr_precompute.storage.seam import Storage
from ocr_precompute.storage.store import (
    check_store,
    published,
    shard_keys,
    shard_name,
    split_names,
)
from ocr_precompute.understood import Understood


@dataclass(frozen=True)
class SplitSummary:
    """One published split.

    shards: (key, samples, bytes) of each, in order. raw_bytes: its maps uncompressed. content:
    share of the canonical size that pages fill, on average; the rest is padding.
    """

    name: str
    data_hash: str
    samples: int
    shards: tuple[tuple[str, int, int], ...]
    stored_bytes: int
    raw_bytes: int
    content: float
    parameters: Parameters
    skipped: tuple[Skipped, ...]
    damaged: tuple[Damaged, ...]
    understood: Understood

    @property
    def spreads(self) -> dict[str, tuple[int, int, int]]:
        """The least, the lower median and the most `samples` and `bytes` of a shard."""
        return {
            "samples": _spread([samples for _, samples, _ in self.shards]),
            "bytes": _spread([size for _, _, size in self.shards]),
        }

    @property
    def ratio(self) -> float:
        """Raw bytes to stored bytes."""
        return self.raw_bytes / self.stored_bytes if self.stored_bytes else 0.0


@dataclass(frozen=True)
class StoreSummary:
    """A whole store. unreferenced: shards that no manifest names, which `gc` would delete."""

    path: str
    splits: tuple[SplitSummary, ...]
    unreferenced: int

    def as_dict(self, shards: bool = False) -> dict[str, Any]:
        """The summary as JSON-ready fields. shards: with every shard, not their spread alone."""
        document = asdict(self)
        for split, summary in zip(document["splits"], self.splits, strict=True):
            keys = ("key", "samples", "bytes")
            split["shards"] = {"count": len(summary.shards)} | {
                name: dict(zip(("min", "median", "max"), spread, strict=True))
                for name, spread in summary.spreads.items()
            }
            if shards:
                listed = [dict(zip(keys, s, strict=True)) for s in summary.shards]
                split["shards"]["all"] = listed
            split["parameters"] = summary.parameters.model_dump(mode="json")
            split["ratio"] = round(summary.ratio, 2)
        return document


def summarise(store: str | Path | Storage, splits: list[str] | None = None) -> StoreSummary:
    """Summarise a store; splits: which, all by default. Raises StoreError as open_store does."""
    storage = storage_at(store)
    check_store(storage)
    names = sorted({*split_names(storage), *(splits or ())})
    manifests = [published(storage, name) for name in names]
    named = {shard.key for manifest in manifests for shard in manifest.shards}
    return StoreSummary(
        str(storage),
        tuple(_summary(storage, m) for m in manifests if splits is None or m.split in splits),
        len(shard_keys(storage) - named),
    )


def _summary(storage: Storage, manifest: Manifest) -> SplitSummary:
    height, width = manifest.parameters.size
    sample_bytes = sum(
        height * width * int(np.prod(tail, dtype=int)) * dtype.itemsize
        for dtype, tail in MAPS.values()
    )
    content = Split(storage, manifest).content_sizes().prod(axis=1, dtype=np.int64)
    shards = tuple(
        (entry.key, entry.samples, _file_bytes(storage, entry.key)) for entry in manifest.shards
    )
    return SplitSummary(
        name=manifest.split,
        data_hash=manifest.data_hash,
        samples=manifest.samples,
        shards=shards,
        stored_bytes=sum(size for _, _, size in shards),
        raw_bytes=manifest.samples * sample_bytes,
        content=round(float(content.mean()) / (height * width), 4) if len(content) else 0.0,
        parameters=manifest.parameters,
        skipped=manifest.skipped,
        damaged=manifest.damaged,
        understood=manifest.understood,
    )


def _file_bytes(storage: Storage, key: str) -> int:
    try:
        return storage.size(shard_name(key))
    except FileNotFoundError:
        return 0


def _spread(numbers: list[int]) -> tuple[int, int, int]:
    ordered = sorted(numbers) or [0]
    return ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1]
