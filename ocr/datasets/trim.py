"""Padding that need not be: how large the samples of a dataset are without it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from ocr.datasets.samples import SampleDataset


@dataclass(frozen=True)
class Groups:
    """The groups of alike samples that an epoch was begun with; all 0 if there are none.

    trim: to what sizes are rounded up. group: samples in each. sizes: checksum of all sizes.
    """

    trim: int = 0
    group: int = 0
    sizes: int = 0


def check_trim(trim: int) -> None:
    """Raises ValueError if sizes cannot be rounded up to multiples of this; 0 is for none."""
    if trim < 0 or trim % 32:
        raise ValueError(f"trim is {trim}; it must be a multiple of 32, or 0 for none")


class TrimmedSizes:
    """The sizes of a dataset's samples without padding, rounded up to a multiple of `trim`.

    They are asked for when they are first needed. Raises, wherever they are, as the dataset does.
    """

    def __init__(self, dataset: SampleDataset, trim: int) -> None:
        self._dataset, self._trim = dataset, trim
        self._sizes: np.ndarray | None = None
        self._kinds: np.ndarray | None = None

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of each sample, int32 (n, 2)."""
        if self._sizes is None:
            size = np.array(self._dataset.parameters.size, np.int32)
            content = self._dataset.content_sizes
            self._sizes = np.minimum(-(-content // self._trim) * self._trim, size)
        return self._sizes

    def largest(self, indices: np.ndarray) -> tuple[int, int]:
        """Height and width that hold each of some samples, at least one."""
        height, width = self.sizes[indices].max(axis=0).tolist()
        return height, width

    def kinds(self) -> np.ndarray | None:
        """The kind of each sample by its size, int64 (n,); None if all are alike."""
        if self._kinds is None:
            self._kinds = kinds_of(self.sizes)
        return self._kinds if self._kinds.any() else None

    def checksum(self) -> int:
        """Of all sizes."""
        return zlib.crc32(self.sizes.astype("<i4").tobytes())

    def groups(self, group: int) -> Groups:
        """Groups of so many samples; none where all samples are alike."""
        if self.kinds() is None:
            return Groups()
        return Groups(self._trim, group, self.checksum())


def kinds_of(sizes: np.ndarray) -> np.ndarray:
    """The kind of each sample by its size: 0 and on, from the narrowest to the lowest.

    sizes: int (n, 2), heights and widths. Returns int64 (n,), equal for equal sizes; neighbouring
    numbers are of sizes that pad each other least: of what fits a canonical size one side is full,
    so that these sizes form one line from end to end.
    """
    height, width = sizes.astype(np.int64).T
    line = (width - height) * 2**32 + height
    kinds: np.ndarray = np.unique(line, return_inverse=True)[1].astype(np.int64)
    return kinds
