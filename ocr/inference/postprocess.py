"""From a probability map to polygons: DBNet's post-processing, on the CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import pyclipper

_UNCLIP = {"box": 1.5, "polygon": 2.0}
_GROWTH = 2.0  # pixels by which dilation must at least have grown what is just large enough
MOST_CANDIDATES = 10**6
_MOST = {"unclip_ratio": 100, "min_size": 10**6, "max_candidates": MOST_CANDIDATES}
"""Of settings, far above any that is of use."""


class Detections(NamedTuple):
    """Text found in one image: polygons, float32 (V, 2) xy in pixels each, and scores,
    float32 (N,).
    """

    polygons: list[np.ndarray]
    scores: np.ndarray

    def mapped(self, matrix: np.ndarray) -> Detections:
        """The same in the pixels that a (3, 3) matrix maps to, such as a sample's `matrix`."""
        moved = [
            (polygon @ matrix[:2, :2].T + matrix[:2, 2]).astype(np.float32)
            for polygon in self.polygons
        ]
        return Detections(moved, self.scores)


class Region(NamedTuple):
    """What may be text in a map, before it is dilated.

    outline: float32 (V, 2), xy in pixels; area and perimeter are its. score: mean probability, 0 to
    1. size: the largest `min_size` that keeps it.
    """

    outline: np.ndarray
    area: float
    perimeter: float
    score: float
    size: float


class Text(NamedTuple):
    """A region dilated: polygon, float32 (V, 2) xy in pixels; score and size as of `Region`."""

    polygon: np.ndarray
    score: float
    size: float


@dataclass(frozen=True)
class PostProcess:
    """Turns probability maps into polygons.

    Pixels above `threshold` form regions. Those that score below `min_score` are dropped; the
    others are dilated by D' = area * unclip_ratio / perimeter, which undoes the shrinking of the
    labels (Liao et al. 2020, section 3.3). Sizes, ratios and scores are the authors' release's.

    mode: `box` gives rotated rectangles of four points, `polygon` outlines of any shape.
    score: the mean probability of the `region`, or of the rectangle around it, `box`.
    unclip_ratio: none is 1.5 for boxes and 2.0 for polygons. min_size: what is dilated to less than
    this and 2 pixels more is dropped, and in mode `box` what is less than it before. At most
    `max_candidates` regions are looked at.
    """

    mode: Literal["box", "polygon"] = "box"
    threshold: float = 0.3
    min_score: float = 0.5
    score: Literal["region", "box"] = "region"
    unclip_ratio: float | None = None
    min_size: float = 3.0
    max_candidates: int = 1000

    def __post_init__(self) -> None:
        for name, choices in (("mode", ("box", "polygon")), ("score", ("region", "box"))):
            if getattr(self, name) not in choices:
                known = ", ".join(choices)
                raise ValueError(f"{name} is {getattr(self, name)!r}; one of {known}")
        for name in ("threshold", "min_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        for name, most in _MOST.items():
            value = getattr(self, name)
            if value is not None and not 0 < value <= most:
                bounds = "above 0" if not value > 0 else f"at most {most}"
                raise ValueError(f"{name} is {value}; it must be {bounds}")

    def __call__(self, prob: np.ndarray, content: tuple[int, int] | None = None) -> Detections:
        """Text in a probability map, float32 (H, W) in 0 to 1, or uint8 (H, W) in 0 to 255.

        content: height and width of the part, at the top left, that holds the image; what lies
        beyond is padding, where nothing is looked for.
        Never raises for what a map holds: what cannot be made a polygon is dropped.
        """
        height, width = content or prob.shape
        found = [
            text
            for region in self.regions(prob, content)
            if (text := self.dilated(region, (height, width))) is not None
        ]
        scores = np.array([text.score for text in found], np.float32)
        return Detections([text.polygon for text in found], scores)

    def regions(self, prob: np.ndarray, content: tuple[int, int] | None = None) -> list[Region]:
        """What is above the threshold, large enough before it is dilated, and scores enough.

        prob, content: as of a call.
        """
        height, width = content or prob.shape
        prob = prob[:height, :width]
        one = 255 if prob.dtype == np.uint8 else 1
        if one == 1:
            prob = np.nan_to_num(prob)
        bitmap = (prob > self.threshold * one).view(np.uint8)
        contours, levels = cv2.findContours(bitmap, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        # Outer borders only: the hole of a letter is no text, an island in a hole is.
        outer = [c for c, level in zip(contours, _hierarchy(levels), strict=True) if level[3] < 0]
        found = (
            self._region(contour[:, 0].astype(np.float32), prob, one)
            for contour in outer[: self.max_candidates]
        )
        return [region for region in found if region is not None]

    def _region(self, contour: np.ndarray, prob: np.ndarray, one: int) -> Region | None:
        """one: what stands in the map for certain text."""
        rectangle = cv2.minAreaRect(contour)
        size = min(rectangle[1]) if self.mode == "box" else math.inf
        if size < self.min_size:
            return None
        outline = self._outline(contour)
        area, perimeter = cv2.contourArea(outline), cv2.arcLength(outline, True)
        if len(outline) < 4 or area <= 0:
            return None
        scored = contour if self.score == "region" else cv2.boxPoints(rectangle)
        score = _mean_inside(prob, scored) / one
        return None if score < self.min_score else Region(outline, area, perimeter, score, size)

    def dilated(self, region: Region, content: tuple[int, int]) -> Text | None:
        """A region as text; None if it becomes none, or one too small.

        content: height and width of the image, beyond which no polygon goes.
        """
        parts = _dilate(region.outline, region.area * self.ratio / region.perimeter)
        if len(parts) != 1:
            return None
        size = min(region.size, min(cv2.minAreaRect(parts[0])[1]) - _GROWTH)
        polygon = self._outline(parts[0])
        if size < self.min_size or len(polygon) < 4:
            return None
        inside = np.clip(polygon, 0, content[::-1]).astype(np.float32)
        return Text(inside, region.score, size)

    @property
    def ratio(self) -> float:
        """The unclip ratio, which depends on the mode where none is given."""
        return self.unclip_ratio or _UNCLIP[self.mode]

    def _outline(self, contour: np.ndarray) -> np.ndarray:
        """A region's border as the mode has it, float32 (V, 2)."""
        if self.mode == "box":
            return cv2.boxPoints(cv2.minAreaRect(contour))
        simple: np.ndarray = cv2.approxPolyDP(contour, 0.002 * cv2.arcLength(contour, True), True)
        return simple[:, 0]


def _hierarchy(levels: np.ndarray | None) -> np.ndarray:
    return np.zeros((0, 4), np.int32) if levels is None else levels[0]


def _mean_inside(prob: np.ndarray, polygon: np.ndarray) -> float:
    """Mean of the map inside a polygon."""
    height, width = prob.shape
    x, y, across, down = cv2.boundingRect(polygon)
    left, top = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    right, bottom = min(max(x + across, left + 1), width), min(max(y + down, top + 1), height)
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [np.floor(polygon - [left, top]).astype(np.int32)], 1)
    return float(cv2.mean(prob[top:bottom, left:right], mask)[0])


def _dilate(polygon: np.ndarray, distance: float) -> Sequence[np.ndarray]:
    """What a polygon becomes when it is offset outwards; empty if it cannot be."""
    offset = pyclipper.PyclipperOffset()
    # The library counts in integers: in sixteenths of a pixel the corners keep their places.
    grid = 16
    try:
        offset.AddPath((polygon * grid).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
        parts = offset.Execute(distance * grid)
    except pyclipper.ClipperException:
        return []
    return [np.array(part, np.float32) / grid for part in parts]
