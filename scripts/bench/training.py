#!/usr/bin/env python3
"""What each setting of a training step costs and saves: time, and activations kept.

Steps (forward, loss, backward, no optimiser) on one batch of the store, settings in turn, median of
the rounds. Activations are the bytes that the forward pass allocates and that are still there when
it has returned, whoever keeps them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from common import add_out, environment, markdown_table, write_report

from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.samples import TRAINING
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr.models import DBLoss, DBNet
from ocr.models.checkpointing import apply_checkpointing, saved_bytes
from ocr_precompute.runtime.clock import in_turn


@dataclass(frozen=True)
class Setting:
    """One way to take a step."""

    name: str
    checkpointing: str = "none"
    half: bool = False
    channels_last: bool = False
    offload: bool = False


SETTINGS = (
    Setting("float32"),
    Setting("checkpointing: selective", checkpointing="selective"),
    Setting("checkpointing: full", checkpointing="full"),
    Setting("channels_last", channels_last=True),
    Setting("bf16-mixed", half=True),
    Setting("bf16-mixed, channels_last", half=True, channels_last=True),
    Setting("bf16-mixed, selective", half=True, checkpointing="selective"),
    Setting("offload_activations", offload=True),
)


def step_of(
    setting: Setting, channels: int, batch: dict[str, Any]
) -> tuple[Callable[[], None], int]:
    """A training step, and the bytes of activations that its forward pass keeps."""
    torch.manual_seed(0)
    device = batch["image"].device
    network, loss = DBNet(channels=channels).to(device).train(), DBLoss()
    if setting.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    modes: Any = dict.fromkeys(network.stages(), setting.checkpointing)
    apply_checkpointing(network, modes)

    def forward() -> torch.Tensor:
        offload: AbstractContextManager[Any] = nullcontext()
        if setting.offload:
            offload = torch.autograd.graph.save_on_cpu(pin_memory=device.type == "cuda")
        with torch.autocast(device.type, torch.bfloat16, enabled=setting.half), offload:
            return loss(network(batch["image"]), batch).total

    def step() -> None:
        forward().backward()  # type: ignore[no-untyped-call]
        network.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step, saved_bytes(forward)


def report(
    arguments: argparse.Namespace, seconds: dict[str, list[float]], kept: dict[str, int]
) -> Iterator[str]:
    """The table."""
    yield f"# A training step, {arguments.batch_size} crops of {arguments.crop} pixels"
    yield ""
    yield from environment(("torch", "transformers"))
    yield ""
    first = SETTINGS[0].name
    base = statistics.median(seconds[first])
    rows = []
    for name, times in seconds.items():
        took = statistics.median(times)
        share = kept[name] / kept[first]
        rows.append(
            (
                name,
                f"{1000 * took:.0f}",
                f"{took / base:.2f}",
                f"{kept[name] / 1e6:.0f}",
                f"{share:.2f}",
            )
        )
    heads = ("setting", "ms/step", "against float32", "activations, MB", "against float32")
    yield markdown_table(heads, rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", default="data/store")
    parser.add_argument("--split", default="train")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop", type=int, default=320)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    add_out(parser)
    arguments = parser.parse_args()
    dataset = StoreDataset(arguments.store, arguments.split, (*TRAINING, "polygons", "ignore"))
    varied = AugmentedDataset(dataset, Augmentation(crop=arguments.crop))
    batch = {
        field: value.to(arguments.device)
        for field, value in next(iter(BatchLoader(varied, arguments.batch_size))).items()
    }
    steps, kept = {}, {}
    for setting in SETTINGS:
        steps[setting.name], kept[setting.name] = step_of(setting, arguments.channels, batch)
        steps[setting.name]()  # what is done once is not counted
    seconds = in_turn(steps, arguments.rounds, lambda *told: print(*told, file=sys.stderr))
    write_report(report(arguments, seconds, kept), arguments.out)


if __name__ == "__main__":
    main()
