"""How much polygons lie on each other: pairs by their boxes first, then drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ocr_precompute.samples import Polygons
from ocr_precompute.targets.shapes import Shapes, measured

_SIDE = 96  # pixels: of the canvas on which two polygons are compared
_TOGETHER = 2**20  # pairs of boxes compared at once
_MOST_DRAWN = 20_000  # pairs of polygons drawn for one image


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pairs of polygons whose boxes overlap by enough.

    first, second: int64 (K,), numbers of the polygons. shared: float64 (K,), square pixels that
    both cover. areas: float64 (2, K), square pixels that each covers.
    """

    first: np.ndarray
    second: np.ndarray
    shared: np.ndarray
    areas: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Shared area as a share of what the two cover together, float64 (K,)."""
        return np.asarray(self.shared / np.maximum(self.areas.sum(axis=0) - self.shared, 1e-9))

    @property
    def covered(self) -> np.ndarray:
        """Shared area as a share of each polygon, float64 (2, K)."""
        return np.asarray(self.shared / np.maximum(self.areas, 1e-9))


def overlaps(first: Polygons, second: Polygons | None, least: float) -> Overlaps:
    """Pairs of one polygon each of which the smaller box may be covered by more than a share.

    second: the others; if none are given, pairs among the first, each pair once. least: that share.
    What two rectangles along the axes share is exact; other polygons are drawn, small, which is
    right to a few hundredths. Of very many pairs those of the largest boxes are looked at.
    """
    shapes = measured(first)
    others = shapes if second is None else measured(second)
    a, b, boxes = _candidates(shapes, others, least)
    if second is None:
        once = a < b
        a, b, boxes = a[once], b[once], boxes[once]
    if len(a) > _MOST_DRAWN:
        kept = np.sort(np.argsort(-boxes, kind="stable")[:_MOST_DRAWN])
        a, b, boxes = a[kept], b[kept], boxes[kept]
    areas = np.stack([shapes.areas[a], others.areas[b]])
    shared = boxes.copy()
    upright = shapes.upright[a] & others.upright[b]
    lists = first.as_list(), (second or first).as_list()
    for pair in np.flatnonzero(~upright).tolist():
        shared[pair], areas[:, pair] = drawn(lists[0][a[pair]], lists[1][b[pair]])
    return Overlaps(a, b, shared, areas)


def drawn(a: np.ndarray, b: np.ndarray) -> tuple[float, tuple[float, float]]:
    """What two polygons share, and the area of each, square pixels; drawn on a small canvas.

    a, b: (V, 2), xy in pixels.
    """
    both = np.concatenate([a, b])
    low = both.min(axis=0)
    scale = _SIDE / max(float((both.max(axis=0) - low).max()), 1e-6)
    masks = np.zeros((2, _SIDE + 2, _SIDE + 2), np.uint8)
    for mask, polygon in zip(masks, (a, b), strict=True):
        corners = np.rint(((polygon - low) * scale + 0.5) * 16).astype(np.int32)
        cv2.fillPoly(mask, [corners], 1, shift=4)
    first, second = masks.astype(bool)
    unit = scale * scale
    counts = (np.count_nonzero(each) / unit for each in (first & second, first, second))
    shared, area, other = counts
    return shared, (area, other)


def matched(labels: Polygons, predictions: Polygons, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Which labels and which predictions belong to each other, bool (N,) and (M,).

    Pairs of an IoU above least, the best first; each is in one pair at most.
    """
    found = overlaps(labels, predictions, least)
    iou = found.iou
    pairs = np.zeros(len(labels.lengths), bool), np.zeros(len(predictions.lengths), bool)
    for place in np.argsort(-iou, kind="stable").tolist():
        a, b = found.first[place], found.second[place]
        if iou[place] > least and not (pairs[0][a] or pairs[1][b]):
            pairs[0][a] = pairs[1][b] = True
    return pairs


def _candidates(
    shapes: Shapes, others: Shapes, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of numbers, int64 (K,) each, and what their boxes share, float64 (K,)."""
    count, step = shapes.low.shape[1], max(1, _TOGETHER // max(1, others.low.shape[1]))
    sizes, other_sizes = ((s.high - s.low).prod(axis=0) for s in (shapes, others))
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, count, step):
        part = slice(start, start + step)
        low = np.maximum(shapes.low[:, part, None], others.low[:, None])
        high = np.minimum(shapes.high[:, part, None], others.high[:, None])
        shared = np.maximum(high - low, 0).prod(axis=0)
        smaller = np.minimum(sizes[part, None], other_sizes)
        a, b = np.nonzero((shared > least * smaller) & (shared > 0))
        found.append((a + start, b, shared[a, b]))
    empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    a, b, area = (np.concatenate(column) for column in zip(empty, *found, strict=True))
    return a, b, area
