"""The network compiled: it computes the same, or else the training goes on without."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Dataset
from lightning_noise import NOISE
from test_train import in_processes
from torch import Tensor
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import _CHECKPOINT_PREFIX
from train_once import BACKBONE, train

from ocr.models import DBNet
from ocr.models.checkpointing import Mode, apply_checkpointing
from ocr.models.compiling import compile_network

pytestmark = [
    *NOISE,
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.* is deprecated"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """12 pages as splits train and val, at 64 px."""
    made = Dataset(tmp_path_factory.mktemp("data"), count=12)
    return made.built(tmp_path_factory.mktemp("store") / "s")


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was compiled before is used again."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    torch.compiler.reset()


@pytest.fixture
def compiler_less(fresh: None) -> Iterator[None]:
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False}):
        yield


def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=generator)


def step(network: DBNet) -> dict[str, Tensor]:
    """Gradients and running statistics after a step."""
    network.train().zero_grad()
    output = network(images())
    (output.prob.square().mean() + output.thresh.mean()).backward()
    own = {name.replace(_CHECKPOINT_PREFIX, ""): p for name, p in network.named_parameters()}
    gradients = {name: p.grad for name, p in own.items() if p.grad is not None}
    return {**gradients, **{n: v for n, v in network.state_dict().items() if n not in gradients}}


def compiled(network: DBNet, modes: dict[str, Mode]) -> str:
    return compile_network(network, modes, images(), nullcontext())


@pytest.fixture
def network() -> DBNet:
    torch.manual_seed(0)
    return DBNet(str(BACKBONE), channels=16)


@pytest.mark.time
@pytest.mark.parametrize("mode", ["none", "selective", "full"])
def test_a_step_is_the_same_up_to_rounding(mode: Mode, network: DBNet) -> None:
    other = copy.deepcopy(network)
    names = list(network.state_dict())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert compiled(network, dict.fromkeys(network.stages(), mode)) == ""
    assert list(network.state_dict()) == names
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    found, expected = step(network), step(other)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().item()
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-3 * scale), name
    # what is not called but asked for its forward is not compiled
    network.load_state_dict(other.state_dict())
    assert torch.equal(network.eval().forward(images()).prob, other.eval()(images()).prob)


def test_without_a_compiler_the_network_stays_as_it_was(
    compiler_less: None, network: DBNet
) -> None:
    other = copy.deepcopy(network)
    modes: dict[str, Mode] = dict.fromkeys(network.stages(), "full")
    said = compiled(network, modes)
    assert "\n" not in said
    assert len(said) <= 160
    assert "ompiler" in said
    apply_checkpointing(other, modes)
    found, expected = step(network), step(other)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def trained(out: Path, store: str, **model: Any) -> list[float]:
    data = {"store": store, "batch_size": 4, "threads": 2, "augmentation": {"crop": 48}}
    return train(str(out), data, model).losses


@pytest.mark.time
def test_without_a_compiler_a_training_goes_on_and_says_so(
    compiler_less: None, store: str, tmp_path: Path
) -> None:
    plain = trained(tmp_path / "a", store)
    with pytest.warns(UserWarning, match=r"model\.compile") as seen:
        assert trained(tmp_path / "b", store, compile=True) == plain
    (line,) = [str(w.message) for w in seen if "model.compile" in str(w.message)]
    assert line.startswith("model.compile: the network cannot be compiled here (")
    assert line.endswith("; the training goes on without")


@pytest.mark.time
def test_a_training_that_is_compiled_follows_one_that_is_not(store: str, tmp_path: Path) -> None:
    plain = trained(tmp_path / "a", store)
    other = trained(tmp_path / "b", store, compile=True)
    assert np.allclose(other, plain, rtol=1e-3, atol=0)
    assert other != plain


@pytest.mark.time
def test_two_processes_that_are_compiled_and_checkpointed_do_what_one_does(
    store: str, tmp_path: Path
) -> None:
    data = {"store": store, "threads": 2, "augmentation": {"crop": 48}}
    model = {"norm": "group"}
    (one,) = in_processes(tmp_path / "one", 1, data={**data, "batch_size": 4}, model=model)
    model |= {"compile": True, "activation_checkpointing": "selective"}
    two = in_processes(tmp_path / "two", 2, data={**data, "batch_size": 2}, model=model)
    together = np.mean([rank["losses"] for rank in two], axis=0)
    assert np.allclose(together, one["losses"], rtol=1e-3, atol=0)
