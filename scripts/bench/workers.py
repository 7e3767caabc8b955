#!/usr/bin/env python3
"""What a second worker is worth: the same build by one and by two, in processes and on Dask.

Images are repeated under other names up to --samples, so that start-up does not decide, and workers
are warm: each engine has built once before it is measured. One and two take turns. The efficiency
is the time of one over twice that of two; on two cores the process that builds, and with Dask the
scheduler, share them with the workers.

Two cores of a machine are not always worth two: they share memory and caches, and virtual ones may
be threads of a single one. So two builds that have nothing in common, of half the samples each, run
at once as well: what these reach is the most that two workers can.
"""

from __future__ import annotations

import shutil
import statistics
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from common import (
    SPLIT,
    add_out,
    argument_parser,
    environment,
    markdown_table,
    repeat_images,
    write_report,
)
from distributed import LocalCluster

from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.clock import in_turn
from ocr_precompute.settings import Settings, Source


def built(source: Source, scratch: Path, changes: dict[str, Any]) -> None:
    """Build into a store that is not there yet."""
    store = scratch / "store"
    shutil.rmtree(store, ignore_errors=True)
    build(SPLIT, source, Settings.model_validate({"store": store, **changes}))


def built_apart(pool: Executor, sources: list[Source], scratch: Path) -> None:
    """Build each source in a process of its own, all at once."""
    places = [scratch / f"apart{number}" for number in range(len(sources))]
    list(pool.map(built, sources, places, [{"backend": "sequential"}] * len(sources)))


def main() -> None:
    """Measure and report."""
    parser = argument_parser(__doc__, samples=512)
    parser.add_argument("--rounds", type=int, default=3)
    add_out(parser)
    arguments = parser.parse_args()
    scratch: Path = arguments.scratch
    images, annotations = arguments.images, arguments.annotations
    source = repeat_images(images, annotations, arguments.samples, scratch / "source")
    half = repeat_images(images, annotations, arguments.samples // 2, scratch / "half")
    worker = {"threads_per_worker": 1, "dashboard_address": None}
    with (
        LocalCluster(n_workers=1, **worker) as one,
        LocalCluster(n_workers=2, **worker) as two,
        ProcessPoolExecutor(2, get_context("spawn")) as pool,
    ):
        dask: dict[str, Any] = {"backend": "dask"}
        ways = {
            "1 process": {"jobs": 1},
            "2 processes": {"jobs": 2},
            "Dask, 1 worker": {**dask, "scheduler": one.scheduler_address},
            "Dask, 2 workers": {**dask, "scheduler": two.scheduler_address},
        }
        runs = {name: partial(built, source, scratch, way) for name, way in ways.items()}
        runs["2 builds at once"] = partial(built_apart, pool, [half, half], scratch)
        for run in runs.values():
            run()
        seconds = {k: statistics.median(v) for k, v in in_turn(runs, arguments.rounds).items()}
    rows = [(name, f"{t:.1f}", f"{arguments.samples / t:.1f}") for name, t in seconds.items()]
    names = list(seconds)
    lines = [*environment(["joblib", "distributed"]), ""]
    lines += [markdown_table(["", "seconds", "samples/s"], rows), ""]
    lines += [
        f"- {b} against {a}: efficiency {seconds[a] / (2 * seconds[b]):.2f}"
        for a, b in (names[:2], names[2:4], (names[0], names[4]))
    ]
    write_report(lines, arguments.out)


if __name__ == "__main__":
    main()
