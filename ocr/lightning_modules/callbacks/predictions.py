"""Predictions on disk: annotations that `build` reads, and pictures."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch.distributed
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ocr.inference.postprocess import Detections
from ocr_precompute.files import json_bytes, replace_file, safe_name
from ocr_precompute.images.decoding import scaled_size
from ocr_precompute.images.pictures import outlined, png_bytes


class PredictionWriter(lightning.Callback):
    """Writes what `predict` finds.

    OUT/predictions.json is an annotation file of the form `words`, in pixels of the original
    images, with a `score` for each polygon. OUT/overlays holds a picture for each image, of
    canonical size without the padding.

    What has been found so far is written every second or so to OUT/predictions.part.json, of the
    same form (with several processes predictions.part-0.json and so on). It stays when the work is
    stopped, and goes when predictions.json is written.
    """

    def __init__(self, out: str = "predictions", overlays: bool = True) -> None:
        """Choose where to write.

        Args:
            out: Folder; made if it is missing.
            overlays: Whether to write pictures too.
        """
        self._out, self._overlays = Path(out), overlays
        self._words: dict[str, Any] = {}
        self._bad = 0
        self._next_part = 0.0

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
    ) -> None:
        """Take a batch's polygons, draw them, and name images that could not be read."""
        images = batch["image"].cpu().numpy()
        matrices = batch["matrix"].cpu().numpy()
        sizes = batch["original_size"].cpu().numpy()
        for number, (name, future) in enumerate(zip(batch["name"], outputs, strict=True)):
            if future is None:
                self._bad += 1
                print(f"left out: {batch['problem'][number]}", file=sys.stderr, flush=True)
                continue
            found: Detections = future.result()
            self._words[name] = {"words": as_words(found)}
            if self._overlays:
                height, width = scaled_size(sizes[number].tolist(), 1 / matrices[number][0, 0])
                inverse = np.linalg.inv(matrices[number])
                self._draw(name, images[number, :height, :width], found.mapped(inverse))
        if time.monotonic() >= self._next_part:
            started = time.monotonic()
            self._write(self._part(trainer), self._words)
            took = time.monotonic() - started
            self._next_part = time.monotonic() + max(1.0, 20 * took)  # at most 5 % of the time
        if trainer.received_sigterm:
            raise SIGTERMException

    def on_exception(
        self, trainer: Trainer, module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Keep what there is."""
        if trainer.predicting and self._words:
            part = self._part(trainer)
            self._write(part, self._words)
            print(f"{part}: {len(self._words)} images so far", file=sys.stderr, flush=True)

    def on_predict_epoch_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Write the annotation file, of all processes' images."""
        parts: list[tuple[dict[str, Any], int]] = [(self._words, self._bad)]
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, (self._words, self._bad))
            parts = gathered
        words = {name: entry for part, _ in parts for name, entry in part.items()}
        if trainer.is_global_zero:
            path = self._out / "predictions.json"
            self._write(path, words)
            count = sum(len(entry["words"]) for entry in words.values())
            bad = sum(bad for _, bad in parts)
            more = f"; left out, for they cannot be read: {bad}" if bad else ""
            rank_zero_info(f"{path}: {count} polygons in {len(words)} images{more}")
        trainer.strategy.barrier()  # before the whole is there, no part may go
        self._part(trainer).unlink(missing_ok=True)

    def _part(self, trainer: Trainer) -> Path:
        rank = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        return self._out / f"predictions.part{rank}.json"

    @staticmethod
    def _write(path: Path, words: dict[str, Any]) -> None:
        replace_file(path, json_bytes({"images": dict(sorted(words.items()))}))

    def _draw(self, name: str, image: np.ndarray, found: Detections) -> None:
        safe = safe_name(name)
        if safe != name:  # two such names could become one
            safe += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
        folder = self._out / "overlays"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{safe}.png").write_bytes(png_bytes(outlined(image, found.polygons)))


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
