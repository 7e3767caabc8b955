"""CLEval, its detection part: which characters were found, less what is in pieces or run together.

Source: Baek et al. 2020, CLEval: Character-Level Evaluation for Text Detection and Recognition
Tasks (arXiv 2006.06244), with an area precision of one half, as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import shapely

from ocr.metrics.overlap import Overlap, overlap, shapes
from ocr.metrics.tally import Tally

_AREA_PRECISION = 0.5
_MOST_CHARACTERS = 10  # that a polygon is taken to hold of whose text nothing is known
_NO_SIDE = 1e-5  # pixels; a line has a shape too
_ROUNDING = 1e-3  # of ratios of sides: what is four times as wide as high has four characters
_UPRIGHT = 0.5  # width over height of a quad below which its text runs along its height


class _Characters(NamedTuple):
    """Characters of annotated texts within detections, a row for each pair of them.

    texts, detections: int64 (C,), numbers. places: int64 (C,), which character of all it is.
    """

    texts: np.ndarray
    detections: np.ndarray
    places: np.ndarray


def cleval(
    detected: Sequence[np.ndarray],
    annotated: Sequence[np.ndarray],
    ignore: Sequence[bool],
    lengths: Sequence[int],
) -> Tally:
    """Characters of one image's texts that were found, and of its detections that are right.

    Polygons are (V, 2), xy in the same pixels, their vertices in reading order: along the top of a
    text, and back along its bottom. lengths: characters of each annotated text; of don't-care they
    do not matter. A detection that matches no text has `pseudo_length` characters, all wrong.
    """
    ignored = np.asarray(ignore, bool)
    found, wanted = shapes(detected), shapes(annotated)
    counted = [
        pseudo_length(polygon) if skip else length
        for polygon, length, skip in zip(annotated, lengths, ignored, strict=True)
    ]
    inside = _inside(found, annotated, counted)
    pairs = overlap(_without_texts(wanted, ignored), found)
    left_out = _left_out(pairs, inside, ignored, len(found))
    matched = _matched(pairs, inside, ~ignored, ~left_out)
    texts, detections = np.divmod(matched, max(1, len(found)))
    splits, merges = (len(side) - len(np.unique(side)) for side in (texts, detections))
    hits = np.isin(inside.texts * len(found) + inside.detections, matched)
    right = len(np.unique(inside.places[hits]))
    wrong = set(np.flatnonzero(~left_out).tolist()).difference(detections.tolist())
    return Tally(
        right - splits,
        int(np.array(counted, np.int64)[~ignored].sum()),
        right - merges,
        int(np.count_nonzero(hits)) + sum(pseudo_length(detected[number]) for number in wrong),
    )


def character_centres(polygon: np.ndarray, length: int) -> np.ndarray:
    """Where the middles of a text's characters are, if all are of one width.

    polygon: (V, 2). Returns float64 (length, 2), on the line midway between top and bottom; of a
    quad that is more than twice as high as wide, between its left and right side.
    """
    points = np.asarray(polygon, np.float64)
    if len(points) < 3:
        return np.zeros((0, 2))
    if len(points) == 4:
        sides = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
        if sides[0] + sides[2] < _UPRIGHT * (sides[1] + sides[3]):
            points = np.roll(points, 1, axis=0)
    half = (len(points) + 1) // 2
    shares = (np.arange(length) + 0.5) / max(1, length)
    top, bottom = _along(points[:half], shares), _along(points[half:][::-1], shares)
    return np.asarray((top + bottom) / 2)


def pseudo_length(polygon: np.ndarray) -> int:
    """How many characters as wide as high cover a polygon (V, 2) along its longer side: 1 to 10."""
    if len(polygon) < 3:
        return 1
    _, sides, _ = cv2.minAreaRect(np.asarray(polygon, np.float32))
    ratio = (max(sides) + _NO_SIDE) / (min(sides) + _NO_SIDE)
    return min(_MOST_CHARACTERS, math.ceil(ratio - _ROUNDING))


def _along(chain: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The points at those shares of a chain's length, float64 (N, 2)."""
    steps = np.linalg.norm(np.diff(chain, axis=0), axis=1)
    reached = np.concatenate([[0.0], np.cumsum(steps)])
    at = shares * reached[-1]
    return np.column_stack([np.interp(at, reached, chain[:, axis]) for axis in (0, 1)])


def _inside(found: np.ndarray, annotated: Sequence[np.ndarray], lengths: list[int]) -> _Characters:
    """Which characters lie within which detections."""
    centres = [character_centres(*text) for text in zip(annotated, lengths, strict=True)]
    owners = np.repeat(np.arange(len(centres)), [len(each) for each in centres])
    if not len(owners) or not len(found):
        return _Characters(*np.zeros((3, 0), np.int64))
    points = shapely.points(np.concatenate(centres))
    places, detections = shapely.STRtree(found).query(points, predicate="intersects")
    return _Characters(owners[places], detections, places)


def _without_texts(wanted: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """The annotated shapes, don't-care without what of it lies in texts."""
    if not ignored.any() or ignored.all():
        return wanted
    left = wanted.copy()
    left[ignored] = shapely.difference(wanted[ignored], shapely.union_all(wanted[~ignored]))
    return left


def _left_out(pairs: Overlap, inside: _Characters, ignored: np.ndarray, count: int) -> np.ndarray:
    """Detections more than half of which lies in don't-care, bool (count,).

    It may lie in several such regions, if it holds a character's place of each.
    """
    left_out = np.zeros(count, bool)
    dont_care, precision = ignored[pairs.rows], pairs.precision
    left_out[pairs.columns[dont_care & (precision > _AREA_PRECISION)]] = True
    holding = np.isin(pairs.rows * count + pairs.columns, inside.texts * count + inside.detections)
    together = dont_care & holding
    shares = np.bincount(pairs.columns[together], precision[together], count)
    return left_out | (shares > _AREA_PRECISION)


def _matched(
    pairs: Overlap, inside: _Characters, texts: np.ndarray, detections: np.ndarray
) -> np.ndarray:
    """Pairs that are matched, int64 (M,): number of the text x detections + of the detection.

    texts, detections: bool (A,) and (D,), which count. A detection matches a text of which it holds
    a character if it lies in that text by half at least, or in all such texts together.
    """
    count = max(1, len(detections))
    counted = texts[inside.texts] & detections[inside.detections]
    numbers = np.unique((inside.texts * count + inside.detections)[counted])
    columns = numbers % count
    precision = np.zeros(len(numbers))
    _, ours, theirs = np.intersect1d(
        numbers, pairs.rows * count + pairs.columns, return_indices=True
    )
    precision[ours] = pairs.precision[theirs]
    several = np.bincount(columns, minlength=count) > 1
    merged = several & (np.bincount(columns, precision, count) >= _AREA_PRECISION)
    return np.asarray(numbers[(precision >= _AREA_PRECISION) | merged[columns]])
