"""Samples computed from their source files each time: the baseline, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocr.datasets.samples import TRAINING, ImageDataset
from ocr_precompute.augmentation.warping import Page, page_of
from ocr_precompute.images.decoding import fitted_size
from ocr_precompute.parameters import Decode, RecipeName
from ocr_precompute.pipeline.scan import live_annotations
from ocr_precompute.runtime.opencv import single_thread
from ocr_precompute.samples import CanonicalSample
from ocr_precompute.settings import Settings, SkipBad, Source, Unannotated
from ocr_precompute.storage.place import reached
from ocr_precompute.targets.sample import compute_sample


class LiveDataset(ImageDataset):
    """The samples that `build` would store, byte for byte, computed when they are asked for."""

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        fields: Sequence[str] = TRAINING,
        *,
        format: str = "auto",
        unannotated: Unannotated = "skip",
        recipe: RecipeName = "dbnet",
        size: int | str | tuple[int, int] = 640,
        shrink_ratio: float = 0.4,
        thresh_min: float = 0.3,
        thresh_max: float = 0.7,
        decode: Decode = "exact",
        max_pixels: int = 2**27,
        max_polygons: int = 20_000,
        max_vertices: int = 10_000,
        repair: bool | None = None,
        skip_bad: SkipBad | bool = False,
    ) -> None:
        """Read the annotations; settings as in configs/precompute.yaml, fields as in SampleDataset.

        With skip_bad the samples are those that `build` keeps with it: to know which images cannot
        be decoded, each is decoded once here.

        Raises InputError with every problem of the annotations, pydantic's ValidationError (a
        ValueError) for a bad setting, ValueError for an unknown field.
        """
        settings = Settings.model_validate(
            {
                "recipe": recipe,
                "size": size,
                "shrink_ratio": shrink_ratio,
                "thresh_min": thresh_min,
                "thresh_max": thresh_max,
                "decode": decode,
                "max_pixels": max_pixels,
                "max_polygons": max_polygons,
                "max_vertices": max_vertices,
                "repair": repair,
                "skip_bad": skip_bad,
            }
        )
        where = {"images": images, "annotations": annotations}
        source = Source.model_validate({**where, "format": format, "unannotated": unannotated})
        self._open(source, settings, fields)

    @classmethod
    def from_settings(
        cls, settings: Settings, split: str, fields: Sequence[str] = TRAINING
    ) -> LiveDataset:
        """A split that a configuration of `ocr-precompute` names. Raises as the constructor."""
        dataset = cls.__new__(cls)
        dataset._open(settings.source(split), settings, fields)
        return dataset

    def _open(self, source: Source, settings: Settings, fields: Sequence[str]) -> None:
        source = reached(source, settings.storage)
        super().__init__(fields, settings.parameters, source.image_path, settings.max_pixels)
        self._annotated = live_annotations(
            source.ruled(settings.rules, self.parameters.recipe), self.parameters, self._max_pixels
        )

    @property
    def names(self) -> Sequence[str]:
        """Every sample's name, in order."""
        return [annotation.name for annotation in self._annotated]

    def __len__(self) -> int:
        return len(self._annotated)

    @single_thread()  # the loader's threads are the parallel part
    def fill(self, indices: Sequence[int], out: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Compute samples; write their chosen maps into out, return their other chosen fields.

        Warns of damaged images. Raises IndexError, or InputError, naming the image, if it cannot be
        read or decoded.
        """
        rest = []
        for position, index in enumerate(indices):
            sample = self._compute(index)
            for field, array in out.items():
                height, width = array.shape[1:3]
                array[position] = getattr(sample, field)[:height, :width]
            rest.append(self._chosen_annotations(sample))
        return rest

    def page(self, index: int) -> Page:
        """A sample to use a part of, without the labels of the whole. Raises as `fill` does."""
        annotation = self._annotated[index]
        page = self._canonical_image(annotation.name)
        content = fitted_size(page.original_size, self.parameters.size)
        return page_of(page.image, annotation.polygons.scaled(page.scale), content)

    def _compute(self, index: int) -> CanonicalSample:
        name, polygons = self._annotated[index].name, self._annotated[index].polygons
        return self._decoded(
            name,
            lambda data: compute_sample(name, data, polygons, self.parameters, self._max_pixels),
        )
