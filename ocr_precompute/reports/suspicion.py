"""Which samples are worth a look: what is at their polygons, and how rare that is in their split.

A sign is said of a polygon. How often a split shows it says what is normal there; a sample that
shows it more often than that is suspicious, the more so the less chance can explain it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ocr_precompute.reports.overlaps import overlaps
from ocr_precompute.samples import Fate, Polygons
from ocr_precompute.targets.shapes import boxes, measured

TINY = 5.0  # pixels: text of a smaller side is hardly legible, whatever the recipe
_BEYOND = 2.0  # pixels that a polygon may leave its page: tools round outwards
_COVERED = 0.5  # share of a polygon under another one, above which the two overlap
_UNUSUAL = 4.0  # spreads from the middle of the split's texts
_LEAST_SPREAD = 0.15  # of logarithms: texts that differ by less are alike

SIGNS = {
    "unlabelled": "predicted but not labelled",
    "unpredicted": "labelled but not predicted",
    "vanished": "left without a label",
    "outside": "outside the page",
    "overlap": "overlapping another",
    "shape": "of unusual shape",
    "tiny": "tiny",
}
"""What may be said of a polygon that is worth a look."""

OF_PREDICTIONS = {"unlabelled": 1.0, "unpredicted": 0.95}
"""Signs that need predictions, and their weights."""

_ALONE, _BESIDE = 0.8, 0.3  # weight of the other signs, without and with predictions
NOTED = 0.9  # weight of what the build found suspicious about a whole image


@dataclass(frozen=True, eq=False)
class Usual:
    """What the texts of a split are like: middle and spread of each of `forms`, float64 (2,)."""

    middle: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, measures: np.ndarray) -> Usual:
        """From `forms` of many texts, (2, K): median, and the median distance from it."""
        if not measures.shape[1]:
            return cls(np.zeros(2), np.full(2, np.inf))
        middle = np.median(measures, axis=1)
        spread = 1.4826 * np.median(np.abs(measures - middle[:, None]), axis=1)
        return cls(middle, np.maximum(spread, _LEAST_SPREAD))

    def unusual(self, measures: np.ndarray) -> np.ndarray:
        """Which texts are far from what is usual, bool (N,)."""
        distance = np.abs(measures - self.middle[:, None]) / self.spread[:, None]
        return np.asarray((distance > _UNUSUAL).any(axis=0))


def forms(polygons: Polygons) -> np.ndarray:
    """Logarithms of height and of length by height of each text, float64 (2, N).

    Those of the rectangle that has the polygon's area and perimeter, so a bent line counts as it
    would straightened out. Heights are in pixels, at least a tenth of one.
    """
    shapes = measured(polygons)
    quarter = shapes.perimeters / 4
    high = quarter - np.sqrt(np.maximum(quarter**2 - shapes.areas, 0))
    high = np.maximum(high, 0.1)
    long = np.maximum(2 * quarter - high, high)
    logarithms: np.ndarray = np.log(np.stack([high, long / high]))
    return logarithms


def signs(
    polygons: Polygons, fates: np.ndarray, page: tuple[int, int], usual: Usual
) -> dict[str, np.ndarray]:
    """Which polygons of a sample show each sign that needs no predictions, bool (N,) each.

    polygons: canonical pixels. fates: uint8 (N,) of Fate. page: (height, width) of the content.
    What is annotated as don't-care shows none.
    """
    measures = forms(polygons)
    low, high = boxes(polygons)
    limits = np.array([page[1], page[0]], float)[:, None] + _BEYOND
    beyond = ((low < -_BEYOND) | (high > limits)).any(axis=0)
    vanished = np.isin(fates, (Fate.OUTSIDE, Fate.NO_AREA, Fate.COLLAPSED))
    tiny = (fates == Fate.SMALL) | ((measures[0] < np.log(TINY)) & ~vanished)
    text = fates != Fate.ANNOTATED
    found = {
        "vanished": vanished,
        "outside": beyond | (fates == Fate.OUTSIDE),
        "overlap": _overlapping(polygons, text),
        "shape": usual.unusual(measures) & ~vanished & ~tiny,
        "tiny": tiny,
    }
    return {sign: each & text for sign, each in found.items()}


def _overlapping(polygons: Polygons, text: np.ndarray) -> np.ndarray:
    """Which texts cover, or are covered by, another one."""
    flags = np.zeros(len(text), bool)
    which = np.flatnonzero(text)
    found = overlaps(polygons.chosen(which), None, _COVERED)
    real = found.covered.max(axis=0) > _COVERED
    flags[which[found.first[real]]] = flags[which[found.second[real]]] = True
    return flags


def surprise(shown: np.ndarray, of: np.ndarray) -> np.ndarray:
    """By how much each sample shows a sign more often than its split does; 0 to 1, float64 (n,).

    shown: polygons with the sign, int (n,). of: those that could have it, int (n,). It grows with
    the logarithm of the likelihood ratio of the two frequencies, so one of two says less than ten
    of twenty, and one where there is no other in the split says much. How often a split shows it is
    told without the tenth of its samples that show it most: a few pages where all is wrong would
    hide those where one thing is.
    """
    share = shown / np.maximum(of, 1)
    usual = np.argsort(share, kind="stable")[: len(share) - len(share) // 10]
    rate = (shown[usual].sum() + 0.5) / (of[usual].sum() + 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.where(shown > 0, shown * np.log(share / rate), 0.0)
        miss = np.where(of > shown, (of - shown) * np.log((1 - share) / (1 - rate)), 0.0)
    ratio = np.where(share > rate, hit + miss, 0.0)
    return np.asarray(1 - np.exp(-np.maximum(ratio, 0.0) / 2))


@dataclass(frozen=True, eq=False)
class Scores:
    """How suspicious each sample of a split is.

    total: float64 (n,), 0 to 1. parts: what each sign adds to it on its own, float64 (n,), 0 to 1.
    """

    total: np.ndarray
    parts: Mapping[str, np.ndarray]

    def order(self) -> np.ndarray:
        """Numbers of all samples, the most suspicious first, then as they were; int64 (n,)."""
        return np.argsort(-self.total, kind="stable")

    def reasons(self, number: int) -> list[str]:
        """Signs that make a sample suspicious, the weightiest first."""
        found = {sign: float(part[number]) for sign, part in self.parts.items()}
        return sorted((sign for sign in found if found[sign] >= 0.01), key=lambda s: -found[s])


def score(
    shown: Mapping[str, Sequence[int] | np.ndarray],
    of: Mapping[str, Sequence[int] | np.ndarray],
    noted: Mapping[str, np.ndarray],
) -> Scores:
    """Scores of all samples of a split.

    shown, of: for each sign the two counts of each sample, see `surprise`. noted: what a build
    noted about whole images, bool (n,) each. Where predictions are compared with labels, the other
    signs count for little: a page of small print is no wrong annotation.
    """
    others = _BESIDE if OF_PREDICTIONS.keys() & shown.keys() else _ALONE
    parts = {
        sign: OF_PREDICTIONS.get(sign, others) * surprise(np.asarray(each), np.asarray(of[sign]))
        for sign, each in shown.items()
    }
    parts |= {kind: NOTED * np.asarray(flags, float) for kind, flags in noted.items()}
    doubt = np.prod([1 - part for part in parts.values()], axis=0)
    return Scores(np.asarray(1 - doubt), parts)
