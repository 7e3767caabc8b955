"""What compiled code offsets and fills is, to the pixel, what Clipper offsets and OpenCV fills."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pyclipper
import pytest

from ocr_precompute.parameters import RECIPES
from ocr_precompute.samples import Polygons
from ocr_precompute.targets import offsets
from ocr_precompute.targets.convex import offset_convex
from ocr_precompute.targets.filling import fill
from ocr_precompute.targets.maps import draw_into, draw_targets

MANY = 8_000  # polygons of each kind

# ------------------------------------------------------------------------------- random polygons


def sides(random: np.random.Generator) -> tuple[float, float]:
    """Width and height of a word: anything from a speck to a headline."""
    size = np.exp(random.uniform(np.log(2), np.log(400)))
    aspect = np.exp(random.uniform(-1, 3.5))
    return size * aspect**0.5, size / aspect**0.5


def turned(polygon: np.ndarray, random: np.random.Generator, most: float) -> np.ndarray:
    angle = random.uniform(-most, most)
    cosine, sine = np.cos(angle), np.sin(angle)
    return polygon @ np.array([[cosine, sine], [-sine, cosine]]) + random.uniform(-50, 800, 2)


def rectangle(random: np.random.Generator) -> np.ndarray:
    width, height = sides(random)
    return np.array([[0, 0], [width, 0], [width, height], [0, height]])


def word(random: np.random.Generator) -> np.ndarray:
    """A rectangle that is turned a little."""
    return turned(rectangle(random), random, 0.1)


def turned_word(random: np.random.Generator) -> np.ndarray:
    """A rectangle at any angle, in whole pixels or not; or along the axes."""
    kind = random.integers(3)
    found = turned(rectangle(random), random, 0.0 if kind == 2 else np.pi)
    return np.rint(found) if kind else found


def quad(random: np.random.Generator) -> np.ndarray:
    """Four points that a hand has set."""
    found = rectangle(random)
    return turned(found + random.normal(0, 0.1, (4, 2)) * found.max(axis=0).min(), random, np.pi)


def small_quad(random: np.random.Generator) -> np.ndarray:
    """Any four points near each other, in whole pixels."""
    return random.integers(0, int(random.uniform(3, 40)), (4, 2)).astype(float)


def polygon(random: np.random.Generator) -> np.ndarray:
    """Up to eleven points of an ellipse."""
    angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 12)))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * sides(random) + random.uniform(0, 9)


KINDS = (word, turned_word, quad, small_quad, polygon)
Kind = Callable[[np.random.Generator], np.ndarray]


def some(kind: Kind, count: int, random: np.random.Generator) -> Polygons:
    """Polygons of a kind, either way around, beginning anywhere."""
    found = []
    for _ in range(count):
        one = kind(random)
        found.append(np.roll(one[:: random.choice([-1, 1])], random.integers(len(one)), axis=0))
    return Polygons.from_list(found, [False] * count)


def reaches(polygons: Polygons, random: np.random.Generator) -> np.ndarray:
    """By how much to offset them: as labels do, or more, or less, or by whole pixels."""
    edges = polygons.following() - polygons.points
    around = np.add.reduceat(np.hypot(*edges.T), polygons.starts[:-1])
    found = np.abs(polygons.areas()) * 0.84 / np.maximum(around, 1e-9)
    kind = random.integers(10, size=len(found))
    found = np.where(kind < 3, found * random.uniform(0.1, 1.3, len(found)), found)
    return np.where(kind == 9, np.rint(found), found)


# ----------------------------------------------------------------------------------------- offset


def by_clipper(points: np.ndarray, distance: float) -> list[list[list[int]]]:
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(points.tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    parts: list[list[list[int]]] = offset.Execute(distance)
    return parts


def from_the_first(vertices: Sequence[list[int]]) -> list[list[int]]:
    """The same polygon, beginning with the smallest of its vertices."""
    first = min(range(len(vertices)), key=lambda i: vertices[i])
    return [*vertices[first:], *vertices[:first]]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_offsets_are_clippers_to_the_vertex(kind: Kind) -> None:
    random = np.random.default_rng(KINDS.index(kind))
    polygons = some(kind, MANY, random)
    distances = reaches(polygons, random)
    for sign in (1, -1):
        vertices, ends = offset_convex(polygons.points, polygons.starts, sign * distances)
        given = np.flatnonzero(np.diff(ends)).tolist()
        assert len(given) > MANY / 250
        for number in given:
            points = polygons.points[polygons.starts[number] : polygons.starts[number + 1]]
            parts = by_clipper(points, sign * distances[number])
            made = vertices[ends[number] : ends[number + 1]].tolist()
            shown = points.tolist(), sign * distances[number]
            assert [from_the_first(part) for part in parts] == [from_the_first(made)], shown


def test_words_of_pages_need_no_clipper() -> None:
    random = np.random.default_rng(0)
    size = random.uniform([20, 12], [200, 40], (2000, 2))
    words = [turned(np.array([[0, 0], [w, 0], [w, h], [0, h]]), random, 0.1) for w, h in size]
    polygons = Polygons.from_list(words, [False] * len(words))
    distances = offsets.offset_distances(polygons, RECIPES["dbnet"])
    for sign in (1, -1):
        _, ends = offset_convex(polygons.points, polygons.starts, sign * distances)
        assert np.mean(np.diff(ends) > 0) > 0.9


@pytest.mark.parametrize(
    "points",
    [
        [[0, 0], [60, 0], [60, 20], [30, 8], [0, 20]],  # not convex
        [[0, 0], [60, 20], [60, 0], [0, 20]],  # crosses itself
        [[30, 0], [48, 57], [0, 22], [60, 22], [12, 57]],  # goes around twice
        [[0, 0], [30, 0], [60, 0], [60, 20], [0, 20]],  # three in line
        [[0, 0], [60, 0], [60, 0.5], [0, 0.5]],  # on one line, once cut to whole pixels
        [[5, 5], [5, 5], [5, 5], [5, 5]],
        [[0, 0], [2e9, 0], [2e9, 20], [0, 20]],
        [[0, 0], [np.nan, 0], [60, 20], [0, 20]],
    ],
)
def test_what_is_not_plainly_convex_is_clippers(points: list[list[float]]) -> None:
    starts = np.array([0, len(points)])
    for distance in (5.3, -5.3):
        vertices, ends = offset_convex(np.array(points, float), starts, np.array([distance]))
        assert not len(vertices)
        assert ends.tolist() == [0, 0]


def test_an_arc_of_steps_in_doubt_is_clippers() -> None:
    points = np.array([[436, 238], [406, 241], [404, 222], [433, 220.0]])
    distance = 4.883353174873576  # at which one arc has 2.49999997 steps
    _, ends = offset_convex(
        points,
        np.array([0, 4]),
        np.array(
            [
                distance,
            ]
        ),
    )
    assert ends.tolist() == [0, 0]


def test_the_shrink_of_what_vanishes_is_clippers() -> None:
    thin = np.array([[0, 0], [60, 0], [60, 20], [0, 20.0]])
    for distance in (0.0, -9.6, -10.0, -10.4, -30.0, -1e9):
        _, ends = offset_convex(thin, np.array([0, 4]), np.array([distance]))
        assert ends.tolist() == [0, 0]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_maps_are_those_of_clipper_and_opencv(
    kind: Kind, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(len(recipe))
    pages = [some(kind, 30, random) for _ in range(8)]

    def drawn() -> list[np.ndarray]:
        targets = [draw_targets(page, (512, 640), RECIPES[recipe]) for page in pages]
        return [
            getattr(each, field)
            for each in targets
            for field in ("prob", "prob_mask", "thresh", "thresh_mask")
        ]

    def nothing(points: np.ndarray, starts: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, ...]:
        return np.zeros((0, 2), np.int32), np.zeros(len(starts), np.int64)

    def by_opencv(target: np.ndarray, *parts: np.ndarray | int) -> None:
        vertices, starts, owners, first, last, value = parts
        for owner, part in zip(owners, np.split(vertices, starts[1:-1]), strict=False):
            if first <= owner < last:
                cv2.fillPoly(target, [part], value)

    compiled = drawn()
    monkeypatch.setattr("ocr_precompute.targets.offsets.offset_convex", nothing)
    monkeypatch.setattr("ocr_precompute.targets.maps.fill", by_opencv)
    for found, expected in zip(compiled, drawn(), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_images_drawn_together_are_as_each_alone(kind: Kind, recipe: str) -> None:
    random = np.random.default_rng(len(recipe))
    pages = [some(kind, count, random) for count in (30, 0, 7)]
    pages[0].ignore[::3] = True
    size, rules = (512, 640), RECIPES[recipe]
    together = [draw_targets(Polygons.from_list([], []), size, rules) for _ in pages]
    draw_into(together, pages, rules)
    for page, found in zip(pages, together, strict=True):
        alone = draw_targets(page, size, rules)
        for field in ("prob", "prob_mask", "thresh", "thresh_mask"):
            assert np.array_equal(getattr(found, field), getattr(alone, field))


# ------------------------------------------------------------------------------------------- fill


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_filled_as_opencv_fills(kind: Kind) -> None:
    random = np.random.default_rng(KINDS.index(kind))
    polygons = some(kind, 3000, random)
    dilated, ends = offset_convex(polygons.points, polygons.starts, np.full(3000, 5.3))
    parts = np.split(polygons.points.astype(np.int32), polygons.starts[1:-1])
    parts += [part for part in np.split(dilated, ends[1:-1]) if len(part)]
    for part in parts:
        moved = part - part.min(axis=0) + random.integers(-1, 4, 2).astype(np.int32)
        height, width = np.clip(moved.max(axis=0)[::-1] + random.integers(-1, 4, 2), 1, 600)
        found, expected = (np.zeros((height, width), np.uint8) for _ in range(2))
        fill(found, moved, np.array([0, len(moved)]), np.array([0]), 0, 1, 1)
        cv2.fillPoly(expected, [moved], 1)
        assert np.array_equal(found, expected), (moved.tolist(), height, width)
