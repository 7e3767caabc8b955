#!/usr/bin/env python3
"""What a second process is worth to a training: `ocr-train fit` by one and by two, a thread each.

Each computes on one thread and has batches of the same size, so two take half as many steps an
epoch and exchange gradients after each. Trainings take turns. What counts is samples/s of all
processes together, over the epochs after the first; the efficiency is that of two over twice that
of one. A process's loader has a thread besides: that of a single one has a core to itself.

Two cores of a machine are not always worth two: they share memory and caches, and virtual ones may
be threads of a single one. So two trainings that have nothing in common run at once as well: what
these reach together is the most that two processes can.

Whatever is no option of this script goes to the trainings, such as --data.batch_size=4.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from measuring.command import add_scratch, argument_parser, pass_on, run_script, say
from measuring.machine import environment
from measuring.results import Column, Result, Table
from measuring.samples import SPLIT, build_store

CONFIG = Path(__file__).parents[2] / "configs" / "train.yaml"


def samples_per_second(
    store: Path, trainings: int, processes: int, scratch: Path, more: list[str]
) -> float:
    """Of all processes of trainings that run at once, over all epochs but the first."""
    folders = [scratch / f"run{number}" for number in range(trainings)]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [*command(store, processes, folder), *more], env=variables, stdout=sys.stderr
        )
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
        "trainer.max_epochs": 3,
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


def measure(arguments: argparse.Namespace) -> Result:
    """A row for one process, two, and two trainings; samples a second over rounds in turn."""
    store, _ = build_store(arguments)
    ways = {"one process": (1, 1), "two processes": (1, 2), "two trainings": (2, 1)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, (trainings, processes) in ways.items():
            scratch, more = arguments.scratch, arguments.passed_on
            rates[name].append(samples_per_second(store, trainings, processes, scratch, more))
            say(name, rates[name][-1])
    one = statistics.median(rates["one process"])
    columns = (
        Column("training"),
        Column("", "samples/s", 2),
        Column("of twice one", "", 2),
        Column("lowest of a round", "samples/s", 2),
        Column("highest", "samples/s", 2),
    )
    middle = {name: statistics.median(found) for name, found in rates.items()}
    rows = tuple(
        (name, each, each / (2 * one), min(rates[name]), max(rates[name]))
        for name, each in middle.items()
    )
    question = f"What is a second process worth to a training of {arguments.samples} samples?"
    found = environment(("torch", "lightning"))
    return Result("processes", question, found, (Table(columns, rows),))


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=240)
    options.add_argument("--rounds", type=int, default=3)
    pass_on(options)
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
