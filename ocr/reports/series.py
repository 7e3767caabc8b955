"""Curves of any length in little room."""

from __future__ import annotations

import math

MOST_POINTS = 1000

Points = tuple[tuple[float, float], ...]


class Thinned:
    """Points of a curve as they come. Of more than twice MOST_POINTS neighbours are joined: each
    point is then the mean of so many as `width` says, at the place of the last of them.
    """

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = []
        self._waiting: list[tuple[float, float]] = []
        self.width = 1
        self.lost = 0  # values that are no finite number

    def add(self, x: float, y: float) -> None:
        """Add a point; one that is not finite is only counted."""
        if not (math.isfinite(x) and math.isfinite(y)):
            self.lost += 1
            return
        self._waiting.append((x, y))
        if len(self._waiting) < self.width:
            return
        self._points.append(_joined(self._waiting))
        self._waiting = []
        if len(self._points) >= 2 * MOST_POINTS:
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [_joined([*pair]) for pair in pairs]
            self.width *= 2

    def points(self) -> Points:
        """All points so far."""
        rest = [_joined(self._waiting)] if self._waiting else []
        return (*self._points, *rest)


def _joined(points: list[tuple[float, float]]) -> tuple[float, float]:
    return points[-1][0], sum(y for _, y in points) / len(points)


def thinned(points: Points) -> Points:
    """The points, or means of neighbours if there are very many."""
    made = Thinned()
    for x, y in points:
        made.add(x, y)
    return made.points()
