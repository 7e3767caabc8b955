"""Delays that are planted in the stages of a run, each in the function that does its work."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import lightning

from ocr.inference.postprocess import PostProcess
from ocr.lightning_modules import evaluation
from ocr.lightning_modules.checkpoint_io import WholeCheckpointIO
from ocr.metrics.hmean import DetectionHmean
from ocr.models import DBNet
from ocr_precompute.augmentation import drawing
from ocr_precompute.format.shard import ShardWriter, StoredShard
from ocr_precompute.pipeline import build as story
from ocr_precompute.pipeline import encode, scan
from ocr_precompute.reading import split as reading
from ocr_precompute.reading.opened import IndexedShard
from ocr_precompute.targets import maps, sample

DELAY = 0.02  # seconds


@dataclass(frozen=True, eq=False)
class Plant:
    """Where a stage's delay goes: the attribute of that name, of a module or class.

    only: tells by the arguments which calls are delayed. whole: the function is all of the stage,
    without others in it, so that a clock around it says what the stage ought to.
    """

    stage: str
    owner: Any
    name: str
    only: Callable[..., bool] = lambda *_: True
    whole: bool = False

    def planted(self, delay: float, took: list[float]) -> AbstractContextManager[Any]:
        """The delay, while within; each call adds to took what it took, seconds."""
        original = getattr(self.owner, self.name)

        def delayed(*args: Any, **kwargs: Any) -> Any:
            if not self.only(*args):
                return original(*args, **kwargs)
            started = time.perf_counter()
            while time.perf_counter() < started + delay:
                time.sleep(max(0.0, started + delay - time.perf_counter()))
            try:
                return original(*args, **kwargs)
            finally:
                took.append(time.perf_counter() - started)

        return mock.patch.object(self.owner, self.name, delayed)


class Hashes(SimpleNamespace):
    """hashlib for one module, so that only its hashes are delayed."""

    @staticmethod
    def sha256(data: bytes = b"") -> Any:
        """As hashlib has it."""
        return hashlib.sha256(data)


ENCODE_HASHES = Hashes()

BUILD = (
    Plant("annotations", scan, "_read_all"),
    Plant("look", scan, "look_at"),
    Plant("scan", story, "scan_request"),
    Plant("plan", story, "plan"),
    Plant("read", Path, "read_bytes", lambda path: path.suffix in (".jpg", ".png", ".tif")),
    Plant("digest", ENCODE_HASHES, "sha256"),
    Plant("decode", sample, "decode"),
    Plant("resize", sample, "letterbox"),
    Plant("labels", maps, "raise_thresholds"),
    Plant("offset", maps, "outlines"),
    Plant("pack", encode, "encode_chunk"),
    Plant("write", ShardWriter, "append"),
    Plant("other", encode, "_source_bytes"),
    Plant("publish", story, "publish"),
)
COPY = (Plant("copy", StoredShard, "row"),)
READ = (
    Plant("open", reading, "open_shard"),
    Plant("records", IndexedShard, "records"),
    Plant("checksum", IndexedShard, "read"),
    Plant("decompress", reading, "decompress"),
    Plant("decompress", reading, "decompress_range"),
    Plant("warp", drawing, "draw_page"),
    Plant("labels", drawing, "visible_polygons"),
    Plant("offset", maps, "outlines"),
)
TRAIN = (
    Plant("transfer", lightning.LightningDataModule, "transfer_batch_to_device"),
    Plant("forward", DBNet, "forward", lambda model, *_: model.training, whole=True),
    Plant("backward", lightning.LightningModule, "backward", whole=True),
    Plant("optimiser", lightning.LightningModule, "optimizer_step"),
    Plant("inference", DBNet, "forward", lambda model, *_: not model.training, whole=True),
    Plant("postprocess", PostProcess, "__call__"),
    Plant("match", evaluation, "match_polygons"),
    Plant("metric", DetectionHmean, "compute"),
    Plant("checkpoint", WholeCheckpointIO, "_save", whole=True),
)
