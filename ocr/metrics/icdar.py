"""Precision, recall and H-mean as ICDAR counts them: a match is an IoU above 0.5.

Source: Karatzas et al. 2015, ICDAR 2015 Competition on Robust Reading, task 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ocr.metrics.overlap import Overlap, overlap, shapes
from ocr.metrics.tally import Tally

_HALF = 0.5


class MatchCounts(NamedTuple):
    """One image's polygons, don't-cares left out: matched pairs, annotated, detected."""

    matched: int
    annotated: int
    detected: int

    @property
    def tally(self) -> Tally:
        """The same as every protocol gives it."""
        return Tally(self.matched, self.annotated, self.matched, self.detected)


@dataclass(frozen=True, eq=False)
class Matching:
    """What became of each of one image's polygons, bool (N,) each.

    detected, annotated: whether it is one of a matched pair. left_out: detections that lie in
    don't-care. ignored: annotated polygons that are don't-care. ious: of each matched pair, in the
    order of the annotation, float64.
    """

    detected: np.ndarray
    annotated: np.ndarray
    left_out: np.ndarray
    ignored: np.ndarray
    ious: np.ndarray

    @property
    def counts(self) -> MatchCounts:
        """How many there are."""
        matched, wanted, found = self.annotated.sum(), ~self.ignored, ~self.left_out
        return MatchCounts(int(matched), int(wanted.sum()), int(found.sum()))


def match_polygons(
    detected: Sequence[np.ndarray], annotated: Sequence[np.ndarray], ignore: Sequence[bool]
) -> Matching:
    """Match one image's detections with its annotation.

    Polygons are (V, 2), xy in the same pixels. A detection that lies by more than half in one
    don't-care region is left out. The others are matched one to one, in the order of the
    annotation, where the intersection is more than half of the union.
    """
    ignored = np.asarray(ignore, bool)
    pairs = overlap(shapes(annotated), shapes(detected))
    fitting = fits(pairs, ignored)
    taken = one_to_one(fitting.pairs)
    matched = np.zeros(len(detected), bool), np.zeros(len(annotated), bool)
    for row, column in taken:
        matched[0][column] = matched[1][row] = True
    ious = dict(
        zip(zip(pairs.rows.tolist(), pairs.columns.tolist(), strict=True), pairs.iou, strict=True)
    )
    of_taken = np.array([ious[pair] for pair in taken], float)
    return Matching(*matched, fitting.left_out, ignored, of_taken)


class Fits(NamedTuple):
    """Which detections may match which texts: pairs of an annotated and a detected one, in order.

    left_out: bool, detections that lie in don't-care.
    """

    pairs: list[tuple[int, int]]
    left_out: np.ndarray


def fits(pairs: Overlap, ignored: np.ndarray) -> Fits:
    """What of one image's overlaps is enough. ignored: bool of each annotated polygon."""
    rows, columns, common = pairs.rows, pairs.columns, pairs.common
    dont_care = np.zeros(len(pairs.detected), bool)
    lost = ignored[rows] & (common > _HALF * pairs.detected[columns])
    dont_care[columns[lost]] = True
    union = pairs.annotated[rows] + pairs.detected[columns] - common
    enough = (common > _HALF * union) & ~ignored[rows] & ~dont_care[columns]
    found = zip(rows[enough].tolist(), columns[enough].tolist(), strict=True)
    return Fits(sorted(found), dont_care)


def one_to_one(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs of which neither part is in one that was taken before."""
    taken: list[tuple[int, int]] = []
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    for row, column in pairs:
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            taken.append((row, column))
    return taken


def icdar(
    detected: Sequence[np.ndarray], annotated: Sequence[np.ndarray], ignore: Sequence[bool]
) -> Tally:
    """Texts of one image as ICDAR 2015 counts them; see `match_polygons`."""
    return match_polygons(detected, annotated, ignore).counts.tally
