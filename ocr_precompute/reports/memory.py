"""What the annotations of a split take of memory, beside the same in lists of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ocr_precompute.reading.handles import most_open_files
from ocr_precompute.reading.split import MOST_CACHED, Split
from ocr_precompute.reading.store import open_store
from ocr_precompute.runtime.footprint import footprint
from ocr_precompute.storage.seam import Storage

_LOOKED_AT = 4096  # samples, about: what they take is told of all, and their lists fit in memory
_GROWING = ("manifest", "names", "sizes")  # with the split, without bound


@dataclass(frozen=True)
class SplitMemory:
    """Bytes of memory per sample, without images and maps: these stay in mapped files.

    samples: of the split. looked_at: that the lists, and what is kept of shards, were measured on.
    parts: of the opened split once all of it has been read, see `Split.memory`; what is kept up to
    a bound counts with what that leaves of it. store: all parts together. lists: the same samples
    as a list of (name, polygons, ignore, size): a text, a list of float32 (V, 2) arrays, a bool
    array, two numbers. saved: share of the lists that the store does without; below 0, it takes
    more.
    """

    samples: int
    looked_at: int
    parts: dict[str, float]
    store: float
    lists: float
    saved: float


def split_memory(
    store: str | Path | Storage, split_name: str, looked_at: int = _LOOKED_AT
) -> SplitMemory:
    """Measure a split, opened for this alone, on whole shards with about so many samples.

    Raises StoreError for an unknown split, or if its data is damaged.
    """
    with open_store(store) as opened:
        split = opened.split(split_name)
        shards = _spread(split, looked_at)
        samples = [index for shard in shards for index in _samples_of(split, shard)]
        lists = footprint({"lists": [_annotation(split, index) for index in samples]})["lists"]
        parts = _parts(split)
    held = sum(parts.values())
    plain = lists / len(samples)
    return SplitMemory(len(split), len(samples), parts, held, plain, 1 - held / plain)


def _spread(split: Split, samples: int) -> list[int]:
    """Shards that hold about so many samples, spread over the split; at least one."""
    shards = len(split.manifest.shards)
    count = min(shards, -(-shards * samples // len(split)))
    return [int(number) for number in np.linspace(0, shards - 1, count)]


def _samples_of(split: Split, shard: int) -> range:
    start = sum(each.samples for each in split.manifest.shards[:shard])
    return range(start, start + split.manifest.shards[shard].samples)


def _annotation(split: Split, index: int) -> tuple[Any, ...]:
    """A sample as a dataset keeps it that has all of its annotations in memory."""
    record = split.record(index)
    return split.names[index], record.polygons, record.ignore, record.original_size


def _parts(split: Split) -> dict[str, float]:
    """Bytes a sample of what an opened split holds, once all of its shards have been read."""
    memory: Mapping[str, Any] = split.memory
    found = footprint(memory)
    shards = split.manifest.shards
    parts: dict[str, float] = {name: found[name] / len(split) for name in _GROWING}
    read: Mapping[str, Iterable[int]] = {
        "directories": [number for number, _ in memory["directories"]],
        "records": list(memory["records"]),
    }
    counts = {name: max(1, _count(split, numbers)) for name, numbers in read.items()}
    estimates = [sum(each.nbytes for each in memory[n].values()) / counts[n] for n in counts]
    room = min(1.0, MOST_CACHED / (sum(estimates) * len(split)))
    parts |= {name: room * found[name] / count for name, count in counts.items()}
    open_at_once = min(len(shards), most_open_files())
    parts["handles"] = found["handles"] / len(memory["handles"]) * open_at_once / len(split)
    return parts


def _count(split: Split, shards: Iterable[int]) -> int:
    return sum(split.manifest.shards[number].samples for number in shards)
