"""Precision, recall and H-mean as ICDAR counts them: a match is an IoU above 0.5.

Source: Karatzas et al. 2015, ICDAR 2015 Competition on Robust Reading, task 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import shapely
import torch
from torch import Tensor
from torchmetrics import Metric

_HALF = 0.5


class MatchCounts(NamedTuple):
    """One image's polygons, don't-cares left out: matched pairs, annotated, detected."""

    matched: int
    annotated: int
    detected: int


@dataclass(frozen=True, eq=False)
class Matching:
    """What became of each of one image's polygons, bool (N,) each.

    detected, annotated: whether it is one of a matched pair. left_out: detections that lie in
    don't-care. ignored: annotated polygons that are don't-care.
    """

    detected: np.ndarray
    annotated: np.ndarray
    left_out: np.ndarray
    ignored: np.ndarray

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
    found, wanted = _shapes(detected), _shapes(annotated)
    ignored = np.asarray(ignore, bool)
    found_areas, wanted_areas = shapely.area(found), shapely.area(wanted)
    # Pairs whose boxes meet; all others have nothing in common.
    rows, columns = _meeting(wanted, found)
    common = shapely.area(shapely.intersection(wanted[rows], found[columns]))
    dont_care = np.zeros(len(found), bool)
    lost = ignored[rows] & (common > _HALF * found_areas[columns])
    dont_care[columns[lost]] = True
    union = wanted_areas[rows] + found_areas[columns] - common
    fits = (common > _HALF * union) & ~ignored[rows] & ~dont_care[columns]
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    for row, column in sorted(zip(rows[fits].tolist(), columns[fits].tolist(), strict=True)):
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
    matched = np.zeros(len(found), bool), np.zeros(len(wanted), bool)
    matched[0][list(taken_columns)] = True
    matched[1][list(taken_rows)] = True
    return Matching(*matched, dont_care, ignored)


def _shapes(polygons: Sequence[np.ndarray]) -> np.ndarray:
    shapes = np.array(
        [shapely.Polygon(p) if len(p) >= 3 else shapely.Polygon() for p in polygons], object
    )
    # Self-crossing polygons have no defined intersection until they are made valid. Not asked with
    # `shapely.is_valid`: that replaces the process's filters of warnings for a moment, and this
    # runs in threads, where two such moments that overlap leave all warnings switched off.
    crossing = shapely.is_valid_reason(shapes) != "Valid Geometry"
    shapes[crossing] = shapely.make_valid(shapes[crossing])
    return shapes


def _meeting(wanted: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(wanted) or not len(found):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows, columns = shapely.STRtree(found).query(wanted)
    return rows, columns


class DetectionHmean(Metric):
    """Precision, recall and H-mean over all images of all processes, from summed counts."""

    full_state_update = False
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        # Counts, not ratios, are summed, in whole numbers: exact however images are shared out.
        self.add_state("counts", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")
        self.counts: Tensor

    def update(self, counts: MatchCounts) -> None:
        """Add one image."""
        self.counts += torch.tensor(counts, device=self.counts.device)

    def compute(self) -> dict[str, Tensor]:
        """`precision`, `recall` and `hmean`, float32 scalars; each 0 where it is undefined."""
        matched, annotated, detected = self.counts.double()
        precision = matched / detected.clamp(min=1)
        recall = matched / annotated.clamp(min=1)
        hmean = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        named = {"precision": precision, "recall": recall, "hmean": hmean}
        return {name: value.float() for name, value in named.items()}
