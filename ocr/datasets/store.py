"""Samples as they lie in a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.datasets.samples import TRAINING, SampleDataset
from ocr_precompute import open_store


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
        return self.split.content_sizes

    def __len__(self) -> int:
        return len(self.split)

    def fill(self, indices: Sequence[int], out: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Decompress the chosen maps of samples into out; return their other chosen fields.

        Raises IndexError, or StoreError, naming shard and sample, if its data is damaged.
        """
        self._fill(indices, out)
        if not self._annotations:
            return [{} for _ in indices]
        return [self._chosen_annotations(self.split.record(index)) for index in indices]

    def _fill(self, indices: Sequence[int], out: Mapping[str, np.ndarray]) -> None:
        whole = {field: self.split.shape(field) for field in out}
        if all(array.shape[1:] == whole[field] for field, array in out.items()):
            self.split.fill(indices, out)
            return
        page = {field: np.empty((1, *whole[field]), array.dtype) for field, array in out.items()}
        for position, index in enumerate(indices):
            self.split.fill([index], page)
            for field, array in out.items():
                height, width = array.shape[1:3]
                array[position] = page[field][0, :height, :width]
