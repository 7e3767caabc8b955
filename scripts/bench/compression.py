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
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numcodecs.blosc
import numpy as np
from contenders.codecs import Codec, Form, empty_rows, forms, packed, packer, unpacker
from measuring.command import argument_parser, run_script, say
from measuring.machine import environment, one_core
from measuring.results import Column, Result, Table
from measuring.samples import FIELDS
from measuring.timing import interleaved, medians

from ocr_precompute import open_store
from ocr_precompute.errors import StoreError
from ocr_precompute.format.schema import MAPS
from ocr_precompute.reading.split import Split

COLUMNS = (
    Column("codec"),
    Column("", "kB/sample", 1),
    Column("pack", "ms/sample", 2),
    Column("unpack", "ms/sample", 3),
)


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


def costs_of(form: Form, rounds: int) -> dict[Codec, Cost]:
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


def table_of(costs: Mapping[Codec, Cost], title: str, *, orders: bool) -> Table:
    """A row for each codec. orders: whether it says how bytes were ordered."""
    rows = []
    for codec, cost in costs.items():
        order = f", {codec.order}" if orders else ""
        name = f"{codec.compressor} {codec.level}{order}"
        rows.append((name, cost.kilobytes, cost.pack, cost.unpack))
    return Table(COLUMNS, tuple(rows), title)


def described(form: Form) -> str:
    """What a form is, and what it loses."""
    lost = f", largest error {form.error:.1e}" if form.error else ""
    return f"{form.name}, {form.samples[0].nbytes / 1e3:,.1f} kB unpacked{lost}"


def open_split(argument: str) -> Split:
    """The split that DIR:NAME means."""
    store, _, name = argument.rpartition(":")
    try:
        return open_store(Path(store)).split(name)
    except StoreError as error:
        sys.exit(str(error))


def opened(arguments: argparse.Namespace) -> list[Split]:
    """The splits that are asked for, all of one size and recipe."""
    splits = [open_split(argument) for argument in arguments.splits]
    if len({(s.manifest.parameters.size, s.manifest.parameters.recipe) for s in splits}) > 1:
        sys.exit("the splits differ in size or recipe")
    return splits


def measure(arguments: argparse.Namespace) -> Result:
    """A table of totals over what training reads, and one for each form of each field."""
    numcodecs.blosc.use_threads = False  # as in ocr_precompute.format.chunks
    splits = opened(arguments)
    recipe = splits[0].manifest.parameters.recipe
    raw: dict[str, Form] = {}
    costs: dict[str, dict[Codec, Cost]] = {}
    for field in MAPS:
        for form in forms(field, read_samples(splits, field, arguments.samples), recipe):
            say(form.name)
            raw[form.name], costs[form.name] = form, costs_of(form, arguments.rounds)
    whole = table_of(totals(costs), f"{', '.join(FIELDS)} together, unshuffled", orders=False)
    each = [table_of(costs[name], described(form), orders=True) for name, form in raw.items()]
    names = ", ".join(split.manifest.split for split in splits)
    return Result(
        "compression",
        "What does each codec cost and save?",
        environment(("numcodecs",)),
        (whole, *each),
        notes=(f"{len(next(iter(raw.values())).samples)} samples of {names}, one core",),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, images=False, samples=24)
    options.add_argument(
        "splits",
        nargs="*",
        metavar="DIR:NAME",
        default=["data/store:val"],
        help="splits of one size and recipe; default: data/store:val",
    )
    options.add_argument("--rounds", type=int, default=3, help="times each is unpacked; default: 3")
    return options


if __name__ == "__main__":
    run_script(parser(), measure, before=one_core)
