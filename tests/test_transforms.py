"""Train-time transforms: labels follow the pixels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Dataset, same
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ocr.datasets import BatchLoader, LiveDataset, StoreDataset
from ocr.datasets.samples import TRAINING
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr_precompute.augmentation.placement import transformed, visible_polygons
from ocr_precompute.augmentation.warping import Page, draw_page, lit, page_of
from ocr_precompute.parameters import RECIPES
from ocr_precompute.pipeline.build import build
from ocr_precompute.samples import Polygons
from ocr_precompute.settings import Settings
from ocr_precompute.targets.maps import draw_targets

DBNET = RECIPES["dbnet"]
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
        matrix = augmentation.placement(polygons, (64, 64), DBNET, random)
        size = varied.parameters.size
        moved = visible_polygons(transformed(polygons, matrix), size)
        targets = draw_targets(moved, size, varied.parameters.recipe)
        for field in TRAINING[1:]:
            assert same(sample[field], getattr(targets, field))
        light = augmentation.light(random)
        assert differs(sample["image"], reference(plain["image"], matrix, light, size)) <= 3


def differs(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


def reference(
    image: np.ndarray, matrix: np.ndarray, light: np.ndarray | None, size: tuple[int, int]
) -> np.ndarray:
    """The whole page warped pixel by pixel in float64, black outside, then recoloured."""
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    y, x = np.mgrid[: size[0], : size[1]]
    at_x, at_y = np.tensordot(back, np.stack([x, y, np.ones_like(x)]), 1)
    low_x, low_y = np.floor(at_x).astype(int), np.floor(at_y).astype(int)
    page = np.zeros((image.shape[0] + 2, image.shape[1] + 2, 3))
    page[1:-1, 1:-1] = image
    total = np.zeros((*size, 3))
    for down in (0, 1):
        for across in (0, 1):
            weight = np.abs(1 - down - (at_y - low_y)) * np.abs(1 - across - (at_x - low_x))
            rows = np.clip(low_y + down + 1, 0, page.shape[0] - 1)
            columns = np.clip(low_x + across + 1, 0, page.shape[1] - 1)
            total += weight[..., None] * page[rows, columns]
    if light is not None:
        total = np.rint(total) @ light[:, :3].T + light[:, 3]
    return np.clip(np.rint(total), 0, 255).astype(np.uint8)


def smooth_page(size: tuple[int, int], content: tuple[int, int]) -> np.ndarray:
    """An image without sharp edges but that of its content, so that tiny shifts change little."""
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(x / 9 + k) * np.cos(y / (7 + k)) for k in range(3)]
    image = np.rint(127 + 100 * np.stack(waves, axis=2)).astype(np.uint8)
    image[content[0] :] = 0
    image[:, content[1] :] = 0
    return image


NOTHING = Polygons.from_list([], [])


@given(
    st.floats(-180, 180),
    st.floats(0.4, 2.5),
    st.tuples(st.floats(-150, 150), st.floats(-150, 150)),
    st.tuples(st.integers(20, 120), st.integers(20, 90)),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_a_page_is_moved_and_recoloured_as_pixel_by_pixel(
    angle: float,
    factor: float,
    shift: tuple[float, float],
    content: tuple[int, int],
    recoloured: bool,
) -> None:
    """Up to two roundings, at the edge of the content too; places are held to 2^-16 of a pixel."""
    random = np.random.default_rng(len(str(angle)))
    image = np.zeros((120, 90, 3), np.uint8)
    image[: content[0], : content[1]] = random.integers(0, 256, (*content, 3))
    matrix = cv2.getRotationMatrix2D((45, 60), angle, factor)
    matrix[:, 2] += shift
    light = Augmentation(colour=0.2).light(np.random.default_rng(7)) if recoloured else None
    out = np.full((64, 93, 3), 99, np.uint8)
    draw_page(page_of(image, NOTHING, content), matrix, light, out)
    expected = reference(image, matrix, light, (64, 93)).astype(int)
    assert np.abs(out - expected).max() <= (4 if recoloured else 2)


def test_pixels_that_do_not_move_or_move_by_whole_pixels_stay_as_they_are() -> None:
    """Content that fills the page, its frame copied, and content with black beside it."""
    for content in ((40, 50), (33, 47)):
        image = np.zeros((40, 50, 3), np.uint8)
        image[: content[0], : content[1]] = np.random.default_rng(3).integers(1, 256, (*content, 3))
        page = page_of(image, NOTHING, content)
        for x, y in ((0, 0), (7, -3), (-60, 0), (5, 39)):
            out = np.full((40, 50, 3), 99, np.uint8)
            draw_page(page, np.array([[1.0, 0, x], [0, 1, y]]), None, out)
            expected = np.zeros((120, 150, 3), np.uint8)
            if -50 < x < 50:
                expected[40 + y : 80 + y, 50 + x : 100 + x] = image
            assert same(out, np.ascontiguousarray(expected[40:80, 50:100]))


@pytest.mark.parametrize("matrix", [[[0, 0, 3], [0, 0, 3]], [[1e9, 0, 0], [0, 1e9, 0]]])
def test_pixels_that_all_go_to_one_place_or_far_away_read_nothing_outside(
    matrix: list[list[float]],
) -> None:
    image = smooth_page((30, 40), (30, 40))
    out = np.full((32, 40, 3), 99, np.uint8)
    draw_page(page_of(image, NOTHING, (30, 40)), np.array(matrix, float), None, out)
    assert (out != 99).all()


@pytest.mark.parametrize("rows", [0, 1, 8, 64])
def test_what_is_shown_is_the_same_however_much_of_the_page_is_read(
    dataset: Dataset, settings: Settings, rows: int
) -> None:
    """Rows from the store, and rows of the whole page, for crops anywhere and of any size."""
    compression = settings.compression.model_copy(update={"block_rows": rows})
    build("val", dataset.source, settings.model_copy(update={"compression": compression}))
    stored = StoreDataset(settings.store, "val", FIELDS)
    asked = set()
    for number in range(60):
        random, index = np.random.default_rng(number), number % len(stored)
        augmentation = Augmentation(crop=32, rotation=number % 3 * 4, scale=0.4, colour=0.2)
        page = stored.page(index)
        plain = page_of(stored[index]["image"], page.polygons, page.content)
        assert not plain_outside(stored[index]["image"], page.content).any()
        matrix = augmentation.placement(page.polygons, page.size, DBNET, random)
        light = augmentation.light(random)

        def counted(start: int, stop: int, out: np.ndarray, page: Page = page) -> None:
            asked.add((start, stop))
            page.rows(start, stop, out)

        a, b = np.full((2, 32, 32, 3), 7, np.uint8)
        draw_page(replace(page, rows=counted), matrix, light, a)
        draw_page(plain, matrix, light, b)
        assert same(a, b)
    assert (min(stop - start for start, stop in asked) < 48) == (rows < 64)
    assert all(start % (rows or 1) == stop % (rows or 1) == 0 for start, stop in asked)


def plain_outside(image: np.ndarray, content: tuple[int, int]) -> np.ndarray:
    outside = image.copy()
    outside[: content[0], : content[1]] = 0
    return outside


def test_a_crop_that_shows_nothing_of_the_page_is_dark_and_reads_nothing() -> None:
    def rows(start: int, stop: int, out: np.ndarray) -> None:
        raise AssertionError

    out = np.full((32, 40, 3), 7, np.uint8)
    matrix = np.array([[1.0, 0, 500], [0, 1, 0]])
    draw_page(Page(NOTHING, (60, 60), (60, 50), rows), matrix, None, out)
    assert not out.any()
    light = np.hstack([np.eye(3), [[10], [20], [30]]])
    draw_page(Page(NOTHING, (60, 60), (60, 50), rows), matrix, light, out)
    assert (out == [10, 20, 30]).all()


def test_colour_is_brightness_contrast_and_saturation() -> None:
    image = smooth_page((30, 40), (30, 40))
    augmentation = Augmentation(colour=0.3)
    brightness, contrast, saturation = np.random.default_rng(5).uniform(-0.3, 0.3, 3)
    light = augmentation.light(np.random.default_rng(5))
    assert light is not None
    levels = (image - 127.5) * (1 + contrast) + 127.5 + 255 * brightness
    grey = levels @ [0.299, 0.587, 0.114]
    expected = levels + saturation * (levels - grey[..., None])
    assert differs(lit(image, light), np.clip(expected, 0, 255)) <= 1
    before = image.copy()
    again = lit(image, light)
    assert same(image, before)
    assert same(lit(image, light, image), again)
    assert same(image, again)
    assert Augmentation(crop=64).light(np.random.default_rng(5)) is None


@pytest.mark.parametrize("augmentation", [ALL, Augmentation(flip=0.5, colour=0.2)])
def test_samples_are_the_same_alone_and_together(store: Path, augmentation: Augmentation) -> None:
    """More than are drawn at once; some of the second kind do not move."""
    varied = AugmentedDataset(StoreDataset(store, "val", FIELDS), augmentation, seed=5)
    indices = [*range(len(varied)), 3, 3]
    together = {
        field: np.full((len(indices), *shape), 9, dtype)
        for field, (dtype, shape) in varied.layout.items()
    }
    varied.fill(indices, together)
    for position, index in enumerate(indices):
        alone = varied[index]
        assert all(same(together[field][position], alone[field]) for field in TRAINING)
    some = {field: together[field][:10].copy() for field in ("prob", "image")}
    varied.fill(indices[10:20], some)
    assert same(some["prob"], together["prob"][10:20])


def test_threads_share_no_memory(store: Path) -> None:
    """Many threads at once give what one gives; so does a fork in the midst of it."""
    varied = AugmentedDataset(StoreDataset(store, "val", FIELDS), ALL, seed=4)
    indices = list(range(len(varied))) * 6
    expected = [sample["image"] for sample in samples(varied)]
    with ThreadPoolExecutor(6) as pool:
        for index, sample in zip(indices, pool.map(varied.__getitem__, indices), strict=True):
            assert same(sample["image"], expected[index])
    loader = DataLoader(varied, batch_size=None, num_workers=2, collate_fn=lambda sample: sample)
    for index, sample in enumerate(loader):
        assert same(np.asarray(sample["image"]), expected[index])


def test_pixels_and_polygons_move_alike() -> None:
    """A page whose text is white on black: after any transform the text is where the polygon is."""
    polygon = np.array([[60, 70], [150, 78], [148, 108], [58, 100]], float)
    page = cv2.fillPoly(np.zeros((200, 240, 3), np.uint8), [polygon.astype(np.int32)], (255,) * 3)
    augmentation = Augmentation(crop=160, flip=0.5, rotation=30, scale=0.6)
    polygons, shown = Polygons.from_list([polygon], [False]), 0
    for seed in range(40):
        matrix = augmentation.placement(polygons, (200, 240), DBNET, np.random.default_rng(seed))
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
        boxes.append(rectangle(x, y, 18, 9))
    polygons = Polygons.from_list(boxes, [False] * count)
    before = polygons.points.copy()
    matrix = Augmentation(crop=100).placement(polygons, (200, 200), DBNET, random)
    assert same(polygons.points, before)
    assert np.array_equal(matrix[:, :2], np.eye(2))
    # the crop lies on the page
    assert (matrix[:, 2] >= -100).all()
    assert (matrix[:, 2] <= 0).all()
    low, high = text_boxes(polygons, matrix)
    whole, apart = (
        ((low >= 0) & (high <= 100)).all(axis=1),
        ((high <= 0) | (low >= 100)).any(axis=1),
    )
    assert whole.any() or not count
    if count == 1:
        assert (whole | apart).all()


def text_boxes(polygons: Polygons, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moved = transformed(polygons, matrix).as_list()
    low, high = (np.array([end(p, axis=0) for p in moved]) for end in (np.min, np.max))
    return low.reshape(-1, 2), high.reshape(-1, 2)


def rectangle(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], float)


@pytest.mark.parametrize("crop", [640, 320])
def test_sparse_text_is_in_the_crop(crop: int) -> None:
    """One or two texts a page, with don't-care and tiny ones all over it."""
    augmentation, empty, corners = Augmentation(crop=crop, rotation=5, scale=0.3), 0, []
    for seed in range(200):
        random = np.random.default_rng(seed)
        texts = [rectangle(*random.uniform(0, 560, 2), 70, 18) for _ in range(1 + seed % 2)]
        others = [rectangle(*random.uniform(0, 620, 2), 60, 14) for _ in range(20)]
        tiny = [rectangle(*random.uniform(0, 630, 2), 9, 4) for _ in range(20)]
        ignore = [False] * len(texts) + [True] * len(others) + [False] * len(tiny)
        polygons = Polygons.from_list([*texts, *others, *tiny], ignore)
        matrix = augmentation.placement(polygons, (640, 640), DBNET, random)
        moved = visible_polygons(transformed(polygons, matrix), (crop, crop))
        empty += not draw_targets(moved, (crop, crop), DBNET).prob.any()
        corners.append(transformed(Polygons.from_list(texts[:1], [False]), matrix).points[0])
    assert empty == 0
    if crop == 320:  # the text is anywhere in the crop
        inside = np.array([c for c in corners if ((c >= 0) & (c <= crop)).all()])
        assert (np.histogram2d(*inside.T, bins=3, range=[[0, 250], [0, 300]])[0] > 5).all()


