#!/usr/bin/env python3
"""Are the clocks of a run true, and what do they cost?

A delay of 20 ms is planted in each stage in turn, in the function that does its work. That stage's
own time must grow by as much for each call, within a tenth; no other stage's may; and waits for it
by no more than the stages did. Read from where a user reads it: the report of a build, what a
process has recorded of reading, and performance.jsonl of a training. Runs with and without take
turns, and the median over pairs of them counts. A network is not as fast in one run as in the next:
where a function is all of a stage, a clock around it says how much longer it took by itself, which
is taken off, and told. Of other stages it counts only what goes beyond what they differ by from one
run to the next without any delay, which is told, too.

Then what a stage costs, and with it how much of a build, of reading and of a training all of them
are. Ends with 1 if a clock is not true.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from measuring.clocked import Recorded, Runs
from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment
from measuring.plants import BUILD, COPY, DELAY, READ, TRAIN, Plant
from measuring.results import Cell, Column, Result, Table
from measuring.samples import repeat_images
from measuring.trainings import quiet

from ocr_precompute.runtime.stages import recording, stage

TOLERANCE = 0.1
RUNS = ("build", "read", "train")
PLANTED = (
    Column("run"),
    Column("stage"),
    Column("planted"),
    Column("it grew", "ms", 2),
    Column("and by itself", "ms", 2),
    Column("most of another", "ms", 2),
    Column("which is"),
    Column("and differs by chance by", "ms", 2),
    Column("most of a wait", "ms", 2),
    Column("right"),
)
COSTS = (
    Column("run"),
    Column("stages and waits"),
    Column("each", "µs", 2),
    Column("of the run", "%", 3),
)

Part = tuple[str, Callable[[], Recorded], tuple[Plant, ...]]


def seconds_of(run: Recorded, kind: str, name: str) -> float:
    """Seconds of a stage or wait of a run."""
    return float(run[kind].get(name, {"seconds": 0.0})["seconds"])


def run_with(
    work: Callable[[], Recorded], plants: Sequence[Plant], slow: Plant | None
) -> tuple[Recorded, int]:
    """A run with a delay, or none, and how often it was planted.

    alone: what functions that are all of a stage took, without the delay. beyond: what stages say
    beyond that.
    """
    clocks: dict[Plant, list[float]] = {each: [] for each in plants if each.whole or each is slow}
    with contextlib.ExitStack() as stack:
        for each, took in clocks.items():
            stack.enter_context(each.planted(DELAY if each is slow else 0.0, took))
        found = work()
    calls = len(clocks[slow]) if slow else 0
    alone = {each.stage: {"seconds": sum(took)} for each, took in clocks.items() if each.whole}
    if slow and slow.whole:
        alone[slow.stage]["seconds"] -= DELAY * calls
    found = {**found, "alone": alone}
    beyond = {
        name: {"seconds": seconds_of(found, "stages", name) - seconds_of(found, "alone", name)}
        for name in found["stages"]
    }
    return {**found, "beyond": beyond}, calls


def grown(slowed: Sequence[Recorded], plain: Sequence[Recorded], kind: str) -> dict[str, float]:
    """How much each stage, or wait, takes longer: the median over pairs of runs."""
    names = {name for run in (*slowed, *plain) for name in run[kind]}
    return {
        name: statistics.median(
            seconds_of(one, kind, name) - seconds_of(other, kind, name)
            for one, other in zip(slowed, plain, strict=True)
        )
        for name in names
    }


def chance(plain: Sequence[Recorded], name: str) -> float:
    """By how much a stage differs, as a rule, from one run to the next without any delay."""
    seconds = [seconds_of(run, "beyond", name) for run in plain]
    return statistics.median(abs(one - other) for one, other in itertools.pairwise(seconds))


def pairs_of(
    work: Callable[[], Recorded], plants: Sequence[Plant], plant: Plant, rounds: int
) -> tuple[list[Recorded], list[Recorded], int]:
    """Runs with the delay and without it, in turn, and how often it was planted in one."""
    plain, slowed, calls = [], [], 0
    for _ in range(rounds):
        found, calls = run_with(work, plants, plant)
        slowed.append(found)
        plain.append(run_with(work, plants, None)[0])
    return slowed, plain, calls


def rows_of(
    where: str, work: Callable[[], Recorded], plants: tuple[Plant, ...], rounds: int
) -> Iterator[tuple[Cell, ...]]:
    """For each plant what grew, and whether that is right."""
    work()
    for plant in plants:
        slowed, plain, calls = pairs_of(work, plants, plant, rounds)
        planted = DELAY * calls or sys.exit(f"{where}: {plant.name} is never called")
        stages, alone = grown(slowed, plain, "beyond"), grown(slowed, plain, "alone")
        own = stages.pop(plant.stage, 0.0)
        beyond = {name: seconds - chance(plain, name) for name, seconds in stages.items()}
        other = max(beyond, key=lambda name: beyond[name])
        waits = max(grown(slowed, plain, "waits").values(), default=0.0)
        more = sum(max(0.0, seconds) for seconds in (*stages.values(), *alone.values()))
        waited_for = max(planted, own + more)
        right = (
            abs(own - planted) <= TOLERANCE * planted
            and beyond[other] <= TOLERANCE * planted
            and waits <= (1 + TOLERANCE) * waited_for
        )
        say(f"{where}: {plant.stage}: {own / planted:.3f}")
        seconds = own, alone.get(plant.stage, 0.0), stages[other], chance(plain, other), waits
        ms = [1000 * s / calls for s in seconds]
        said = "yes" if right else "NO"
        yield where, plant.stage, calls, ms[0], ms[1], ms[2], other, ms[3], ms[4], said


def cost_of_a_stage() -> float:
    """Seconds that one stage takes, with nothing in it."""
    found = []
    with recording():
        for _ in range(50):
            started = time.perf_counter()
            for _ in range(2000):
                with stage("nothing"):
                    pass
            found.append((time.perf_counter() - started) / 2000)
    return statistics.median(found)


def costs(runs: Runs, only: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
    """What all stages of each work cost, as a share of it."""
    one = cost_of_a_stage()
    for where in only:
        work: Callable[[], Recorded] = getattr(runs, where)
        started = time.perf_counter()
        found = work()
        seconds = time.perf_counter() - started
        stages = sum(t["count"] for kind in ("stages", "waits") for t in found[kind].values())
        yield where, stages, 1e6 * one, 100 * stages * one / seconds


def measure(arguments: argparse.Namespace) -> Result:
    """A row for each planted delay, and one for each run; holds if every clock is true."""
    source = repeat_images(
        arguments.images, arguments.annotations, arguments.samples, arguments.scratch / "stages"
    )
    runs = Runs(source, arguments.scratch)
    parts: tuple[Part, ...] = (
        ("build", runs.build, BUILD),
        ("build", runs.copy, COPY),
        ("read", runs.read, READ),
        ("train", runs.train, TRAIN),
    )
    chosen = [part for part in parts if part[0] in arguments.only]
    rows = [row for part in chosen for row in rows_of(*part, arguments.rounds)]
    planted = f"{1000 * DELAY:.0f} ms planted in each stage in turn, by call"
    return Result(
        "stages",
        "Are the clocks of a run true, and what do they cost?",
        environment(("torch", "lightning")),
        (
            Table(PLANTED, tuple(rows), planted),
            Table(COSTS, tuple(costs(runs, arguments.only)), "What stages cost"),
        ),
        holds=all(row[-1] == "yes" for row in rows),
    )


def _rounds(text: str) -> int:
    """Chance shows in the difference of two runs."""
    if int(text) < 2:
        raise argparse.ArgumentTypeError("2 at least")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=12)
    options.add_argument("--only", nargs="+", choices=RUNS, default=RUNS)
    options.add_argument(
        "--rounds", type=_rounds, default=9, help="pairs of runs, 2 at least; default: 9"
    )
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure, before=quiet)
