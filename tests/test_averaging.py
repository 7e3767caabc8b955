"""Averaged weights: what validates, what checkpoints hold, and how a training goes on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from conftest import Dataset
from lightning_noise import NOISE
from torch import Tensor
from train_once import BACKBONE, Record, train

from ocr.errors import CheckpointError
from ocr.lightning_modules import TextDetector
from ocr.models.checkpoint import read_checkpoint, read_model
from ocr.train import main

DECAY = 0.7
STEPS = 3  # an epoch

pytestmark = [*NOISE, pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """12 pages as splits train and val, at 64 px."""
    made = Dataset(tmp_path_factory.mktemp("data"), count=12)
    return made.built(tmp_path_factory.mktemp("store") / "s")


class Watch(lightning.Callback):
    """Weights after each step, and those of the last validation."""

    def __init__(self) -> None:
        self.after: list[dict[str, Tensor]] = []
        self.validated: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer, module, *_) -> None:
        self.after.append(copied(module.state_dict()))

    def on_validation_batch_end(self, trainer, module, *_) -> None:
        self.validated = copied(module.state_dict())


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


def trained(
    out: Path, store: str, ema: float | None, watch: Watch | None = None, **more: Any
) -> Record:
    data = {"store": store, "batch_size": 4, "threads": 2, "augmentation": {"crop": 48}}
    more.setdefault("trainer", {"max_epochs": 2})
    return train(str(out), data, {"ema": ema}, more=[watch] if watch else [], **more)


def test_validations_and_checkpoints_have_the_average(store: str, tmp_path: Path) -> None:
    watch = Watch()
    averaged = trained(tmp_path / "a", store, DECAY, watch, last=True)
    plain = trained(tmp_path / "b", store, None)
    assert len(watch.after) == 2 * STEPS
    assert averaged.losses == plain.losses  # what trains is what trains without
    path = tmp_path / "a" / "last.ckpt"
    checkpoint = read_checkpoint(path)
    network, _ = read_model(path)
    for name, value in checkpoint["state_dict"].items():
        expected, *later = (weights[name].double() for weights in watch.after)
        for weights in later:
            expected = DECAY * expected + (1 - DECAY) * weights
        if value.is_floating_point():
            assert torch.allclose(value.double(), expected, rtol=1e-5, atol=1e-7), name
            assert torch.equal(watch.validated[name], value), name
        assert torch.equal(checkpoint["current_model_state"][name], watch.after[-1][name]), name
        assert torch.equal(network.state_dict()[name.removeprefix("model.")], value), name
    moved = [
        n for n, v in checkpoint["state_dict"].items() if not torch.equal(v, watch.after[-1][n])
    ]
    assert any("running" in name for name in moved)
    assert any("weight" in name for name in moved)


@pytest.mark.parametrize("at", [2, STEPS])
def test_a_training_goes_on_exactly(at: int, store: str, tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", store, DECAY, last=True)
    begun = trained(tmp_path / "cut", store, DECAY, checkpoint_every=at, stop_after=at + 1)
    assert begun.losses == whole.losses[: at + 1]
    again = trained(
        tmp_path / "again", store, DECAY, last=True, ckpt_path=str(tmp_path / f"cut/step{at}.ckpt")
    )
    assert again.losses == whole.losses[at:]
    assert again.metrics["val/hmean"] == whole.metrics["val/hmean"]
    first, second = (read_checkpoint(tmp_path / run / "last.ckpt") for run in ("whole", "again"))
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])
    assert int(first["averaging_state"]["n_averaged"]) == 2 * STEPS


def test_a_training_that_averages_does_not_go_on_without(store: str, tmp_path: Path) -> None:
    trained(tmp_path, store, DECAY, last=True, trainer={"max_epochs": 1})
    path = str(tmp_path / "last.ckpt")
    with pytest.raises(
        CheckpointError, match=r"averages its weights; set model\.ema as it was, or"
    ):
        trained(tmp_path / "on", store, None, ckpt_path=path)
    checkpoint = torch.load(path, weights_only=True)
    next(iter(checkpoint["current_model_state"].values())).fill_(np.nan)
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match=r"own weights: .* no finite numbers"):
        trained(tmp_path / "on", store, DECAY, ckpt_path=path)


def test_a_training_can_begin_to_average(store: str, tmp_path: Path) -> None:
    trained(tmp_path, store, None, last=True, trainer={"max_epochs": 1})
    watch = Watch()
    with pytest.warns(UserWarning, match="was not created with WeightAveraging"):
        trained(tmp_path / "on", store, DECAY, watch, last=True, ckpt_path=f"{tmp_path}/last.ckpt")
    assert len(watch.after) == STEPS
    checkpoint = read_checkpoint(tmp_path / "on" / "last.ckpt")
    assert int(checkpoint["averaging_state"]["n_averaged"]) == STEPS


def test_by_the_command(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Path(__file__).resolve().parents[1] / "configs" / "train.yaml"
    settings = [f"--data.store={store}", "--data.batch_size=4", "--data.augmentation.crop=48"]
    settings += [f"--model.backbone={BACKBONE}", "--model.channels=16", f"--model.ema={DECAY}"]
    settings += [f"--trainer.logger.save_dir={tmp_path}", "--trainer.accelerator=cpu"]
    settings += [f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=1"]
    settings += ["--report=false", "--monitor=false", f"--config={config}"]
    monkeypatch.setattr(sys, "argv", ["ocr-train", "fit", *settings[-1:], *settings[:-1]])
    main()
    (last,) = tmp_path.rglob("last.ckpt")
    assert int(read_checkpoint(last)["averaging_state"]["n_averaged"]) == STEPS


@pytest.mark.parametrize("decay", [0, 1, -0.1, float("nan")])
def test_the_share_that_stays_is_checked(decay: float) -> None:
    with pytest.raises(ValueError, match="it must be above 0 and below 1, or null"):
        TextDetector(channels=16, ema=decay)
