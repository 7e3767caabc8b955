"""Train-time transforms that keep labels right, as a dataset over another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ocr.datasets.samples import SampleDataset
from ocr_precompute.augmentation import Augmentation
from ocr_precompute.augmentation.drawing import Varied, draw_varied
from ocr_precompute.augmentation.warping import lit
from ocr_precompute.format.schema import MAPS
from ocr_precompute.runtime.opencv import single_thread

__all__ = ["Augmentation", "AugmentedDataset"]

_TOGETHER = 8  # samples that are drawn together; so many pages are in memory at once
_UNMOVED = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


class AugmentedDataset(SampleDataset):
    """The maps of another dataset's samples, varied anew each epoch.

    What a sample becomes depends on seed, epoch and index alone, so that a training can go on in
    the middle of an epoch, and does not depend on threads or processes.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        augmentation: Augmentation,
        *,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        """Vary a dataset, which must have the fields polygons and ignore."""
        missing = {"image", "polygons", "ignore"} - set(dataset.fields)
        if missing:
            raise ValueError(f"the dataset lacks the fields {', '.join(sorted(missing))}")
        side = augmentation.crop
        parameters = dataset.parameters
        if side is not None:
            parameters = parameters.model_copy(update={"size": (side, side)})
        super().__init__([field for field in dataset.fields if field in MAPS], parameters)
        self._dataset, self._augmentation = dataset, augmentation
        self._seed, self._epoch = seed, epoch

    @property
    def names(self) -> Sequence[str]:
        """Every sample's name, in order."""
        return self._dataset.names

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def memory(self) -> dict[str, object]:
        """What the dataset and its variations hold in memory, by what it is."""
        return {**self._dataset.memory, **super().memory}

    @property
    def shards(self) -> np.ndarray:
        """How many samples each of the dataset's shards holds, int64 (shards,)."""
        return self._dataset.shards

    def reading_ahead(self, indices: np.ndarray, window: int) -> AbstractContextManager[None]:
        """As of the dataset."""
        return self._dataset.reading_ahead(indices, window)

    @property
    def content_sizes(self) -> np.ndarray:
        """Those of the dataset where no pixel moves; otherwise all of the varied sample."""
        moved = self._augmentation.moves
        return super().content_sizes if moved else self._dataset.content_sizes

    def at_epoch(self, epoch: int) -> AugmentedDataset:
        """The dataset with the variations of one epoch."""
        return AugmentedDataset(self._dataset, self._augmentation, seed=self._seed, epoch=epoch)

    @single_thread()  # the loader's threads are the parallel part
    def fill(self, indices: Sequence[int], out: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Write varied samples into out. Raises as the dataset does."""
        for first in range(0, len(indices), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            self._fill(indices[some], {field: array[some] for field, array in out.items()})
        return [{} for _ in indices]

    def _fill(self, indices: Sequence[int], out: Mapping[str, np.ndarray]) -> None:
        moved: list[Varied] = []
        rows: list[Mapping[str, np.ndarray]] = []
        for position, index in enumerate(indices):
            sample = self._varied(index)
            row = {field: array[position] for field, array in out.items()}
            if self.parameters.size == sample.page.size and sample.matrix.tolist() == _UNMOVED:
                self._dataset.fill([index], {field: array[None] for field, array in row.items()})
                if sample.light is not None and "image" in row:
                    lit(row["image"], sample.light, row["image"])
            else:
                moved.append(sample)
                rows.append(row)
        draw_varied(moved, self.parameters.recipe, rows)

    def _varied(self, index: int) -> Varied:
        random = np.random.default_rng([self._seed, self._epoch, index])
        page, recipe = self._dataset.page(index), self.parameters.recipe
        matrix = self._augmentation.placement(page.polygons, page.size, recipe, random)
        return Varied(page, matrix, self._augmentation.light(random))
