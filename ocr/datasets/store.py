"""Samples as they lie in a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.datasets.samples import TRAINING, SampleDataset
from ocr_precompute import open_store
from ocr_precompute.augmentation.warping import Page


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
    ) -> None:
        """Open a split.

        store: a folder or URL. fields: see SampleDataset. checksums: whether to compare those of
        all that is read.
        Raises StoreError if there is no such store or split, ValueError for an unknown field.
        """
        self.split = open_store(store, checksums=checksums).split(split)
        super().__init__(fields, self.split.manifest.parameters)

    @property
    def names(self) -> Sequence[str]:
        """Every sample's name, in order."""
        return self.split.names

    @property
    def content_sizes(self) -> np.ndarray:
        """Height and width of every sample without its padding, int32 (n, 2)."""
        return self.split.content_sizes()

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
