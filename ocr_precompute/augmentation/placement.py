"""How a training sample is varied: where its pixels and polygons go, and how its colours change."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from ocr_precompute.parameters import Recipe
from ocr_precompute.runtime.compiled import compiled
from ocr_precompute.samples import Polygons
from ocr_precompute.targets.offsets import smaller_sides
from ocr_precompute.targets.shapes import measured

_WINDOWS = 16  # places that are tried for a crop
_GREY = 0.299, 0.587, 0.114  # what red, green and blue add to it (ITU-R BT.601)
_VISIBLE = 0.5  # a polygon with less of its box in the picture becomes don't-care


@dataclass(frozen=True)
class Augmentation:
    """How training samples are varied; every value 0, and no crop, leaves them as they are.

    crop: side in pixels of the square that is cut out, around a text that is learnt and through as
    few of those as can be; none trains on whole samples. flip: how often left and right are
    swapped. rotation: largest angle, degrees. scale: largest factor, of which the logarithm is
    drawn evenly (0.5 is 1 / 1.5 to 1.5). colour: largest change of brightness, contrast and
    saturation.
    """

    crop: int | None = None
    flip: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    colour: float = 0.0

    def __post_init__(self) -> None:
        if self.crop is not None and self.crop < 32:
            raise ValueError(f"crop is {self.crop}; it must be at least 32 pixels")
        limits = {"flip": 1, "rotation": 180, "scale": 3, "colour": 1}
        for name, high in limits.items():
            if not 0 <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to {high}")

    @property
    def moves(self) -> bool:
        """Whether any pixel may come to lie elsewhere."""
        return self.crop is not None or bool(self.flip or self.rotation or self.scale)

    def placement(
        self,
        polygons: Polygons,
        size: tuple[int, int],
        recipe: Recipe,
        random: np.random.Generator,
    ) -> np.ndarray:
        """Where a sample's pixels go: float64 (2, 3), pixels before to pixels after.

        size: (H, W) of the sample. recipe: decides which polygons are learnt, and so attract the
        crop: those that are not don't-care and not too small. Exactly the identity if nothing
        moves.
        """
        height, width = size
        angle = random.uniform(-self.rotation, self.rotation) if self.rotation else 0.0
        reach = math.log1p(self.scale)
        factor = math.exp(random.uniform(-reach, reach)) if self.scale else 1.0
        matrix: np.ndarray = np.eye(2, 3)
        if angle or factor != 1.0:
            matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, factor)
        if self.flip and random.random() < self.flip:
            matrix = np.array([[-1.0, 0, width - 1], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
        if self.crop is not None:
            moved = transformed(polygons, matrix)
            shapes = measured(moved)
            sides = smaller_sides(moved, recipe) if recipe.turned_box else shapes.sides
            large = (sides >= recipe.min_size) & (shapes.areas >= 1)
            draws, learnt = random.random((3, _WINDOWS)), np.flatnonzero(large & ~moved.ignore)
            page = matrix, height, width
            matrix[:, 2] -= _corner(shapes.low, shapes.high, learnt, *page, self.crop, draws)
        return matrix

    def light(self, random: np.random.Generator) -> np.ndarray | None:
        """How colours change: float64 (3, 4), of (red, green, blue, 1); None if they do not."""
        if not self.colour:
            return None
        brightness, contrast, saturation = random.uniform(-self.colour, self.colour, 3).tolist()
        shift, gain = 255 * brightness - 127.5 * contrast, 1 + contrast
        kept, mixed = gain * (1 + saturation), [gain * saturation * share for share in _GREY]
        return np.array(
            [[kept * (i == j) - mixed[j] for j in range(3)] + [shift] for i in range(3)]
        )


@compiled()
def _corner(
    low: np.ndarray,
    high: np.ndarray,
    learnt: np.ndarray,
    matrix: np.ndarray,
    height: int,
    width: int,
    side: int,
    draws: np.ndarray,
) -> np.ndarray:
    """Top left of a crop, whole pixels, float64 (2,): x and y.

    low, high: float64 (2, N), boxes of texts. learnt: int64 (K,), those to keep. matrix: where the
    pixels of a page of that height and width go. side: of the crop, which lies on the page; a page
    that is smaller lies in the crop. draws: float64 (3, W), random numbers from 0 to 1.
    Each of W tries is drawn evenly from all places that keep one random text whole, as long as the
    crop can hold any; the one that cuts the fewest texts is taken.
    """
    first, last = np.empty(2), np.empty(2)  # between which the crop's corner lies
    for axis in range(2):
        across, down = matrix[axis, 0] * width, matrix[axis, 1] * height
        begin = matrix[axis, 2] + min(across, 0.0) + min(down, 0.0)
        end = matrix[axis, 2] + max(across, 0.0) + max(down, 0.0) - side
        first[axis], last[axis] = np.rint(min(begin, end)), np.rint(max(begin, end))
    if not len(learnt):
        return np.floor(first + draws[:2, 0] * (last - first + 1))
    whole = np.empty(len(learnt), np.int64)
    count = 0
    for number in learnt:
        if _is_held(low, high, number, first, last, side):
            whole[count] = number
            count += 1
    choice = whole[:count] if count else learnt
    corner, best, fewest = np.empty(2), np.empty(2), len(learnt) + 1
    for draw in range(draws.shape[1]):
        chosen = choice[int(draws[2, draw] * len(choice))]
        for axis in range(2):
            start = max(np.ceil(high[axis, chosen] - side), first[axis])
            stop = min(np.floor(low[axis, chosen]), last[axis])
            if not count:  # from where the crop shows one end of the text to where the other
                start, stop = min(start, stop), max(start, stop)
                start, stop = max(start, first[axis]), min(stop, last[axis])
            corner[axis] = np.floor(start + draws[axis, draw] * (stop - start + 1))
        cut = _count_cut(low, high, learnt, corner[0], corner[1], side)
        if cut < fewest:
            fewest = cut
            best[0], best[1] = corner
    return best


@compiled()
def _is_held(
    low: np.ndarray, high: np.ndarray, i: int, first: np.ndarray, last: np.ndarray, side: int
) -> bool:
    """Whether a crop can hold a box."""
    for axis in range(2):
        start, stop = np.ceil(high[axis, i] - side), np.floor(low[axis, i])
        if max(start, first[axis]) > min(stop, last[axis]):
            return False
    return True


@compiled()
def _count_cut(
    low: np.ndarray, high: np.ndarray, learnt: np.ndarray, left: float, top: float, side: int
) -> int:
    """How many boxes lie in a crop in part."""
    right, bottom = left + side, top + side
    cut = 0
    for i in learnt:
        x_low, y_low, x_high, y_high = low[0, i], low[1, i], high[0, i], high[1, i]
        touched = (x_low < right) & (x_high > left) & (y_low < bottom) & (y_high > top)
        inside = (x_low >= left) & (x_high <= right) & (y_low >= top) & (y_high <= bottom)
        cut += touched > inside
    return cut


def transformed(polygons: Polygons, matrix: np.ndarray) -> Polygons:
    """Polygons moved by a (2, 3) matrix, points in float64."""
    return polygons.with_points(_moved(polygons.points.astype(np.float64), matrix))


@compiled()
def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points, float64 (P, 2), by a (2, 3) matrix, in their own memory."""
    for i in range(len(points)):
        x, y = points[i]
        points[i, 0] = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
        points[i, 1] = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    return points


