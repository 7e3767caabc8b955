"""Checkpoint files: written whole or not at all, and looked at before they are used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from ocr.errors import CheckpointError
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


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint file holds. No code in it is run.

    Raises CheckpointError if the file is missing, damaged, or holds more than plain data.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}; name another checkpoint"
        raise CheckpointError(f"{path}: {reason}") from error
    except Exception as error:  # whatever a damaged file makes the reader raise
        reason = "is no checkpoint of weights and plain data, or is damaged; name another"
        raise CheckpointError(f"{path}: {reason}") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise CheckpointError(f"{path}: holds no model; name a checkpoint that ocr-train wrote")
    return checkpoint


def check_weights(weights: Any, model: Mapping[str, torch.Tensor], where: str) -> None:
    """Look whether weights are those of a model, by its state dict.

    Raises CheckpointError, naming the first that is missing, unknown, of another shape, or not of
    numbers.
    """
    weights = weights if isinstance(weights, dict) else {}
    name = next((name for name in model if name not in weights), None)
    if name is not None:
        raise CheckpointError(f"{where} lacks the model's {name}; name another checkpoint")
    for name, value in weights.items():
        if name not in model:
            raise CheckpointError(
                f"{where} holds {name!r}, which the model lacks; name another checkpoint"
            )
        shape = tuple(model[name].shape)
        has = tuple(value.shape) if isinstance(value, torch.Tensor) else None
        if has != shape:
            raise CheckpointError(
                f"{where}: {name} is of shape {has}, not {shape}; name another checkpoint"
            )
        _check_numbers(value, f"{where}: {name}")


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
            _check_numbers(tensor, f"{path}: its optimiser state")


def _check_numbers(values: torch.Tensor, where: str) -> None:
    if values.is_floating_point() and not bool(torch.isfinite(values).all()):
        raise CheckpointError(
            f"{where} holds values that are no finite numbers: its training had failed; name an "
            "earlier checkpoint"
        )


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(branch)
