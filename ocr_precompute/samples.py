"""The data that flows through a build: annotated sample in, canonical sample out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ocr_precompute.remote_images import ImageUrl, RemoteImage


@dataclass(frozen=True, eq=False)
class Polygons:
    """The polygons of one image as flat arrays.

    points: float64 or float32 (P, 2), xy in pixels, all polygons one after the other.
    lengths: int64 (N,), vertices of each polygon. ignore: bool (N,), don't-care flags.
    """

    points: np.ndarray
    lengths: np.ndarray
    ignore: np.ndarray

    @classmethod
    def from_list(cls, polygons: list[np.ndarray], ignore: list[bool]) -> Polygons:
        """Polygons from a list of (V, 2) arrays and their don't-care flags; points in float64."""
        points = np.concatenate(polygons) if polygons else np.zeros((0, 2))
        return cls(
            points.astype(np.float64, copy=False),
            np.array([len(p) for p in polygons], np.int64),
            np.array(ignore, bool),
        )

    @classmethod
    def joined(cls, parts: Sequence[Polygons]) -> Polygons:
        """The polygons of several images, one image after the other."""
        return cls(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.ignore for part in parts]),
        )

    def cut(self, counts: Sequence[int]) -> Iterator[Polygons]:
        """The opposite of `joined`: so many polygons for each image, views of these."""
        ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        places = zip(ends.tolist(), self.starts[ends].tolist(), strict=True)
        for (a, first), (b, last) in pairwise(places):
            yield Polygons(self.points[first:last], self.lengths[a:b], self.ignore[a:b])

    def scaled(self, scale: float) -> Polygons:
        """The same polygons in canonical pixels, points in float32."""
        return self.with_points((self.points * scale).astype(np.float32))

    def with_points(self, points: np.ndarray) -> Polygons:
        """The same polygons with their vertices elsewhere, (P, 2)."""
        moved = Polygons(points, self.lengths, self.ignore)
        moved.__dict__["_starts"] = self.starts
        return moved

    @property
    def starts(self) -> np.ndarray:
        """Where each polygon's points begin, and where the last one's end: int64 (N + 1,)."""
        kept: np.ndarray | None = self.__dict__.get("_starts")  # asked for some ten times a sample
        if kept is None:
            kept = np.zeros(len(self.lengths) + 1, np.int64)
            np.cumsum(self.lengths, out=kept[1:])
            kept.flags.writeable = False
            self.__dict__["_starts"] = kept
        return kept

    def following(self) -> np.ndarray:
        """For each point the next one around its polygon, (P, 2)."""
        order = np.arange(1, len(self.points) + 1)
        order[self.starts[1:] - 1] = self.starts[:-1]
        return self.points[order]

    def areas(self) -> np.ndarray:
        """Area of each polygon in square pixels, float64 (N,), negative for one way around.

        The shoelace formula.
        """
        if not len(self.lengths):
            return np.zeros(0)
        starts = self.starts[:-1]
        # Relative to the first vertex: far from the origin the products would lose the area.
        origin = np.repeat(self.points[starts], self.lengths, axis=0)
        (x, y), (next_x, next_y) = (self.points - origin).T, (self.following() - origin).T
        return np.add.reduceat(x * next_y - next_x * y, starts) / 2

    def chosen(self, which: np.ndarray) -> Polygons:
        """The polygons of those numbers, int64 (K,)."""
        lengths = self.lengths[which]
        shift = self.starts[which] - np.cumsum(lengths) + lengths
        rows = np.arange(lengths.sum()) + np.repeat(shift, lengths)
        return Polygons(self.points[rows], lengths, self.ignore[which])

    def as_list(self) -> list[np.ndarray]:
        """One (V, 2) view a polygon."""
        return np.split(self.points, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []


class ImageFile(NamedTuple):
    """What is known of an image file without decoding it.

    digest: SHA-256 of its bytes. size: (height, width) in pixels as displayed. turned: whether EXIF
    turns it by a quarter for display, so that the file has height and width the other way around.
    """

    digest: bytes
    size: tuple[int, int]
    turned: bool


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """One annotated image: its name, relative to the image folder, what its file is, and polygons.

    Polygons are in pixels of the image as displayed, that is with EXIF orientation applied.
    declared_size: (height, width) in pixels that the annotation gives for the image, if it does.
    begin: where in the name that of the image file begins; before it stands which source it is of.
    """

    name: str
    folder: Path | ImageUrl
    image: ImageFile
    polygons: Polygons
    declared_size: tuple[int, int] | None = None
    begin: int = 0

    @property
    def path(self) -> Path | RemoteImage:
        """The image file."""
        return self.folder / self.name[self.begin :]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the image file's bytes."""
        return self.image.digest


class Fate(IntEnum):
    """Whether a training learns from a polygon, and if not, why: the first that holds."""

    TRAINS = 0
    ANNOTATED = 1
    """Annotated as don't-care."""
    OUTSIDE = 2
    """Wholly outside its image."""
    NO_AREA = 3
    SMALL = 4
    """Under the recipe's smallest side."""
    COLLAPSED = 5
    """The shrink leaves nothing of it."""


@dataclass(frozen=True)
class Damage:
    """What is wrong with an image of which there are pixels all the same.

    words: the decoder's. lost: share of its rows that are surely lost; None if it cannot be told.
    """

    words: str
    lost: float | None = None

    def __str__(self) -> str:
        share = "" if self.lost is None else f"; at least {self.lost:.1%} of its rows are lost"
        return f"is damaged: {self.words}{share}"


@dataclass(frozen=True, eq=False)
class CanonicalSample:
    """One finished sample: all that a training step needs, at canonical size H x W.

    image: uint8 (H, W, 3) RGB. prob, prob_mask, thresh_mask: uint8 (H, W), 0 or 1.
    thresh: float32 (H, W). polygons: list of float32 (V, 2), xy in canonical pixels.
    ignore: bool (N,). fate: uint8 (N,), see Fate. matrix: float64 (3, 3), canonical pixels ->
    original pixels. original_size: (height, width) in pixels of the image as displayed. damage:
    what is wrong with the image file; None if nothing is.
    """

    name: str
    image: np.ndarray
    prob: np.ndarray
    prob_mask: np.ndarray
    thresh: np.ndarray
    thresh_mask: np.ndarray
    polygons: list[np.ndarray]
    ignore: np.ndarray
    fate: np.ndarray
    matrix: np.ndarray
    original_size: tuple[int, int]
    damage: Damage | None = None
