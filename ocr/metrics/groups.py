"""The counts of an image by score, and by the size and the shape of its texts."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ocr.metrics.icdar import Matching
from ocr.reports.validation import ASPECTS, BINS, SIDES, Counts, Groups


def by_score(matching: Matching, scores: np.ndarray) -> Counts:
    """One image's counts by hundredths of the score, float (N,) in 0 to 1 of each detection."""
    bins = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    detected = np.bincount(bins[~matching.left_out], minlength=BINS)
    matched = np.bincount(bins[matching.detected], minlength=BINS)
    return Counts(matching.counts.annotated, tuple(detected.tolist()), tuple(matched.tolist()))


def grouped(
    matching: Matching, annotated: Sequence[np.ndarray], detected: Sequence[np.ndarray]
) -> tuple[Groups, Groups]:
    """One image's counts by shorter side, and by longer side / shorter side.

    Polygons are (V, 2), xy in the same pixels; the sides are those of the smallest rectangle, of
    any angle, around each. Inputs are not changed.
    """
    texts, found = _sides(annotated), _sides(detected)
    sides = _counted(SIDES, texts[:, 0], found[:, 0], matching)
    return sides, _counted(ASPECTS, _aspects(texts), _aspects(found), matching)


def _counted(
    bounds: tuple[float, ...], texts: np.ndarray, found: np.ndarray, matching: Matching
) -> Groups:
    def count(values: np.ndarray) -> np.ndarray:
        places = np.searchsorted(bounds, values, side="right")
        return np.bincount(places, minlength=len(bounds) + 1)

    matched = count(texts[matching.annotated])
    wrong = count(found[~matching.left_out & ~matching.detected])
    return Groups(
        bounds,
        annotated=tuple(count(texts[~matching.ignored]).tolist()),
        detected=tuple((matched + wrong).tolist()),
        matched=tuple(matched.tolist()),
    )


def _sides(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Shorter and longer side of each, float64 (N, 2), pixels."""
    rectangles = [cv2.minAreaRect(np.asarray(polygon, np.float32))[1] for polygon in polygons]
    return np.sort(np.array(rectangles, float).reshape(-1, 2), axis=1)


def _aspects(sides: np.ndarray) -> np.ndarray:
    """How many times as long as high, float64 (N,); infinite for a line."""
    shorter, longer = sides.T
    aspects = np.full(len(sides), np.inf)
    np.divide(longer, shorter, out=aspects, where=shorter > 0)
    return aspects
