"""DetEval: texts that were found whole, in pieces, or several as one, by shares of their areas.

Sources: Wolf and Jolion 2006, Object count/area graphs for the evaluation of object detection and
segmentation algorithms, IJDAR 8(4); Karatzas et al. 2013, ICDAR 2013 Robust Reading Competition,
and the rules of its task 2.1 as the competition publishes them; Ch'ng, Chan and Liu 2020,
Total-Text: toward orientation robustness in scene text detection, IJDAR 23, and the rules that are
published with Total-Text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocr.metrics.overlap import Overlap, overlap, shapes
from ocr.metrics.tally import Tally

_ROUNDING = 1e-9  # of sums of shares: eight tenths are no less than 0.8


@dataclass(frozen=True)
class Constraints:
    """What differs between the sets that are evaluated so.

    recall, precision: least area recall and area precision of a match, t_r and t_p. split, merge:
    points for each that takes part in a match of one text with many detections, or of many texts
    with one. dont_care: a detection is left out of which a larger share lies in one don't-care
    region. dont_care_together: and one is that covers more than `recall` of several such regions,
    which make up at least `precision` of it.
    """

    recall: float
    precision: float
    split: float
    merge: float
    dont_care: float
    dont_care_together: bool


ICDAR_2013 = Constraints(0.8, 0.4, 0.8, 1.0, 0.4, True)
TOTAL_TEXT = Constraints(0.7, 0.6, 0.8, 0.8, 0.5, False)


def deteval(
    detected: Sequence[np.ndarray],
    annotated: Sequence[np.ndarray],
    ignore: Sequence[bool],
    constraints: Constraints = ICDAR_2013,
) -> Tally:
    """Points of one image's texts and detections.

    Polygons are (V, 2), xy in the same pixels. Don't-care regions and what is left out for them
    are neither counted nor matched. Then, each polygon being in one match at most:

    - one to one: a text and a detection that meet no other, with enough area recall and precision;
    - split: a text that meets several detections, of which those of enough area precision add up
      to enough area recall;
    - merge: a detection that meets several texts, of which those of enough area recall add up to
      enough area precision.

    A split or merge of which one pair is left is one to one. Texts choose before detections, each
    in the order in which they are given.
    """
    ignored = np.asarray(ignore, bool)
    pairs = overlap(shapes(annotated), shapes(detected))
    left_out = _left_out(pairs, ignored, constraints)
    met = (pairs.common > 0) & ~ignored[pairs.rows] & ~left_out[pairs.columns]
    texts = _Side(pairs.rows[met], pairs.recall[met], constraints.recall, len(ignored))
    detections = _Side(
        pairs.columns[met], pairs.precision[met], constraints.precision, len(detected)
    )
    alone = texts.alone & detections.alone & texts.enough & detections.enough
    texts.points[texts.numbers[alone]] = detections.points[detections.numbers[alone]] = 1
    _match_many(texts, detections, constraints.split)
    _match_many(detections, texts, constraints.merge)
    return Tally(
        math.fsum(texts.points),
        int(np.count_nonzero(~ignored)),
        math.fsum(detections.points),
        int(np.count_nonzero(~left_out)),
    )


def totaltext(
    detected: Sequence[np.ndarray], annotated: Sequence[np.ndarray], ignore: Sequence[bool]
) -> Tally:
    """Points of one image's texts and detections with the constraints of Total-Text."""
    return deteval(detected, annotated, ignore, TOTAL_TEXT)


class _Side:
    """The texts, or the detections, of all pairs that have area in common.

    numbers: int64 (P,), which it is in each pair. shares: float64 (P,), how much of it is covered
    there. least: share that is enough. points: float64 (N,), of each, 0 until it is matched.
    """

    def __init__(self, numbers: np.ndarray, shares: np.ndarray, least: float, count: int) -> None:
        self.numbers, self.shares, self.least = numbers, shares, least - _ROUNDING
        self.points = np.zeros(count)
        self.met = np.bincount(numbers, minlength=count)
        self.alone = self.met[numbers] == 1
        self.enough = shares >= self.least


def _match_many(one: _Side, many: _Side, points: float) -> None:
    """Give points for matches of one of a side with as many of the other as are good enough."""
    for number in np.flatnonzero((one.met > 1) & (one.points == 0)).tolist():
        free = many.points[many.numbers] == 0
        partners = np.flatnonzero((one.numbers == number) & many.enough & free)
        if one.shares[partners].sum() >= one.least:
            given = 1 if len(partners) == 1 else points
            one.points[number] = many.points[many.numbers[partners]] = given


def _left_out(pairs: Overlap, ignored: np.ndarray, constraints: Constraints) -> np.ndarray:
    """Detections that lie in don't-care, bool (D,)."""
    left_out = np.zeros(len(pairs.detected), bool)
    within = ignored[pairs.rows] & (pairs.precision > constraints.dont_care)
    left_out[pairs.columns[within]] = True
    if constraints.dont_care_together:
        covers = ignored[pairs.rows] & (pairs.recall > constraints.recall)
        shares = np.bincount(pairs.columns[covers], pairs.precision[covers], len(left_out))
        left_out |= shares >= constraints.precision - _ROUNDING
    return left_out
