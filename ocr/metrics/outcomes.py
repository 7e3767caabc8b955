"""What becomes of each image of a validation: counts by score, and the worst images."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from ocr.inference.postprocess import Detections
from ocr.metrics.groups import by_score, grouped
from ocr.metrics.icdar import Matching
from ocr.reports.validation import (
    ASPECTS,
    MOST_IMAGES,
    MOST_POLYGONS,
    MOST_SIDE,
    MOST_VERTICES,
    SIDES,
    Counts,
    Groups,
    Kind,
    Outcome,
    Shape,
)
from ocr_precompute.reports.layers import small_jpeg

_QUALITY = 78  # of a JPEG


@dataclass(frozen=True, eq=False)
class Judged:
    """One validated image.

    size: height and width of its canonical pixels, without padding. annotated: polygons (V, 2), xy
    in these pixels, as those of `found` are. picture: a small JPEG, if one was asked for.
    """

    name: str
    size: tuple[int, int]
    found: Detections
    annotated: Sequence[np.ndarray]
    matching: Matching
    picture: bytes = b""

    @property
    def order(self) -> tuple[int, str]:
        """What images are sorted by, the worst first: texts missed, and detections too many."""
        matched, annotated, detected = self.matching.counts
        return 2 * matched - annotated - detected, self.name

    def pictured(self, image: np.ndarray) -> Judged:
        """The same with a picture of its pixels, uint8 (H, W, 3) RGB, padding included."""
        height, width = self.size
        return replace(self, picture=small_jpeg(image[:height, :width], MOST_SIDE, _QUALITY))

    def outcome(self, process: int) -> Outcome:
        """What is written down of it. process: number of this one."""
        matched, annotated, detected = self.matching.counts
        shapes = self._shapes()
        return Outcome(
            name=self.name,
            size=self.size,
            picture=f"{process}-{sha256(self.picture).hexdigest()[:16]}.jpg",
            matched=matched,
            missed=annotated - matched,
            wrong=detected - matched,
            shapes=tuple(shapes[:MOST_POLYGONS]),
            left=max(0, len(shapes) - MOST_POLYGONS),
        )

    def _shapes(self) -> list[Shape]:
        """Mistakes first, so that they are drawn whatever else there is no room for."""
        judged, kinds = self.matching, dict[Kind, list[Shape]]()
        for polygon, matched, ignored in zip(
            self.annotated, judged.annotated, judged.ignored, strict=True
        ):
            if not matched:
                kinds.setdefault("care" if ignored else "missed", []).append(
                    Shape("care" if ignored else "missed", _corners(polygon))
                )
        for polygon, score, matched, left_out in zip(
            *(self.found.polygons, self.found.scores, judged.detected, judged.left_out),
            strict=True,
        ):
            if not left_out:
                kind: Kind = "found" if matched else "wrong"
                shape = Shape(kind, _corners(polygon), round(float(score), 3))
                kinds.setdefault(kind, []).append(shape)
        order: tuple[Kind, ...] = ("missed", "wrong", "found", "care")
        return [shape for kind in order for shape in kinds.get(kind, [])]


class Outcomes:
    """Gathers validated images: counts of all of them, and as many of the worst as are kept.

    Only one thread adds; others may ask meanwhile whether an image is wanted.
    """

    def __init__(self) -> None:
        self.images = 0
        self.counts = Counts()
        self.iou = 0.0  # sum over all matched pairs
        self.sides, self.aspects = Groups.none(SIDES), Groups.none(ASPECTS)
        self._worst: list[Judged] = []

    def wants(self, judged: Judged) -> bool:
        """Whether it is one of the worst so far: what is not now will not be later."""
        worst = self._worst[-1:]
        full = len(self._worst) >= MOST_IMAGES
        return judged.order[0] < 0 and not (full and judged.order > worst[0].order)

    def add(self, judged: Judged) -> None:
        """Add an image; with its picture, if it is wanted."""
        matching = judged.matching
        self.images += 1
        self.iou += float(matching.ious.sum())
        self.counts += by_score(matching, judged.found.scores)
        sides, aspects = grouped(matching, judged.annotated, judged.found.polygons)
        self.sides, self.aspects = self.sides + sides, self.aspects + aspects
        if self.wants(judged):
            insort(self._worst, judged, key=lambda each: each.order)
            del self._worst[MOST_IMAGES:]

    @property
    def worst(self) -> tuple[Judged, ...]:
        """The worst images so far, the worst first."""
        return tuple(self._worst)


def _corners(polygon: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Its vertices, or an even choice of very many."""
    every = -(-len(polygon) // MOST_VERTICES)
    rounded = np.round(polygon[::every].astype(float), 1).tolist()
    return tuple((x, y) for x, y in rounded)
