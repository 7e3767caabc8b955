"""A training is killed at any moment: what has a checkpoint's name is whole, and it goes on.

The folder for temporary files is on another file system than the checkpoints, where there is one.
OCR_KILLS says how often; the moments follow from a seed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Dataset
from train_once import BACKBONE

from ocr.lightning_modules.checkpoint_io import check_resumable
from ocr.models.checkpoint import read_checkpoint
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
KILLS = int(os.environ.get("OCR_KILLS", "2"))
BACKBONE_OF_KILLS = os.environ.get("OCR_KILLS_BACKBONE", str(BACKBONE))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    memory = Path("/dev/shm")
    other = memory.is_dir() and memory.stat().st_dev != tmp_path.stat().st_dev
    with tempfile.TemporaryDirectory(dir=memory if other else None) as folder:
        yield Path(folder)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    settings = Settings(store=tmp_path / "store", size=64, backend="sequential")
    source = Dataset(tmp_path / "data", count=9).source
    for split in ("train", "val"):
        build(split, source, settings)
    return settings.store


@pytest.mark.time
def test_a_killed_training_leaves_whole_checkpoints_and_goes_on(
    store: Path, elsewhere: Path, tmp_path: Path
) -> None:
    chosen, folder = random.Random(5), tmp_path / "checkpoints"
    last, steps = folder / "last.ckpt", 0
    command = [
        *(sys.executable, "-m", "ocr.train", "fit"),
        *("--data.store", str(store), "--data.batch_size", "2", "--data.threads", "1"),
        *("--model.channels", "16", "--model.backbone", BACKBONE_OF_KILLS),
        *("--trainer.accelerator", "cpu", "--trainer.max_epochs", "100000"),
        *("--trainer.logger", "false", "--trainer.default_root_dir", str(tmp_path / "runs")),
        *("--trainer.callbacks", "ocr.lightning_modules.callbacks.BestAndLast"),
        *("--trainer.callbacks.dirpath", str(folder)),
        *("--trainer.callbacks.every_n_train_steps", "1"),
    ]
    variables = {"TMPDIR": str(elsewhere), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for _ in range(KILLS):
        resume = ["--ckpt_path", str(last)] if last.exists() else []
        before = last.stat().st_mtime_ns if resume else 0
        with subprocess.Popen(
            [*command, *resume],
            cwd=tmp_path,
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as training:
            deadline = time.monotonic() + 300
            while training.poll() is None and time.monotonic() < deadline:
                if last.exists() and last.stat().st_mtime_ns != before:
                    break  # it has gone on, by a step at least
                time.sleep(0.01)
            time.sleep(chosen.uniform(0, 1.5))
            training.kill()
            said = training.stderr.read() if training.stderr is not None else ""
        assert training.returncode == -9, said[-3000:]
        for path in folder.glob("*.ckpt"):
            checkpoint = read_checkpoint(path)
            check_resumable(checkpoint, path)
        reached = read_checkpoint(last)["global_step"]
        assert reached > steps, said[-3000:]
        steps = reached
    assert {path.name for path in folder.iterdir()} <= {"best.ckpt", "last.ckpt"} | {
        ".best.ckpt.part",
        ".last.ckpt.part",
    }
