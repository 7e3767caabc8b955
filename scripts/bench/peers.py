"""Training from the store, against the formats and loaders people would use instead.

First what a training takes, varied samples, in the contest of augmented.py: ours, ours live, and a
usual trainer. Then plain reading: the same samples (image, prob, thresh) are converted to every
format and read back as shuffled batches of torch tensors. Every run is a process of its own. Its
first epoch is warm-up, and in it every sample is checked to be the store's, byte for byte. Then
batches are counted for some seconds. Every setting of every contender takes its turn in every
round; the median over rounds counts, and of each contender its best setting. All files lie in the
page cache, where raw formats are fastest.

Reported, too: bytes on disk after training from it, and how much memory grew while it ran, in all
its processes: private and shared, without mapped files, which the system can drop at any time.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence

import augmented
from contenders.peers import contenders
from contenders.rounds import Run, best, bytes_on_disk, described, expected_digests, runs_of
from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment, is_installed
from measuring.results import Cell, Column, Result, Table
from measuring.samples import FIELDS, SPLIT, build_store

from ocr_precompute import open_store

PACKAGES = (
    "torch",
    "zarr",
    "numcodecs",
    "ffcv",
    "mosaicml-streaming",
    "litdata",
    "webdataset",
    "tensorstore",
    "zarrs",
)
AUGMENTED = "augmented"
SIDE = 640  # canonical, as `build_store` has it
CROP = 640  # of the varied samples, as in configs/experiment/published.yaml
COLUMNS = (
    Column("contender"),
    Column("best setting"),
    Column("", "samples/s", 0),
    Column("ratio to ours", "", 2),
    Column("on disk", "MB", 1),
    Column("memory", "MB", 1),
)


def rows(
    runs: Sequence[Run], sizes: Mapping[str, int], problems: Mapping[str, str]
) -> list[tuple[Cell, ...]]:
    """A row for each contender: its best setting, or why there is none."""
    reference = best(runs, "ours")
    found: list[tuple[Cell, ...]] = []
    for name, size in sizes.items():
        run = best(runs, name)
        if run is None:
            problem = next(each.problem for each in runs if each.contender.name == name)
            found.append((name, problem, None, None, size / 1e6, None))
            continue
        ratio = run.rate / reference.rate if reference else None
        memory = statistics.median(run.memory) / 1e6 if run.memory else None
        found.append((name, described(run.setting), run.rate, ratio, size / 1e6, memory))
    return found + [(name, reason, None, None, None, None) for name, reason in problems.items()]


def ratios_that_matter(runs: Sequence[Run], sizes: Mapping[str, int], raw: int) -> dict[str, float]:
    """Ours against each peer, fastest first, and against the live path; bytes against raw bytes."""
    reference, ratios = best(runs, "ours"), {}
    others = [best(runs, name) for name in sizes if name != "ours"]
    for other in sorted((o for o in others if o), key=lambda o: -o.rate):
        if reference and (other.contender.reads == "own" or other.contender.name == "live path"):
            ratios[f"samples/s, ours / {other.contender.name}"] = reference.rate / other.rate
    if "ours" in sizes:
        of, size = ("FFCV", sizes["FFCV"]) if "FFCV" in sizes else ("the arrays, raw", raw)
        ratios[f"bytes, ours / {of}"] = sizes["ours"] / size
    return ratios


def wanted(arguments: argparse.Namespace) -> list[str]:
    """Names of the contenders that are asked for; empty for all."""
    return arguments.only.split(",") if arguments.only else []


def measure(arguments: argparse.Namespace) -> Result:
    """Convert, run all rounds: a table of varied samples, and one of samples as they are."""
    scratch, only = arguments.scratch, wanted(arguments)
    store, source = build_store(arguments)
    rounds, batch_size, seconds = arguments.rounds, arguments.batch_size, arguments.seconds
    asked = [each for each in contenders(arguments.threads) if not only or each.name in only]
    tables = []
    if not only or AUGMENTED in only:
        found = augmented.contest(store, source, SIDE, CROP, batch_size, rounds, seconds)
        tables = [augmented.table(found, f"Samples varied, crops of {CROP} px")]
    split = open_store(store).split(SPLIT)
    (scratch / "digests.json").write_text(json.dumps(expected_digests(split)))
    there = [each for each in asked if is_installed(each.requires)]
    runs, problems = runs_of(there, scratch)
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for run in runs:
            run.once(scratch, batch_size, seconds)
    raw = len(split) * sum(array.nbytes for array in split.read([0], FIELDS).values())
    ran = {run.contender.name: run.contender for run in runs}
    sizes = {name: bytes_on_disk(each, split, scratch) for name, each in ran.items()}
    tables.append(Table(COLUMNS, tuple(rows(runs, sizes, problems)), "Samples as they are"))
    return Result(
        "peers",
        "How fast is training from the store beside formats and loaders used instead?",
        environment(PACKAGES),
        tuple(tables),
        ratios_that_matter(runs, sizes, raw),
        (f"{len(split)} samples",),
        tuple(each.name for each in asked if each not in there),
    )


def numbers(text: str) -> list[int]:
    """A list of whole numbers, as in 1,2,4."""
    return [int(part) for part in text.split(",")]


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=400)
    options.add_argument("--batch-size", type=int, default=16)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=3.0, help="how long each run is timed")
    options.add_argument(
        "--threads", type=numbers, default=[1, 2, 4], help="for ours; default 1,2,4"
    )
    options.add_argument(
        "--only",
        help="contenders to compare, by name, with commas between; "
        f"{AUGMENTED} is the contest of varied samples",
    )
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
