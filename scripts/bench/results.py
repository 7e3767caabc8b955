#!/usr/bin/env python3
"""Which targets of speed and memory are reached on this machine? A row for each figure.

Most come from other scripts of this folder, run here with fewer samples and rounds; each row names
the command that measures it alone. What is compared takes turns in this one run. Validations are
measured here. H-mean needs --ckpt-path: a network that learnt nothing finds nothing either way.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import tuning
from measuring.command import add_scratch, argument_parser, run_script
from measuring.machine import environment
from measuring.results import Result
from measuring.samples import SPLIT, build_store
from measuring.targets import Figure, figures_table, found_by, number
from measuring.trainings import quiet
from measuring.validations import (
    STEPS,
    VAL,
    add_network,
    held_of_arrays,
    network,
    share_in_bfloat16,
    trained_epochs,
    validations,
)

from ocr_precompute.reports.memory import split_memory

Figures = Iterator[Figure]


def places(arguments: argparse.Namespace, scratch: str = "") -> list[str]:
    """Where scripts find images, and make what they need."""
    data = "--images", arguments.images, "--annotations", arguments.annotations
    return [*map(str, data), "--scratch", str(arguments.scratch / scratch)]


def validation(arguments: argparse.Namespace) -> Figures:
    """What a validation reads, all of a validation, and what comes out."""
    words = "--samples", arguments.samples, "--epochs", arguments.rounds, "--threads", 2
    result, command = found_by("epochs", places(arguments), *words)
    read = result.tables[0]
    what = "a page's image and labels from the store, against decoded and drawn live: reading alone"
    factor = number(read, "2", "factor")
    yield Figure(what, factor, "times", command, "5 to 8 times", least=5.0)

    found = validations(arguments)
    page = 1000 * statistics.median(found.seconds["store"]) / found.samples
    drawn = 1000 / number(read, "2", "live, samples/s")
    why = (
        f"a page takes {page:.0f} ms, {1000 / number(read, '2', 'store, samples/s'):.1f} ms of it "
        "to read from the store and the rest in network, post-processing and metric, which both "
        f"ways share; live takes {drawn:.0f} ms to read, on the same cores. 5 times takes a "
        f"network of under {drawn / 4:.1f} ms per page; a GPU was not measured. Tried: trimmed "
        "batches and post-processing on threads, which both ways have"
    )
    own = f"results.py --only validation --rounds {arguments.rounds}"
    what = "all of a validation from the store, against images decoded and labels drawn live"
    pairs = zip(found.seconds["live"], found.seconds["store"], strict=True)
    ratio = statistics.median(live / stored for live, stored in pairs)
    yield Figure(what, ratio, "times", own, "5 to 8 times", least=5.0, why=why)
    if arguments.ckpt_path is None:
        return
    stored = found.hmean["store"]
    for way, what in (
        ("live", f"H-mean live, against {100 * stored:.1f} from the store"),
        ("bfloat16", "H-mean with weights and statistics in bfloat16, against float32"),
    ):
        apart = 100 * abs(found.hmean[way] - stored)
        yield Figure(what, apart, "points apart", own, "at most 0.5", most=0.5)


def building(arguments: argparse.Namespace) -> Figures:
    """A build by two processes."""
    words = "--samples", arguments.many, "--rounds", arguments.rounds, "--no-dask"
    result, command = found_by("workers", places(arguments, "workers"), *words)
    one, two, apart = (
        number(result.tables[0], name, "samples/s")
        for name in ("1 process", "2 processes", "2 builds at once")
    )
    why = (
        "it is what two cores give: two builds that have nothing in common reach "
        f"{apart / one:.2f} times in the same turns. Tried: threads, and workers of Dask, which "
        "give the same"
    )
    what = "a build by two processes, against one (the target is of more cores)"
    yield Figure(what, two / one, "times", command, "2 to 3 times", least=2.0, why=why)


def varied(arguments: argparse.Namespace) -> Figures:
    """Varied samples of a training."""
    words = "--samples", arguments.samples, "--rounds", arguments.rounds
    more = "--seconds", arguments.seconds, "--batch-size", arguments.batch_size
    result, command = found_by("augmented", places(arguments), *words, *more)
    faster = number(result.tables[0], "ours, live", "ours is faster by") - 1
    what = "varied crops of 640 px with labels per second, from the store, against live"
    yield Figure(what, 100 * faster, "% more", command, "15 to 25 %", least=15.0)


def loader(arguments: argparse.Namespace) -> Figures:
    """What the search for a loader's setting gives."""
    size = arguments.batch_size
    words = "--samples", max(tuning.BATCHES * size, arguments.samples), "--batch-size", size
    more = "--rounds", arguments.rounds, "--only", "elsewhere"
    result, command = found_by("tuning", places(arguments), *words, *more)
    for start in (1, 16):
        fixed, searched = (
            number(result.tables[1], name, "samples/s")
            for name in (f"{start} fixed", f"searched from {start}")
        )
        what = (
            f"threads of a loader searched for from {start} on, against {start} kept, for a "
            "training that computes elsewhere (20 ms per batch)"
        )
        why = (
            f"the search ended with {result.tables[1].cell(f'searched from {start}', 'found')}; "
            "two cores may be two threads of one, where 1 to 16 threads, all tried, differ little"
        )
        gain = 100 * (searched / fixed - 1)
        yield Figure(what, gain, "% more", command, "10 to 20 %", least=10.0, why=why)


