"""What the last validation found and missed, in a file for the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from ocr.lightning_modules.detector import TextDetector
from ocr.metrics.outcomes import Outcomes
from ocr.reports.validation import PICTURE_NAME, PICTURES, Counts, Validated, file_name
from ocr_precompute.files import replace_file
from ocr_precompute.runtime.stages import stage


class ValidationRecord(lightning.Callback):
    """Writes, after each validation, what it found by score, and its worst images.

    Into validation.json of the run's folder, of the second process's images into validation.1.json,
    with small JPEGs in the folder validation. Changes nothing that is computed. What cannot be
    written is one warning, and the run goes on.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._asked = False
        self._outcomes = Outcomes()
        self._best: tuple[int, int, float, Counts] | None = None

    def on_validation_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Begin to gather."""
        if not self._asked:
            folder = trainer.log_dir if trainer.loggers else None  # asks all processes
            self._folder, self._asked = Path(folder) if folder else None, True
        if isinstance(module, TextDetector):
            self._outcomes = Outcomes()
            wanted = self._folder is not None and not trainer.sanity_checking
            module.outcomes = self._outcomes if wanted else None

    def on_validation_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Write what was gathered."""
        if not isinstance(module, TextDetector) or module.outcomes is None:
            return
        module.outcomes = None
        outcomes, hmean = self._outcomes, trainer.callback_metrics.get("val/hmean")
        place = trainer.current_epoch, trainer.global_step
        if hmean is not None and (self._best is None or float(hmean) > self._best[2]):
            self._best = (*place, float(hmean), outcomes.counts)
        process = trainer.global_rank
        with stage("record"):
            validated = Validated(
                *place,
                images=outcomes.images,
                min_score=module.postprocess.min_score,
                counts=outcomes.counts,
                best=self._best,
                worst=tuple(each.outcome(process) for each in outcomes.worst),
                sides=outcomes.sides,
                aspects=outcomes.aspects,
            )
            pictures = [each.picture for each in outcomes.worst]
            self._write(process, validated, pictures)

    def _write(self, process: int, validated: Validated, pictures: list[bytes]) -> None:
        if self._folder is None:
            return
        named = {each.picture: data for each, data in zip(validated.worst, pictures, strict=True)}
        path = self._folder / file_name(process)
        try:
            _write_pictures(self._folder / PICTURES, named)
            replace_file(path, json.dumps(validated.as_dict()).encode())
            _sweep(self._folder / PICTURES, process, named)
        except OSError as error:
            reason = error.strerror or error
            rank_zero_warn(f"{path}: cannot be written ({reason}); the run goes on without it")
            self._folder = None


def _write_pictures(folder: Path, named: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in named.items():
        path = folder / name
        if not path.exists() or path.stat().st_size != len(data):
            path.write_bytes(data)  # a reader finds its name only in what is written next


def _sweep(folder: Path, process: int, kept: dict[str, Any]) -> None:
    """Delete this process's pictures of earlier validations."""
    for path in folder.glob(f"{process}-*.jpg"):
        if PICTURE_NAME.fullmatch(path.name) and path.name not in kept and path.is_file():
            path.unlink()
