"""Outlines of words from what formats hold: flat lists of numbers, boxes, turned boxes, circles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_AROUND = 32  # corners of a circle


def numbers(values: Any, count: int, what: str) -> list[float]:
    """So many numbers as floats. Raises ValueError, saying so of what, if they are not."""
    if not isinstance(values, list | tuple) or not set(map(type, values)) <= {int, float}:
        raise ValueError(f"{what} is no list of numbers; correct or remove it")
    if len(values) != count:
        raise ValueError(f"{what} has {len(values)} numbers, not {count}; correct or remove it")
    try:
        return list(map(float, values))
    except OverflowError:
        raise ValueError(f"{what} has a number that is too large; correct it") from None


def pairs(flat: Any, what: str) -> list[list[float]]:
    """The [x, y] of a flat list. Raises ValueError if it is not one of pairs."""
    count = len(flat) if isinstance(flat, list | tuple) else 0
    listed = numbers(flat, count, what)
    if count % 2:
        raise ValueError(f"{what} has {count} numbers, which are no pairs; correct or remove it")
    return [listed[i : i + 2] for i in range(0, count, 2)]


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    """A box's corners from the top left on, whichever of its opposite corners were given."""
    left, right = min(left, right), max(left, right)
    top, bottom = min(top, bottom), max(top, bottom)
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def turned(
    points: Sequence[Sequence[float]], degrees: float, around: tuple[float, float]
) -> list[list[float]]:
    """The points turned clockwise, as seen on a page, around a place."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x0, y0 = around
    return [
        [x0 + (x - x0) * cos - (y - y0) * sin, y0 + (x - x0) * sin + (y - y0) * cos]
        for x, y in points
    ]


def circle(centre: Sequence[float], rim: Sequence[float]) -> list[list[float]]:
    """A circle, given a point on it, as a polygon around it."""
    radius = math.dist(centre, rim)
    angles = [2 * math.pi * step / _AROUND for step in range(_AROUND)]
    return [[centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)] for a in angles]


def around(points: Any) -> Any:
    """Four corners that were given in any order, in their order around their middle.

    What are not four [x, y] stays as it is, for the checks to say what is wrong.
    """
    try:
        corners = [(float(x), float(y)) for x, y in points]
    except (TypeError, ValueError, OverflowError):
        return points
    if len(corners) != 4:
        return points
    x0, y0 = (sum(each) / 4 for each in zip(*corners, strict=True))
    return [list(p) for p in sorted(corners, key=lambda p: math.atan2(p[1] - y0, p[0] - x0))]


def from_shares(
    points: Sequence[Sequence[float]], size: tuple[int, int], beyond: float
) -> list[list[float]]:
    """Pixels of points that are shares of an image's width and height.

    size: the image's (height, width) as displayed. beyond: how far they may lie outside of 0 to 1.
    Raises ValueError if they do otherwise, as pixels do, or are not finite.
    """
    check_shares([number for point in points for number in point], beyond)
    height, width = size
    return [[x * width, y * height] for x, y in points]


def check_shares(listed: list[float], beyond: float) -> None:
    """Raise ValueError if a number is no share, 0 to 1, or more than so little beyond that."""
    least, most = -beyond, 1 + beyond
    if all(least <= number <= most for number in listed):
        return
    wrong = next(number for number in listed if not least <= number <= most)
    raise ValueError(
        f"has {wrong:g}, which is no share of the image's size (0 to 1); correct it, "
        "or divide pixels by the size"
    )
