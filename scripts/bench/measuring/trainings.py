"""Trainings that benchmarks run: small ones, and quiet."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning

from ocr.datasets.data_module import DetectionData
from ocr.inference.postprocess import PostProcess
from ocr.lightning_modules import TextDetector
from ocr.models.checkpoint import read_checkpoint, saved_settings

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


def detector_of(checkpoint: Path) -> TextDetector:
    """The detector of a checkpoint."""
    saved = read_checkpoint(checkpoint)
    settings: dict[str, Any] = saved_settings(saved, str(checkpoint))
    settings["postprocess"] = PostProcess(**settings.get("postprocess", {}))
    detector = TextDetector(**settings)
    detector.load_state_dict(saved["state_dict"])
    return detector


def validated(detector: TextDetector, data: DetectionData, accelerator: str) -> dict[str, float]:
    """Metrics of a validation as `ocr-train validate` does it."""
    (metrics,) = trainer(accelerator=accelerator).validate(detector, data, verbose=False)
    return {name: float(value) for name, value in metrics.items()}
