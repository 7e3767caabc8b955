#!/usr/bin/env python3
"""What watching a training costs: steps with everything on against steps with everything off.

On is all that `ocr-train fit` can write of a training: the monitor with its port, the clocks and
performance.jsonl, records of validations and the report, files for CSV and TensorBoard, a profile.
Off is none of it. What cannot be turned off, the clock of stages, is on in both. The loader's own
search for its settings is off in both unless --tune turns it on with the rest: what it tries is
faster or slower than what it began with, and that is not what watching costs.

The two take turns in one process, on the same batches in the same order: a machine that is slow for
a while is so for both, and neither process nor memory differs between them. Which goes first
changes every round. A round gives one ratio, of the time a step with everything on and off, over
the steps after the profiled ones: waits for the loader, logging and ends of epochs included,
validations left out. Their median over rounds is the cost, with an interval of 95 % from resampling
the rounds. The profiled steps, which end before the others begin, and validations are told apart.

Where other work disturbs the machine, that interval is wide. So the work itself is clocked too: in
each step that counts the hooks of all that watches and the writing of logs, on the thread that
trains, and the processor time of the monitor's thread, all of which could be spared at most.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from measuring.command import argument_parser, run_script, say
from measuring.machine import environment
from measuring.results import Cell, Column, Result, Table
from measuring.watched import Took, training

from ocr_precompute.baselines.comparison import compared_in_turn
from ocr_precompute.runtime.clock import resident_memory

COLUMNS = (
    Column("what"),
    Column("everything off", "ms", 1),
    Column("everything on", "ms", 1),
    Column("cost", "%", 2),
    Column("from", "%", 2),
    Column("to", "%", 2),
)


def rounds(arguments: argparse.Namespace) -> Iterator[dict[bool, Took]]:
    """What trainings with everything on and off took, round by round."""
    for number in range(-1, arguments.rounds):
        order = (True, False) if number % 2 else (False, True)
        found = {}
        for on in order:
            with tempfile.TemporaryDirectory() as folder:
                found[on] = training(arguments, on, Path(folder))
        ratio = found[True].step / found[False].step
        said = "not counted, " * (number < 0)
        memory = f"{(resident_memory() or 0) / 1e6:,.1f} MB"
        cost = f"{100 * (ratio - 1):+.2f} %"
        say(f"round {number + 1}: {said}{cost}, {found}, memory {memory}")
        if number >= 0:
            yield found


def rows(found: Sequence[dict[bool, Took]]) -> Iterator[tuple[Cell, ...]]:
    """A row for each thing that takes longer, and one for what watched in a step."""
    for name, kind in (
        ("step", "step"),
        ("profiled step, the trace written", "profiled"),
        ("validation", "validation"),
    ):
        on = [getattr(took[True], kind) for took in found]
        off = [getattr(took[False], kind) for took in found]
        (ratio,) = compared_in_turn({name: off}, {name: on}, 0.0).ratios
        costs = (100 * (x - 1) for x in (ratio.ratio, ratio.low, ratio.high))
        yield name, 1000 * statistics.median(off), 1000 * statistics.median(on), *costs
    shares = [100 * took[True].watching / took[True].step for took in found]
    spent = 1000 * statistics.median(took[True].watching for took in found)
    of_rounds = statistics.median(shares), min(shares), max(shares)
    yield "of a step, what watched (from and to: all rounds)", None, spent, *of_rounds


def measure(arguments: argparse.Namespace) -> Result:
    """Trainings in turn; costs are medians over rounds, with an interval of 95 %."""
    found = list(rounds(arguments))
    crops = f"{arguments.batch_size} crops of {arguments.crop} pixels a step"
    before = f"after {arguments.before} and {arguments.profiled} that are profiled if all is on"
    return Result(
        "watching",
        "What does watching a training cost?",
        environment(("torch", "lightning")),
        (Table(COLUMNS, tuple(rows(found))),),
        notes=(f"{crops}; {len(found)} rounds; {arguments.steps} steps count, {before}",),
    )


def quiet() -> None:
    """Let Lightning say no more than warnings, and not those that it always has."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)  # of Lightning itself
    warnings.filterwarnings("ignore", ".*does not have many workers.*")


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, images=False)
    options.add_argument("--store", default="data/store", help="with the splits train and val")
    options.add_argument("--batch-size", type=int, default=4)
    options.add_argument("--crop", type=int, default=320)
    options.add_argument("--backbone", default="resnet-18")
    options.add_argument("--channels", type=int, default=64)
    options.add_argument("--before", type=int, default=5, help="steps before the profiled ones")
    options.add_argument("--profiled", type=int, default=10, help="profiled steps")
    options.add_argument("--steps", type=int, default=40, help="steps of a training that count")
    options.add_argument("--between", type=int, default=25, help="steps between validations")
    options.add_argument("--validation-batches", type=int, default=2, help="of each validation")
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--accelerator", default="cpu")
    options.add_argument("--tune", action="store_true", help="the loader's search is on, too")
    return options


if __name__ == "__main__":
    run_script(parser(), measure, before=quiet)
