"""Samples as they lie in a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from ocr.datasets.samples import TRAINING, SampleDataset
from ocr_precompute.augmentation.warping import Page
from ocr_precompute.reading.store import CACHE_SIZE, open_store
from ocr_precompute.storage.place import TIMEOUT


class StoreDataset(SampleDataset):
    """The samples of a published split.

    Can be pickled and used in worker processes; opens files when it first reads them.
    """

    def __init__(
        self,
        store: str | Path,
        split: str,
        fields: Sequence[str] = TRAINING,
        *,
        checksums: bool = True,
        timeout: float = TIMEOUT,
        options: Mapping[str, str] | None = None,
        cache: str | Path | None = None,
        cache_size: int | str = CACHE_SIZE,
    ) -> None:
        """Open a split.

        store: a folder or URL. fields: see SampleDataset. All else as of `open_store`.
        Raises StoreError if there is no such store or split, ValueError for an unknown field.
        """
        opened = open_store(
            store,
            checksums=checksums,
            timeout=timeout,
            options=options,
            cache=cache,
            cache_size=cache_size,
        )
        self.split = opened.split(split)
        super().__init__(fields, self.split.manifest.parameters)

    @property
    def names(self) -> Sequence[str]:
        """Every sample's name, in order."""
        return self.split.names

    @property
    def content_sizes(self) -> np.ndarray:
        """Height and width of every sample without its padding, int32 (n, 2)."""
        return self.split.content_sizes()

    @property
    def shards(self) -> np.ndarray:
        """How many samples each shard holds, int64 (shards,)."""
        return np.array([shard.samples for shard in self.split.manifest.shards], np.int64)

    def reading_ahead(self, indices: np.ndarray, window: int) -> AbstractContextManager[None]:
        """Have shards fetched into the cache, if there is one, ahead of what is read within."""
        return self.split.reading_ahead(indices, window)

    def __len__(self) -> int:
        return len(self.split)

    @property
    def memory(self) -> dict[str, object]:
        """What it holds in memory, by what it is."""
        return {**self.split.memory, **super().memory}

    def fill(self, indices: Sequence[int], out: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Decompress the chosen maps of samples into out; return their other chosen fields.

        Raises IndexError, or StoreError, naming shard and sample, if its data is damaged.
        """
        self.split.fill(indices, out)
        if not self._annotations:
            return [{} for _ in indices]
        return [self._chosen_annotations(self.split.record(index)) for index in indices]

    def page(self, index: int) -> Page:
        """A sample to use a part of; of its image only the rows that are asked for are unpacked.

        Raises as `fill` does, and so does reading those rows.
        """
        return self.split.page(index)
