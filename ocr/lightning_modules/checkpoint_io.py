"""Checkpoint files: written whole or not at all, and looked at before a training goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from ocr.errors import CheckpointError
from ocr.models.checkpoint import check_numbers
from ocr_precompute.files import flush
from ocr_precompute.runtime.stages import stage

_OF_A_TRAINING = {
    "pytorch-lightning_version": str,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
"""What a training goes on from, besides weights."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it, and renames it.

    Lightning's own writes to the folder for temporary files, and copies from there where that is
    another file system: who is killed then leaves half a checkpoint under a good name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint. An older one of that name stays until this one is whole."""
        with stage("checkpoint"):
            self._save(checkpoint, path, storage_options)

    def _save(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None
    ) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        # One name for all that are begun: what a killed process leaves is overwritten by the next.
        beside = final.with_name(f".{final.name}.part")
        try:
            with beside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, final)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        flush(final.parent)


def check_resumable(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Look whether a training can go on from a checkpoint. Raises CheckpointError."""
    for name, kind in _OF_A_TRAINING.items():
        if not isinstance(checkpoint.get(name), kind):
            raise CheckpointError(
                f"{path}: holds no {name}, so a training cannot go on from it; name another, or "
                "start anew from its weights with --model.weights"
            )
    for state in checkpoint["optimizer_states"]:
        for tensor in _tensors(state):
            check_numbers(tensor, f"{path}: its optimiser state")


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(branch)
