"""Train-time transforms that keep labels right, as a dataset over another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ocr.datasets.samples import SampleDataset
from ocr_precompute.augmentation import Augmentation
from ocr_precompute.augmentation.drawing import draw_varied
from ocr_precompute.augmentation.warping import lit
from ocr_precompute.format.schema import MAPS
from ocr_precompute.runtime.opencv import single_thread

__all__ = ["Augmentation", "AugmentedDataset"]

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
        for position, index in enumerate(indices):
            random = np.random.default_rng([self._seed, self._epoch, index])
            rows = {field: array[position : position + 1] for field, array in out.items()}
            self._vary(index, random, rows)
        return [{} for _ in indices]

    def _vary(
        self, index: int, random: np.random.Generator, rows: Mapping[str, np.ndarray]
    ) -> None:
        page = self._dataset.page(index)
        size, recipe = self.parameters.size, self.parameters.recipe
        matrix = self._augmentation.placement(page.polygons, page.size, recipe, random)
        light = self._augmentation.light(random)
        if size == page.size and matrix.tolist() == _UNMOVED:
            self._dataset.fill([index], rows)
            if light is not None and "image" in rows:
                lit(rows["image"][0], light, rows["image"][0])
            return
        draw_varied(page, matrix, light, recipe, {f: array[0] for f, array in rows.items()})
