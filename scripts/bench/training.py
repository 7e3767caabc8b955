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
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from common import add_out, environment, markdown_table, write_report

from ocr.baselines.command import Rounds
from ocr.models import DBLoss, DBNet
from ocr.models.checkpointing import apply_checkpointing, saved_bytes
from ocr_precompute.errors import PrecomputeError

PLAIN = "configs/experiment/plain.yaml"
OFF = (
    *("data.threads=1", "data.trim=0", "data.overlap_transfers=false"),
    *("model.channels_last=false", "model.loss.mining=sort"),
    *("optimizer.init_args.fused=false", "optimizer.init_args.foreach=false"),
)
ON = (
    *("model.compile=true", "model.activation_checkpointing=selective"),
    *("model.activation_checkpointing=full", "model.offload_activations=true", "model.ema=0.999"),
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
        "as configured": [],
        **{f"{setting}": [f"--{setting}"] for setting in OFF},
        "plain.yaml": ["--config", PLAIN],
        **{f"{setting}": [f"--{setting}"] for setting in (*ON, *precisions)},
    }


def measured(
    named: Mapping[str, list[str]], arguments: argparse.Namespace, settings: Sequence[str]
) -> dict[str, Rounds]:
    """All rounds, in turn; what cannot be trained is told, and left out."""
    configured = ["--config", arguments.config]
    found = {name: Rounds([*configured, *more, *settings]) for name, more in named.items()}
    for number in range(arguments.rounds):
        for name, rounds in list(found.items())[:: 1 if number % 2 else -1]:
            try:
                rounds.add(arguments.warmup, arguments.steps)
            except PrecomputeError as error:
                print(f"{name}: left out: {error}", file=sys.stderr)
                del found[name]
                continue
            print(f"{name}: {rounds.rates[-1]:,.1f} samples/s", file=sys.stderr)
    return found


def speeds(found: Mapping[str, Rounds]) -> str:
    """The table of trainings."""
    base = statistics.median(next(iter(found.values())).rates)
    rows = [
        (
            name,
            f"{statistics.median(rounds.rates):,.1f}",
            f"{statistics.median(rounds.rates) / base:.2f}",
            f"{min(rounds.rates) / base:.2f} to {max(rounds.rates) / base:.2f}",
            f"{statistics.median(rounds.waited):.2%}",
            f"{statistics.median(rounds.memory) / 1e6:,.0f}",
        )
        for name, rounds in found.items()
    ]
    heads = ("setting", "samples/s", "ratio", "of the rounds", "waited", "most memory, MB")
    return markdown_table(heads, rows)


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


def activations(count: Callable[..., int]) -> str:
    """The table of activations."""
    sizes = {name: count(**settings) for name, settings in KEPT.items()}
    first = next(iter(sizes.values()))
    rows = [(name, f"{size / 1e6:,.0f}", f"{size / first:.2f}") for name, size in sizes.items()]
    return markdown_table(("setting", "activations, MB", "ratio"), rows)


def report(arguments: argparse.Namespace, settings: Sequence[str]) -> Iterator[str]:
    """Both tables."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = arguments.side
    images = torch.zeros((8, side, side, 3), dtype=torch.uint8, device=device)
    yield f"# A training step, on a {device.upper()}"
    yield ""
    yield from environment(("torch", "lightning", "transformers"))
    yield f"- {arguments.steps} steps after {arguments.warmup}, {arguments.rounds} rounds in turn"
    yield ""
    yield speeds(measured(trainings(device == "cuda"), arguments, settings))
    yield ""
    yield f"Of 8 images of {side} x {side}, {arguments.channels} channels:"
    yield ""
    yield activations(lambda **how: kept_bytes(images, arguments.channels, **how))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/train.yaml", help="of the training")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each; default: 3")
    parser.add_argument("--steps", type=int, default=20, help="that are timed; default: 20")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them; default: 5")
    parser.add_argument("--side", type=int, default=320, help="of images for activations")
    parser.add_argument("--channels", type=int, default=64, help="of the network for activations")
    add_out(parser)
    arguments, settings = parser.parse_known_args()
    write_report(report(arguments, settings), arguments.out)


if __name__ == "__main__":
    main()
