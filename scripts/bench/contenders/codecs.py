"""Codecs of Blosc, and the forms of maps that they are tried on."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numcodecs
import numcodecs.blosc
import numpy as np

from ocr_precompute.parameters import Recipe

LEVELS = {"lz4": (1, 5, 9), "lz4hc": (2, 3, 5, 9), "zstd": (1, 3, 5)}
ORDERS = {
    "noshuffle": numcodecs.Blosc.NOSHUFFLE,
    "shuffle": numcodecs.Blosc.SHUFFLE,
    "bitshuffle": numcodecs.Blosc.BITSHUFFLE,
}
BATCH = 16  # rows that are unpacked into in turn: more than a core's own cache holds


@dataclass(frozen=True)
class Codec:
    """A compressor, its level, and how bytes are ordered before it."""

    compressor: str
    level: int
    order: str = "noshuffle"

    def pack(self, array: np.ndarray) -> bytes:
        """The array, compressed; its dtype's size is what a shuffle goes by."""
        codec = numcodecs.Blosc(self.compressor, self.level, ORDERS[self.order])
        return bytes(codec.encode(array))


@dataclass(frozen=True, eq=False)
class Form:
    """A field as one dtype: its samples, the orders to try, what is lost."""

    name: str
    samples: Sequence[np.ndarray]
    orders: Sequence[str] = ("noshuffle",)
    error: float = 0.0

    @property
    def codecs(self) -> list[Codec]:
        """All codecs to try."""
        return [
            Codec(compressor, level, order)
            for order in self.orders
            for compressor, levels in LEVELS.items()
            for level in levels
        ]


def quantised(thresh: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Thresholds as 256 levels between thresh_min and thresh_max."""
    span = recipe.thresh_max - recipe.thresh_min
    return np.rint((thresh - recipe.thresh_min) * (255 / span)).astype(np.uint8)


def restored(levels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Levels as thresholds again."""
    span = recipe.thresh_max - recipe.thresh_min
    return levels.astype(np.float32) * np.float32(span / 255) + np.float32(recipe.thresh_min)


def largest_error(exact: Sequence[np.ndarray], lossy: Iterable[np.ndarray]) -> float:
    """The largest difference of any pixel of any sample."""
    return max(
        float(np.abs(a - b.astype(np.float32)).max()) for a, b in zip(exact, lossy, strict=True)
    )


def forms(field: str, samples: Sequence[np.ndarray], recipe: Recipe) -> Iterator[Form]:
    """What is measured of a field."""
    if field != "thresh":
        yield Form(field, samples)
    if field == "image":
        pixels = [sample.view("V3") for sample in samples]
        yield Form("image, typesize 3", pixels, ("shuffle",))
    if field == "thresh":
        half = [sample.astype(np.float16) for sample in samples]
        levels = [quantised(sample, recipe) for sample in samples]
        yield Form("thresh, float32", samples, tuple(ORDERS))
        yield Form("thresh, float16", half, tuple(ORDERS), largest_error(samples, half))
        error = largest_error(samples, (restored(level, recipe) for level in levels))
        yield Form("thresh, uint8", levels, ("noshuffle", "bitshuffle"), error)


def empty_rows(sample: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of a batch over and over, in memory that has been touched."""
    batch = np.ones((BATCH, sample.nbytes), np.uint8)
    return itertools.cycle(list(batch))


def packed(form: Form, codec: Codec) -> list[bytes]:
    """All samples packed; stops unless they unpack to what they were."""
    chunks = [codec.pack(sample) for sample in form.samples]
    for sample, chunk in zip(form.samples, chunks, strict=True):
        if numcodecs.blosc.decompress(chunk) != sample.tobytes():
            sys.exit(f"{form.name}: {codec} does not return what it was given")
    return chunks


def unpacker(chunks: Sequence[bytes], rows: Iterator[np.ndarray]) -> Callable[[int], None]:
    """Unpacks the sample of an index into the next row."""

    def unpack(index: int) -> None:
        numcodecs.blosc.decompress(chunks[index], next(rows))

    return unpack


def packer(form: Form, codec: Codec) -> Callable[[int], bytes]:
    """Packs the sample of an index."""
    return lambda index: codec.pack(form.samples[index])
