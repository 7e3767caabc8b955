"""What stored and live datasets have in common, so that one can stand in for the other."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import joblib
import numpy as np
from torch.utils.data import Dataset

from ocr_precompute.augmentation.warping import Page, page_of
from ocr_precompute.errors import DamagedImageWarning, ImageError, InputError, printable
from ocr_precompute.format.records import SampleRecord
from ocr_precompute.format.schema import MAPS
from ocr_precompute.images.decoding import fitted_size
from ocr_precompute.images.files import displayed_size, image_problem, read_image
from ocr_precompute.parameters import Parameters
from ocr_precompute.remote_images import RemoteImage
from ocr_precompute.samples import CanonicalSample, Polygons
from ocr_precompute.targets.sample import CanonicalImage, canonical_image

TRAINING = ("image", "prob", "prob_mask", "thresh", "thresh_mask")
"""The fields that a training step needs: all maps."""

ANNOTATIONS = ("name", "polygons", "ignore", "matrix", "original_size")
"""The other fields, which evaluation needs."""


Decoded = TypeVar("Decoded", CanonicalImage, CanonicalSample)


class SampleDataset(Dataset[dict[str, Any]], ABC):
    """Samples at canonical size (H, W), ordered by name, as dicts of the chosen fields.

    image: uint8 (H, W, 3) RGB. prob, prob_mask, thresh_mask: uint8 (H, W), 0 or 1. thresh: float32
    (H, W). name: str. polygons: list of float32 (V, 2), xy in canonical pixels. ignore: bool (N,).
    matrix: float64 (3, 3), canonical to original pixels. original_size: int64 (2,), height and
    width of the image as displayed.
    """

    def __init__(self, fields: Sequence[str], parameters: Parameters) -> None:
        unknown = [field for field in fields if field not in (*MAPS, *ANNOTATIONS)]
        if unknown:
            raise ValueError(f"unknown fields {unknown}; any of {', '.join((*MAPS, *ANNOTATIONS))}")
        self.fields = tuple(fields)
        self.parameters = parameters
        """What the samples are computed with."""
        self.layout = {
            field: (MAPS[field][0], (*parameters.size, *MAPS[field][1]))
            for field in self.fields
            if field in MAPS
        }
        """The chosen maps: dtype and shape of each."""
        self._annotations = [field for field in self.fields if field in ANNOTATIONS]

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """Every sample's name, in order."""

    @property
    def content_sizes(self) -> np.ndarray:
        """Height and width of the part of each sample, at the top left, beyond which there is
        nothing but padding: int32 (n, 2). All of it, unless the dataset knows better.

        Raises as `fill` does.
        """
        return np.tile(np.array(self.parameters.size, np.int32), (len(self), 1))

    @property
    def shards(self) -> np.ndarray:
        """How many samples are near each other, in order: int64 (shards,). All in one, unless the
        dataset knows better.
        """
        return np.array([len(self)], np.int64)

    def reading_ahead(self, indices: np.ndarray, window: int) -> AbstractContextManager[None]:
        """Within, samples will be read in this order, mixed over a window of so many shards; a
        dataset may prepare for that.

        Raises StoreError if it cannot.
        """
        return nullcontext()

    @abstractmethod
    def fill(self, indices: Sequence[int], out: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Write the chosen maps of samples into out; return the other chosen fields of each.

        out: for each field of `layout` that is wanted, a contiguous array of its dtype and shape,
        first axis = the indices. One of fewer rows and columns takes the top left.
        Raises IndexError, or an error that names the sample and what is wrong with it.
        """

    def page(self, index: int) -> Page:
        """A sample to use a part of: its polygons, and its image, as far as it is asked for.

        Raises as `fill` does; KeyError unless the fields polygons and ignore are chosen.
        """
        dtype, shape = self.layout["image"]
        image = np.empty((1, *shape), dtype)
        rest = self.fill([index], {"image": image})[0]
        polygons = Polygons.from_list(rest["polygons"], rest["ignore"].tolist())
        return page_of(image[0], polygons, self.parameters.size)

    def at_epoch(self, epoch: int) -> SampleDataset:
        """The dataset as it is in one epoch: itself, unless samples differ from epoch to epoch."""
        return self

    def _chosen_annotations(self, sample: CanonicalSample | SampleRecord) -> dict[str, Any]:
        """The chosen fields of a sample that are no maps."""
        chosen = {field: getattr(sample, field) for field in self._annotations}
        if "original_size" in chosen:
            chosen["original_size"] = np.array(sample.original_size, np.int64)
        return chosen

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def memory(self) -> dict[str, object]:
        """What it holds in memory, by what it is: see ocr_precompute.runtime.footprint."""
        return {"dataset": self}

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample. Raises as `fill` does."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several samples, for a plain DataLoader."""
        maps = {
            field: np.empty((len(indices), *shape), dtype)
            for field, (dtype, shape) in self.layout.items()
        }
        samples = self.fill(indices, maps)
        return [
            {f: maps[f][position] if f in maps else rest[f] for f in self.fields}
            for position, rest in enumerate(samples)
        ]


class ImageDataset(SampleDataset):
    """A dataset whose samples are image files; image_path tells where, by a sample's name."""

    def __init__(
        self,
        fields: Sequence[str],
        parameters: Parameters,
        image_path: Callable[[str], Path | RemoteImage],
        max_pixels: int,
    ) -> None:
        super().__init__(fields, parameters)
        self._image_path, self._max_pixels = image_path, max_pixels
        self._content_sizes: np.ndarray | None = None

    @property
    def content_sizes(self) -> np.ndarray:
        """Height and width of every sample without its padding, int32 (n, 2), by the images'
        headers, which are read once.

        Of an image that cannot be read it is all, for what is wrong is said when it is asked for.
        """
        if self._content_sizes is None:
            with ThreadPoolExecutor(joblib.cpu_count()) as threads:
                sizes = list(threads.map(self._content_size, self.names))
            self._content_sizes = np.array(sizes, np.int32).reshape(-1, 2)
        return self._content_sizes

    def _decoded(self, name: str, decode: Callable[[bytes], Decoded]) -> Decoded:
        """What decode makes of an image file's bytes. Warns of damage.

        Raises InputError, naming the image, if it cannot be read or decoded.
        """
        path = self._image_path(name)
        try:
            made = decode(read_image(path, self._max_pixels))
        except (OSError, ImageError) as error:
            raise InputError([image_problem(path, name, error)]) from error
        if made.damage:
            line = printable(f"{path}: {made.damage}")
            warnings.warn(line, DamagedImageWarning, stacklevel=3)
        return made

    def _canonical_image(self, name: str) -> CanonicalImage:
        """An image without labels. Warns and raises as `_decoded` does."""
        return self._decoded(
            name, lambda data: canonical_image(data, self.parameters, self._max_pixels)
        )

    def _content_size(self, name: str) -> tuple[int, int]:
        size = self.parameters.size
        try:
            return fitted_size(displayed_size(self._image_path(name), self._max_pixels), size)
        except (OSError, ImageError):
            return size


def has_text(dataset: SampleDataset) -> bool:
    """Whether any polygon of a dataset is not don't-care. Its fields must have `ignore`."""
    return any(not dataset.fill([index], {})[0]["ignore"].all() for index in range(len(dataset)))
