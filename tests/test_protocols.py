"""Protocols of evaluation: worked by hand, by counting, and against their rules in loops."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocr.metrics.cleval import character_centres, cleval, pseudo_length
from ocr.metrics.ctw1500 import ctw1500
from ocr.metrics.deteval import ICDAR_2013, TOTAL_TEXT, Constraints, deteval, totaltext
from ocr.metrics.icdar import icdar
from ocr.metrics.protocols import PROTOCOLS
from ocr.metrics.tally import Tally, total


def box(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


# Two texts of 10 x 10 = 100 square pixels, 10 apart.
A, B = box(0, 0, 10, 10), box(20, 0, 10, 10)


@pytest.mark.parametrize(
    ("detected", "annotated", "of_2013", "of_total_text"),
    [
        # The text itself, and nothing, and a detection of nothing.
        ([A], [A], (1, 1, 1, 1), (1, 1, 1, 1)),
        ([], [A], (0, 1, 0, 0), (0, 1, 0, 0)),
        ([A], [], (0, 0, 0, 1), (0, 0, 0, 1)),
        ([], [], (0, 0, 0, 0), (0, 0, 0, 0)),
        # 80 of 100 square pixels: area recall 0.8, area precision 1. 79: too little for 2013.
        ([box(0, 0, 8, 10)], [A], (1, 1, 1, 1), (1, 1, 1, 1)),
        ([box(0, 0, 7.9, 10)], [A], (0, 1, 0, 1), (1, 1, 1, 1)),
        ([box(0, 0, 6.9, 10)], [A], (0, 1, 0, 1), (0, 1, 0, 1)),
        # All of the text, and of the detection 100 of 250 = 0.4, of 260 = 0.385, of 160 = 0.625.
        ([box(0, 0, 25, 10)], [A], (1, 1, 1, 1), (0, 1, 0, 1)),
        ([box(0, 0, 26, 10)], [A], (0, 1, 0, 1), (0, 1, 0, 1)),
        ([box(0, 0, 16, 10)], [A], (1, 1, 1, 1), (1, 1, 1, 1)),
        # In two pieces: area recall 0.5 + 0.5, area precision 1 each; 0.8 for the text and each.
        ([box(0, 0, 5, 10), box(5, 0, 5, 10)], [A], (0.8, 1, 1.6, 2), (0.8, 1, 1.6, 2)),
        # In eight pieces that are 8 x 0.1 of it.
        ([box(x, 0, 1, 10) for x in range(8)], [A], (0.8, 1, 6.4, 8), (0.8, 1, 6.4, 8)),
        # In two pieces that are 0.4 + 0.35 of it: enough for 0.7, too little for 0.8.
        ([box(0, 0, 4, 10), box(4, 0, 3.5, 10)], [A], (0, 1, 0, 2), (0.8, 1, 1.6, 2)),
        # A second detection lies in the text by 20 of 200 square pixels, 0.1: one pair is left.
        ([box(0, 0, 8, 10), box(8, 0, 20, 10)], [A], (1, 1, 1, 2), (1, 1, 1, 2)),
        # The text twice: two pieces of enough area precision, 1 + 1 of area recall.
        ([A, A], [A], (0.8, 1, 1.6, 2), (0.8, 1, 1.6, 2)),
        # Two texts as one: area recall 1 each, area precision 100 / 300 + 100 / 300 = 0.667.
        ([box(0, 0, 30, 10)], [A, B], (2, 2, 1, 1), (1.6, 2, 0.8, 1)),
        # And 60 apart: 100 / 700 + 100 / 700 = 0.286.
        ([box(0, 0, 70, 10)], [A, box(60, 0, 10, 10)], (0, 2, 0, 1), (0, 2, 0, 1)),
        # All of one text, 20 of 100 of the other: one pair is left, of 100 / 220 = 0.455.
        ([box(0, 0, 22, 10)], [A, B], (1, 2, 1, 1), (0, 2, 0, 1)),
        # What has no area matches nothing.
        ([np.zeros((4, 2)), np.zeros((2, 2))], [np.zeros((4, 2))], (0, 1, 0, 2), (0, 1, 0, 2)),
    ],
)
def test_deteval_by_hand(
    detected: list, annotated: list, of_2013: tuple, of_total_text: tuple
) -> None:
    care = [False] * len(annotated)
    assert deteval(detected, annotated, care) == pytest.approx(of_2013)
    assert totaltext(detected, annotated, care) == pytest.approx(of_total_text)


@pytest.mark.parametrize(
    ("detected", "annotated", "of_2013", "of_total_text"),
    [
        # 6 of 10 of it in don't-care: over 0.4 and over 0.5. Exactly half: over 0.4 alone.
        ([box(24, 0, 10, 10)], [B], (0, 0, 0, 0), (0, 0, 0, 0)),
        ([box(25, 0, 10, 10)], [B], (0, 0, 0, 0), (0, 0, 0, 1)),
        # Exactly 0.4 of it: not over.
        ([box(26, 0, 10, 10)], [B], (0, 0, 0, 1), (0, 0, 0, 1)),
        # All of two regions, which are 0.333 of it each, 0.667 together.
        ([box(0, 0, 30, 10)], [A, B], (0, 0, 0, 0), (0, 0, 0, 1)),
    ],
)
def test_dont_care_of_deteval_by_hand(
    detected: list, annotated: list, of_2013: tuple, of_total_text: tuple
) -> None:
    ignore = [True] * len(annotated)
    assert deteval(detected, annotated, ignore) == of_2013
    assert totaltext(detected, annotated, ignore) == of_total_text


def test_a_text_beside_dont_care_is_matched_as_if_that_was_not_there() -> None:
    # The detection is 100 of the text and 20 of the don't-care region, 20 / 120 = 0.167 of it.
    assert deteval([box(0, 0, 12, 10)], [A, box(10, 0, 10, 10)], [False, True]) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("detected", "annotated", "ignore", "tally"),
    [
        ([A, B], [A, B], [False, False], (2, 2, 2, 2)),
        ([], [A], [False], (0, 1, 0, 0)),
        # An IoU of one half is not above it.
        ([box(0, 0, 5, 10)], [A], [False], (0, 1, 0, 1)),
        ([box(0, 0, 5.1, 10)], [A], [False], (1, 1, 1, 1)),
        # Of two detections of a text one is right.
        ([A, box(0, 0, 10, 9)], [A], [False], (1, 1, 1, 2)),
        # Both have the text of height 8 as their best, IoU 1 and 7.5 / 8; nobody that of height 10.
        ([box(0, 0, 10, 8), box(0, 0, 10, 7.5)], [A, box(0, 0, 10, 8)], [False] * 2, (1, 2, 1, 2)),
        # Don't-care takes a detection that fits it, and none that merely lies in it.
        ([box(0, 0, 6, 10)], [A], [True], (0, 0, 0, 0)),
        ([box(0, 0, 4, 10)], [A], [True], (0, 0, 0, 1)),
        # The detection fits the text better (IoU 0.9) than the don't-care region (0.8).
        ([box(0, 0, 9, 10)], [A, box(0, 0, 9, 8)], [False, True], (1, 1, 1, 1)),
        ([np.zeros((4, 2)), np.zeros((2, 2))], [np.zeros((4, 2))], [False], (0, 1, 0, 2)),
    ],
)
def test_ctw1500_by_hand(detected: list, annotated: list, ignore: list, tally: tuple) -> None:
    assert ctw1500(detected, annotated, ignore) == tally


def test_what_ctw1500_counts_otherwise_than_icdar() -> None:
    """Where texts lie on each other ICDAR gives each any detection that fits."""
    detected, annotated = [box(0, 0, 10, 8), box(0, 0, 10, 7.5)], [A, box(0, 0, 10, 8)]
    assert icdar(detected, annotated, [False, False]) == (2, 2, 2, 2)
    assert ctw1500(detected, annotated, [False, False]) == (1, 2, 1, 2)
    assert icdar([box(0, 0, 4, 10)], [A], [True]) == (0, 0, 0, 0)


# A word of 4 characters, whose middles are at x = 5, 15, 25, 35, and one of 2, at x = 55 and 65.
FOUR, TWO = box(0, 0, 40, 10), box(50, 0, 20, 10)


@pytest.mark.parametrize(
    ("detected", "annotated", "lengths", "tally"),
    [
        ([FOUR, TWO], [FOUR, TWO], [4, 2], (6, 6, 6, 6)),
        ([], [FOUR], [4], (0, 4, 0, 0)),
        ([], [], [], (0, 0, 0, 0)),
        # x up to 22: the characters at 5 and 15.
        ([box(0, 0, 22, 10)], [FOUR], [4], (2, 4, 2, 2)),
        # In two pieces of two characters: all four are found, less 2 - 1 for the text.
        ([box(0, 0, 20, 10), box(20, 0, 20, 10)], [FOUR], [4], (3, 4, 4, 4)),
        # In four pieces: 4 found, less 4 - 1.
        ([box(x, 0, 10, 10) for x in range(0, 40, 10)], [FOUR], [4], (1, 4, 4, 4)),
        # Two words as one: 6 found, less 2 - 1 for the detection.
        ([box(0, 0, 70, 10)], [FOUR, TWO], [4, 2], (6, 6, 5, 6)),
        # The word, and two of its characters again: 4 found less 1; 4 right of 4 + 2.
        ([FOUR, box(0, 0, 20, 10)], [FOUR], [4], (3, 4, 4, 6)),
        # Of the detection 400 of 800 square pixels are text, one half; of 1000, 0.4: none of its
        # characters count, and it has ten of its own, as it is ten times as wide as high.
        ([box(0, 0, 80, 10)], [FOUR], [4], (4, 4, 4, 4)),
        ([box(0, 0, 100, 10)], [FOUR], [4], (0, 4, 0, 10)),
        # Four times as wide as high, and where no text is: four characters of its own.
        ([box(0, 50, 40, 10)], [FOUR], [4], (0, 4, 0, 4)),
        # Most of a word, and the first of the other's characters, 8 x 10 of 58 x 10: both match.
        ([box(0, 0, 58, 10)], [FOUR, TWO], [4, 2], (5, 6, 4, 5)),
        # It reaches into the other word, and holds no character of it.
        ([box(0, 0, 54, 10)], [FOUR, TWO], [4, 2], (4, 6, 4, 4)),
        # A word that is higher than wide is read along its height: at y = 5, 15, 25, 35.
        ([box(0, 0, 10, 20)], [box(0, 0, 10, 40)], [4], (2, 4, 2, 2)),
        # What has no area matches nothing, and counts as one character.
        ([np.zeros((2, 2))], [FOUR], [4], (0, 4, 0, 1)),
    ],
)
def test_cleval_by_hand(detected: list, annotated: list, lengths: list, tally: tuple) -> None:
    assert cleval(detected, annotated, [False] * len(annotated), lengths) == tally


@pytest.mark.parametrize(
    ("detected", "annotated", "ignore", "tally"),
    [
        # 3 of 5 of it in don't-care; then one half, so that its four characters are wrong.
        ([box(16, 0, 40, 10)], [FOUR], [True], (0, 0, 0, 0)),
        ([box(20, 0, 40, 10)], [FOUR], [True], (0, 0, 0, 4)),
        # Two regions are 400 and 200 of its 1200 square pixels: one half again; 1180: more.
        ([box(0, 0, 120, 10)], [FOUR, TWO], [True, True], (0, 0, 0, 10)),
        ([box(0, 0, 118, 10)], [FOUR, TWO], [True, True], (0, 0, 0, 0)),
        # Don't-care around a text does not take what finds the text.
        ([FOUR], [FOUR, box(-50, -50, 200, 200)], [False, True], (4, 4, 4, 4)),
    ],
)
def test_dont_care_of_cleval_by_hand(
    detected: list, annotated: list, ignore: list, tally: tuple
) -> None:
    assert cleval(detected, annotated, ignore, [4, 2][: len(annotated)]) == tally


def test_where_characters_are() -> None:
    assert character_centres(FOUR, 4).tolist() == [[5, 5], [15, 5], [25, 5], [35, 5]]
    # Vertices at other places along the same outline change nothing.
    outline = np.array([[0, 0], [2, 0], [40, 0], [40, 10], [30, 10], [0, 10]])
    assert character_centres(outline, 4) == pytest.approx(character_centres(FOUR, 4))
    # A text around a corner: 20 along and 20 down at the top, 10 and 10 at the bottom.
    corner = np.array([[0, 0], [20, 0], [20, 20], [10, 20], [10, 10], [0, 10]])
    assert character_centres(corner, 2).tolist() == [[7.5, 5], [15, 12.5]]
    assert character_centres(box(0, 0, 10, 40), 2).tolist() == [[5, 30], [5, 10]]
    assert character_centres(np.zeros((0, 2)), 3).shape == (0, 2)


def test_how_many_characters_a_polygon_may_have() -> None:
    turned = np.array([[0, 0], [30, 30], [20, 40], [-10, 10]])  # 30 x 10, times the root of 2
    shapes = [A, box(0, 0, 36, 10), box(0, 0, 10, 36), turned, box(0, 0, 500, 1), np.zeros((4, 2))]
    assert [pseudo_length(each) for each in shapes] == [1, 4, 4, 3, 10, 1]


# ------------------------------------------------------------------------- by counting

WIDTH, HEIGHT, STEP, LENGTH = 40, 10, 50, 4  # of each text: pixels, pixels, pixels, characters
Fate = tuple[str, int]  # what became of a text; in how many pieces it was found


def page(fates: list[Fate], alarms: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Detections and texts of a column of texts; of two that are merged each lies beside the other.

    A text in 2 or 4 pieces is cut between its characters.
    """
    detected, annotated = [], []
    for row, (fate, pieces) in enumerate(fates):
        y = 3 * HEIGHT * row
        annotated.append(box(0, y, WIDTH, HEIGHT))
        if fate == "found":
            detected.append(box(0, y, WIDTH, HEIGHT))
        if fate == "pieces":
            width = WIDTH / pieces
            detected += [box(width * piece, y, width, HEIGHT) for piece in range(pieces)]
        if fate == "merged":
            annotated.append(box(STEP, y, WIDTH, HEIGHT))
            detected.append(box(0, y, STEP + WIDTH, HEIGHT))
    detected += [box(1000, 3 * HEIGHT * row, WIDTH, HEIGHT) for row in range(alarms)]
    return detected, annotated


