"""Memory for batches, used again as soon as nobody holds the batch that lay in it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from ocr_precompute.runtime.stages import stage


class BatchBuffers:
    """Arrays for batches of up to batch_size samples, which may be cut to less than their size.

    Fresh memory costs a page fault every 4 kB, which takes as long as decompressing into it.

    layout: dtype and shape (H, W, ...) of each field of a sample. pinned: page-locked memory from
    PyTorch's own pool, which also waits for copies to a GPU that are still under way.
    """

    _SPARE = 8  # arrays a field that are kept for use again; more are given back to the system

    def __init__(
        self,
        layout: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
        batch_size: int,
        pinned: bool = False,
    ) -> None:
        self._layout, self._batch_size, self._pinned = layout, batch_size, pinned
        self._spare: dict[str, list[np.ndarray]] = {field: [] for field in layout}

    def take(self, samples: int, size: tuple[int, int]) -> dict[str, torch.Tensor]:
        """A tensor of (samples, ...) for each field, with any content.

        size: height and width of each, at most those of the layout.
        They may be kept for any time: their memory is used again when the last tensor or array over
        it is gone, and not before.
        """
        return {field: self._tensor(field, samples, size) for field in self._layout}

    def _tensor(self, field: str, samples: int, size: tuple[int, int]) -> torch.Tensor:
        dtype, whole = self._layout[field]
        shape = (samples, *size, *whole[2:])
        if self._pinned:
            torch_dtype = torch.from_numpy(np.empty(0, dtype)).dtype
            with stage("pin"):
                return torch.empty(shape, dtype=torch_dtype, pin_memory=True)
        try:
            array = self._spare[field].pop()
        except IndexError:
            array = np.empty(self._batch_size * math.prod(whole), dtype)
        lent = torch.from_numpy(np.asarray(_Lease(array, self._spare[field])))
        return lent[: math.prod(shape)].view(shape)


class _Lease:
    """Lends an array's memory to views and tensors, which all keep this object until they go."""

    def __init__(self, array: np.ndarray, spare: list[np.ndarray]) -> None:
        self.__array_interface__ = array.__array_interface__
        self._array, self._spare = array, spare

    def __del__(self) -> None:
        if len(self._spare) < BatchBuffers._SPARE:
            self._spare.append(self._array)
