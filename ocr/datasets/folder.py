"""Images of a folder, without annotations: what to predict on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.datasets.samples import SampleDataset, sizes_by_header, warn_of_damage
from ocr_precompute.errors import ImageError, InputError, Problem
from ocr_precompute.images.decoding import decode, letterbox
from ocr_precompute.parameters import Parameters
from ocr_precompute.runtime.opencv import single_thread

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


class ImageFolder(SampleDataset):
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
        super().__init__(("image", "name", "matrix", "original_size"), parameters)
        if skip_bad:
            self.fields = (*self.fields, "problem")
        self._images, self._max_pixels, self._skip_bad = Path(images), max_pixels, skip_bad
        self._content_sizes: np.ndarray | None = None
        found = self._images.rglob("*") if self._images.is_dir() else iter(())
        names = [path.relative_to(self._images) for path in found if not path.is_dir()]
        self._names = sorted(
            name.as_posix()
            for name in names
            if name.suffix.lower() in _SUFFIXES and not any(p.startswith(".") for p in name.parts)
        )
        if not self._names:
            reason = "there is no image in this folder; name another"
            raise InputError([Problem("image", str(images), "", reason)])

    @property
    def names(self) -> Sequence[str]:
        """Every image's path below the folder, in order."""
        return self._names

    @property
    def content_sizes(self) -> np.ndarray:
        """Height and width of every image without its padding, int32 (n, 2), by its header; all
        headers are read once.
        """
        if self._content_sizes is None:
            paths = [self._images / name for name in self._names]
            size = self.parameters.size
            self._content_sizes = sizes_by_header(paths, size, self._max_pixels)
        return self._content_sizes

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
        path, parameters = self._images / name, self.parameters
        try:
            if path.exists() and not path.is_file():  # a pipe could be read for ever
                raise ImageError("is no regular file")
            decoded = decode(
                path.read_bytes(), parameters.size, parameters.decode, self._max_pixels
            )
        except (OSError, ImageError) as error:
            reason = (
                f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            )
            raise InputError([Problem("image", str(path), "", reason, name)]) from error
        warn_of_damage(path, decoded.damage)
        image, scale = letterbox(decoded.pixels, decoded.size, parameters.size)
        matrix, size = np.diag([1 / scale, 1 / scale, 1.0]), np.array(decoded.size, np.int64)
        return {"image": image, "name": name, "matrix": matrix, "original_size": size} | (
            {"problem": None} if self._skip_bad else {}
        )

    def _black(self, name: str, problem: str) -> dict[str, Any]:
        size = self.parameters.size
        return {
            "image": np.zeros((*size, 3), np.uint8),
            "name": name,
            "matrix": np.eye(3),
            "original_size": np.array(size, np.int64),
            "problem": problem,
        }
