#!/usr/bin/env python3
"""What a second process is worth to a training: `ocr-train fit` by one and by two, a thread each.

Each computes on one thread and has batches of the same size, so two take half as many steps an
epoch and exchange gradients after each. Trainings take turns. What counts is samples/s of all
processes together, over the epochs after the first; the efficiency is that of two over twice that
of one. A process's loader has a thread besides: that of a single one has a core to itself.

Two cores of a machine are not always worth two: they share memory and caches, and virtual ones may
be threads of a single one. So two trainings that have nothing in common run at once as well: what
these reach together is the most that two processes can.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from common import (
    SPLIT,
    add_out,
    argument_parser,
    build_store,
    environment,
    markdown_table,
    write_report,
)

CONFIG = Path(__file__).parents[2] / "configs" / "train.yaml"
EPOCHS = 3


def samples_per_second(store: Path, trainings: int, processes: int, scratch: Path) -> float:
    """Of all processes of trainings that run at once, over all epochs but the first."""
    folders = [scratch / f"run{number}" for number in range(trainings)]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(command(store, processes, folder), env=environment, stdout=sys.stderr)
        for folder in folders
    ]
    statuses = [each.wait() for each in running]
    if any(statuses):
        sys.exit("a training failed")
    files = [file for folder in folders for file in folder.rglob("performance*.jsonl")]
    return sum(map(_of_process, files))


def command(store: Path, processes: int, folder: Path) -> list[str]:
    """A training that writes into a folder."""
    settings = {
        "config": CONFIG,
        "monitor": False,
        "report": False,
        "data.store": store,
        "data.train": SPLIT,
        "data.val": SPLIT,
        "data.threads": 1,
        "data.tune": False,
        "trainer.max_epochs": EPOCHS,
        "trainer.limit_val_batches": 0,
        "trainer.devices": processes,
        "trainer.strategy": "ddp" if processes > 1 else "auto",
        "trainer.accelerator": "cpu",
        "trainer.callbacks": "null",
        "trainer.default_root_dir": folder,
        "trainer.logger.init_args.save_dir": folder,
    }
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "ocr.command", "fit", *flags]


def _of_process(file: Path) -> float:
    epochs = [json.loads(line) for line in file.read_text().splitlines()][1:]
    samples = sum(float(epoch["samples"]["train"]) for epoch in epochs)
    return samples / sum(float(epoch["seconds"]["train"]) for epoch in epochs)


def report(rates: dict[str, list[float]], samples: int) -> Iterator[str]:
    """The table."""
    yield from (f"# Trainings by one and by two processes, {samples} samples", "")
    yield from (*environment(("torch", "lightning")), "")
    middle = {name: statistics.median(found) for name, found in rates.items()}
    one = middle["one process"]
    rows = [
        (name, f"{each:.2f}", f"{each / (2 * one):.2f}", ", ".join(f"{r:.2f}" for r in rates[name]))
        for name, each in middle.items()
    ]
    yield markdown_table(("", "samples/s", "of twice one", "of each round"), rows)


def main() -> None:
    """Measure and report."""
    parser = argument_parser(__doc__, samples=240)
    parser.add_argument("--rounds", type=int, default=3)
    add_out(parser)
    arguments = parser.parse_args()
    store, _ = build_store(arguments)
    ways = {"one process": (1, 1), "two processes": (1, 2), "two trainings": (2, 1)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, (trainings, processes) in ways.items():
            rate = samples_per_second(store, trainings, processes, arguments.scratch)
            rates[name].append(rate)
            print(name, rate, file=sys.stderr)
    write_report(report(rates, arguments.samples), arguments.out)


if __name__ == "__main__":
    main()
