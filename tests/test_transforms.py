"""Train-time transforms: labels follow the pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Dataset, same
from hypothesis import given, settings
from hypothesis import strategies as st

from ocr.datasets import BatchLoader, LiveDataset, StoreDataset
from ocr.datasets.samples import TRAINING
from ocr.datasets.transforms import (
    Augmentation,
    AugmentedDataset,
    transformed,
    visible_polygons,
)
from ocr_precompute.build import build
from ocr_precompute.config import Settings
from ocr_precompute.samples import Polygons
from ocr_precompute.targets import draw_targets

FIELDS = (*TRAINING, "polygons", "ignore")
ALL = Augmentation(crop=48, flip=0.5, rotation=20, scale=0.5, colour=0.3)


@pytest.fixture
def store(dataset: Dataset, settings: Settings) -> Path:
    build("val", dataset.source, settings)
    return settings.store


def samples(dataset: AugmentedDataset) -> list[dict[str, np.ndarray]]:
    return [dataset[index] for index in range(len(dataset))]


def test_without_any_variation_samples_are_as_they_are_stored(store: Path) -> None:
    stored = StoreDataset(store, "val", FIELDS)
    for index, sample in enumerate(samples(AugmentedDataset(stored, Augmentation()))):
        for field in TRAINING:
            assert same(sample[field], stored[index][field])


def test_colour_alone_leaves_the_stored_maps(store: Path) -> None:
    stored = StoreDataset(store, "val", FIELDS)
    changed = 0
    for index, sample in enumerate(samples(AugmentedDataset(stored, Augmentation(colour=0.5)))):
        changed += not same(sample["image"], stored[index]["image"])
        for field in TRAINING[1:]:
            assert same(sample[field], stored[index][field])
    assert changed > len(stored) / 2


@pytest.mark.parametrize("augmentation", [ALL, Augmentation(flip=1.0)])
def test_maps_are_drawn_from_polygons_that_moved_with_the_pixels(
    store: Path, augmentation: Augmentation
) -> None:
    stored = StoreDataset(store, "val", FIELDS)
    varied = AugmentedDataset(stored, augmentation, seed=3, epoch=2)
    for index, sample in enumerate(samples(varied)):
        plain = stored[index]
        polygons = Polygons.from_list(plain["polygons"], plain["ignore"].tolist())
        random = np.random.default_rng([3, 2, index])
        matrix = augmentation.placement(polygons, (64, 64), random)
        size = varied.parameters.size
        moved = visible_polygons(transformed(polygons, matrix), size)
        targets = draw_targets(moved, size, varied.parameters.recipe)
        for field in TRAINING[1:]:
            assert same(sample[field], getattr(targets, field))
        pixels = cv2.warpAffine(plain["image"], matrix, size[::-1])
        assert same(sample["image"], augmentation.recoloured(pixels, random))


def test_pixels_and_polygons_move_alike() -> None:
    """A page whose text is white on black: after any transform the text is where the polygon is."""
    polygon = np.array([[60, 70], [150, 78], [148, 108], [58, 100]], float)
    page = cv2.fillPoly(np.zeros((200, 240, 3), np.uint8), [polygon.astype(np.int32)], (255,) * 3)
    augmentation = Augmentation(crop=160, flip=0.5, rotation=30, scale=0.6)
    polygons, shown = Polygons.from_list([polygon], [False]), 0
    for seed in range(40):
        matrix = augmentation.placement(polygons, (200, 240), np.random.default_rng(seed))
        seen = cv2.warpAffine(page, matrix, (160, 160))[..., 0] > 127
        moved = transformed(polygons, matrix).points
        drawn = cv2.fillPoly(np.zeros((160, 160), np.uint8), [np.rint(moved).astype(np.int32)], 1)
        shown += bool(seen.any())
        if seen.any() or drawn.any():
            assert (seen & (drawn > 0)).sum() / (seen | (drawn > 0)).sum() > 0.9
    assert shown > 30


def test_the_same_seed_epoch_and_index_give_the_same_sample(store: Path, dataset: Dataset) -> None:
    stored = StoreDataset(store, "val", FIELDS)
    live = LiveDataset(dataset.images, dataset.annotations, FIELDS, size=64)
    first = samples(AugmentedDataset(stored, ALL, seed=1))
    for again in (AugmentedDataset(stored, ALL, seed=1), AugmentedDataset(live, ALL, seed=1)):
        for a, b in zip(first, samples(again), strict=True):
            assert all(same(a[field], b[field]) for field in TRAINING)
    others = (
        AugmentedDataset(stored, ALL, seed=2),
        AugmentedDataset(stored, ALL, seed=1).at_epoch(1),
    )
    for other in others:
        pairs = zip(first, samples(other), strict=True)
        assert any(not same(a["image"], b["image"]) for a, b in pairs)


def test_batches_do_not_depend_on_threads(store: Path) -> None:
    varied = AugmentedDataset(StoreDataset(store, "val", FIELDS), ALL)

    def epochs(threads: int) -> list[bytes]:
        loader = BatchLoader(varied, 4, shuffle=True, threads=threads)
        return [
            batch[field].numpy().tobytes()
            for _ in range(2)
            for batch in loader
            for field in TRAINING
        ]

    one = epochs(1)
    assert one == epochs(3)
    assert one[: len(one) // 2] != one[len(one) // 2 :]


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_a_crop_avoids_cutting_text(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    boxes = []
    for _ in range(count):
        x, y = random.uniform(0, 180), random.uniform(0, 190)
        boxes.append(np.array([[x, y], [x + 18, y], [x + 18, y + 8], [x, y + 8]]))
    polygons = Polygons.from_list(boxes, [False] * count)
    before = polygons.points.copy()
    matrix = Augmentation(crop=100).placement(polygons, (200, 200), random)
    assert same(polygons.points, before)
    assert np.array_equal(matrix[:, :2], np.eye(2))
    # the crop lies on the page
    assert (matrix[:, 2] >= -100).all()
    assert (matrix[:, 2] <= 0).all()
    if count == 1:  # there is always a place that does not cut it, and ten tries find one
        moved = transformed(polygons, matrix).points
        assert ((moved >= 0) & (moved <= 100)).all() or not ((moved > 0) & (moved < 100)).all(
            axis=1
        ).any()


def test_what_is_cut_by_more_than_half_is_dont_care_and_what_is_outside_is_gone() -> None:
    def box(x: float) -> np.ndarray:
        return np.array([[x, 10], [x + 20, 10], [x + 20, 20], [x, 20]], float)

    polygons = Polygons.from_list(
        [box(5), box(-8), box(-12), box(-30)], [True, False, False, False]
    )
    seen = visible_polygons(polygons, (40, 40))
    assert seen.ignore.tolist() == [True, False, True]
    assert [p[0, 0] for p in seen.as_list()] == [5, -8, -12]
    nothing = visible_polygons(Polygons.from_list([], []), (40, 40))
    assert len(nothing.lengths) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 8}, "crop is 8; it must be at least 32 pixels"),
        ({"flip": 1.5}, "flip is 1.5; it must be from 0 to 1"),
        ({"rotation": -1}, "rotation is -1; it must be from 0 to 180"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)


def test_a_dataset_without_polygons_cannot_be_varied(store: Path) -> None:
    with pytest.raises(ValueError, match="the dataset lacks the fields ignore, polygons"):
        AugmentedDataset(StoreDataset(store, "val"), ALL)
