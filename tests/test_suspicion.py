"""What makes a sample suspicious, on arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocr_precompute.reports.overlaps import drawn, matched, overlaps
from ocr_precompute.reports.suspicion import Usual, forms, score, signs, surprise
from ocr_precompute.samples import Fate, Polygons


def box(x: float, y: float, width: float = 60, height: float = 12) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def turned(polygon: np.ndarray, degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    middle = polygon.mean(axis=0)
    return (polygon - middle) @ np.array([[cosine, sine], [-sine, cosine]]) + middle


def polygons(*each: np.ndarray) -> Polygons:
    return Polygons.from_list(list(each), [False] * len(each))


USUAL = Usual.of(forms(polygons(*[box(5, 20 * i, 50 + 3 * i, 11 + i % 3) for i in range(20)])))


def shown(*each: np.ndarray, fates: list[Fate] | None = None) -> dict[str, list[int]]:
    given = np.array(fates or [Fate.TRAINS] * len(each), np.uint8)
    found = signs(polygons(*each), given, (400, 300), USUAL)
    return {sign: np.flatnonzero(flags).tolist() for sign, flags in found.items() if flags.any()}


def test_an_ordinary_page_shows_nothing() -> None:
    assert shown(box(10, 10), box(10, 40), turned(box(100, 80), 20)) == {}


def test_signs_of_single_polygons() -> None:
    assert shown(box(10, 10), box(10, 40, 12, 3)) == {"tiny": [1]}
    assert shown(box(10, 10), box(270, 40)) == {"outside": [1]}
    assert shown(box(10, 10), box(10, 100, 280, 200)) == {"shape": [1]}
    assert shown(box(10, 10), box(12, 11)) == {"overlap": [0, 1]}
    assert shown(box(240, 40, 61.5)) == {}  # rounded outwards by a tool
    fates = [Fate.NO_AREA, Fate.COLLAPSED, Fate.OUTSIDE, Fate.SMALL]
    apart = [box(10, 50 * i, 60, 12) for i in range(4)]
    assert shown(*apart, fates=fates) == {"vanished": [0, 1, 2], "outside": [2], "tiny": [3]}


def test_dont_care_is_as_it_is() -> None:
    both = [box(10, 10, 12, 2), box(10, 10, 12, 2)]
    assert shown(*both, fates=[Fate.ANNOTATED] * 2) == {}
    assert shown(box(10, 10), box(10, 10), fates=[Fate.TRAINS, Fate.ANNOTATED]) == {}


def test_a_bent_line_has_the_height_of_a_straight_one() -> None:
    angles = np.linspace(0, np.pi, 30)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    bent = np.concatenate([around * 106, around[::-1] * 94])
    straight = box(0, 0, 100 * np.pi, 12)
    assert np.exp(forms(polygons(bent, straight))[0]) == pytest.approx([12, 12], rel=0.05)


def test_a_split_without_texts() -> None:
    nothing = Polygons.from_list([], [])
    usual = Usual.of(forms(nothing))
    assert not signs(nothing, np.zeros(0, np.uint8), (10, 10), usual)["shape"].any()
    assert not usual.unusual(forms(polygons(box(0, 0)))).any()


def test_what_two_polygons_share() -> None:
    exact = overlaps(polygons(box(0, 0, 10, 10)), polygons(box(5, 0, 10, 10)), 0.2)
    assert exact.shared.tolist() == [50]
    assert exact.iou == pytest.approx([1 / 3])
    assert exact.covered.tolist() == [[0.5], [0.5]]
    shared, areas = drawn(box(0, 0, 100, 100), turned(box(0, 0, 100, 100), 45))
    assert shared == pytest.approx(8284, rel=0.05)  # a regular octagon
    assert areas == pytest.approx((10000, 10000), rel=0.05)
    assert len(overlaps(polygons(box(0, 0)), polygons(box(0, 50)), 0.0).first) == 0


def test_each_prediction_belongs_to_one_label() -> None:
    labels = polygons(box(0, 0), box(0, 100), box(0, 200))
    predictions = polygons(box(1, 1), box(0, 0), box(40, 100), turned(box(0, 200), 2))
    of_label, of_prediction = matched(labels, predictions, 0.5)
    assert of_label.tolist() == [True, False, True]
    assert of_prediction.tolist() == [False, True, False, True]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=30))
def test_surprise_is_a_share(counts: list[tuple[int, int]]) -> None:
    shown = np.array([min(pair) for pair in counts])
    of = np.array([max(pair) for pair in counts])
    found = surprise(shown, of)
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found < 1)).all()
    assert (found[shown == 0] == 0).all()


def test_what_is_common_surprises_nobody() -> None:
    of = np.full(50, 20)
    common = surprise(np.full(50, 10), of)
    assert common.max() < 0.05
    rare = np.zeros(50, int)
    rare[[3, 7]] = 1, 8
    found = surprise(rare, of)
    assert 0.1 < found[3] < found[7]


def test_scores_say_why() -> None:
    of = {"tiny": np.full(20, 10), "overlap": np.full(20, 10)}
    tiny, overlap = np.zeros((2, 20), int)
    tiny[4], overlap[[4, 9]] = 9, (1, 2)
    damaged = np.arange(20) == 11
    scores = score({"tiny": tiny, "overlap": overlap}, of, {"damaged": damaged})
    assert set(scores.order()[:3].tolist()) == {4, 9, 11}
    assert scores.reasons(4) == ["tiny", "overlap"]
    assert scores.reasons(11) == ["damaged"]
    assert scores.reasons(0) == []
    assert ((scores.total >= 0) & (scores.total <= 1)).all()


def test_disagreement_outweighs_small_print() -> None:
    of = np.full(40, 10)
    tiny, wrong = np.zeros((2, 40), int)
    tiny[:8], wrong[20] = 9, 1
    both = {"tiny": tiny, "unlabelled": wrong}
    assert score({"tiny": tiny}, {"tiny": of}, {}).order()[0] == 0
    assert score(both, dict.fromkeys(both, of), {}).order()[0] == 20
