"""Training from a bucket: nothing that is learnt depends on where the store lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bucket import SECRET, URL, Bucket, serving
from conftest import Dataset
from lightning_noise import NOISE
from train_once import Record, train

from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings
from ocr_precompute.storage.faults import RemoteError

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    *NOISE,
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
]


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in a folder, of two splits of a dozen shards each."""
    folder = tmp_path_factory.mktemp("near")
    settings = Settings(store=folder / "s", size=64, shard_length=2, backend="sequential")
    for seed, split in enumerate(("train", "val")):
        build(split, Dataset(folder / split, count=22, seed=seed).source, settings)
    return folder / "s"


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def far(
    bucket: Bucket, near: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[dict[str, Any]]:
    """What a training is told of the store in the bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with serving(bucket) as options:
        bucket.fill(near, options)
        cache = {"cache": str(tmp_path / "cache"), "cache_size": "10 MB"}
        yield {"store": URL, "storage": {**options, "timeout": 60}, **cache}


@pytest.fixture(scope="module")
def whole(near: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A training of 2 epochs of 6 steps from the folder, in the order of a cache."""
    return train(str(tmp_path_factory.mktemp("whole")), data({"store": str(near)}), **LOOPS)


LOOPS: dict[str, Any] = {"trainer": {"max_epochs": 2}}


def data(place: dict[str, Any]) -> dict[str, Any]:
    varied = {"crop": 48, "flip": 0.5}
    return {"batch_size": 4, "threads": 2, "window": 3, "augmentation": varied, **place}


def test_losses_are_those_of_the_local_store(
    bucket: Bucket, far: dict[str, Any], whole: Record, tmp_path: Path
) -> None:
    found = train(str(tmp_path / "out"), data(far), **LOOPS)
    assert len(found.losses) == 12
    assert found.losses == whole.losses
    assert found.images == whole.images
    assert found.metrics["val/hmean"] == whole.metrics["val/hmean"]
    assert set(bucket.shards.values()) == {1}


def test_a_training_that_is_killed_goes_on(
    bucket: Bucket, far: dict[str, Any], whole: Record, tmp_path: Path
) -> None:
    """Killed while shards are under way, with a server that fails now and then."""
    out = tmp_path / "out"
    bucket.fault = lambda number: "503" if number % 5 == 0 else ""
    arguments = {"out": str(out), "data": data(far), "checkpoint_every": 2, **LOOPS}
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "train_once.py"), json.dumps(arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    ) as process:
        end = time.monotonic() + 200
        while not (out / "step4.ckpt").exists() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
    again = train(str(tmp_path / "again"), data(far), ckpt_path=str(out / "step4.ckpt"), **LOOPS)
    assert again.losses == whole.losses[4:]
    assert again.metrics["val/hmean"] == whole.metrics["val/hmean"]


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.time)])
def test_a_server_that_stops_ends_every_process(
    bucket: Bucket, far: dict[str, Any], tmp_path: Path, devices: int
) -> None:
    far["storage"]["timeout"] = 2
    far["cache"] = str(tmp_path / "cold")
    bucket.fault = lambda number: "stop" if len(bucket.shards) > 6 else ""
    if devices == 1:
        with pytest.raises(RemoteError, match="gave no answer within 2 s"):
            train(str(tmp_path / "out"), data(far), **LOOPS)
        return
    config = {
        "data": {**data(far), "threads": 1},
        "model": {"backbone": str(ROOT / "tests" / "backbone"), "channels": 16},
        "trainer": {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "max_epochs": 2,
                    "default_root_dir": str(tmp_path), "enable_progress_bar": False,
                    "num_sanity_val_steps": 0},
    }  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "ocr.command", "fit", "--config", str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "gave no answer within 2 s" in last
    assert SECRET not in done.stderr + done.stdout
    assert not any(SECRET in each.read_text() for each in tmp_path.rglob("*.yaml"))
