"""The ways from files to batches that `bench` compares: live and stored, varied and as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ocr_precompute.augmentation import Augmentation
from ocr_precompute.augmentation.drawing import draw_varied
from ocr_precompute.augmentation.warping import Page, page_of
from ocr_precompute.errors import InputError, PrecomputeError, Problem, StoreError
from ocr_precompute.format.blosc import Packed
from ocr_precompute.format.chunks import decompress, strip_checksum
from ocr_precompute.format.schema import MAPS
from ocr_precompute.format.shard import MappedFile, ShardIndex, read_index
from ocr_precompute.images.decoding import fitted_size
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.scan import read_source
from ocr_precompute.reading.split import Split
from ocr_precompute.runtime.stages import stage
from ocr_precompute.samples import CanonicalSample, Polygons
from ocr_precompute.settings import Rules, Source
from ocr_precompute.storage.store import shard_path
from ocr_precompute.targets.sample import canonical_image, compute_sample

Maps = Mapping[str, np.ndarray]
"""Arrays to fill: all maps of one sample or, with one more axis, of several."""


@dataclass(frozen=True, eq=False)
class Item:
    """One sample of both paths: where its source and its stored row are."""

    name: str
    index: int
    image: Path
    polygons: Polygons


@dataclass(frozen=True, eq=False)
class FilePath:
    """One way from files to a batch.

    fill: makes one sample, stage by stage. batch: makes several. files:
    all that are read. size: (H, W) of what is made.
    """

    fill: Callable[[Item, Maps], None]
    batch: Callable[[Sequence[Item], Maps], None]
    files: tuple[Path, ...]
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
    return [Item(names[i], int(i), source.images / names[i], annotated[names[i]]) for i in spread]


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

    shards = _opened(split, items)

    def fill_stored(item: Item, out: Maps) -> None:
        # The reader's own steps; chunks are decompressed into the batch: collating is no step.
        with stage("read"):
            entry, row = split.locate(item.index)
            file, index = shards[shard_path(split.store, entry.key)]
            chunks = [file.read(*index.span(field, row)) for field in out]
        with stage("checksum"):
            plain = [Packed.of(strip_checksum(chunk)) for chunk in chunks]
        with stage("decompress"):
            decompress(plain, list(out.values()))

    size, images = parameters.size, tuple(item.image for item in items)
    return {
        "live": FilePath(fill_live, _one_by_one(fill_live), images, size),
        "store": FilePath(fill_stored, batch_stored, tuple(sorted(shards)), size),
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

    def varied(page_of_item: Callable[[Item], Page]) -> Callable[[Item, Maps], None]:
        def fill(item: Item, out: Maps) -> None:
            recipe = parameters.recipe
            with stage("place"):
                page, random = page_of_item(item), np.random.default_rng(item.index)
                matrix = augmentation.placement(page.polygons, page.size, recipe, random)
                light = augmentation.light(random)
            draw_varied(page, matrix, light, recipe, out)

        return fill

    crop = augmentation.crop
    size = parameters.size if crop is None else (crop, crop)
    images, shards = tuple(item.image for item in items), tuple(sorted(_opened(split, items)))
    return {
        name: FilePath(fill, _one_by_one(fill), files, size)
        for name, fill, files in (
            ("live", varied(live), images),
            ("store", varied(stored), shards),
        )
    }


def _one_by_one(
    fill: Callable[[Item, Maps], None],
) -> Callable[[Sequence[Item], Maps], None]:
    def batch(items: Sequence[Item], out: Maps) -> None:
        for position, item in enumerate(items):
            fill(item, {field: array[position] for field, array in out.items()})

    return batch


def _opened(split: Split, items: Sequence[Item]) -> dict[Path, tuple[MappedFile, ShardIndex]]:
    """The shards that hold the samples. Raises StoreError if one cannot be read."""
    shards: dict[Path, tuple[MappedFile, ShardIndex]] = {}
    for item in items:
        path = shard_path(split.store, split.locate(item.index)[0].key)
        if path not in shards:
            try:
                file = MappedFile(path)
                shards[path] = file, read_index(file)
            except (OSError, ValueError) as error:
                raise StoreError(f"{path}: {error}; run `ocr-precompute verify`") from error
    return shards


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


def _problem(path: Path, reason: str) -> Problem:
    return Problem("annotations", str(path), "", f"{reason}; build the split again")
