#!/usr/bin/env python3
"""What each Blosc codec costs and saves on the maps of finished stores, on one core.

For each map field and codec: kB a sample (mean), and milliseconds to pack and to unpack one sample
(median). Codecs take turns sample by sample. Samples are unpacked into the rows of a batch, one
after the other, as in training; unpacking into one row that stays in the cache would look faster.

The threshold map is measured as float32, as it is stored, and as float16 and uint8 (levels between
thresh_min and thresh_max), with the largest error either would make. Single bytes have no order, so
`shuffle` is left out for them, save for images packed as pixels of three bytes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numcodecs
import numcodecs.blosc
import numpy as np
from common import (
    FIELDS,
    add_out,
    environment,
    interleaved,
    markdown_table,
    medians,
    one_core,
    write_report,
)

from ocr_precompute import open_store
from ocr_precompute.errors import StoreError
from ocr_precompute.format.schema import MAPS
from ocr_precompute.parameters import Recipe
from ocr_precompute.reading.split import Split

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


@dataclass(frozen=True)
class Cost:
    """kB and milliseconds per sample."""

    kilobytes: float
    pack: float
    unpack: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.kilobytes + other.kilobytes, self.pack + other.pack, self.unpack + other.unpack
        )


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


def measure(form: Form, rounds: int) -> dict[Codec, Cost]:
    """The cost of every codec for one form of a field."""
    codecs = {str(codec): codec for codec in form.codecs}
    chunks = {name: packed(form, codec) for name, codec in codecs.items()}
    rows = empty_rows(form.samples[0])
    indices = range(len(form.samples))
    packers = {name: packer(form, codec) for name, codec in codecs.items()}
    pack = medians(interleaved(packers, indices))
    unpackers = {name: unpacker(found, rows) for name, found in chunks.items()}
    unpack = medians(interleaved(unpackers, [i for _ in range(rounds) for i in indices]))
    return {
        codec: Cost(statistics.mean(map(len, chunks[name])) / 1e3, pack[name], unpack[name])
        for name, codec in codecs.items()
    }


def read_samples(splits: Sequence[Split], field: str, count: int) -> list[np.ndarray]:
    """Samples of a field, spread evenly over all splits."""
    located = [(split, index) for split in splits for index in range(len(split))]
    chosen = np.linspace(0, len(located) - 1, min(count, len(located)), dtype=int).tolist()
    return [
        split.read([index], [field])[field][0] for split, index in map(located.__getitem__, chosen)
    ]


def totals(costs: Mapping[str, Mapping[Codec, Cost]]) -> dict[Codec, Cost]:
    """The sum over the fields that training reads, as they are stored, without a shuffle."""
    stored = ["thresh, float32" if field == "thresh" else field for field in FIELDS]
    return {
        codec: sum((costs[name][codec] for name in stored), Cost(0, 0, 0))
        for codec in costs[stored[0]]
    }


def cells(cost: Cost) -> tuple[str, str, str]:
    """A cost for a table."""
    return f"{cost.kilobytes:,.1f}", f"{cost.pack:.2f}", f"{cost.unpack:.3f}"


def report(
    splits: Sequence[Split],
    raw: Mapping[str, Form],
    costs: Mapping[str, Mapping[Codec, Cost]],
) -> Iterator[str]:
    """Totals first, then a table a form."""
    samples = len(next(iter(raw.values())).samples)
    measures = ("kB/sample", "pack, ms", "unpack, ms")
    names = ", ".join(f"{split.storage}:{split.manifest.split}" for split in splits)
    yield f"# Codecs on {names}, {samples} samples, one core"
    yield ""
    yield from environment(("numcodecs",))
    yield ""
    yield f"## {' + '.join(FIELDS)}, noshuffle"
    yield ""
    found = totals(costs).items()
    rows = [(f"{codec.compressor} {codec.level}", *cells(cost)) for codec, cost in found]
    yield markdown_table(("codec", *measures), rows)
    for name, form in raw.items():
        yield ""
        yield f"## {name}, {form.samples[0].nbytes / 1e3:,.1f} kB unpacked"
        yield ""
        if form.error:
            yield f"Largest error: {form.error:.1e}"
            yield ""
        rows = [
            (f"{codec.compressor} {codec.level}, {codec.order}", *cells(cost))
            for codec, cost in costs[name].items()
        ]
        yield markdown_table(("codec", *measures), rows)


def open_split(argument: str) -> Split:
    """The split that DIR:NAME means."""
    store, _, name = argument.rpartition(":")
    try:
        return open_store(Path(store)).split(name)
    except StoreError as error:
        sys.exit(str(error))


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "splits",
        nargs="*",
        metavar="DIR:NAME",
        default=["data/store:val"],
        help="splits of one size and recipe; default: data/store:val",
    )
    parser.add_argument("--samples", type=int, default=24, help="samples in all; default: 24")
    parser.add_argument("--rounds", type=int, default=3, help="times each is unpacked; default: 3")
    add_out(parser)
    return parser.parse_args()


def main() -> None:
    """Measure all fields, report."""
    arguments = parse()
    one_core()
    numcodecs.blosc.use_threads = False  # as in ocr_precompute.format.chunks
    splits = [open_split(argument) for argument in arguments.splits]
    first = splits[0].manifest.parameters
    for other in (split.manifest.parameters for split in splits):
        if (other.size, other.recipe) != (first.size, first.recipe):
            sys.exit("the splits differ in size or recipe")
    raw: dict[str, Form] = {}
    costs: dict[str, dict[Codec, Cost]] = {}
    for field in MAPS:
        for form in forms(field, read_samples(splits, field, arguments.samples), first.recipe):
            print(form.name, file=sys.stderr)
            raw[form.name], costs[form.name] = form, measure(form, arguments.rounds)
    write_report(report(splits, raw, costs), arguments.out)


if __name__ == "__main__":
    main()
