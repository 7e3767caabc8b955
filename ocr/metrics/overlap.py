"""How much of each other the annotated and the detected polygons of one image cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely


@dataclass(frozen=True, eq=False)
class Overlap:
    """Pairs of an annotated and a detected polygon whose boxes meet; no others have area in common.

    rows, columns: int64 (P,), numbers of the annotated and of the detected one. common: float64
    (P,), square pixels of both. annotated, detected: float64 (A,) and (D,), square pixels of each
    polygon, of those too that are in no pair.
    """

    rows: np.ndarray
    columns: np.ndarray
    common: np.ndarray
    annotated: np.ndarray
    detected: np.ndarray

    @property
    def recall(self) -> np.ndarray:
        """Area recall: what share of the annotated polygon is covered, float64 (P,)."""
        return _shares(self.common, self.annotated[self.rows])

    @property
    def precision(self) -> np.ndarray:
        """Area precision: what share of the detected polygon is covered, float64 (P,)."""
        return _shares(self.common, self.detected[self.columns])

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union, float64 (P,)."""
        whole = self.annotated[self.rows] + self.detected[self.columns]
        return _shares(self.common, whole - self.common)


def overlap(annotated: np.ndarray, detected: np.ndarray) -> Overlap:
    """Which of one image's polygons lie on each other. Both: (N,) of `shapes`."""
    areas = shapely.area(annotated), shapely.area(detected)
    if not len(annotated) or not len(detected):
        return Overlap(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), *areas)
    rows, columns = shapely.STRtree(detected).query(annotated)
    common = shapely.area(shapely.intersection(annotated[rows], detected[columns]))
    return Overlap(rows, columns, common, *areas)


def shapes(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Polygons (V, 2) as valid shapes, object (N,); one of under three points has no area."""
    made = np.array(
        [shapely.Polygon(p) if len(p) >= 3 else shapely.Polygon() for p in polygons], object
    )
    # Self-crossing polygons have no defined intersection until they are made valid. Not asked with
    # `shapely.is_valid`: that replaces the process's filters of warnings for a moment, and this
    # runs in threads, where two such moments that overlap leave all warnings switched off.
    crossing = shapely.is_valid_reason(made) != "Valid Geometry"
    # Lines, which are what is left of a spike, have no area and no place among polygons.
    made[crossing] = shapely.buffer(shapely.make_valid(made[crossing]), 0)
    return made


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where there is no whole."""
    return np.asarray(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0))
