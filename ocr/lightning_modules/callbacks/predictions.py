"""Predictions on disk: annotations that `build` reads, and pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import lightning
import numpy as np
import torch.distributed
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from ocr.models import Detections
from ocr_precompute.files import json_bytes, replace_file, safe_name

_COLOUR = (0, 180, 0)  # BGR


class PredictionWriter(lightning.Callback):
    """Writes what `predict` finds.

    OUT/predictions.json is an annotation file of the form `words`, in pixels of the original
    images, with a `score` for each polygon. OUT/overlays holds a picture for each image, at
    canonical size.
    """

    def __init__(self, out: str = "predictions", overlays: bool = True) -> None:
        """Choose where to write.

        Args:
            out: Folder; made if it is missing.
            overlays: Whether to write pictures too.
        """
        self._out, self._overlays = Path(out), overlays
        self._words: dict[str, Any] = {}

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
    ) -> None:
        """Take a batch's polygons, and draw them."""
        images = batch["image"].cpu().numpy()
        matrices = batch["matrix"].cpu().numpy()
        for (name, future), image, matrix in zip(outputs, images, matrices, strict=True):
            found: Detections = future.result()
            self._words[name] = {"words": as_words(found)}
            if self._overlays:
                self._draw(name, image, found.mapped(np.linalg.inv(matrix)))

    def on_predict_epoch_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Write the annotation file, of all processes' images."""
        parts: list[dict[str, Any]] = [self._words]
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, self._words)
            parts = gathered
        words = {name: entry for part in parts for name, entry in part.items()}
        if trainer.is_global_zero:
            path = self._out / "predictions.json"
            document = {"images": dict(sorted(words.items()))}
            replace_file(path, json_bytes(document))
            count = sum(len(entry["words"]) for entry in words.values())
            rank_zero_info(f"{path}: {count} polygons in {len(words)} images")

    def _draw(self, name: str, image: np.ndarray, found: Detections) -> None:
        picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        vertices = [np.rint(polygon).astype(np.int32) for polygon in found.polygons]
        cv2.polylines(picture, vertices, True, _COLOUR, 1, cv2.LINE_AA)
        safe = safe_name(name)
        if safe != name:  # two such names could become one
            safe += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
        folder = self._out / "overlays"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{safe}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def as_words(found: Detections) -> dict[str, Any]:
    """Polygons as the `words` of one image, best first."""
    best: Sequence[int] = np.argsort(-found.scores, kind="stable").tolist()
    return {
        f"{number:04d}": {
            "points": np.round(found.polygons[index].astype(float), 2).tolist(),
            "score": round(float(found.scores[index]), 4),
        }
        for number, index in enumerate(best, 1)
    }
