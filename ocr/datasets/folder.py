"""Images of a folder, without annotations: what to predict on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.datasets.samples import SampleDataset, warn_of_damage
from ocr_precompute.config import Parameters
from ocr_precompute.errors import ImageError, InputError, Problem
from ocr_precompute.images import decode, letterbox
from ocr_precompute.opencv import single_thread

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


class ImageFolder(SampleDataset):
    """Every image below a folder, at canonical size: image, name, matrix and original_size."""

    def __init__(self, images: str | Path, parameters: Parameters, max_pixels: int = 2**27) -> None:
        """List a folder. Raises InputError if it is missing or holds no image."""
        super().__init__(("image", "name", "matrix", "original_size"), parameters)
        self._images, self._max_pixels = Path(images), max_pixels
        found = self._images.rglob("*") if self._images.is_dir() else iter(())
        self._names = sorted(
            path.relative_to(self._images).as_posix()
            for path in found
            if path.suffix.lower() in _SUFFIXES
        )
        if not self._names:
            reason = "there is no image in this folder; name another"
            raise InputError([Problem("image", str(images), "", reason)])

    @property
    def names(self) -> Sequence[str]:
        """Every image's path below the folder, in order."""
        return self._names

    def __len__(self) -> int:
        return len(self._names)

    @single_thread()  # the loader's threads are the parallel part
    def fill(self, indices: Sequence[int], out: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Decode images into out; warns of damaged ones.

        Raises InputError, naming the image, if one cannot be decoded.
        """
        rest = []
        for position, index in enumerate(indices):
            name, parameters = self._names[index], self.parameters
            path = self._images / name
            try:
                decoded = decode(
                    path.read_bytes(), parameters.size, parameters.decode, self._max_pixels
                )
            except (OSError, ImageError) as error:
                raise InputError([Problem("image", str(path), "", str(error), name)]) from error
            warn_of_damage(path, decoded.damage)
            image, scale = letterbox(decoded.pixels, decoded.size, parameters.size)
            out["image"][position] = image
            matrix = np.diag([1 / scale, 1 / scale, 1.0])
            size = np.array(decoded.size, np.int64)
            rest.append({"name": name, "matrix": matrix, "original_size": size})
        return rest
