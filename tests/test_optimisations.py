"""Every optimisation has its switch, and what it changes in twenty steps is what is said of it."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import yaml
from conftest import Dataset
from lightning_noise import NOISE
from train_once import Record, train

from ocr.datasets.data_module import DetectionData
from ocr.inference.postprocess import PostProcess
from ocr.lightning_modules import TextDetector, evaluation
from ocr.models import DBLoss

ROOT = Path(__file__).resolve().parents[1]
PLAIN = ROOT / "configs" / "experiment" / "plain.yaml"
STEPS = 20
# By how much the losses of twenty steps may differ from those by default, as a share of them, where
# an optimisation goes by another way to the same numbers. Of all others the bits are the same.
ROUNDING = {
    "model.channels_last": 5e-3,
    "model.loss.mining": 1e-3,  # of equal losses others are taken
    "optimizer.init_args.fused": 1e-3,
    "optimizer.init_args.foreach": 1e-3,
}

pytestmark = NOISE


def flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their full names."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        else:
            yield before + name, value


SWITCHES = dict(flat(yaml.safe_load(PLAIN.read_text())))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """20 pages as splits train and val, at 64 px."""
    made = Dataset(tmp_path_factory.mktemp("data"), count=STEPS)
    made.document["images"]["page_003.jpg"]["words"] = {}  # without text
    made.save()
    return made.built(tmp_path_factory.mktemp("store") / "s")


def twenty_steps(store: str, out: Path, settings: Mapping[str, Any]) -> Record:
    """A training with settings by their full names, as plain.yaml has them."""
    data: dict[str, Any] = {"store": store, "batch_size": 4, "augmentation": {"crop": 48}}
    # A low threshold, so that so small a network finds something, right or wrong.
    model: dict[str, Any] = {"postprocess": PostProcess(threshold=0.1, min_score=0.1)}
    loop: dict[str, Any] = {"max_epochs": 4, "check_val_every_n_epoch": 4, "gradient_clip_val": 5.0}
    optimizer: dict[str, Any] = {"lr": 2e-3, "weight_decay": 1e-4}
    loss: dict[str, Any] = {}
    places = {"data": data, "model": model, "trainer": loop}
    places |= {"optimizer.init_args": optimizer, "model.loss": loss}
    for name, value in settings.items():
        place, _, setting = name.rpartition(".")
        places[place][setting] = value
    model["optimizer"] = partial(torch.optim.AdamW, **optimizer)
    model["loss"] = DBLoss(**loss)
    return train(str(out), data, model, loop)


@pytest.fixture(scope="module")
def default(store: str, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Twenty steps as they are by default."""
    made = twenty_steps(store, tmp_path_factory.mktemp("default"), {})
    assert len(made.losses) == STEPS
    assert made.losses[-1] < made.losses[0]
    return made


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_off_in_turn(switch: str, default: Record, store: str, tmp_path: Path) -> None:
    off = twenty_steps(store, tmp_path, {switch: SWITCHES[switch]})
    if switch in ROUNDING:
        assert np.allclose(off.losses, default.losses, rtol=ROUNDING[switch], atol=0)
    else:
        assert off.losses == default.losses
        assert off.metrics["val/precision"] == default.metrics["val/precision"]
    assert off.rates == default.rates
    assert off.images == default.images


def test_all_of_them_off(default: Record, store: str, tmp_path: Path) -> None:
    off = twenty_steps(store, tmp_path, SWITCHES)
    assert np.allclose(off.losses, default.losses, rtol=max(ROUNDING.values()), atol=0)


def test_the_documents_name_each_switch() -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    table = text.partition("## Optimisations")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| ")]
    found = {name: row[4] for row in rows for name in re.findall(r"`([a-z_]+\.[a-z_.]+)`", row[2])}
    assert found.keys() == SWITCHES.keys()
    bounds = {**ROUNDING, "model.compile": 1e-3}  # which is off; test_compiling.py holds it
    said = {name: re.findall(r"within (\S+) %", text) for name, text in found.items()}
    expected = {name: [f"{100 * bounds[name]:g}"] if name in bounds else [] for name in found}
    assert said == expected


# ------------------------------------------------------------------------------------- transfers


class Streams:
    """What is asked of CUDA's streams, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.current = "computing"
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: "copying")
        monkeypatch.setattr(torch.cuda, "stream", self._within)
        waits = SimpleNamespace(wait_stream=lambda other: self.said.append(f"waits for {other}"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: waits)
        monkeypatch.setattr(lightning.LightningDataModule, "transfer_batch_to_device", self._moved)

    @contextlib.contextmanager
    def _within(self, stream: str) -> Iterator[None]:
        self.current = stream
        yield
        self.current = "computing"

    def _moved(self, batch: dict[str, Any], device: torch.device, index: int) -> dict[str, Any]:
        self.said.append(f"{' '.join(batch)} {self.current}")
        done = SimpleNamespace(record_stream=lambda stream: self.said.append("kept until then"))
        return dict.fromkeys(batch, done)


@pytest.mark.parametrize("overlap", [True, False])
def test_maps_are_copied_to_a_gpu_beside_its_work(
    overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as can be seen without one: that the copy and what computes wait for each other."""
    streams = Streams(monkeypatch)
    data = DetectionData(overlap_transfers=overlap)
    batch = {"image": torch.zeros(1), "prob": torch.zeros(1), "matrix": torch.eye(3)[None]}
    for _ in range(2):
        moved = data.transfer_batch_to_device(dict(batch), torch.device("cuda"), 0)
        assert moved["matrix"] is batch["matrix"]  # where it is used
        assert moved["image"] is not batch["image"]
    beside = ["image prob copying", "waits for copying", *["kept until then"] * 2]
    assert streams.said == 2 * (beside if overlap else ["image prob computing"])


# ----------------------------------------------------------------------------------- validation


def validated(threads: int | None) -> tuple[TextDetector, dict[str, Any]]:
    """A network, and a batch to validate it on."""
    torch.manual_seed(0)
    module = TextDetector(channels=16, evaluation_threads=threads)
    batch = {
        "image": torch.zeros((3, 64, 64, 3), dtype=torch.uint8),
        "polygons": [[np.float32([[4, 4], [30, 4], [30, 20], [4, 20]])]] * 3,
        "ignore": [np.zeros(1, bool)] * 3,
        "matrix": torch.eye(3, dtype=torch.float64).repeat(3, 1, 1),
        "original_size": torch.full((3, 2), 64),
    }
    return module.eval(), batch


def test_the_network_does_not_wait_for_post_processing(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, original = threading.Event(), evaluation.match_polygons

    def held(*arguments: Any) -> Any:
        assert go_on.wait(60)
        return original(*arguments)

    monkeypatch.setattr(evaluation, "match_polygons", held)
    module, batch = validated(None)
    with torch.no_grad():
        for number in range(10):
            module.validation_step(batch, number)
    assert not any(future.done() for _, future in module._pending)
    go_on.set()
    while module._pending:
        module._add_evaluated()
    assert module._counted.annotated == 30
    module.teardown("fit")


def test_without_threads_it_does() -> None:
    module, batch = validated(0)
    before = threading.active_count()
    with torch.no_grad():
        module.validation_step(batch, 0)
    assert [future.done() for _, future in module._pending] == [True] * 3
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="evaluation_threads is -1; it must be at least 0"):
        TextDetector(channels=16, evaluation_threads=-1)
