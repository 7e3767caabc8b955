"""Images of a folder, without annotations: what to predict on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.datasets.samples import ImageDataset
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.parameters import Parameters
from ocr_precompute.runtime.opencv import single_thread


class ImageFolder(ImageDataset):
    """Every image below a folder, at canonical size: image, name, matrix and original_size.

    Hidden files and folders, such as the `._name` that macOS writes beside a file, are no images.
    """

    def __init__(
        self,
        images: str | Path,
        parameters: Parameters,
        max_pixels: int = 2**27,
        *,
        skip_bad: bool = False,
    ) -> None:
        """List a folder.

        skip_bad: whether an image that cannot be read becomes a black one, with a field `problem`
        that says why; it is None for every other image.
        Raises InputError if the folder is missing or holds no image.
        """
        fields = ("image", "name", "matrix", "original_size")
        super().__init__(fields, parameters, Path(images).joinpath, max_pixels)
        if skip_bad:
            self.fields = (*self.fields, "problem")
        self._skip_bad = skip_bad
        self._names = sorted(ImageNames(Path(images)).names)
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
            try:
                sample = self._read(self._names[index])
            except InputError as error:
                if not self._skip_bad:
                    raise
                sample = self._black(self._names[index], str(error))
            height, width = out["image"].shape[1:3]
            out["image"][position] = sample["image"][:height, :width]
            rest.append(sample)
        return rest

    def _read(self, name: str) -> dict[str, Any]:
        page = self._canonical_image(name)
        return {
            "image": page.image,
            "name": name,
            "matrix": page.matrix,
            "original_size": np.array(page.original_size, np.int64),
        } | ({"problem": None} if self._skip_bad else {})

    def _black(self, name: str, problem: str) -> dict[str, Any]:
        size = self.parameters.size
        return {
            "image": np.zeros((*size, 3), np.uint8),
            "name": name,
            "matrix": np.eye(3),
            "original_size": np.array(size, np.int64),
            "problem": problem,
        }
