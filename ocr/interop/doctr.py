"""docTR: images in 0 .. 1, and quads as shares of the image, by class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from ocr.datasets import StoreDataset

CLASS = "words"


class DoctrSample(NamedTuple):
    """A sample as docTR's transforms and its collate_fn take it; a pair, as they did until 1.0.

    image: float32 (3, H, W), 0 to 1. target: quads or boxes of each class, by its name.
    """

    image: torch.Tensor
    target: dict[str, np.ndarray]

    @property
    def mask(self) -> None:
        """None: a text detector's training has no masks."""

    def replace(self, mask: Any = None, **changes: Any) -> DoctrSample:
        """The sample with another image or target. Raises ValueError for a mask."""
        return self._replace(**changes, **({} if mask is None else {"mask": mask}))


class DoctrDataset(torch.utils.data.Dataset[DoctrSample]):
    """A split as docTR's DetectionDataset has its samples, all of the class `words`.

    A target is float32, in shares of width and height, held within 0 and 1: quads (N, 4, 2) with
    use_polygons, else boxes (N, 4), left, top, right and bottom. What is no quad becomes the
    smallest turned rectangle around it. Don't-care text is left out, for docTR knows none; with
    blank it is also painted over with its mean colour, so that it is not learnt as background.
    sample_transforms: what docTR's own takes; a DoctrSample in, one out.
    """

    def __init__(
        self,
        store: str | Path,
        split: str,
        *,
        use_polygons: bool = False,
        blank: bool = False,
        sample_transforms: Callable[[Any], Any] | None = None,
    ) -> None:
        """Open a split. Raises StoreError if there is none."""
        self._stored = StoreDataset(store, split, ("image", "polygons", "ignore"))
        self._quads, self._blank = use_polygons, blank
        self._transforms = sample_transforms
        self.class_names = [CLASS]

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> Any:
        """One sample. Raises as StoreDataset does."""
        image, polygons, ignore = self._stored[index].values()
        if self._blank:
            for number in ignore.nonzero()[0]:
                _blank(image, polygons[number])
        outline, shape = (_quad, (-1, 4, 2)) if self._quads else (_box, (-1, 4))
        found = [outline(polygons[number]) for number in (~ignore).nonzero()[0]]
        shares = np.array(found, np.float32).reshape(-1, 2) / np.float32(image.shape[1::-1])
        shares = shares.clip(0, 1).reshape(shape)
        pixels = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        sample = DoctrSample(pixels.to(torch.float32) / 255, {CLASS: shares})
        return sample if self._transforms is None else self._transforms(sample)

    @staticmethod
    def collate_fn(samples: list[Any]) -> tuple[torch.Tensor, list[dict[str, np.ndarray]]]:
        """Images as float32 (n, 3, H, W), and their targets, as docTR's trainings take them."""
        return torch.stack([s.image for s in samples]), [s.target for s in samples]


def _blank(image: np.ndarray, polygon: np.ndarray) -> None:
    inside = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(inside, [polygon.round().astype(np.int32)], 1)
    image[inside > 0] = cv2.mean(image, inside)[:3]


def _box(polygon: np.ndarray) -> np.ndarray:
    return np.stack((polygon.min(0), polygon.max(0)))


def _quad(polygon: np.ndarray) -> np.ndarray:
    return polygon if len(polygon) == 4 else cv2.boxPoints(cv2.minAreaRect(polygon))
