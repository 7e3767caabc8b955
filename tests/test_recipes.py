"""Label recipes of other trainers, held to slow references written from their rules alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import cv2
import numpy as np
import pyclipper
import pytest
from conftest import Dataset, run
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ocr.datasets.live import LiveDataset
from ocr_precompute.augmentation import Augmentation
from ocr_precompute.checking.verify import verify
from ocr_precompute.parameters import RECIPES, Parameters, RecipeName
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.store import open_store
from ocr_precompute.samples import Fate, Polygons
from ocr_precompute.settings import Settings
from ocr_precompute.targets.collapse import collapsed
from ocr_precompute.targets.fates import outside_page, polygon_fates
from ocr_precompute.targets.maps import make_targets
from ocr_precompute.targets.offsets import (
    as_drawn,
    offset_distances,
    shrink_distances,
    smaller_sides,
    vanishes,
)

SIZE = (96, 128)
RATIO, LOW, HIGH, SMALLEST = 0.4, 0.3, 0.7, 8

# ------------------------------------------------------------------- the rules, written out slowly


class Drawn(NamedTuple):
    """The maps of one image, and what became of each polygon."""

    prob: np.ndarray
    prob_mask: np.ndarray
    thresh: np.ndarray
    thresh_mask: np.ndarray
    fates: list[Fate]


def area_and_perimeter(polygon: np.ndarray) -> tuple[float, float]:
    twice, around = 0.0, 0.0
    for (x, y), (next_x, next_y) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        twice += (x - polygon[0, 0]) * (next_y - polygon[0, 1])
        twice -= (next_x - polygon[0, 0]) * (y - polygon[0, 1])
        around += math.sqrt((next_x - x) ** 2 + (next_y - y) ** 2)
    return abs(twice) / 2, around


def offset(polygon: np.ndarray, distance: float) -> list[np.ndarray]:
    clipper = pyclipper.PyclipperOffset()
    try:
        clipper.AddPath(polygon.tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    except pyclipper.ClipperException:  # all on one point
        return []
    return [np.array(part, np.int32) for part in clipper.Execute(distance)]


def raise_border(canvas: np.ndarray, mask: np.ndarray, polygon: np.ndarray) -> None:
    """1 on the border, falling to 0 at distance D, in the box of the dilated polygon."""
    area, perimeter = area_and_perimeter(polygon)
    if not area or not perimeter:
        return
    distance = area * (1 - RATIO**2) / perimeter
    parts = offset(polygon, distance)
    if not parts:
        return
    cv2.fillPoly(mask, [parts[0]], 1)
    y, x = np.mgrid[: canvas.shape[0], : canvas.shape[1]].astype(float)
    nearest = np.full(canvas.shape, np.inf)
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        to_a, to_b = (x - a[0]) ** 2 + (y - a[1]) ** 2, (x - b[0]) ** 2 + (y - b[1]) ** 2
        squared = ((b - a) ** 2).sum()
        cross = (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])
        to_line = np.abs(cross) / max(math.sqrt(squared), 1e-300)
        beside = to_a + to_b <= squared  # the edge is seen under no acute angle
        nearest = np.minimum(nearest, np.where(beside, to_line, np.sqrt(np.minimum(to_a, to_b))))
    (left, top), (right, bottom) = parts[0].min(axis=0), parts[0].max(axis=0)
    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    value = np.where(inside, 1 - np.clip(nearest / distance, 0, 1), 0)
    np.maximum(canvas, value, out=canvas)


def paddleocr_fate(polygon: np.ndarray) -> tuple[Fate, list[np.ndarray]]:
    """What becomes of a polygon in the image, and its parts.

    Too small by its box along the axes, or shrunk at 0.4, and where that does not leave one part,
    at 0.8; then all parts of that count.
    """
    side = np.ptp(polygon, axis=0).min()
    if 0 < side < SMALLEST:
        return Fate.SMALL, []
    area, perimeter = area_and_perimeter(polygon)
    if side == 0 or area < 1:
        return Fate.NO_AREA, []
    parts: list[np.ndarray] = []
    for ratio in (RATIO, 2 * RATIO):
        parts = offset(polygon, -area * (1 - ratio**2) / perimeter)
        if len(parts) == 1:
            break
    return (Fate.TRAINS if parts else Fate.COLLAPSED), parts


def mmocr_fate(polygon: np.ndarray) -> tuple[Fate, list[np.ndarray]]:
    """As paddleocr_fate, by its turned box; whole vertices, a whole distance, one part."""
    side = min(cv2.minAreaRect(polygon.astype(np.float32))[1])
    if 0 < side < SMALLEST:
        return Fate.SMALL, []
    if side == 0 or area_and_perimeter(polygon)[0] < 1:
        return Fate.NO_AREA, []
    whole = np.trunc(polygon)
    area, perimeter = area_and_perimeter(whole)
    parts = offset(whole, -math.floor(area * (1 - RATIO**2) / perimeter + 0.5))
    return (Fate.TRAINS if parts else Fate.COLLAPSED), parts[:1]


FATES: dict[str, Callable[[np.ndarray], tuple[Fate, list[np.ndarray]]]] = {
    "paddleocr": paddleocr_fate,
    "mmocr": mmocr_fate,
}


def drawn_slowly(
    polygons: Sequence[np.ndarray],
    ignore: Sequence[bool],
    recipe: str,
    size: tuple[int, int] = SIZE,
) -> Drawn:
    prob, prob_mask = np.zeros(size, np.uint8), np.ones(size, np.uint8)
    thresh_mask, canvas = np.zeros(size, np.uint8), np.zeros(size)
    fates = []
    for original, ignored in zip(polygons, ignore, strict=True):
        original = np.asarray(original, float)
        polygon = original
        if recipe == "paddleocr":
            if not ignored:
                raise_border(canvas, thresh_mask, original)
            polygon = np.clip(original, 0, [size[1] - 1, size[0] - 1])
        fate, parts = FATES[recipe](polygon)
        outside = (original.max(axis=0) <= 0).any() or (original.min(axis=0) >= size[::-1]).any()
        if ignored:
            fate, parts = Fate.ANNOTATED, []
        elif outside:  # these are outside of the maps too
            fate = Fate.OUTSIDE
        fates.append(fate)
        for part in parts:
            cv2.fillPoly(prob, [part], 1)
        if not parts:
            cv2.fillPoly(prob_mask, [polygon.astype(np.int32)], 0)
        elif recipe == "mmocr":
            raise_border(canvas, thresh_mask, original)
    return Drawn(prob, prob_mask, canvas * (HIGH - LOW) + LOW, thresh_mask, fates)


def check(polygons: Sequence[np.ndarray], ignore: Sequence[bool], recipe: str) -> Drawn:
    """All maps bit for bit, thresholds within 1e-6, and every fate; gives what was expected."""
    expected = drawn_slowly(polygons, ignore, recipe)
    made = make_targets(polygons, ignore, SIZE, recipe)
    for field in ("prob", "prob_mask", "thresh_mask"):
        assert np.array_equal(getattr(made, field), getattr(expected, field)), field
    assert np.abs(made.thresh - expected.thresh).max() <= 1e-6
    packed = Polygons.from_list([np.asarray(p, float) for p in polygons], list(ignore))
    outside = outside_page(packed, np.array(SIZE[::-1]))
    fates, _ = polygon_fates(packed, outside, SIZE, RECIPES[recipe])
    assert [Fate(fate) for fate in fates.tolist()] == expected.fates
    return expected


# ------------------------------------------------------------------------------------- by hand


def box(x: float, y: float, width: float, height: float) -> np.ndarray:
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return np.array(corners, float)


def tilted(x: float, y: float, width: float, height: float, angle: float) -> np.ndarray:
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (box(-width / 2, -height / 2, width, height) @ turn) + [x, y]


# Two rooms joined by a corridor, which the shrink parts.
ROOMS = np.array(
    [
        *([10, 10], [40, 10], [40, 24], [60, 24], [60, 10], [90, 10]),
        *([90, 40], [60, 40], [60, 26], [40, 26], [40, 40], [10, 40]),
    ],
    float,
)
BY_HAND = {
    "square": box(20, 20, 40, 40),
    "fractions": box(20.7, 20.4, 40.9, 30.8),
    "7.9 px": box(20, 20, 60, 7.9),
    "8 px": box(20, 20, 60, 8),
    "3 px": box(20, 20, 60, 3),
    "small and turned": tilted(60, 50, 60, 5, 0.7),
    "small along the axes alone": tilted(60, 50, 9, 9, 0.0) + 0.5,
    "diamond": tilted(60, 50, 7, 7, math.pi / 4),  # 9.9 px along the axes
    "sliver": np.array([[10, 10], [110, 60], [110.4, 61], [10.4, 10.6]]),
    "no area": np.array([[10, 10], [50, 50], [90, 90]], float),
    "level": np.array([[10, 10], [50, 10], [90, 10]], float),
    "a point": np.array([[5, 5]] * 4, float),
    "wedge": np.array([[10, 10], [110, 14], [110, 30], [10, 10.5]]),
    "rooms": ROOMS,
    "an angle 1 px wide": np.array(
        [[10, 10], [100, 10], [100, 90], [99, 90], [99, 11], [10, 11]], float
    ),
    "an angle 1.4 px wide": np.array(
        [[10, 10], [60, 60], [110, 10], [110, 12], [60, 62], [10, 12]], float
    ),
    "less than whole pixels": np.array([[10, 10], [90, 90], [90.9, 90.1], [10.9, 10.1]]),
    "comb": np.array(
        [
            [x, y]
            for n in range(8)
            for x, y in ([n * 12, 10], [n * 12, 60], [n * 12 + 2, 60], [n * 12 + 2, 12])
        ]
        + [[98, 12], [98, 10]],
        float,
    ),
    "bow tie": np.array([[10, 10], [90, 70], [90, 10], [10, 70]], float),
    "crossing, lopsided": np.array([[10, 10], [90, 70], [90, 10], [10, 30]], float),
    "over the edge": box(100, 20, 60, 30),
    "7 px left in the image": box(120, 20, 60, 30),
    "outside": box(200, 20, 60, 30),
    "above": box(20, -50, 60, 30),
    "around the image": box(-100, -100, 400, 400),
    "counter-clockwise": box(20, 20, 40, 40)[::-1],
    "a vertex twice": np.concatenate([box(20, 20, 40, 40)[:1], box(20, 20, 40, 40)]),
}


@pytest.mark.parametrize("recipe", FATES)
@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("ignored", [False, True])
def test_polygons_by_hand(recipe: str, name: str, ignored: bool) -> None:
    check([BY_HAND[name]], [ignored], recipe)


def test_the_examples_have_every_fate() -> None:
    """So that the comparison above is one."""
    fates = {
        recipe: {name: drawn_slowly([p], [False], recipe).fates[0] for name, p in BY_HAND.items()}
        for recipe in FATES
    }
    for recipe in FATES:
        assert {*fates[recipe].values(), Fate.ANNOTATED} == set(Fate)
    assert fates["mmocr"]["an angle 1.4 px wide"] == Fate.COLLAPSED
    assert fates["mmocr"]["an angle 1 px wide"] == Fate.TRAINS  # shrunk by 0 px
    assert fates["paddleocr"]["an angle 1.4 px wide"] == Fate.TRAINS  # at the second ratio
    assert fates["paddleocr"]["less than whole pixels"] == Fate.COLLAPSED
    assert fates["paddleocr"]["diamond"] == Fate.TRAINS
    assert fates["mmocr"]["diamond"] == Fate.SMALL


# ------------------------------------------------------------------- what differs from `dbnet`


def test_paddleocr_draws_thresholds_of_small_text() -> None:
    small = box(20, 20, 60, 6)
    dbnet, paddleocr = (make_targets([small], [False], SIZE, r) for r in ("dbnet", "paddleocr"))
    assert not dbnet.thresh_mask.any()
    assert paddleocr.thresh_mask.any()
    assert paddleocr.thresh[20, 50] == np.float32(0.7)
    for made in (dbnet, paddleocr):
        assert not made.prob.any()
        assert not made.prob_mask[20:27, 20:81].any()
    ignored = make_targets([small], [True], SIZE, "paddleocr")
    assert not ignored.thresh_mask.any()


def test_paddleocr_draws_thresholds_before_vertices_are_moved() -> None:
    outside = box(100, 20, 60, 30)
    dbnet, paddleocr = (make_targets([outside], [False], SIZE, r) for r in ("dbnet", "paddleocr"))
    assert dbnet.thresh[35, 127] == np.float32(0.7)  # the image's end is a border
    assert paddleocr.thresh[35, 127] == np.float32(0.3)
    assert np.array_equal(dbnet.prob, paddleocr.prob)


def test_paddleocr_shrinks_less_what_falls_apart_or_vanishes() -> None:
    rooms = {recipe: make_targets([ROOMS], [False], SIZE, recipe).prob for recipe in RECIPES}
    assert rooms["paddleocr"].sum() > rooms["seed"].sum() > rooms["dbnet"].sum()
    assert rooms["paddleocr"][:, :50].any()
    assert rooms["paddleocr"][:, 50:].any()
    assert RECIPES["paddleocr"].ratios == (0.4, 0.8)
    changed = RECIPES["paddleocr"].model_copy(update={"shrink_ratio": 0.2})
    assert changed.ratios == (0.2, 0.4, 0.8)
    tiny = RECIPES["paddleocr"].model_copy(update={"shrink_ratio": 5e-324})
    assert len(tiny.ratios) < 1100


def test_mmocr_takes_whole_vertices_and_distances_and_turned_boxes() -> None:
    page = box(20.9, 20.9, 40, 30)
    made = make_targets([page], [False], SIZE, "mmocr")
    inside = np.argwhere(made.prob)
    # 40 x 30 from (20, 20): D = 1200 * 0.84 / 140 = 7.2, so 7.
    assert inside.min(axis=0).tolist() == [27, 27]
    assert inside.max(axis=0).tolist() == [43, 53]
    narrow = tilted(60, 50, 60, 7.5, 0.6)
    dbnet, mmocr = (make_targets([narrow], [False], SIZE, r) for r in ("dbnet", "mmocr"))
    assert dbnet.prob.any()
    assert not mmocr.prob.any()
    assert not mmocr.thresh_mask.any()
    assert not mmocr.prob_mask[50, 60]


# --------------------------------------------------------------------------------------- at random

number = st.one_of(st.floats(-40, 170), st.integers(-10, 140).map(float))
any_polygon = st.one_of(
    st.lists(st.tuples(number, number), min_size=3, max_size=9).map(lambda p: np.array(p, float)),
    st.builds(box, number, number, st.floats(0, 120), st.floats(0, 20)),
    st.builds(tilted, number, number, st.floats(0, 120), st.floats(0, 20), st.floats(0, math.pi)),
    st.sampled_from(list(BY_HAND.values())),
)
# Where a polygon's edges pass within a rounding error of what decides, both ways are right.
pages = st.lists(st.tuples(any_polygon, st.booleans()), max_size=5)


@pytest.mark.parametrize("recipe", FATES)
@given(page=pages)
@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
def test_any_polygons(recipe: str, page: list[tuple[np.ndarray, bool]]) -> None:
    check([polygon for polygon, _ in page], [ignored for _, ignored in page], recipe)


@pytest.mark.parametrize("recipe", FATES)
def test_many_polygons(recipe: str) -> None:
    """Enough for every fate, and for text on both sides of the smallest side."""
    random = np.random.default_rng(7)
    fates: list[Fate] = []
    for _ in range(60):
        polygons = [
            tilted(*random.uniform(-10, 130, 2), *np.exp(random.uniform(0.5, 4.5, 2)), angle)
            for angle in random.choice([0, math.pi / 2, 0.02, 0.4, 2.0], 6)
        ]
        polygons += [random.uniform(0, 120, (random.integers(3, 12), 2)) for _ in range(2)]
        fates += check(polygons, random.random(len(polygons)) < 0.2, recipe).fates
    assert set(fates) >= set(Fate) - {Fate.COLLAPSED, Fate.NO_AREA}


@pytest.mark.parametrize("recipe", FATES)
def test_collapsing_is_found_among_very_many(recipe: str) -> None:
    """The short way to the answer agrees with an offset for each polygon."""
    random = np.random.default_rng(0)
    polygons = [
        tilted(*random.uniform(0, 300, 2), across, height, angle)
        for across, height, angle in zip(
            np.exp(random.uniform(2, 6, 4000)),
            random.uniform(0.5, 20, 4000),
            random.choice([0, np.pi / 2, 0.02, 0.3], 4000),
            strict=True,
        )
    ]
    polygons += [np.trunc(polygon) for polygon in polygons[:1000]]
    rules = RECIPES[recipe].model_copy(update={"min_size": 0.0, "min_area": 0.0})
    many = Polygons.from_list(polygons, [False] * len(polygons))
    distances = offset_distances(many, rules)
    many = many.chosen(np.flatnonzero(distances))
    shrinks = shrink_distances(many, distances[distances > 0], rules).tolist()
    exact = [vanishes(p, *tried) for p, tried in zip(many.as_list(), shrinks, strict=True)]
    assert 5 < sum(exact) < len(exact)
    assert (collapsed(many, rules) == exact).all()


# ----------------------------------------------------------------------------- fields and keys


def test_keys_of_the_first_recipes_know_nothing_of_later_fields() -> None:
    later = {"early_thresh", "shrink_again", "whole_shrink", "turned_box"}
    for name in ("seed", "dbnet"):
        parameters = Parameters(recipe=RECIPES[name])
        assert not later & set(json.loads(parameters.canonical)["recipe"])
        assert Parameters.model_validate_json(parameters.canonical) == parameters
    for name in ("paddleocr", "mmocr"):
        parameters = Parameters(recipe=RECIPES[name])
        assert len(later & set(json.loads(parameters.canonical)["recipe"])) == 2
        assert Parameters.model_validate_json(parameters.canonical) == parameters
    assert set(RECIPES) == set(get_args(RecipeName)) == {r.name for r in RECIPES.values()}


def test_published_values() -> None:
    for name in FATES:
        recipe = RECIPES[name]
        drawn = (recipe.shrink_ratio, recipe.thresh_min, recipe.thresh_max, recipe.min_size)
        assert drawn == (RATIO, LOW, HIGH, SMALLEST)
        assert recipe.repairs


# -------------------------------------------------------------------------- from end to end


@pytest.mark.parametrize("recipe", FATES)
def test_a_split_is_built_verified_and_live(tmp_path: Path, recipe: RecipeName) -> None:
    dataset = Dataset(tmp_path / "data", count=6)
    settings = Settings.model_validate(
        {"store": tmp_path / "store", "recipe": recipe, "size": 64, "backend": "sequential"}
    )
    report = build("val", dataset.source, settings)
    assert report.samples == 6
    checked = verify(settings.store, sources={"val": dataset.source}, recompute=1)
    assert (checked.problems, checked.recomputed) == ((), 6)
    split = open_store(settings.store).split("val")
    assert split.manifest.parameters.recipe == RECIPES[recipe]
    for sample in split:
        again = make_targets(sample.polygons, sample.ignore, (64, 64), recipe)
        assert np.array_equal(again.prob, sample.prob)
        assert np.array_equal(again.thresh, sample.thresh)
        trains = any(fate == Fate.TRAINS for fate in sample.fate)
        assert trains == bool(sample.prob.any())
    assert build("val", dataset.source, settings).built == 0
    live = LiveDataset(
        dataset.images, dataset.annotations, ("prob", "thresh", "prob_mask"), recipe=recipe, size=64
    )
    for number, sample in enumerate(split):
        for field, array in live[number].items():
            assert np.array_equal(array, getattr(sample, field)), field


def test_small_turned_text_does_not_attract_a_crop() -> None:
    """By the box that the recipe measures."""
    narrow, large = tilted(300, 300, 40, 6, math.pi / 4), box(20, 20, 40, 20)
    polygons = Polygons.from_list([narrow, large], [False, False])
    assert smaller_sides(polygons, RECIPES["mmocr"])[0] == pytest.approx(6)
    assert smaller_sides(polygons, RECIPES["dbnet"])[0] > 30
    for recipe, shown in (("mmocr", {1}), ("dbnet", {0, 1})):
        attracted = set()
        for seed in range(20):
            matrix = Augmentation(crop=64).placement(
                polygons, (400, 400), RECIPES[recipe], np.random.default_rng(seed)
            )
            corner = -matrix[:, 2]
            for n, polygon in enumerate([narrow, large]):
                if (polygon >= corner).all() and (polygon <= corner + 64).all():
                    attracted.add(n)
        assert attracted == shown


def test_the_command_names_the_recipes(tmp_path: Path) -> None:
    shown = run("build", "--help", cwd=tmp_path)
    said = shown.stdout + shown.stderr
    for name in RECIPES:
        assert name in said
    wrong = run("build", "--split", "val", "--recipe", "paddle", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "recipe: input should be 'seed', 'dbnet', 'paddleocr' or 'mmocr'" in wrong.stderr


def test_polygons_are_drawn_where_the_recipe_has_them() -> None:
    outside = Polygons.from_list([box(100.5, 20, 60, 30)], [False])
    assert as_drawn(outside, SIZE, RECIPES["paddleocr"]).points.max() == SIZE[1] - 1
    assert as_drawn(outside, SIZE, RECIPES["mmocr"]).points.max() == 160.5
