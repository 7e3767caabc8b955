"""Images of a folder, without annotations: what to predict on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ocr.datasets.samples import ImageDataset
from ocr.inference.description import Description
from ocr.inference.pages import Page, plan_of, read_page
from ocr.inference.tiles import Tile
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.errors import ImageError, InputError, Problem
from ocr_precompute.images.files import image_problem
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
        tile: Tile = None,
    ) -> None:
        """List a folder.

        skip_bad: whether an image that cannot be read becomes a black one, with a field `problem`
        that says why; it is None for every other image. tile: if there is any, each has a field
        `page`: None if it is looked at as a whole, otherwise a function that reads the page whose
        tiles are.
        Raises InputError if the folder is missing or holds no image.
        """
        fields = ("image", "name", "matrix", "original_size")
        super().__init__(fields, parameters, Path(images).joinpath, max_pixels)
        self._skip_bad, self._tile = skip_bad, tile
        self._more = ("problem",) * skip_bad + ("page",) * (tile is not None)
        self.fields = (*self.fields, *self._more)
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
        image = self._canonical_image(name)
        return {
            "image": image.image,
            "name": name,
            "matrix": image.matrix,
            "original_size": np.array(image.original_size, np.int64),
            "problem": None,
            "page": self._page(name, image.original_size) if self._tile is not None else None,
        }

    def _page(self, name: str, original_size: tuple[int, int]) -> Callable[[], Page] | None:
        path, size = self._image_path(name), self.parameters.size
        try:
            if not plan_of(original_size, size, self._tile).tiled:
                return None
        except ImageError as error:
            raise InputError([image_problem(path, name, error)]) from error
        return partial(read_page, path, Description(size, self.parameters.decode), self._tile)

    def _black(self, name: str, problem: str) -> dict[str, Any]:
        size = self.parameters.size
        return {
            "image": np.zeros((*size, 3), np.uint8),
            "name": name,
            "matrix": np.eye(3),
            "original_size": np.array(size, np.int64),
            "problem": problem,
            "page": None,
        }