def counted(name: str, fates: list[Fate], alarms: int) -> Tally:
    """What a protocol must say of such a page.

    A piece has an IoU of at most one half with its text, and so has what covers two texts, whose
    area precision is 400 / 900 for each and 800 / 900 for both.
    """
    found = sum(fate == "found" for fate, _ in fates)
    pieces = [count for fate, count in fates if fate == "pieces"]
    merged = sum(fate == "merged" for fate, _ in fates)
    texts, detections = len(fates) + merged, found + sum(pieces) + merged + alarms
    if name in ("icdar", "ctw1500"):
        return Tally(found, texts, found, detections)
    if name == "cleval":
        whole = LENGTH * (found + len(pieces) + 2 * merged)
        splits = sum(count - 1 for count in pieces)
        return Tally(whole - splits, LENGTH * texts, whole - merged, whole + LENGTH * alarms)
    each = 1 if name == "deteval" else 0.8
    recalled = found + 0.8 * len(pieces) + 2 * each * merged
    return Tally(recalled, texts, found + 0.8 * sum(pieces) + each * merged, detections)


FATES = st.lists(
    st.tuples(st.sampled_from(["found", "pieces", "merged", "missed"]), st.sampled_from([2, 4])),
    max_size=6,
)


def score(name: str, detected: list, annotated: list, ignore: list[bool] | None = None) -> Tally:
    protocol = PROTOCOLS[name]
    lengths = [[LENGTH] * len(annotated)] if protocol.counts_characters else []
    return protocol.score(detected, annotated, ignore or [False] * len(annotated), *lengths)


