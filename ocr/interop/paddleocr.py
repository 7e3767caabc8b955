"""PaddleOCR: the list of arrays that its DB loss takes. Without torch, and without Paddle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr_precompute import open_store

KEEP_KEYS = {
    "image": "image",
    "threshold_map": "thresh",
    "threshold_mask": "thresh_mask",
    "shrink_map": "prob",
    "shrink_mask": "prob_mask",
}
"""What PaddleOCR calls the maps, in the order in which its configurations keep them."""


class PaddleDataset:
    """A split as PaddleOCR's datasets give it to a training of DB.

    A sample is [image, threshold_map, threshold_mask, shrink_map, shrink_mask], float32, the image
    (3, H, W), the others (H, W). The image is BGR as PaddleOCR decodes it, and each of its channels
    is brought to (value / 255 - mean) / std, with means and deviations in PaddleOCR's order.
    """

    need_reset = False  # PaddleOCR makes such datasets again in each epoch

    def __init__(
        self,
        store: str | Path,
        split: str,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        """Open a split. Raises StoreError if there is none."""
        self._split = open_store(store).split(split)
        self._mean, self._std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (mean, std))

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> list[np.ndarray]:
        """One sample. Raises IndexError, or StoreError if its data is damaged."""
        maps = self._split.read([index], tuple(KEEP_KEYS.values()))
        image, *labels = (array[0] for array in maps.values())
        bgr = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1), np.float32)
        normal = (bgr * np.float32(1 / 255) - self._mean) / self._std
        return [normal, *(label.astype(np.float32) for label in labels)]


def paddle_dataset(
    config: Mapping[str, Any], mode: str, logger: Any, seed: int | None = None
) -> PaddleDataset:
    """The dataset of a PaddleOCR configuration, called as PaddleOCR calls its own.

    `dataset` of the mode has store and split, and may have mean and std.
    """
    settings = {name: value for name, value in config[mode]["dataset"].items() if name != "name"}
    return PaddleDataset(**settings)
