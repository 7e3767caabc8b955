"""Optimiser and schedule: what the command line says is what trains."""

from __future__ import annotations

import copy
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ReduceLROnPlateau
from torch.optim.lr_scheduler import StepLR

from ocr.errors import CheckpointError
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.schedule import WarmupPolynomialLR, fuse
from ocr.train import TrainCLI

SMALL = [
    "--seed_everything",
    "0",
    "--model.channels",
    "16",
    "--trainer.logger",
    "false",
    "--trainer.accelerator",
    "cpu",
]
CONFIG = ["--config", str(Path(__file__).resolve().parents[1] / "configs" / "train.yaml")]

pytestmark = [
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Unable to serialize instance"),
]


def parsed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> TextDetector:
    """The model that the command line makes; nothing is trained."""
    monkeypatch.setattr(TrainCLI, "_run_subcommand", lambda self, name: None)
    monkeypatch.setattr(sys, "argv", ["ocr-train", "fit", *SMALL, *arguments])
    model = TrainCLI().model
    assert isinstance(model, TextDetector)
    return model


def configured(model: TextDetector, steps: float = 100) -> tuple[torch.optim.Optimizer, Any]:
    """Its optimiser, and how its schedule is stepped, for a training of so many steps."""
    trainer = SimpleNamespace(estimated_stepping_batches=steps, check_val_every_n_epoch=5)
    model._fabric, model._trainer = None, trainer
    plan = model.configure_optimizers()
    return plan["optimizer"], plan["lr_scheduler"]


def rates(scheduler: Any, steps: int) -> list[float]:
    """Learning rates of the first steps."""
    seen = []
    for _ in range(steps):
        seen.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(("warmup", "power", "steps"), [(0.1, 0.9, 50), (0, 0.9, 10), (0.5, 1, 8)])
def test_the_rate_rises_evenly_and_falls_to_zero(warmup: float, power: float, steps: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = WarmupPolynomialLR(optimizer, warmup=warmup, power=power)
    scheduler.end_at(steps)
    rising = round(steps * warmup)
    expected = [0.4 * (step + 1) / rising for step in range(rising)]
    left = steps - rising
    expected += [0.4 * ((left - step) / left) ** power for step in range(left)]
    assert rates(scheduler, steps) == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == 0
    scheduler.step()  # a training that goes on past its end
    assert optimizer.param_groups[0]["lr"] == 0


def test_a_schedule_goes_on_with_the_settings_of_the_new_training() -> None:
    def made(steps: int) -> WarmupPolynomialLR:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
        scheduler = WarmupPolynomialLR(optimizer)
        scheduler.end_at(steps)
        return scheduler

    first, whole = made(20), rates(made(20), 20)
    rates(first, 7)
    state = copy.deepcopy(first.state_dict())
    again = made(20)
    again.load_state_dict(state)
    again.optimizer.load_state_dict(first.optimizer.state_dict())
    assert rates(again, 13) == whole[7:]
    longer = made(40)
    longer.load_state_dict(state)
    assert longer.total_steps == 40


def test_the_default_is_the_same_with_and_without_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for model in (parsed(monkeypatch), TextDetector(channels=16)):
        optimizer, plan = configured(model)
        assert isinstance(optimizer, torch.optim.AdamW)
        assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4, 0]
        assert [group["initial_lr"] for group in optimizer.param_groups] == [1e-3, 1e-3]
        assert plan["interval"] == "step"
        assert (plan["scheduler"].warmup, plan["scheduler"].power) == (0.05, 0.9)
        assert plan["scheduler"].total_steps == 100


def test_the_optimisers_step_is_one_pass_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fused(*arguments: str) -> set[Any]:
        optimizer, _ = configured(parsed(monkeypatch, *CONFIG, *arguments))
        assert not hasattr(optimizer, "_step_supports_amp_scaling")  # or clipping is refused
        return {group["fused"] for group in optimizer.param_groups}

    assert fused() == {True}
    sgd = ("--optimizer", "torch.optim.SGD", "--optimizer.lr", "0.1")
    assert fused(*sgd) == {True}
    assert fused("--optimizer.fused", "false") == {False}
    assert fused("--optimizer.foreach", "false") == {None}
    assert fused(*sgd, "--optimizer.differentiable", "true") == {None}
    slow = [torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))]
    double, other = torch.optim.AdamW(slow), torch.optim.RMSprop(slow)
    fuse(double)
    fuse(other)
    assert double.param_groups[0]["fused"] is None