@pytest.mark.parametrize("name", PROTOCOLS)
@given(FATES, st.integers(0, 3), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_pages_that_can_be_counted(name: str, fates: list, alarms: int, random: Random) -> None:
    """Also in any order of texts and of detections, with any first vertex of a detection."""
    detected, annotated = page(fates, alarms)
    expected = counted(name, fates, alarms)
    in_order = score(name, detected, annotated)
    assert in_order == pytest.approx(expected)
    random.shuffle(detected)
    random.shuffle(annotated)
    assert score(name, [np.roll(p, 1, axis=0) for p in detected], annotated) == in_order


@pytest.mark.parametrize("name", PROTOCOLS)
@given(st.lists(FATES, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_images_in_any_order(name: str, pages: list, random: Random) -> None:
    tallies = [score(name, *page(fates, number % 3)) for number, fates in enumerate(pages)]
    before = total(tallies)
    random.shuffle(tallies)
    assert total(tallies) == before
    assert before.annotated == sum(each.annotated for each in tallies)
    assert 0 <= before.precision <= 1
    assert 0 <= before.recall <= 1


@pytest.mark.parametrize("name", PROTOCOLS)
def test_everything_and_nothing(name: str) -> None:
    random = np.random.default_rng(0)
    texts = [
        box(60 * column, 30 * row, 50, 20) + random.uniform(-4, 4, (4, 2))
        for column in range(5)
        for row in range(5)
    ]
    perfect, none = score(name, texts, texts), score(name, [], texts)
    assert (perfect.precision, perfect.recall, perfect.hmean) == (1, 1, 1)
    assert (none.precision, none.recall, none.hmean) == (0, 0, 0)
    # Nothing is asked for, so nothing is wrong either.
    assert score(name, texts, texts, [True] * 25) == (0, 0, 0, 0)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_curved_text_that_was_found(name: str) -> None:
    angles = np.linspace(np.pi, 0, 9)
    circle = np.stack([np.cos(angles), -np.sin(angles)], axis=1)
    arch = np.concatenate([100 * circle, 70 * circle[::-1]]) + 200
    shifted = arch + np.array([2, 1])
    for tally in (score(name, [arch], [arch]), score(name, [shifted], [arch])):
        assert tally.hmean == 1


ODD = [
    np.array([[0, 0], [10, 10], [10, 0], [0, 10]]),  # crosses itself
    np.array([[0, 0], [10, 0], [30, 0], [10, 0], [10, 10], [0, 10]]),  # has a spike
    np.array([[0, 0], [10, 0], [20, 0], [5, 0]]),  # lies on a line
    np.array([[0, 0], [10, 0], [10, 10], [0, 10]] * 2),  # goes round twice
    np.zeros((5, 2)),
    np.zeros((1, 2)),
    np.zeros((0, 2)),
]


@pytest.mark.parametrize("name", PROTOCOLS)
@given(st.lists(st.integers(0, 6), max_size=5), st.lists(st.integers(0, 8), max_size=5))
@settings(max_examples=40, deadline=None)
def test_odd_polygons(name: str, detected: list[int], annotated: list[int]) -> None:
    """None is too odd to be counted. Those from 7 on are don't-care."""
    wanted = [ODD[number % 7] for number in annotated]
    ignore = [number >= 7 for number in annotated]
    tally = score(name, [ODD[number] for number in detected], wanted, ignore)
    assert tally.detected >= 0
    assert 0 <= tally.precision <= 1
    assert 0 <= tally.recall <= 1


# ------------------------------------------------------------------ DetEval's rules in loops

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom


def area(rectangle: Rectangle) -> int:
    left, top, right, bottom = rectangle
    return max(0, right - left) * max(0, bottom - top)


def shares(text: Rectangle, detection: Rectangle) -> tuple[Fraction, Fraction]:
    """Area recall and area precision."""
    corners = list(zip(text, detection, strict=True))
    (left, top), (right, bottom) = map(max, corners[:2]), map(min, corners[2:])
    common = area((left, top, right, bottom))
    return Fraction(common, area(text)), Fraction(common, area(detection))


def in_loops(
    detected: list[Rectangle], annotated: list[Rectangle], ignore: list[bool], by: Constraints
) -> tuple[Fraction, int, Fraction, int]:
    """The rules as they are worded, one pair after the other, in whole numbers."""
    least_recall, least_precision = Fraction(str(by.recall)), Fraction(str(by.precision))
    care = [text for text, skip in zip(annotated, ignore, strict=True) if not skip]
    dont_care = [text for text, skip in zip(annotated, ignore, strict=True) if skip]
    kept = []
    for detection in detected:
        pairs = [shares(region, detection) for region in dont_care]
        together = sum((p for r, p in pairs if r > least_recall), Fraction(0))
        within = any(p > Fraction(str(by.dont_care)) for _, p in pairs)
        if not within and not (by.dont_care_together and together >= least_precision):
            kept.append(detection)
    table = [[shares(text, detection) for detection in kept] for text in care]
    texts, detections = [Fraction(0)] * len(care), [Fraction(0)] * len(kept)
    meets_text = [sum(r > 0 for r, _ in row) for row in table]
    meets = [sum(row[d][0] > 0 for row in table) for d in range(len(kept))]
    for t, row in enumerate(table):
        for d, (recall, precision) in enumerate(row):
            enough = recall >= least_recall and precision >= least_precision
            if meets_text[t] == meets[d] == 1 and enough:
                texts[t] = detections[d] = Fraction(1)
    for t, row in enumerate(table):
        if meets_text[t] > 1 and not texts[t]:
            free = [d for d in range(len(kept)) if not detections[d]]
            parts = [d for d in free if row[d][1] >= least_precision]
            if sum(row[d][0] for d in parts) >= least_recall:
                texts[t] = Fraction(1) if len(parts) == 1 else Fraction(str(by.split))
                for d in parts:
                    detections[d] = texts[t]
    for d in range(len(kept)):
        if meets[d] > 1 and not detections[d]:
            parts = [t for t, row in enumerate(table) if row[d][0] >= least_recall and not texts[t]]
            if sum(table[t][d][1] for t in parts) >= least_precision:
                detections[d] = Fraction(1) if len(parts) == 1 else Fraction(str(by.merge))
                for t in parts:
                    texts[t] = detections[d]
    return sum(texts, Fraction(0)), len(care), sum(detections, Fraction(0)), len(kept)


@pytest.mark.parametrize("constraints", [ICDAR_2013, TOTAL_TEXT])
def test_deteval_against_its_rules_in_loops(constraints: Constraints) -> None:
    """Small rectangles of whole numbers meet often, and often exactly at a limit."""
    random = np.random.default_rng(1)

    def rectangles(count: int) -> list[Rectangle]:
        corners = random.integers(0, 8, (count, 2))
        return [
            (x, y, x + w, y + h)
            for x, y, w, h in np.hstack([corners, random.integers(1, 6, (count, 2))]).tolist()
        ]

    points: set[Fraction] = set()
    for _ in range(300):
        detected, annotated = rectangles(random.integers(0, 8)), rectangles(random.integers(0, 8))
        ignore = (random.random(len(annotated)) < 0.2).tolist()
        polygons = [
            [box(x, y, r - x, b - y) for x, y, r, b in part] for part in (detected, annotated)
        ]
        expected = in_loops(detected, annotated, ignore, constraints)
        tally = deteval(*polygons, ignore, constraints)
        assert tally == pytest.approx([float(each) for each in expected]), (detected, annotated)
        points.add(expected[0] - expected[2])
    assert min(points) < 0 < max(points)  # there were texts in pieces, and merged ones


def test_registered_under_their_names() -> None:
    functions: dict[str, Callable[..., Tally]] = {
        "icdar": icdar,
        "ctw1500": ctw1500,
        "totaltext": totaltext,
        "deteval": deteval,
        "cleval": cleval,
    }
    assert {name: each.score for name, each in PROTOCOLS.items()} == functions
    assert [name for name, each in PROTOCOLS.items() if each.counts_characters] == ["cleval"]


def test_a_tally_of_nothing() -> None:
    assert total([]) == (0, 0, 0, 0)
    assert Tally(-1, 4, -2, 3).hmean == 0