@pytest.mark.parametrize("ignored", [True, False])
def test_only_text_that_is_learnt_is_kept_whole(ignored: bool) -> None:
    """A text beside one that covers most of the page, which no crop can hold."""
    polygons = Polygons.from_list(
        [rectangle(5, 40, 350, 300), rectangle(150, 360, 60, 20)], [ignored, False]
    )
    for seed in range(50):
        matrix = Augmentation(crop=100).placement(
            polygons, (400, 400), DBNET, np.random.default_rng(seed)
        )
        low, high = text_boxes(polygons, matrix)
        assert ((low[1] >= 0) & (high[1] <= 100)).all()


def test_a_text_larger_than_the_crop_fills_it_and_a_page_without_any_is_cut_anywhere() -> None:
    big = Polygons.from_list([rectangle(50, 60, 300, 200)], [False])
    none = Polygons.from_list([rectangle(50, 60, 300, 200), rectangle(9, 9, 20, 0)], [True, False])
    corners = []
    for seed in range(100):
        random = np.random.default_rng(seed)
        matrix = Augmentation(crop=100).placement(big, (400, 400), DBNET, random)
        low, high = text_boxes(big, matrix)
        assert (low <= 0).all()
        assert (high >= 100).all()
        corners.append(-Augmentation(crop=100).placement(none, (400, 400), DBNET, random)[:, 2])
    assert np.ptp(corners, axis=0).min() > 250
    assert np.min(corners) >= 0
    assert np.max(corners) <= 300


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
