"""What tests have other processes do with a cache; without torch, which takes long to load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bucket import URL

from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import open_store


def split_of(options: Mapping[str, str], cache: Path, **more: Any) -> Split:
    """The split in the bucket, through a cache."""
    return open_store(URL, options=options, cache=cache, **more)["val"]


def read_all(options: Mapping[str, str], cache: Path, size: int, seed: int, answer: Any) -> None:
    """Read all samples, in an order of its own, and say what was seen, as one number."""
    split = split_of(options, cache, cache_size=size)
    order = np.random.default_rng(seed).permutation(len(split))
    answer.put(sum(int(split.read([index], ["image"])["image"].sum()) for index in order))


def read_one(options: Mapping[str, str], cache: Path) -> None:
    """Read one sample."""
    split_of(options, cache).record(0)


def read_what_is_open(split: Split) -> None:
    """Read all samples of a split that was opened in another process."""
    split.close()
    split.read(range(len(split)), ("image",))
