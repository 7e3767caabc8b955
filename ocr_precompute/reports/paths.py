"""The ways from files to batches that `bench` compares: live and stored, varied and as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ocr_precompute.augmentation import Augmentation
from ocr_precompute.augmentation.drawing import Varied, draw_varied
from ocr_precompute.augmentation.warping import Page, page_of
from ocr_precompute.errors import InputError, PrecomputeError, Problem
from ocr_precompute.format.schema import MAPS
from ocr_precompute.images.decoding import fitted_size
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.scan import read_source
from ocr_precompute.reading.split import Split
from ocr_precompute.remote_images import RemoteImage
from ocr_precompute.runtime.stages import stage
from ocr_precompute.samples import CanonicalSample, Polygons
from ocr_precompute.settings import Rules, Source
from ocr_precompute.storage.store import shard_name
from ocr_precompute.targets.sample import canonical_image, compute_sample

Maps = Mapping[str, np.ndarray]
"""Arrays to fill: all maps of one sample or, with one more axis, of several."""


@dataclass(frozen=True, eq=False)
class Item:
    """One sample of both paths: where its source and its stored row are."""

    name: str
    index: int
    image: Path | RemoteImage
    polygons: Polygons


@dataclass(frozen=True, eq=False)
class FilePath:
    """One way from files to a batch.

    fill: makes one sample, stage by stage. batch: makes several. files: all of this machine that
    are read. bytes: of what is read, wherever it lies. size: (H, W) of what is made.
    """

    fill: Callable[[Item, Maps], None]
    batch: Callable[[Sequence[Item], Maps], None]
    files: tuple[Path, ...]
    bytes: int
    size: tuple[int, int]


def spread_items(split: Split, source: Source, samples: int) -> list[Item]:
    """Samples spread over the split, with the annotation each was made from.

    Raises InputError if it cannot be read, or no longer holds one of them.
    """
    reading = read_source(source.ruled(Rules(), split.manifest.parameters.recipe))
    if not reading.annotations:
        nothing = _problem(source.annotations, "holds no annotated image")
        raise InputError(reading.problems or [nothing])
    annotated = {annotation.name: annotation.polygons for annotation in reading.annotations}
    spread = np.linspace(0, len(split) - 1, min(samples, len(split))).round().astype(int)
    names = split.names
    missing = [names[i] for i in spread if names[i] not in annotated]
    if missing:
        reason = f"does not annotate {missing[0]!r} any more"
        raise InputError([_problem(source.annotations, reason)])
    return [
        Item(names[i], int(i), source.image_path(names[i]), annotated[names[i]]) for i in spread
    ]


def check_equal(split: Split, items: Sequence[Item], max_pixels: int) -> None:
    """Both paths must give the same, or their speeds mean nothing. Raises InputError if not."""
    for item in items[:8]:
        live, stored = _computed(item, split.manifest.parameters, max_pixels), split[item.index]
        for field in MAPS:
            if getattr(live, field).tobytes() != getattr(stored, field).tobytes():
                reason = f"is no longer what the store was built from ({field} differs)"
                raise InputError([_problem(item.image, reason)])


def plain_paths(split: Split, items: Sequence[Item], max_pixels: int) -> dict[str, FilePath]:
    """Live and stored samples as they are."""
    parameters = split.manifest.parameters

    def fill_live(item: Item, out: Maps) -> None:
        sample = _computed(item, parameters, max_pixels)
        with stage("collate"):
            for field, array in out.items():
                array[...] = getattr(sample, field)

    def batch_stored(items: Sequence[Item], out: Maps) -> None:
        split.fill([item.index for item in items], out)

    size = parameters.size
    return {
        "live": FilePath(fill_live, _one_by_one(fill_live), *_images(items), size),
        "store": FilePath(_one_of(batch_stored), batch_stored, *_shards(split, items), size),
    }


def varied_paths(
    split: Split, items: Sequence[Item], max_pixels: int, augmentation: Augmentation
) -> dict[str, FilePath]:
    """Live and stored samples as a training takes them: each one varied."""
    parameters = split.manifest.parameters

    def live(item: Item) -> Page:
        with _naming(item):
            page = canonical_image(_read(item), parameters, max_pixels)
        content = fitted_size(page.original_size, parameters.size)
        return page_of(page.image, item.polygons.scaled(page.scale), content)

    def stored(item: Item) -> Page:
        return split.page(item.index)

    def varied(page_of_item: Callable[[Item], Page]) -> Callable[[Sequence[Item], Maps], None]:
        def placed(item: Item) -> Varied:
            with stage("place"):
                page, random = page_of_item(item), np.random.default_rng(item.index)
                recipe, size = parameters.recipe, page.size
                matrix = augmentation.placement(page.polygons, size, recipe, random)
                return Varied(page, matrix, augmentation.light(random))

        def batch(items: Sequence[Item], out: Maps) -> None:
            rows = [{f: array[n] for f, array in out.items()} for n in range(len(items))]
            draw_varied([placed(item) for item in items], parameters.recipe, rows)

        return batch

    crop = augmentation.crop
    size = parameters.size if crop is None else (crop, crop)
    return {
        name: FilePath(_one_of(batch), batch, *files, size)
        for name, batch, files in (
            ("live", varied(live), _images(items)),
            ("store", varied(stored), _shards(split, items)),
        )
    }


def _one_by_one(
    fill: Callable[[Item, Maps], None],
) -> Callable[[Sequence[Item], Maps], None]:
    def batch(items: Sequence[Item], out: Maps) -> None:
        for position, item in enumerate(items):
            fill(item, {field: array[position] for field, array in out.items()})

    return batch


def _one_of(batch: Callable[[Sequence[Item], Maps], None]) -> Callable[[Item, Maps], None]:
    def fill(item: Item, out: Maps) -> None:
        batch([item], {field: array[None] for field, array in out.items()})

    return fill


def _shards(split: Split, items: Sequence[Item]) -> tuple[tuple[Path, ...], int]:
    """Files of this machine that hold the samples' shards, and bytes of the shards."""
    names = [shard_name(key) for key in sorted({split.locate(i.index)[0].key for i in items})]
    folder = split.storage.folder
    files = tuple(folder / name for name in names) if folder else ()
    return files, sum(map(split.storage.size, names))


def _images(items: Sequence[Item]) -> tuple[tuple[Path, ...], int]:
    files = tuple(item.image for item in items if isinstance(item.image, Path))
    far = (item.image.size() for item in items if isinstance(item.image, RemoteImage))
    return files, sum(far) + sum(file.stat().st_size for file in files)


def _computed(item: Item, parameters: Parameters, max_pixels: int) -> CanonicalSample:
    with _naming(item):
        return compute_sample(item.name, _read(item), item.polygons, parameters, max_pixels)


def _read(item: Item) -> bytes:
    with stage("read"):
        return item.image.read_bytes()


@contextlib.contextmanager
def _naming(item: Item) -> Iterator[None]:
    """Whatever an image cannot be read or decoded for is an InputError that names it."""
    try:
        yield
    except (OSError, PrecomputeError) as error:
        raise InputError([_problem(item.image, f"cannot be used: {error}")]) from error


def _problem(path: Path | RemoteImage, reason: str) -> Problem:
    return Problem("annotations", str(path), "", f"{reason}; build the split again")
