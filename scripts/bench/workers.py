#!/usr/bin/env python3
"""What a second worker is worth: the same build by one and by two, in processes and on Dask.

Images are repeated under other names up to --samples, so that start-up does not decide, and workers
are warm: each engine has built once before it is measured. One and two take turns. What two reach
is told as a share of twice what one does; on two cores the process that builds, and with Dask the
scheduler, share them with the workers.

Two cores of a machine are not always worth two: they share memory and caches, and virtual ones may
be threads of a single one. So two builds that have nothing in common, of half the samples each, run
at once as well: what these reach is the most that two workers can.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from measuring.command import add_scratch, argument_parser, run_script
from measuring.machine import environment, is_installed
from measuring.results import Column, Result, Table
from measuring.samples import SPLIT, repeat_images

from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.clock import in_turn
from ocr_precompute.settings import Settings, Source

PROCESSES = {1: "1 process", 2: "2 processes"}
DASK = {1: "Dask, 1 worker", 2: "Dask, 2 workers"}
APART = "2 builds at once"
ALONE = {PROCESSES[2]: PROCESSES[1], APART: PROCESSES[1], DASK[2]: DASK[1]}
"""Of what two reach, what one does."""


def built(source: Source, scratch: Path, changes: dict[str, Any]) -> None:
    """Build into a store that is not there yet."""
    store = scratch / "store"
    shutil.rmtree(store, ignore_errors=True)
    build(SPLIT, source, Settings.model_validate({"store": store, **changes}))


def built_apart(pool: Executor, sources: list[Source], scratch: Path) -> None:
    """Build each source in a process of its own, all at once."""
    places = [scratch / f"apart{number}" for number in range(len(sources))]
    list(pool.map(built, sources, places, [{"backend": "sequential"}] * len(sources)))


def on_dask(arguments: argparse.Namespace) -> bool:
    """Whether to measure workers of Dask: if it is installed, and wanted."""
    return arguments.dask and is_installed("distributed")


@contextmanager
def runs(arguments: argparse.Namespace) -> Iterator[dict[str, Callable[[], None]]]:
    """What is timed, by name, while its workers are there; on Dask only if that is wanted."""
    scratch: Path = arguments.scratch
    images, annotations = arguments.images, arguments.annotations
    source = repeat_images(images, annotations, arguments.samples, scratch / "source")
    half = repeat_images(images, annotations, arguments.samples // 2, scratch / "half")
    found: dict[str, Callable[[], None]] = {
        PROCESSES[n]: partial(built, source, scratch, {"jobs": n}) for n in (1, 2)
    }
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(2, get_context("spawn")))
        found[APART] = partial(built_apart, pool, [half, half], scratch)
        if on_dask(arguments):
            from distributed import LocalCluster

            for n, name in DASK.items():
                new = LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None)
                cluster = stack.enter_context(new)
                way = {"backend": "dask", "scheduler": cluster.scheduler_address}
                found[name] = partial(built, source, scratch, way)
        yield found


def measure(arguments: argparse.Namespace) -> Result:
    """A row for each way to build."""
    with runs(arguments) as ways:
        for run in ways.values():
            run()
        seconds = {k: statistics.median(v) for k, v in in_turn(ways, arguments.rounds).items()}
    rows = []
    for name, took in seconds.items():
        share = seconds[ALONE[name]] / (2 * took) if name in ALONE else None
        rows.append((name, arguments.samples / took, share))
    columns = Column("workers"), Column("", "samples/s", 1), Column("of twice one", "", 2)
    return Result(
        "workers",
        "What is a second worker worth to a build?",
        environment(("joblib", "distributed")),
        (Table(columns, tuple(rows)),),
        absent=tuple(DASK.values()) if arguments.dask and not on_dask(arguments) else (),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=512)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--no-dask", dest="dask", action="store_false", help="processes alone")
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
