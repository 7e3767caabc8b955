"""How a training sample is varied: where its pixels and polygons go, and how its colours change."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ocr_precompute.parameters import Recipe
from ocr_precompute.samples import Polygons
from ocr_precompute.targets.offsets import smaller_sides

_WINDOWS = 16  # places that are tried for a crop
_GREY = (0.299, 0.587, 0.114)  # what red, green and blue add to brightness (ITU-R BT.601)
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
            corners = matrix[:, :2] @ [[0, width, width, 0], [0, 0, height, height]]
            corners += matrix[:, 2:]
            page = corners.min(axis=1, keepdims=True), corners.max(axis=1, keepdims=True)
            moved = transformed(polygons, matrix)
            low, high = _boxes(moved)
            large = (smaller_sides(moved, recipe) >= recipe.min_size) & (np.abs(moved.areas()) >= 1)
            learnt = large & ~moved.ignore
            matrix[:, 2:] -= _corner(low[learnt].T, high[learnt].T, page, self.crop, random)
        return matrix

    def light(self, random: np.random.Generator) -> np.ndarray | None:
        """How colours change: float64 (3, 4), of (red, green, blue, 1); None if they do not."""
        if not self.colour:
            return None
        brightness, contrast, saturation = random.uniform(-self.colour, self.colour, 3)
        towards_grey = (1 + saturation) * np.eye(3) - saturation * np.array(_GREY)
        shift = np.full((3, 1), 255 * brightness - 127.5 * contrast)
        return np.hstack([(1 + contrast) * towards_grey, shift])


def _corner(
    low: np.ndarray,
    high: np.ndarray,
    page: tuple[np.ndarray, np.ndarray],
    side: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Top left of a crop, whole pixels, float64 (2, 1): x and y.

    low, high: (2, N), boxes of the texts to keep. page: lowest and highest of the page, (2, 1)
    each. side: of the crop, which lies on the page; a page that is smaller lies in the crop.
    Each of several tries is drawn evenly from all places that keep one random text whole, as long
    as the crop can hold any; the one that cuts the fewest texts is taken.
    """
    ends = page[0], page[1] - side
    first, last = np.rint(np.minimum(*ends)), np.rint(np.maximum(*ends))
    draws = random.random((3, _WINDOWS))
    if not low.size:
        anywhere: np.ndarray = np.floor(first + draws[:2, :1] * (last - first + 1))
        return anywhere
    start, stop = np.maximum(np.ceil(high - side), first), np.minimum(np.floor(low), last)
    whole = np.flatnonzero((start <= stop).all(axis=0))
    choice = whole if len(whole) else np.arange(low.shape[1])
    chosen = choice[(draws[2] * len(choice)).astype(np.int64)]
    start, stop = start[:, chosen], stop[:, chosen]
    if not len(whole):  # from where the crop shows one end of the text to where it shows the other
        start, stop = np.sort([start, stop], axis=0).clip(first, last)
    left_top: np.ndarray = np.floor(start + draws[:2] * (stop - start + 1))
    near, far = left_top[:, :, None], left_top[:, :, None] + side
    low, high = low[:, None], high[:, None]
    touched, inside = (low < far) & (high > near), (low >= near) & (high <= far)
    cut = (touched[0] & touched[1]) > (inside[0] & inside[1])
    return left_top[:, cut.sum(axis=1).argmin(), None]


def transformed(polygons: Polygons, matrix: np.ndarray) -> Polygons:
    """Polygons moved by a (2, 3) matrix, points in float64."""
    return replace(polygons, points=polygons.points @ matrix[:, :2].T + matrix[:, 2])


def visible_polygons(polygons: Polygons, size: tuple[int, int]) -> Polygons:
    """The polygons that an image of size (H, W) shows; those cut by more than half are don't-care.

    What counts is the share of a polygon's bounding box.
    """
    if not len(polygons.lengths):
        return polygons
    low, high = _boxes(polygons)
    inside = np.clip(np.minimum(high, size[::-1]) - np.maximum(low, 0), 0, None)
    share = inside.prod(axis=1) / np.maximum((high - low).prod(axis=1), 1e-9)
    kept = share > 0
    return Polygons(
        polygons.points[np.repeat(kept, polygons.lengths)],
        polygons.lengths[kept],
        (polygons.ignore | (share < _VISIBLE))[kept],
    )


def _boxes(polygons: Polygons) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest xy of each polygon, (N, 2) each."""
    if not len(polygons.lengths):
        return np.zeros((0, 2)), np.zeros((0, 2))
    starts = polygons.starts[:-1]
    return (
        np.minimum.reduceat(polygons.points, starts),
        np.maximum.reduceat(polygons.points, starts),
    )