def test_optimiser_and_schedule_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    sgd = ["--optimizer", "torch.optim.SGD", "--optimizer.lr", "0.007"]
    sgd += ["--optimizer.momentum", "0.9"]
    model = parsed(monkeypatch, *CONFIG, *sgd, "--lr_scheduler.warmup", "0")
    optimizer, plan = configured(model)
    assert isinstance(optimizer, torch.optim.SGD)
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
    assert rates(plan["scheduler"], 3) == pytest.approx(
        [0.007 * (1 - step / 100) ** 0.9 for step in range(3)]
    )

    steps = ["--lr_scheduler", "torch.optim.lr_scheduler.StepLR", "--lr_scheduler.step_size", "2"]
    model = parsed(monkeypatch, *CONFIG, *sgd, *steps, "--model.decay_norms", "true")
    optimizer, plan = configured(model)
    assert isinstance(plan["scheduler"], StepLR)
    assert plan["interval"] == "step"
    (group,) = optimizer.param_groups
    assert group["weight_decay"] == 1e-4
    assert len(group["params"]) == len(list(model.model.parameters()))

    plateau = ["--lr_scheduler", "lightning.pytorch.cli.ReduceLROnPlateau"]
    plateau += ["--lr_scheduler.monitor", "val/hmean", "--lr_scheduler.mode", "max"]
    _, plan = configured(parsed(monkeypatch, *CONFIG, *plateau))
    assert isinstance(plan["scheduler"], ReduceLROnPlateau)
    assert {k: plan[k] for k in ("interval", "frequency", "monitor")} == {
        "interval": "epoch",
        "frequency": 5,
        "monitor": "val/hmean",
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": partial(torch.optim.SGD, lr=-1)}, "Invalid learning rate: -1"),
        ({"optimizer": torch.optim.LBFGS}, "LBFGS doesn't support per-parameter options"),
        ({"lr_scheduler": partial(WarmupPolynomialLR, warmup=1)}, "warmup is 1; it must be from 0"),
        ({"lr_scheduler": partial(WarmupPolynomialLR, power=-1)}, "power is -1; it must be 0 or"),
        ({"lr_scheduler": partial(WarmupPolynomialLR, total_steps=0)}, "total_steps is 0; it must"),
        ({"lr_scheduler": partial(StepLR, steps=3)}, "unexpected keyword argument 'steps'"),
    ],
)
def test_wrong_settings_are_refused_before_any_work(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"optimizer or lr_scheduler: .*{message}"):
        TextDetector(channels=16, **settings)


def test_a_training_without_an_end_needs_the_steps() -> None:
    with pytest.raises(MisconfigurationException, match=r"set trainer\.max_epochs, trainer\.max_"):
        configured(TextDetector(channels=16), steps=float("inf"))
    given = TextDetector(channels=16, lr_scheduler=partial(WarmupPolynomialLR, total_steps=9))
    assert configured(given, steps=float("inf"))[1]["scheduler"].total_steps == 9


def test_the_checkpoint_of_another_optimiser() -> None:
    model = TextDetector(channels=16)
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    model._trainer = SimpleNamespace(state=SimpleNamespace(fn="fit"))  # type: ignore[assignment]
    checkpoint["optimizer_states"] = [torch.optim.AdamW(model.parameters()).state_dict()]
    model.on_load_checkpoint(checkpoint)
    checkpoint["optimizer_states"] = [torch.optim.SGD(model.parameters()).state_dict()]
    with pytest.raises(CheckpointError, match="of another optimizer, without amsgrad, betas"):
        model.on_load_checkpoint(checkpoint)