def memory(arguments: argparse.Namespace) -> Figures:
    """What data and weights take."""
    own = f"results.py --only memory --many {arguments.many}"
    arguments = argparse.Namespace(**{**vars(arguments), "samples": arguments.many})
    saved = 100 * split_memory(build_store(arguments)[0], SPLIT).saved
    what = "annotations: all that an opened split holds, against lists of an array per polygon"
    why = "what is saved is an array per polygon: pages of few words, and small splits, save less"
    yield Figure(what, saved, "% less", own, "20 to 30 % less", least=20.0, why=why)

    share = held_of_arrays(arguments)
    what = f"images and maps: a loader of {arguments.many} samples, against their arrays in memory"
    why = "batches under way take the same however few samples there are"
    yield Figure(what, 100 * (1 - share), "% less", own, "20 to 30 % less", least=20.0, why=why)

    what = "weights and statistics of a network in use, in bfloat16, against float32"
    less = 100 * (1 - share_in_bfloat16(arguments))
    yield Figure(what, less, "% less", own, "30 to 50 % less", least=30.0)


def training(arguments: argparse.Namespace) -> Figures:
    """Steps and validations of one training in turn, and what settings of a training change."""
    own = f"results.py --only training --rounds {arguments.rounds}"
    store, _ = build_store(arguments)
    epochs = list(trained_epochs(arguments))
    rate = statistics.median(each["samples_per_second"] for each in epochs)
    waited = 100 * statistics.median(each["loader_wait"] for each in epochs)
    why = (
        f"all of it is computing on these cores, {waited:.1f} % waiting for the loader. "
        "Tried: bf16-mixed, 1.7 times as fast on a processor that has it; channels_last and a "
        "fused optimiser, a few percent at most (docs/training.md). A GPU was not measured"
    )
    what = f"training, crops of {arguments.crop} px"
    yield Figure(what, rate, "samples/s", own, "over 100 samples/s", least=100.0, why=why)
    ratio = statistics.median(each["val_sample"] / each["train_sample"] for each in epochs)
    what = "time of a validation per page of 640 px, all included, against a training's per crop"
    why = f"a page has several times the pixels of a crop of {arguments.crop} px"
    yield Figure(what, ratio, "times", own, "under 2 times", most=2.0, why=why)

    rounds = "--rounds", arguments.rounds, "--steps", STEPS, "--warmup", 2
    given = [f"--data.store={store}", f"--data.train={SPLIT}", f"--data.val={VAL}"]
    given += network(arguments)
    result, command = found_by("training", given, *rounds, "--only", "data.threads=1")
    settings, kept = result.tables
    one, each = (
        number(settings, name, "waited, %") for name in ("data.threads=1", "as configured")
    )
    why = (
        f"with one thread it waits for {one:.1f} % of its time, which is all that could be gained: "
        "the network has the same cores. Tried: a thread per core, the search (data.tune)"
    )
    what = "a training's wait for the loader: one thread, less that with a thread per core"
    yield Figure(what, one - each, "% of its time", command, "10 to 20 %", least=10.0, why=why)
    most = 1e6 * number(settings, "as configured", "most memory, MB")
    share = 100 * most / psutil.virtual_memory().total
    what = "most memory of a training's process, of the machine's"
    yield Figure(what, share, "%", command, "under 80 %", most=80.0)
    for mode in ("selective", "full"):
        saved = 100 * (1 - number(kept, f"model.activation_checkpointing={mode}", "ratio"))
        what = f"activations kept for the backward pass, activation_checkpointing {mode}, to none"
        yield Figure(what, saved, "% less", command, "20 to 30 % less", least=20.0)


def processes(arguments: argparse.Namespace) -> Figures:
    """A training by two processes."""
    words = "--samples", arguments.samples, "--rounds", arguments.rounds
    result, command = found_by("processes", [*places(arguments), *network(arguments)], *words)
    one, two, apart = (
        number(result.tables[0], name, "samples/s")
        for name in ("one process", "two processes", "two trainings")
    )
    why = (
        f"two trainings that share nothing reach {apart / one:.2f} times there, which is the most "
        f"that two processes can: they reach {two / apart:.2f} of it"
    )
    what = "a training by two processes of one thread each, against one"
    yield Figure(what, two / one, "times", command, why=why)


PARTS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    part.__name__: part
    for part in (validation, building, loader, varied, training, memory, processes)
}


def measure(arguments: argparse.Namespace) -> Result:
    """A row for each figure."""
    figures = itertools.chain.from_iterable(PARTS[name](arguments) for name in arguments.only)
    learnt = "the checkpoint's" if arguments.ckpt_path else "a network that learnt nothing"
    return Result(
        "results",
        "Which targets of speed and memory are reached on this machine?",
        environment(("torch", "lightning", "numcodecs", "opencv-python-headless")),
        (figures_table(figures),),
        notes=(
            f"samples: {arguments.samples}; rounds in turn: {arguments.rounds}; no GPU was "
            f"measured; validated: {learnt}, {arguments.backbone}, {arguments.channels} channels",
            *arguments.note,
        ),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=48)
    options.add_argument("--val-images", type=Path, default=Path("data/sample/images/val"))
    options.add_argument("--val-annotations", type=Path, default=Path("data/sample/jsons/val.json"))
    options.add_argument("--many", type=int, default=192, help="samples of builds and of memory")
    options.add_argument("--rounds", type=int, default=3, help="default: 3")
    options.add_argument("--seconds", type=float, default=1.5, help="of a turn of varied samples")
    add_network(options)
    options.add_argument("--note", nargs="+", default=[], help="said above the table")
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    add_scratch(options, "ocr-precompute-results")
    return options


if __name__ == "__main__":
    run_script(parser(), measure, before=quiet)
