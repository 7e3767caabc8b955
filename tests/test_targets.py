"""Labels: parity with the published ones, and the contract for any polygon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ocr_precompute.parameters import RECIPES
from ocr_precompute.samples import Polygons
from ocr_precompute.targets.maps import Targets, make_targets
from ocr_precompute.targets.offsets import offset_distances

OWN = Path(__file__).parent / "golden"
REAL = sorted(
    path for kind in ("sroie", "icdar2015") for path in (SHARED / "golden").glob(f"{kind}_*.npz")
)
CURVED, OUTSIDE = sorted(OWN.glob("curved_*.npz")), sorted(OWN.glob("outside_*.npz"))
SQUARE = np.array([[20, 20], [60, 20], [60, 60], [20, 60]], np.float32)
# Two rooms joined by a corridor, which the shrink parts.
WALLS = ([0, 0], [30, 0], [30, 14], [50, 14], [50, 0], [80, 0], [80, 30], [50, 30], [50, 16])
ROOMS = np.array([*WALLS, [30, 16], [30, 30], [0, 30]], np.float32)


@pytest.mark.parametrize(
    ("path", "recipe"),
    [
        *(
            pytest.param(path, recipe, marks=[pytest.mark.data] if path in REAL else [])
            for path in [*REAL, *CURVED]
            for recipe in ("seed", "dbnet")
        ),
        *((path, "dbnet") for path in OUTSIDE),
    ],
    ids=lambda value: getattr(value, "stem", value),
)
def test_labels_equal_the_published_ones(path: Path, recipe: str) -> None:
    golden = np.load(path)
    polygons = np.split(golden["polygons"], np.cumsum(golden["lengths"])[:-1])
    made = make_targets(polygons, golden["ignore"], tuple(golden["size"]), recipe)
    assert np.array_equal(made.prob, np.unpackbits(golden[f"{recipe}_prob"], axis=1))
    assert np.abs(made.thresh - golden[f"{recipe}_thresh"]).max() <= 1e-6
    if recipe == "dbnet":
        for mask in ("prob_mask", "thresh_mask"):
            expected = np.unpackbits(golden[f"dbnet_{mask}"], axis=1)
            assert np.array_equal(getattr(made, mask), expected)
    else:
        assert made.prob_mask.all()
        assert made.thresh_mask.all()


def test_golden_labels_are_at_hand() -> None:
    assert (len(CURVED), len(OUTSIDE)) == (4, 7)


def test_golden_labels_of_real_images_are_at_hand(shared: Path) -> None:
    assert len(REAL) == 25


def test_square_by_hand() -> None:
    # area 1600, perimeter 160: D = 1600 * (1 - 0.16) / 160 = 8.4
    square = Polygons.from_list([SQUARE], [False])
    assert offset_distances(square, RECIPES["dbnet"]) == pytest.approx(8.4)
    made = make_targets([SQUARE], [False], (80, 80), "dbnet")
    inside = np.argwhere(made.prob)
    assert inside.min(axis=0).tolist() == [28, 28]  # 20 + 8.4, to the nearest pixel
    assert inside.max(axis=0).tolist() == [52, 52]
    assert made.thresh[40, 20] == np.float32(0.7)  # on the border
    assert made.thresh[40, 16] == pytest.approx(0.3 + 0.4 * (1 - 4 / 8.4))
    assert made.thresh[40, 40] == np.float32(0.3)  # farther than D
    assert made.thresh_mask[40, 12] == 1
    assert made.thresh_mask[40, 11] == 0


def test_ignored_and_small_polygons() -> None:
    small = SQUARE / 10
    dbnet = make_targets([SQUARE, small], [True, False], (80, 80), "dbnet")
    assert not dbnet.prob.any()
    assert not dbnet.thresh_mask.any()
    assert not dbnet.prob_mask[20:61, 20:61].any()
    assert not dbnet.prob_mask[2:7, 2:7].any()
    seed = make_targets([SQUARE, small], [True, False], (80, 80), "seed")
    assert not seed.prob[20:61, 20:61].any()
    assert seed.thresh[2, 2] == np.float32(0.7)
    assert seed.prob_mask.all()


def test_dbnet_draws_what_lies_in_the_image_and_seed_the_whole_polygon() -> None:
    outside = SQUARE + np.array([50, 0], np.float32)  # 70 to 110 across, of 96
    cut = np.minimum(outside, np.array([95, 79], np.float32))
    dbnet, expected = (make_targets([p], [False], (80, 96), "dbnet") for p in (outside, cut))
    for field in ("prob", "prob_mask", "thresh", "thresh_mask"):
        assert np.array_equal(getattr(dbnet, field), getattr(expected, field))
    assert dbnet.thresh[40, 95] == np.float32(0.7)  # the image's end is a border
    assert not dbnet.prob[:, 90:].any()
    seed = make_targets([outside], [False], (80, 96), "seed")
    assert seed.thresh[40, 95] < np.float32(0.31)
    assert seed.prob[40, 95] == 1


@pytest.mark.parametrize(
    "polygon",
    [
        SQUARE + np.array([69, 0], np.float32),  # 7 pixels of it in the image
        [[10, 10], [50, 50], [50.01, 50.03], [10.01, 10.02]],  # long enough, without an area
    ],
)
def test_dbnet_masks_out_what_is_small_in_the_image(polygon: list) -> None:
    made = make_targets([np.array(polygon)], [False], (80, 96), "dbnet")
    assert not made.prob.any()
    assert not made.thresh_mask.any()
    assert not made.prob_mask.all()


@pytest.mark.parametrize("recipe", ["seed", "dbnet"])
@pytest.mark.parametrize(
    "polygon",
    [
        [[5, 5], [40, 5], [70, 5]],  # a line
        [[5, 5], [5, 5], [5, 5]],  # a point
        [[10, 10], [50, 50], [50, 10], [10, 50]],  # a bow tie of no net area
        [[5, 5], [6, 6]],  # too few vertices
    ],
)
def test_polygons_of_no_area_draw_nothing(recipe: str, polygon: list) -> None:
    made = make_targets([np.array(polygon, float)], [False], 80, recipe)
    assert not made.prob.any()
    assert (made.thresh == np.float32(0.3)).all()


@pytest.mark.parametrize("recipe", ["seed", "dbnet"])
@pytest.mark.parametrize(
    "polygon",
    [
        SQUARE - 200,  # outside
        SQUARE * 40 - 800,  # surrounds the image
        SQUARE * 1e30,
        SQUARE + np.array([40, 0]),  # partly outside
        ROOMS,
        [[10, 10], [70, 70], [70, 10], [12, 60]],  # crosses itself
    ],
)
def test_unlucky_polygons_follow_the_recipe(recipe: str, polygon: list) -> None:
    check_contract(make_targets([np.array(polygon, float)], [False], (80, 96), recipe), (80, 96))


@pytest.mark.parametrize("recipe", ["seed", "dbnet"])
@pytest.mark.parametrize("nudge", [0, 1e-300, 1e-160])
def test_a_vertex_given_twice_changes_nothing(recipe: str, nudge: float) -> None:
    corner = SQUARE[:1].astype(float) * [1, 0]  # at y = 0, so that the smallest nudge counts
    once = np.concatenate([corner, SQUARE[1:]])
    nudged = corner + np.array([0, nudge])
    twice = np.concatenate([corner, nudged, SQUARE[1:]])
    a, b = (make_targets([polygon], [False], 80, recipe) for polygon in (once, twice))
    assert np.abs(a.thresh - b.thresh).max() <= 1e-6


def test_a_split_polygon_keeps_every_part_in_seed_and_the_first_in_dbnet() -> None:
    seed = make_targets([ROOMS], [False], 80, "seed").prob
    dbnet = make_targets([ROOMS], [False], 80, "dbnet").prob
    assert seed[:, :40].any()
    assert seed[:, 40:].any()
    assert dbnet[:, :40].any() != dbnet[:, 40:].any()


def check_contract(made: Targets, size: tuple[int, int]) -> None:
    for field in ("prob", "prob_mask", "thresh_mask"):
        array = getattr(made, field)
        assert array.dtype == np.uint8
        assert array.shape == size
        assert array.max(initial=0) <= 1
    assert made.thresh.dtype == np.float32
    assert made.thresh.shape == size
    assert made.thresh.min() >= np.float32(0.3)
    assert made.thresh.max() <= np.float32(0.7)


coordinates = st.one_of(
    st.floats(-50, 120), st.integers(-3, 70).map(float), st.floats(-1e9, 1e9), st.just(1e300)
)
any_polygon = st.integers(1, 14).flatmap(lambda n: arrays(np.float64, (n, 2), elements=coordinates))
any_page = st.lists(st.tuples(any_polygon, st.booleans()), max_size=4)


@settings(max_examples=150, deadline=None)
@given(page=any_page, recipe=st.sampled_from(["seed", "dbnet"]))
def test_any_polygon_meets_the_contract(page: list, recipe: str) -> None:
    polygons, ignore = [p for p, _ in page], [i for _, i in page]
    before = [polygon.copy() for polygon in polygons]
    made = make_targets(polygons, ignore, (48, 64), recipe)
    check_contract(made, (48, 64))
    for polygon, copy in zip(polygons, before, strict=True):
        assert np.array_equal(polygon, copy)
    again = make_targets(polygons, ignore, (48, 64), recipe)
    assert again.thresh.tobytes() == made.thresh.tobytes()


@settings(max_examples=50, deadline=None)
@given(page=any_page, recipe=st.sampled_from(["seed", "dbnet"]), data=st.data())
def test_order_of_polygons_does_not_matter(page: list, recipe: str, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(page))
    a = make_targets([p for p, _ in page], [i for _, i in page], 48, recipe)
    b = make_targets([p for p, _ in shuffled], [i for _, i in shuffled], 48, recipe)
    for field in ("prob", "prob_mask", "thresh", "thresh_mask"):
        assert np.array_equal(getattr(a, field), getattr(b, field))


def test_no_polygons() -> None:
    made = make_targets([], [], (32, 48), RECIPES["dbnet"])
    assert not made.prob.any()
    assert made.prob_mask.all()
    assert (made.thresh == np.float32(0.3)).all()


@pytest.mark.parametrize(
    ("polygons", "ignore", "recipe", "message"),
    [
        ([SQUARE], [], "dbnet", "1 polygons but 0 ignore flags"),
        ([SQUARE[:, 0]], [False], "dbnet", r"polygon 0: expected shape \(V, 2\)"),
        ([SQUARE * np.nan], [False], "dbnet", "polygon 0: has a coordinate that is not finite"),
        ([SQUARE], [False], "sead", "unknown recipe 'sead'; one of seed, dbnet"),
    ],
)
def test_wrong_arguments(polygons: list, ignore: list, recipe: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_targets(polygons, ignore, 80, recipe)


def shoelace(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def test_area_far_from_the_origin() -> None:
    far = Polygons.from_list([SQUARE.astype(float) + 1e9, SQUARE[::-1]], [False, False])
    assert far.areas().tolist() == [1600, -1600]


@settings(max_examples=50, deadline=None)
@given(polygons=st.lists(arrays(np.float64, (5, 2), elements=st.integers(-99, 99)), max_size=5))
def test_areas_of_all_polygons_at_once(polygons: list) -> None:
    polygons = [polygon[: 3 + number % 3] for number, polygon in enumerate(polygons)]
    areas = Polygons.from_list(polygons, [False] * len(polygons)).areas()
    assert areas.tolist() == [shoelace(polygon) for polygon in polygons]


PAGE = """
import numpy as np
from ocr_precompute.parameters import RECIPES
from ocr_precompute.targets.maps import make_targets
box = np.array([[9, 9], [60, 12], [58, 30], [8, 28.0]])
bent = np.array([[5, 40], [30, 35], [60, 40], [60, 55], [30, 50], [5, 55.0]])
outside = box + 50
for recipe in RECIPES:
    make_targets([box, bent, outside, box], [False, False, False, True], (64, 80), recipe)
"""


@pytest.mark.time
def test_the_kernel_is_compiled_once_for_all_processes(tmp_path: Path) -> None:
    """And whatever any recipe draws on a page needs no more."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def kept(code: str) -> dict[str, int]:
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}

    first = kept("from ocr_precompute.targets.maps import compile_kernel; compile_kernel()")
    assert first
    assert kept(PAGE) == first
