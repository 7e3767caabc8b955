"""Polygons whose outline crosses itself: found, and quads put in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ocr_precompute.annotations.reading import Annotation, Note
from ocr_precompute.samples import Polygons

_PART = 512  # images looked at together
_PAIRS = 1 << 20  # pairs of edges compared at once: some ten megabytes
_FEW_VERTICES = 64  # up to so many, all pairs of edges are compared
_TINY = 2.0  # pixels

# The only simple order of four corners whose outline crosses itself in 0-1 and 2-3, or in 1-2 and
# 3-0: those two edges are the diagonals.
_ORDERS = {False: [0, 2, 1, 3], True: [0, 1, 3, 2]}


def survey(
    annotations: Sequence[Annotation], repair: bool
) -> tuple[list[Annotation], list[Note], tuple[float, float] | None]:
    """Look at the shapes of all polygons, in few calls since there may be millions.

    repair: put the corners of self-crossing quads in order.
    Returns the annotations, changed where they were repaired; notes of kind `repaired`,
    `self-crossing` and `tiny`; and the smallest and largest coordinate, None if there is no point.
    """
    result = list(annotations)
    notes: list[Note] = []
    bounds: list[float] = []
    for start in range(0, len(result), _PART):
        part = result[start : start + _PART]
        polygons = Polygons.joined([annotation.polygons for annotation in part])
        if not len(polygons.lengths):
            continue
        bounds += [float(polygons.points.min()), float(polygons.points.max())]
        counts = np.array([len(annotation.polygons.lengths) for annotation in part])
        firsts = np.concatenate([[0], np.cumsum(counts)])
        first_diagonal, crossing = _crossings(polygons)
        for image in np.unique(
            np.searchsorted(firsts, np.nonzero(crossing)[0], "right") - 1
        ).tolist():
            own = slice(firsts[image], firsts[image + 1])
            result[start + image], new = _treat(
                part[image], crossing[own], first_diagonal[own], repair
            )
            notes += new
        notes += _tiny(part, polygons, firsts)
    return result, notes, (min(bounds), max(bounds)) if bounds else None


def _treat(
    annotation: Annotation, crossing: np.ndarray, second: np.ndarray, repair: bool
) -> tuple[Annotation, list[Note]]:
    """One image with crossing polygons, its quads repaired if that is wanted.

    second: of crossing quads, whether edges 1-2 and 3-0 cross, not 0-1 and 2-3.
    """
    polygons = annotation.polygons
    points, starts = polygons.points.copy(), polygons.starts
    notes = []
    for index in np.nonzero(crossing)[0]:
        where = annotation.labels[index] if annotation.labels else f"polygon {index + 1}"
        if repair and polygons.lengths[index] == 4:
            order = starts[index] + np.array(_ORDERS[bool(second[index])])
            points[starts[index] : starts[index] + 4] = polygons.points[order]
            kind, detail = "repaired", "its corners were not in order around it; now they are"
        else:
            kind, detail = "self-crossing", "its outline crosses itself"
        notes.append(Note(kind, annotation.name, where, detail))
    mended = Polygons(points, polygons.lengths, polygons.ignore)
    return replace(annotation, polygons=mended), notes


def _tiny(part: Sequence[Annotation], polygons: Polygons, firsts: np.ndarray) -> list[Note]:
    """A note for each image all of whose polygons are under _TINY pixels wide and high."""
    starts = polygons.starts[:-1]
    extent = np.maximum.reduceat(polygons.points, starts) - np.minimum.reduceat(
        polygons.points, starts
    )
    small = np.concatenate([[0], np.cumsum(extent.max(axis=1) < _TINY)])
    count = np.diff(firsts)
    all_small = (count > 0) & (small[firsts[1:]] - small[firsts[:-1]] == count)
    detail = f"all its polygons are under {_TINY:g} pixels; are they relative to the image's size?"
    return [Note("tiny", part[i].name, "", detail) for i in np.nonzero(all_small)[0].tolist()]


def _crossings(polygons: Polygons) -> tuple[np.ndarray, np.ndarray]:
    """Of each polygon, whether it is a quad crossing in edges 1-2 and 3-0; whether it crosses."""
    second = np.zeros(len(polygons.lengths), bool)
    crossing = second.copy()
    starts = polygons.starts
    for length in np.unique(polygons.lengths):
        chosen = np.nonzero(polygons.lengths == length)[0]
        if length == 4:
            corners = polygons.points[starts[chosen][:, None] + np.arange(4)]
            odd = np.nonzero(~_convex(corners))[0]  # few, as a rule
            a, b, c, d = np.moveaxis(corners[odd], 1, 0)
            second[chosen[odd]] = _cross(b, c, d, a)
            crossing[chosen[odd]] = second[chosen[odd]] | _cross(a, b, c, d)
        elif length > 4:
            step = max(1, _PAIRS // int(min(length, _FEW_VERTICES)) ** 2)
            for at in range(0, len(chosen), step):
                some = chosen[at : at + step]
                corners = polygons.points[starts[some][:, None] + np.arange(length)]
                crossing[some] = self_crossing(corners)
    return second, crossing


def _convex(quads: np.ndarray) -> np.ndarray:
    """Which quads (N, 4, 2) turn the same way at all four corners, so that none crosses itself."""
    x, y = np.ascontiguousarray(np.moveaxis(quads, 2, 0))
    dx, dy = (np.roll(each, -1, axis=1) - each for each in (x, y))
    turns = dx * np.roll(dy, -1, axis=1) - dy * np.roll(dx, -1, axis=1)
    same: np.ndarray = (turns > 0).all(axis=1) | (turns < 0).all(axis=1)
    return same


def self_crossing(polygons: np.ndarray) -> np.ndarray:
    """Whether two edges of a polygon cross, each passing through the other; bool (N,).

    polygons: (N, V, 2). Edges that only touch do not cross.
    """
    following = np.roll(polygons, -1, axis=1)
    vertices = polygons.shape[1]
    if vertices > _FEW_VERTICES:
        each = [_swept(one, other) for one, other in zip(polygons, following, strict=True)]
        return np.array(each, bool)
    first, second = np.triu_indices(vertices, 2)
    pairs = polygons[:, first], following[:, first], polygons[:, second], following[:, second]
    found: np.ndarray = np.any(_cross(*pairs), axis=1)
    return found


def _swept(starts: np.ndarray, ends: np.ndarray) -> bool:
    """Whether any of the edges (V, 2) to (V, 2) cross, comparing those that overlap in x."""
    left = np.minimum(starts[:, 0], ends[:, 0])
    order = np.argsort(left, kind="stable")
    starts, ends, left = starts[order], ends[order], left[order]
    right = np.maximum(starts[:, 0], ends[:, 0])
    for step in range(1, len(left)):
        near = np.nonzero(left[step:] <= right[:-step])[0]
        if not len(near):
            return False  # further apart in order is further apart in x
        far = near + step
        if _cross(starts[near], ends[near], starts[far], ends[far]).any():
            return True
    return False


def _cross(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Whether the segments a-b and c-d (..., 2) pass through each other."""
    across_ab = _side(a, b, c) * _side(a, b, d) < 0
    found: np.ndarray = across_ab & (_side(c, d, a) * _side(c, d, b) < 0)
    return found


def _side(a: np.ndarray, b: np.ndarray, p: np.ndarray) -> np.ndarray:
    """On which side of the line a-b the point p lies: 1, -1, or 0 if on it."""
    ab, ap = b - a, p - a
    side: np.ndarray = np.sign(ab[..., 0] * ap[..., 1] - ab[..., 1] * ap[..., 0])
    return side