def visible_polygons(polygons: Polygons, size: tuple[int, int]) -> Polygons:
    """The polygons that an image of size (H, W) shows; those cut by more than half are don't-care.

    What counts is the share of a polygon's bounding box.
    """
    points = np.ascontiguousarray(polygons.points, np.float64)
    return Polygons(*_visible(points, polygons.starts, polygons.ignore.astype(np.bool_), *size))


@compiled()
def _visible(
    points: np.ndarray, starts: np.ndarray, ignore: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `visible_polygons`, of and as what Polygons have; ignore is changed."""
    kept, lengths = np.empty_like(points), np.empty(len(ignore), np.int64)
    count = end = 0
    for number in range(len(ignore)):
        first, last = starts[number], starts[number + 1]
        left, top = right, bottom = points[first]
        for i in range(first, last):
            left, right = min(left, points[i, 0]), max(right, points[i, 0])
            top, bottom = min(top, points[i, 1]), max(bottom, points[i, 1])
        across, down = min(right, width) - max(left, 0), min(bottom, height) - max(top, 0)
        share = max(across, 0) * max(down, 0) / max((right - left) * (bottom - top), 1e-9)
        if share > 0:
            ignore[count] = ignore[number] or share < _VISIBLE
            lengths[count] = last - first
            kept[end : end + last - first] = points[first:last]
            count, end = count + 1, end + last - first
    return kept[:end], lengths[:count], ignore[:count]
