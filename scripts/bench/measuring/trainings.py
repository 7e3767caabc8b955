"""Trainings that benchmarks run: small ones, and quiet."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning

BACKBONE = Path(__file__).resolve().parents[3] / "tests" / "backbone"  # whose steps take little


def quiet() -> None:
    """Let Lightning and PyTorch say nothing but errors in this process."""
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def trainer(**settings: Any) -> lightning.Trainer:
    """A trainer that draws nothing, and does nothing beside what it is told."""
    given = {"devices": 1, "num_sanity_val_steps": 0, "logger": False, **settings}
    return lightning.Trainer(enable_progress_bar=False, enable_model_summary=False, **given)
