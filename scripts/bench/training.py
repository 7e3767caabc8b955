#!/usr/bin/env python3
"""What each optimisation of a training saves: speed, memory, and the wait for the loader.

Trainings in processes of their own, in turn, by the median of the rounds: as a configuration has
them, with each optimisation off in turn, with all of them off, with what is off by default on in
turn, and in each precision. Whatever is not an option goes to `ocr-train fit`, such as
--data.batch_size=16.

Activations are those of one step on one batch: the bytes that the forward pass allocates and that
are still there when it has returned, whoever keeps them. Not counted where it is compiled.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from measuring.command import argument_parser, pass_on, run_script, say
from measuring.machine import environment
from measuring.results import Column, Result, Table

from ocr.baselines.command import Rounds
from ocr.models import DBLoss, DBNet
from ocr.models.checkpointing import apply_checkpointing, saved_bytes
from ocr_precompute.errors import PrecomputeError

BASE = "as configured"
PLAIN = "configs/experiment/plain.yaml"
OFF = (
    *("data.threads=1", "data.trim=0", "data.overlap_transfers=false"),
    *("model.channels_last=false", "model.loss.mining=sort"),
    *("optimizer.init_args.fused=false", "optimizer.init_args.foreach=false"),
)
ON = (
    *("model.compile=true", "model.activation_checkpointing=selective"),
    *(
        "model.activation_checkpointing=full",
        "model.offload_activations=true",
        "model.ema=0.999",
    ),
)
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
KEPT: Mapping[str, Mapping[str, Any]] = {
    "model.activation_checkpointing=none": {},
    "model.activation_checkpointing=selective": {"mode": "selective"},
    "model.activation_checkpointing=full": {"mode": "full"},
    "model.offload_activations=true": {"offload": True},
    "trainer.precision=bf16-mixed": {"half": True},
    "trainer.precision=bf16-mixed, selective": {"half": True, "mode": "selective"},
}


def trainings(on_gpu: bool) -> dict[str, list[str]]:
    """What is measured, by name: settings laid over the configuration's."""
    precisions = [f"trainer.precision={p}" for p in PRECISIONS if on_gpu or p != "16-mixed"]
    return {
        BASE: [],
        **{f"{setting}": [f"--{setting}"] for setting in OFF},
        "plain.yaml": ["--config", PLAIN],
        **{f"{setting}": [f"--{setting}"] for setting in (*ON, *precisions)},
    }


def measured(
    named: Mapping[str, list[str]],
    arguments: argparse.Namespace,
    settings: Sequence[str],
) -> dict[str, Rounds]:
    """All rounds, in turn; what cannot be trained is told, and left out."""
    configured = ["--config", arguments.config]
    found = {name: Rounds([*configured, *more, *settings]) for name, more in named.items()}
    for number in range(arguments.rounds):
        for name, rounds in list(found.items())[:: 1 if number % 2 else -1]:
            try:
                rounds.add(arguments.warmup, arguments.steps)
            except PrecomputeError as error:
                say(f"{name}: left out: {error}")
                del found[name]
                continue
            say(f"{name}: {rounds.rates[-1]:,.1f} samples/s")
    return found


SPEEDS = (
    Column("setting"),
    Column("", "samples/s", 1),
    Column("ratio", "", 2),
    Column("lowest of a round", "", 2),
    Column("highest", "", 2),
    Column("waited", "%", 2),
    Column("most memory", "MB", 0),
)
KEPT_COLUMNS = Column("setting"), Column("activations", "MB", 0), Column("ratio", "", 2)


def speeds(found: Mapping[str, Rounds]) -> Table:
    """A row for each training."""
    base = statistics.median(next(iter(found.values())).rates)
    rows = []
    for name, rounds in found.items():
        middle = statistics.median(rounds.rates)
        shares = middle / base, min(rounds.rates) / base, max(rounds.rates) / base
        waited = 100 * statistics.median(rounds.waited)
        rows.append((name, middle, *shares, waited, statistics.median(rounds.memory) / 1e6))
    return Table(SPEEDS, tuple(rows), "Trainings")


def kept_bytes(
    images: torch.Tensor,
    channels: int,
    mode: Any = "none",
    half: bool = False,
    offload: bool = False,
) -> int:
    """Bytes of activations that a forward pass with its loss keeps."""
    torch.manual_seed(0)
    device, shape = images.device, images.shape[:3]
    network = DBNet(channels=channels).to(device).train()
    apply_checkpointing(network, dict.fromkeys(network.stages(), mode))
    some = torch.zeros(shape, device=device)
    some[:, : shape[1] // 4] = 1
    labels = dict.fromkeys(("prob", "prob_mask", "thresh", "thresh_mask"), some)

    def forward() -> torch.Tensor:
        hooks: AbstractContextManager[Any] = nullcontext()
        if offload:
            hooks = torch.autograd.graph.save_on_cpu(pin_memory=device.type == "cuda")
        with torch.autocast(device.type, torch.bfloat16, enabled=half), hooks:
            return DBLoss()(network(images), labels).total

    return saved_bytes(forward)


def activations(count: Callable[..., int], title: str) -> Table:
    """A row for each setting that keeps more or less."""
    sizes = {name: count(**settings) for name, settings in KEPT.items()}
    first = next(iter(sizes.values()))
    rows = ((name, size / 1e6, size / first) for name, size in sizes.items())
    return Table(KEPT_COLUMNS, tuple(rows), title)


def measure(arguments: argparse.Namespace) -> Result:
    """A table of trainings, and one of activations."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side, channels = arguments.side, arguments.channels
    images = torch.zeros((8, side, side, 3), dtype=torch.uint8, device=device)
    named = trainings(device == "cuda")
    wanted = {n: more for n, more in named.items() if n in (BASE, *(arguments.only or named))}
    found = measured(wanted, arguments, arguments.passed_on)
    count = partial(kept_bytes, images, channels)
    kept = activations(count, f"Of 8 images of {side} x {side}, {channels} channels")
    steps = f"{arguments.steps} steps after {arguments.warmup}, {arguments.rounds} rounds in turn"
    return Result(
        "training",
        "What does each optimisation of a training save?",
        environment(("torch", "lightning", "transformers")),
        (speeds(found), kept),
        notes=(f"on a {device.upper()}; {steps}",),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, images=False)
    options.add_argument("--config", default="configs/train.yaml", help="of the training")
    options.add_argument("--rounds", type=int, default=3, help="trainings of each; default: 3")
    options.add_argument("--steps", type=int, default=20, help="that are timed; default: 20")
    options.add_argument("--warmup", type=int, default=5, help="steps before them; default: 5")
    options.add_argument("--side", type=int, default=320, help="of images for activations")
    options.add_argument("--channels", type=int, default=64, help="of the network for activations")
    options.add_argument("--only", nargs="+", choices=trainings(True), metavar="SETTING")
    pass_on(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
