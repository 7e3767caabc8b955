"""What the trainer reports by itself, beside the errors of the compiler."""

from __future__ import annotations

from ocr_precompute.errors import PrecomputeError


class CheckpointError(PrecomputeError):
    """A checkpoint cannot be used; `str()` is one line that says what to do."""


class ModelError(PrecomputeError):
    """An exported model cannot be made or used; `str()` is one line that says what to do."""
