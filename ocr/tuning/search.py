"""The settings of post-processing with which most texts are found, by maps that are there.

Work is shared: contours and scores of a threshold are found once, and dilated by each ratio; the
texts of a threshold and a ratio are compared with the annotation once, and what `min_score` and
`min_size` then leave of them is counted for all values of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import joblib
import numpy as np

from ocr.inference.postprocess import PostProcess, Text
from ocr.metrics.icdar import MatchCounts, fits, match_polygons, one_to_one
from ocr.metrics.outcomes import Judged, Outcomes
from ocr.metrics.overlap import overlap, shapes
from ocr.tuning.maps import Annotated, KeptMaps

_THRESHOLDS = (0.15, 0.3, 0.45, 0.6)
_RATIOS = (1.0, 1.5, 2.0, 2.5)
_STEPS = ((0.05, 0.2), (0.02, 0.1), (0.01, 0.05))  # of both, around the best so far
_MOVES = 4  # at most, of each step
_BOUNDS = ((0.02, 0.98), (1.0, 6.0))  # below, polygons would cut what they match at an IoU of 0.5
_SCORES = tuple(number / 100 for number in range(1, 100))
_SIZES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
_FAR = {"ratio": 2.0, "min_size": 10.0}  # counts as much as 1 of the threshold, or of min_score
_SHARE = 8  # pages that are worth a process


class Point(NamedTuple):
    """What decides which polygons there are."""

    threshold: float
    ratio: float


@dataclass(frozen=True, eq=False)
class Filters:
    """What may then be asked of polygons: values of min_score and of min_size, rising."""

    scores: np.ndarray
    sizes: tuple[float, ...]

    @classmethod
    def around(cls, base: PostProcess) -> Filters:
        """All that are tried; the settings at hand are among them."""
        scores = np.array(sorted({*_SCORES, base.min_score}))
        return cls(scores, tuple(sorted({*_SIZES, base.min_size})))


@dataclass(frozen=True)
class Settled:
    """Settings, and what they find of all images. points: pairs of threshold and ratio tried."""

    settings: PostProcess
    counts: MatchCounts
    points: int


def search(maps: KeptMaps, base: PostProcess) -> Settled:
    """The settings with the highest H-mean over all maps; of equal ones those nearest to `base`.

    base: what to start from, which is tried as well; mode, score and max_candidates stay its own.
    """
    filters, start = Filters.around(base), Point(base.threshold, base.ratio)
    coarse = product({*_THRESHOLDS, start.threshold}, {*_RATIOS, start.ratio})
    seen = _tried(maps, base, filters, sorted({Point(*each) for each in coarse}))
    best, settled = _best(seen, maps, base, filters)
    for step in _STEPS:
        for _ in range(_MOVES):
            wanted = sorted(set(_around(best, step)) - set(seen))
            seen |= _tried(maps, base, filters, wanted)
            before = best
            best, settled = _best(seen, maps, base, filters)
            if best == before:
                break
    return settled


def judged(maps: KeptMaps, read: PostProcess) -> Outcomes:
    """All images read with the same settings, as a validation does it."""

    def judge(number: int) -> Judged:
        page = maps.pages[number]
        found = read(maps.read(number))
        matching = match_polygons(found.polygons, page.polygons, page.ignored.tolist())
        return Judged(page.name, page.size, found, page.polygons, matching)

    outcomes = Outcomes()
    with ThreadPoolExecutor(joblib.cpu_count(), thread_name_prefix="postprocess") as threads:
        for each in threads.map(judge, range(len(maps.pages))):
            outcomes.add(each)
    return outcomes


def _around(point: Point, step: tuple[float, float]) -> list[Point]:
    """The eight neighbours, as far as they are within bounds."""
    axes = [
        [round(value + by * move, 4) for move in (-1, 0, 1)]
        for value, by in zip(point, step, strict=True)
    ]
    (least, most), (low, high) = _BOUNDS
    around = (Point(*each) for each in product(*axes))
    return [p for p in around if least <= p.threshold <= most and low <= p.ratio <= high]


def _tried(
    maps: KeptMaps, base: PostProcess, filters: Filters, points: Sequence[Point]
) -> dict[Point, np.ndarray]:
    """Detected and matched texts of all images at each point, int64 (2, sizes, scores)."""
    by_threshold: dict[float, list[float]] = {}
    for point in points:
        by_threshold.setdefault(point.threshold, []).append(point.ratio)

    shape = (len(points), 2, len(filters.sizes), len(filters.scores))
    total = np.zeros(shape, np.int64)
    numbers = range(len(maps.pages)) if points else ()
    tasks = (
        joblib.delayed(_counts)(maps.read(number), maps.pages[number], base, filters, by_threshold)
        for number in numbers
    )
    # Processes, as it is Python for the most part; no more than have something to do.
    jobs = max(1, min(joblib.cpu_count(), len(numbers) // _SHARE))
    for counts in joblib.Parallel(jobs, return_as="generator", max_nbytes=None)(tasks):
        total += counts
    return dict(zip(points, total, strict=True))


def _counts(
    prob: np.ndarray,
    page: Annotated,
    base: PostProcess,
    filters: Filters,
    ratios: Mapping[float, Sequence[float]],
) -> np.ndarray:
    """Of one image, int64 (points, 2, sizes, scores). ratios: of each threshold."""
    annotated, found = shapes(page.polygons), []
    open_to = replace(base, min_score=float(filters.scores[0]), min_size=filters.sizes[0])
    for threshold, wanted in ratios.items():
        read = replace(open_to, threshold=threshold)
        regions = read.regions(prob)
        for ratio in wanted:
            dilate = replace(read, unclip_ratio=ratio).dilated
            texts = (dilate(region, page.size) for region in regions)
            kept = [text for text in texts if text is not None]
            found.append(_filtered(kept, annotated, page.ignored, filters))
    return np.stack(found)


def _filtered(
    texts: Sequence[Text], annotated: np.ndarray, ignored: np.ndarray, filters: Filters
) -> np.ndarray:
    """How many of the texts that each filter leaves count, and how many match, int64 (2, S, M)."""
    sizes = np.array([text.size for text in texts])
    # how many of the values of min_score let each text through
    passed = np.searchsorted(filters.scores, [text.score for text in texts], side="right")
    found = fits(overlap(annotated, shapes([text.polygon for text in texts])), ignored)
    counts = np.empty((2, len(filters.sizes), len(filters.scores)), np.int64)
    for place, size in enumerate(filters.sizes):
        through = np.where(sizes >= size, passed, 0)
        counts[0, place] = _beyond(through[~found.left_out], len(filters.scores))
        counts[1, place] = _matched(found.pairs, through, len(filters.scores))
    return counts


def _beyond(through: np.ndarray, length: int) -> np.ndarray:
    """How many are above each of 0, 1, ... length - 1, int64."""
    return np.bincount(through, minlength=length + 1)[::-1].cumsum()[::-1][1:]


def _matched(pairs: list[tuple[int, int]], through: np.ndarray, length: int) -> np.ndarray:
    """How many pairs are matched at each value of min_score, int64.

    through: how many of the values let each detection through.
    """
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    if len(np.unique(rows)) == len(np.unique(columns)) == len(pairs):
        return _beyond(through[columns], length)
    matched = np.zeros(length, np.int64)
    first = 0
    for last in np.unique(through[columns]).tolist():  # up to it, nothing else is let through
        left = [(row, column) for row, column in pairs if through[column] >= last]
        matched[first:last] = len(one_to_one(left))
        first = last
    return matched


def _best(
    seen: Mapping[Point, np.ndarray], maps: KeptMaps, base: PostProcess, filters: Filters
) -> tuple[Point, Settled]:
    """Where H-mean is highest; of equal places the one with most settings, and nearest, as base."""
    annotated = sum(int((~page.ignored).sum()) for page in maps.pages)
    # twice the matched / all that could be: the same quotient wherever H-mean is the same
    hmeans = {
        point: 2 * matched / np.maximum(annotated + detected, 1)
        for point, (detected, matched) in seen.items()
    }
    highest = max(float(each.max()) for each in hmeans.values())
    filtered = np.add.outer(
        _far(np.array(filters.sizes), base.min_size, _FAR["min_size"]),
        _far(filters.scores, base.min_score, 1.0),
    )
    best = []
    for point, each in hmeans.items():
        far = float(_far(point.threshold, base.threshold, 1.0))
        far += float(_far(point.ratio, base.ratio, _FAR["ratio"]))
        far_each = np.where(each == highest, far + filtered, np.inf).round(9)
        size, score = divmod(int(far_each.argmin()), len(filters.scores))
        best.append((float(far_each[size, score]), point, size, score))
    _, point, size, score = min(best)
    settings = replace(
        base,
        threshold=point.threshold,
        min_score=float(filters.scores[score]),
        unclip_ratio=base.unclip_ratio if point.ratio == base.ratio else point.ratio,
        min_size=filters.sizes[size],
    )
    detected, matched = (int(each[size, score]) for each in seen[point])
    return point, Settled(settings, MatchCounts(matched, annotated, detected), len(seen))


def _far(values: Any, base: float, span: float) -> np.ndarray:
    """How far values of a setting are from `base`, by what is far for it; another value at all
    counts for more than any distance.
    """
    differences = np.abs(np.asarray(values, float) - base)
    return differences / span + 1000 * (differences > 0)
