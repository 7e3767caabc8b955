"""Training from a bucket: the store through its cache, against LitData and MosaicML Streaming.

All read the same samples, all five maps of each, as shuffled batches of torch tensors, from one
server of objects on this machine, whose every answer comes 30 ms late. It counts requests and
bytes. Every run is a process of its own with an empty cache: its first epoch is cold, from opening
on; then epochs are read for some seconds, warm; one more is compared with the store, byte for byte.
Every setting of every contender takes its turn in every round; the median counts, and of each
contender its best setting. Rows of JPEG hold image files and polygons, from which each sample is
made when it is read, by the functions that `build` uses.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from contenders.remote import BUCKET, CONTENDERS, convert, epochs_of, load, place, requires
from contenders.rounds import TIME_LIMIT, described
from measuring.apart import Failed, apart
from measuring.bucket import LATENCY
from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment, is_installed
from measuring.results import Cell, Column, Result, Table
from measuring.samples import SPLIT, build_store

from ocr_precompute import open_store
from ocr_precompute.format.schema import MAPS
from ocr_precompute.runtime.clock import rate

KEYS = {"AWS_ACCESS_KEY_ID": "name", "AWS_SECRET_ACCESS_KEY": "word"}
Runs = dict[tuple[str, str], list[dict[str, Any]]]  # by contender and setting
PACKAGES = ("torch", "obstore", "litdata", "mosaicml-streaming")


def run_once(name: str, setting: Mapping[str, int], bucket: Path, seconds: float) -> dict[str, Any]:
    """Samples a second of a contender, cold and warm, and what the server gave meanwhile."""
    import torch

    torch.set_num_threads(1)
    load(name)
    with tempfile.TemporaryDirectory(dir=bucket, ignore_cleanup_errors=True) as cache:
        counts()
        began = time.perf_counter()
        epochs = epochs_of(name, setting, bucket, cache)
        samples = sum(len(batch["image"]) for batch in next(epochs))
        cold, cold_counts = samples / (time.perf_counter() - began), counts()
        assert sum(len(batch["image"]) for batch in next(epochs)) == samples  # compiles, too
        batches = (len(batch["image"]) for epoch in epochs for batch in epoch)
        warm = rate(batches, seconds)
        warm_counts = counts()
        found = sorted(digest for batch in next(epochs) for digest in digests(batch))
        if found != json.loads((bucket / "digests.json").read_text()):
            raise ValueError("samples are missing or differ from the store's")
    return {"cold": cold, "warm": warm, "cold_counts": cold_counts, "warm_counts": warm_counts}


def digests(batch: Mapping[str, Any]) -> Iterator[str]:
    """Of each sample's maps."""
    for row in range(len(batch["image"])):
        yield hashlib.sha256(
            b"".join(np.asarray(batch[f][row]).tobytes() for f in MAPS)
        ).hexdigest()


def counts() -> dict[str, int]:
    """What the server gave since it was last asked."""
    with urllib.request.urlopen(f"{os.environ['S3_ENDPOINT_URL']}/counts") as answer:
        found: dict[str, int] = json.load(answer)
    return found


# ------------------------------------------------------------------------------------- the rounds


@contextmanager
def served(folder: Path) -> Iterator[None]:
    """A server of a folder's files, whose address the environment has, while within."""
    program = Path(__file__).parent / "measuring" / "bucket.py"
    command = [sys.executable, str(program), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        given = {**KEYS, "S3_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
        try:
            with mock.patch.dict(os.environ, given):
                yield
        finally:
            server.kill()


def run_rounds(arguments: argparse.Namespace, bucket: Path) -> tuple[Runs, dict[str, str]]:
    """What came of every setting of every contender, in turn, and of those that fail, why."""
    runs: Runs = {}
    problems: dict[str, str] = {}
    there = [(name, CONTENDERS[name]) for name in CONTENDERS if is_installed(requires(name))]
    for turn, (name, settings) in itertools.product(range(arguments.rounds), there):
        for number, setting in enumerate(settings[: arguments.settings]):
            try:
                if name != "ours" and not turn and not number:
                    shutil.rmtree(place(name, bucket), ignore_errors=True)
                    apart(convert, name, bucket, seconds=TIME_LIMIT)
                given = name, setting, bucket, arguments.seconds
                run = apart(run_once, *given, seconds=TIME_LIMIT)
                runs.setdefault((name, described(setting)), []).append(run)
                say(name, setting, run)
            except Failed as error:
                problems[name] = str(error)
                say(name, setting, error)
    return runs, problems


def best(name: str, runs: Runs, kind: str) -> tuple[float, str, dict[str, int]] | None:
    """Of a contender its best setting, cold or warm: its rate, and what the server gave."""
    found = [
        (statistics.median(run[kind] for run in each), setting, each[0][f"{kind}_counts"])
        for (other, setting), each in runs.items()
        if other == name
    ]
    return max(found, default=None, key=lambda each: each[0])


def tables(names: Sequence[str], runs: Runs, problems: Mapping[str, str]) -> tuple[Table, Table]:
    """Rows of contenders: at their best, and with which settings that was."""
    rates: list[tuple[Cell, ...]] = []
    settings = []
    for name in names:
        cold, warm = best(name, runs, "cold"), best(name, runs, "warm")
        if cold is None or warm is None:
            rates.append((name, *[None] * 5))
            settings.append((name, *[problems.get(name, "")] * 2))
            continue
        counted, given = cold[2]["requests"], cold[2]["bytes"] / 1e6
        rates.append((name, cold[0], counted, given, warm[0], warm[2]["requests"]))
        settings.append((name, cold[1], warm[1]))
    return Table(RATES, tuple(rates)), Table(SETTINGS, tuple(settings), "Best settings")


RATES = (
    Column("contender"),
    Column("cold", "samples/s", 0),
    Column("requests"),
    Column("given", "MB", 0),
    Column("warm", "samples/s", 0),
    Column("requests, warm"),
)
SETTINGS = Column("contender"), Column("cold"), Column("warm")


def measure(arguments: argparse.Namespace) -> Result:
    """Convert, run all rounds: a row for each contender."""
    arguments.scratch = bucket = arguments.scratch / BUCKET
    split = open_store(build_store(arguments)[0])[SPLIT]
    wanted = sorted(d for i in range(len(split)) for d in digests(split.read([i], tuple(MAPS))))
    (bucket / "digests.json").write_text(json.dumps(wanted))
    with served(bucket.parent):
        runs, problems = run_rounds(arguments, bucket)
    there = [name for name in CONTENDERS if is_installed(requires(name))]
    return Result(
        "remote",
        "How fast is training from a bucket, beside loaders made for that?",
        environment(PACKAGES),
        tables(there, runs, problems),
        notes=(f"{len(split)} samples; every answer comes {1000 * LATENCY:.0f} ms late",),
        absent=tuple(name for name in CONTENDERS if name not in there),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=512)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--seconds", type=float, default=3.0, help="of reading warm")
    options.add_argument("--settings", type=int, help="of each contender, at most; default: all")
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
