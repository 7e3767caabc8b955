"""Checkpoint files that are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from ocr_precompute.files import flush


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it, and renames it.

    Lightning's own writes to the folder for temporary files, and copies from there where that is
    another file system: who is killed then leaves half a checkpoint under a good name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint. An older one of that name stays until this one is whole."""
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
