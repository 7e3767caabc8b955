"""Ours, and the store read by others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring.samples import FIELDS, SPLIT, zipped

from contenders.contender import (
    Arrays,
    BatchWise,
    Epochs,
    OneByOne,
    Setting,
    data_loader,
)
from ocr_precompute import open_store
from ocr_precompute.reading.split import Split
from ocr_precompute.storage.store import shard_name


def ours(store: Path, setting: Setting, batch_size: int) -> Epochs:
    """The store through BatchLoader."""
    from ocr.datasets import BatchLoader, StoreDataset

    dataset = StoreDataset(store, SPLIT, fields=FIELDS)
    return batch_loader_epochs(
        BatchLoader(
            dataset, batch_size=batch_size, shuffle=True, threads=setting["threads"], seed=0
        )
    )


def live(source: Path, setting: Setting, batch_size: int) -> Epochs:
    """The images and annotations themselves, computed anew, through the same BatchLoader."""
    from ocr.datasets import BatchLoader, LiveDataset

    dataset = LiveDataset(
        images=source / "images",
        annotations=source / "words.json",
        recipe="dbnet",
        size=640,
        fields=FIELDS,
    )
    return batch_loader_epochs(
        BatchLoader(
            dataset, batch_size=batch_size, shuffle=True, threads=setting["threads"], seed=0
        )
    )


def batch_loader_epochs(loader: Any) -> Epochs:
    """Epochs of a BatchLoader, each in another order."""
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield loader


def located(split: Split) -> list[tuple[str, int]]:
    """Shard key and row of every sample."""
    return [(entry.key, row) for entry in split.manifest.shards for row in range(entry.samples)]


def by_zarr(store: Path, setting: Setting, batch_size: int) -> Epochs:
    """The store read by zarr-python, with its own codecs or with zarrs."""
    import zarr

    if setting["codecs"] == "zarrs":
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    rows = located(open_store(store).split(SPLIT))
    arrays: dict[str, dict[str, Any]] = {}  # filled in the process that reads

    def read(index: int) -> Arrays:
        key, row = rows[index]
        if key not in arrays:
            shard = zarr.storage.ZipStore(store / shard_name(key), mode="r")
            group = zarr.open_group(shard, mode="r")
            arrays[key] = {field: group[field] for field in FIELDS}
        return {field: array[row] for field, array in arrays[key].items()}

    return data_loader(OneByOne(len(rows), read), setting["workers"], batch_size)


def by_tensorstore(store: Path, setting: Setting, batch_size: int) -> Epochs:
    """The store read by tensorstore: all chunks of a batch asked for at once, then stacked."""
    rows = located(open_store(store).split(SPLIT))
    arrays: dict[str, dict[str, Any]] = {}

    def opened(key: str) -> dict[str, Any]:
        import tensorstore

        if key not in arrays:
            opening = {f: tensorstore.open(zipped(store / shard_name(key), f)) for f in FIELDS}
            arrays[key] = {field: future.result() for field, future in opening.items()}
        return arrays[key]

    def read(indices: Sequence[int]) -> Arrays:
        futures = {
            field: [opened(rows[i][0])[field][rows[i][1]].read() for i in indices]
            for field in FIELDS
        }
        return {
            field: np.stack([f.result() for f in waiting]) for field, waiting in futures.items()
        }

    return data_loader(BatchWise(len(rows), read), setting["workers"], batch_size)
