"""Precision, recall and H-mean, by hand and against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ocr.metrics.hmean import DetectionHmean
from ocr.metrics.icdar import MatchCounts, match_polygons


def box(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


A, B, C = box(0, 0, 10, 10), box(20, 0, 10, 10), box(40, 0, 10, 10)


@pytest.mark.parametrize(
    ("detected", "annotated", "ignore", "counts"),
    [
        ([A, B], [A, B], [False, False], (2, 2, 2)),
        ([A], [A, B], [False, False], (1, 2, 1)),
        ([A, B, C], [A], [False], (1, 1, 3)),
        ([], [A], [False], (0, 1, 0)),
        ([A], [], [], (0, 0, 1)),
        ([], [], [], (0, 0, 0)),
        # an IoU of exactly one half does not count, a little more does
        ([box(0, 0, 5, 10)], [A], [False], (0, 1, 1)),
        ([box(0, 0, 5.1, 10)], [A], [False], (1, 1, 1)),
        # a second detection of the same text is wrong
        ([A, box(0, 0, 10, 9)], [A], [False], (1, 1, 2)),
        # one detection over two texts matches neither
        ([box(0, 0, 30, 10)], [A, B], [False, False], (0, 2, 1)),
        # don't-care regions take detections with them, and are not asked for
        ([A, B], [A, B], [False, True], (1, 1, 1)),
        ([box(20, 0, 4, 4)], [B], [True], (0, 0, 0)),
        # half of it inside is not more than half
        ([box(25, 0, 10, 10)], [B], [True], (0, 0, 1)),
        ([box(24, 0, 10, 10)], [B], [True], (0, 0, 0)),
        # what has no area matches nothing
        ([np.zeros((4, 2))], [np.zeros((4, 2))], [False], (0, 1, 1)),
        ([np.zeros((2, 2))], [A], [False], (0, 1, 1)),
    ],
)
def test_by_hand(detected: list, annotated: list, ignore: list, counts: tuple) -> None:
    assert match_polygons(detected, annotated, ignore).counts == counts


def test_ious_of_pairs() -> None:
    found = match_polygons([B, box(0, 0, 8, 10), A], [A, B, C], [False] * 3)
    assert found.counts == (2, 3, 3)
    assert found.ious.tolist() == pytest.approx([0.8, 1.0])
    assert match_polygons([], [A], [False]).ious.shape == (0,)


def brute_force(detected: list, annotated: list, ignore: list) -> tuple[int, int, int]:
    """Every pair, one after the other, as the competition's rules are worded."""
    found, wanted = [
        [shapely.make_valid(shapely.Polygon(p)) for p in x] for x in (detected, annotated)
    ]
    care = [
        d
        for d in found
        if not any(
            skip and shapely.area(shapely.intersection(d, g)) > shapely.area(d) / 2
            for g, skip in zip(wanted, ignore, strict=True)
        )
    ]
    matched: set[int] = set()
    for g, skip in zip(wanted, ignore, strict=True):
        for number, d in enumerate(care):
            common = shapely.area(shapely.intersection(d, g))
            union = shapely.area(d) + shapely.area(g) - common
            if not skip and number not in matched and common > 0 and common / union > 0.5:
                matched.add(number)
                break
    return len(matched), ignore.count(False), len(care)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_against_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)

    def polygons(count: int) -> list[np.ndarray]:
        shapes = []
        for _ in range(count):
            x, y, width, height = (
                random.uniform(0, 60, 2).tolist() + random.uniform(3, 30, 2).tolist()
            )
            shapes.append(box(x, y, width, height) + random.normal(0, 1.5, (4, 2)))
        return shapes

    annotated = polygons(random.integers(0, 9))
    detected = polygons(random.integers(0, 5))
    detected += [p + random.normal(0, 1, p.shape) for p in annotated if random.random() < 0.7]
    ignore = (random.random(len(annotated)) < 0.3).tolist()
    found = match_polygons(detected, annotated, ignore)
    assert found.counts == brute_force(detected, annotated, ignore)
    assert found.detected.sum() == found.annotated.sum() == found.counts.matched


Rectangle = tuple[int, int, int, int]  # left, top, right, bottom


def area(rectangle: Rectangle) -> int:
    left, top, right, bottom = rectangle
    return max(0, right - left) * max(0, bottom - top)


def common_area(a: Rectangle, b: Rectangle) -> int:
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def official(
    detected: list[Rectangle], annotated: list[Rectangle], ignore: list[bool]
) -> tuple[int, int, int]:
    """The rules of ICDAR 2015's own script for one image, in whole numbers."""
    dont_care = {
        number
        for number, d in enumerate(detected)
        if any(
            2 * common_area(d, g) > area(d)
            for g, skip in zip(annotated, ignore, strict=True)
            if skip
        )
    }
    matched: set[int] = set()
    for g, skip in zip(annotated, ignore, strict=True):
        for number, d in enumerate(detected):
            common = common_area(d, g)
            if (
                not skip
                and number not in matched
                and number not in dont_care
                and 2 * common > area(d) + area(g) - common
            ):
                matched.add(number)
                break
    return len(matched), ignore.count(False), len(detected) - len(dont_care)


def test_against_the_official_rules_on_whole_numbers() -> None:
    """Small rectangles of whole numbers meet often at exactly one half, of union or area."""
    random = np.random.default_rng(0)

    def rectangles(count: int) -> list[Rectangle]:
        corners = random.integers(0, 5, (count, 2))
        return [
            (x, y, x + w, y + h)
            for x, y, w, h in np.hstack([corners, random.integers(1, 5, (count, 2))]).tolist()
        ]

    halves = 0
    for _ in range(2000):
        detected, annotated = rectangles(random.integers(0, 7)), rectangles(random.integers(0, 7))
        ignore = (random.random(len(annotated)) < 0.3).tolist()
        polygons = [
            [box(x, y, r - x, b - y) for x, y, r, b in part] for part in (detected, annotated)
        ]
        counts = match_polygons(*polygons, ignore).counts
        assert counts == official(detected, annotated, ignore), (detected, annotated, ignore)
        halves += any(
            3 * common_area(d, g) == area(d) + area(g) for d in detected for g in annotated
        )
    assert halves > 200


def test_counts_are_summed_before_they_are_divided() -> None:
    metric = DetectionHmean()
    metric.update(MatchCounts(1, 1, 1))
    metric.update(MatchCounts(1, 9, 3))
    values = {name: float(value) for name, value in metric.compute().items()}
    assert values == pytest.approx({"precision": 0.5, "recall": 0.2, "hmean": 2 / 7})
    metric.reset()
    metric.update(MatchCounts(0, 0, 0))
    assert {float(value) for value in metric.compute().values()} == {0.0}


def test_large_counts_are_exact() -> None:
    metric = DetectionHmean()
    metric.update(MatchCounts(2**40, 2**40 + 1, 2**40))
    metric.update(MatchCounts(1, 0, 1))
    assert metric.counts.tolist() == [2**40 + 1] * 3
    assert metric.counts.dtype == torch.int64
