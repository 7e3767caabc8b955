"""What a training ran on, noted as it begins, and its report as it ends."""

from __future__ import annotations

import contextlib
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import joblib
import lightning
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ocr.reports.report import write_report
from ocr.reports.run import RECORD
from ocr_precompute.errors import one_line
from ocr_precompute.files import json_bytes, replace_file

_LIBRARIES = (
    *("ocr-precompute", "torch", "lightning", "torchmetrics", "transformers", "numpy"),
    *("opencv-python-headless", "pyclipper", "shapely", "numba", "numcodecs", "simplejpeg"),
)


class RunReport(lightning.Callback):
    """Writes run.json into the run's folder as a training begins, and report.html at its end.

    By the first process, also of a training that was interrupted. Whatever fails here is one
    warning, and the training ends as it would without.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._record: dict[str, Any] = {}

    def on_train_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Note what the training runs on."""
        folder = trainer.log_dir if trainer.loggers else None  # asks all processes
        if folder is None or not trainer.is_global_zero:
            return
        self._folder = Path(folder)
        self._record = {"format": 1, "state": "running", "begun": _now(), "ended": ""}
        with self._warned("run.json"):
            self._record |= {"versions": _versions(), "machine": _machine(trainer)}
            self._record["data"] = _data(trainer)
            replace_file(self._folder / RECORD, json_bytes(self._record))

    def on_fit_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Wait for what other processes still write."""
        trainer.strategy.barrier()

    def teardown(self, trainer: Trainer, module: lightning.LightningModule, stage: str) -> None:
        """Write the report of a training that is over."""
        self._end(trainer, "finished")

    def on_exception(
        self, trainer: Trainer, module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Write the report of a training that was interrupted."""
        self._end(trainer, "interrupted")

    def _end(self, trainer: Trainer, state: str) -> None:
        folder, self._folder = self._folder, None
        if folder is None:
            return
        with self._warned("the report"):
            for logger in trainer.loggers:
                logger.save()  # what Lightning would write only after this
            record = {**self._record, "state": state, "ended": _now()}
            replace_file(folder / RECORD, json_bytes(record))
            rank_zero_info(f"report: {write_report(folder)}")

    @staticmethod
    @contextlib.contextmanager
    def _warned(what: str) -> Any:
        try:
            yield
        except Exception as error:
            rank_zero_warn(
                f"{what} cannot be written ({one_line(error)}); nothing else depends on it"
            )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _machine(trainer: Trainer) -> dict[str, Any]:
    device = trainer.strategy.root_device
    cuda = device.type == "cuda"
    return {
        "System": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Cores that it may use": joblib.cpu_count(),
        "Cores of the machine": os.cpu_count(),
        "Device": torch.cuda.get_device_name(device) if cuda else device.type,
        **({"CUDA": torch.version.cuda} if cuda else {}),
        "Processes": trainer.world_size,
    }


def _data(trainer: Trainer) -> dict[str, Any]:
    source: Any = getattr(trainer, "datamodule", None)
    if source is None:
        return {}
    loaders: dict[str, Any] = {"train": trainer.train_dataloader, "val": trainer.val_dataloaders}
    found: dict[str, Any] = {"Data hash": source.state_dict().get("data_hash", "")[:12]}
    for name, loader in loaders.items():
        with contextlib.suppress(TypeError, AttributeError):
            found[f"Images, {name}"] = len(loader.dataset)
    return found
