"""Weights of torchvision and timm: loaded exactly, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from ocr.errors import CheckpointError
from ocr.models import DBNet
from ocr.models.weights import original_name

DEPTHS = {"resnet-18": (2, 2, 2, 2), "resnet-34": (3, 4, 6, 3), "resnet-50": (3, 4, 6, 3)}
Weights = dict[str, Tensor]


def convolutions(name: str) -> dict[str, tuple[int, int, int]]:
    """Output and input channels and side of each convolution, by torchvision's names.

    Source: He et al. 2015 (arXiv 1512.03385), table 1.
    """
    shapes, inputs = {"conv1": (64, 3, 7)}, 64
    for stage, depth in enumerate(DEPTHS[name]):
        width = 64 * 2**stage
        for block in range(depth):
            at = f"layer{stage + 1}.{block}"
            if name == "resnet-50":
                outputs = 4 * width
                shapes[f"{at}.conv1"] = (width, inputs, 1)
                shapes[f"{at}.conv2"] = (width, width, 3)
                shapes[f"{at}.conv3"] = (outputs, width, 1)
            else:
                outputs = width
                shapes[f"{at}.conv1"] = (width, inputs, 3)
                shapes[f"{at}.conv2"] = (width, width, 3)
            if inputs != outputs:
                shapes[f"{at}.downsample.0"] = (outputs, inputs, 1)
            inputs = outputs
    return shapes


def random_weights(name: str, counters: bool = True) -> Weights:
    """A state of torchvision's ResNet with random numbers, the classifier included."""
    generator = torch.Generator().manual_seed(0)
    weights: Weights = {}
    for conv, (outputs, inputs, side) in convolutions(name).items():
        scale = (inputs * side**2) ** -0.5
        weights[f"{conv}.weight"] = scale * torch.randn(
            outputs, inputs, side, side, generator=generator
        )
        norm = conv.replace("conv", "bn").replace("downsample.0", "downsample.1")
        weights[f"{norm}.weight"] = 1 + 0.1 * torch.randn(outputs, generator=generator)
        weights[f"{norm}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
        weights[f"{norm}.running_mean"] = 0.1 * torch.randn(outputs, generator=generator)
        weights[f"{norm}.running_var"] = 1 + torch.rand(outputs, generator=generator)
        if counters:
            weights[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    width = 2048 if name == "resnet-50" else 512
    weights["fc.weight"], weights["fc.bias"] = torch.zeros(10, width), torch.zeros(10)
    return weights


def reference_features(name: str, weights: Weights, pixels: Tensor) -> list[Tensor]:
    """What torchvision's ResNet computes behind each stage, written out.

    The stride of a bottleneck is that of its 3 x 3 convolution, as in torchvision (v1.5).
    """

    def conv_norm(x: Tensor, conv: str, stride: int = 1) -> Tensor:
        weight = weights[f"{conv}.weight"]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        norm = conv.replace("conv", "bn").replace("downsample.0", "downsample.1")
        mean, var = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        scale, bias = weights[f"{norm}.weight"], weights[f"{norm}.bias"]
        return functional.batch_norm(x, mean, var, scale, bias)

    x = functional.max_pool2d(torch.relu(conv_norm(pixels, "conv1", 2)), 3, 2, 1)
    features, last = [], 3 if name == "resnet-50" else 2
    strided = last - 1  # the convolution that has the stride
    for stage, depth in enumerate(DEPTHS[name], 1):
        for block in range(depth):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            shortcut, inner = x, x
            if f"{at}.downsample.0.weight" in weights:
                shortcut = conv_norm(x, f"{at}.downsample.0", stride)
            for number in range(1, last + 1):
                inner = conv_norm(
                    inner, f"{at}.conv{number}", stride if number == max(1, strided) else 1
                )
                inner = torch.relu(inner) if number < last else inner
            x = torch.relu(inner + shortcut)
        features.append(x)
    return features


def zipped(weights: Any, path: Path) -> None:
    torch.save(weights, path)


def legacy(weights: Any, path: Path) -> None:
    torch.save(weights, path, _use_new_zipfile_serialization=False)


def wrapped(weights: Weights, path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, path)


@pytest.mark.parametrize("name", list(DEPTHS))
def test_feature_maps_are_those_of_the_network_the_weights_belong_to(
    name: str, tmp_path: Path
) -> None:
    weights = random_weights(name)
    save_file(weights, tmp_path / "weights")
    network = DBNet(name, backbone_weights=tmp_path / "weights", channels=16).eval()
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = network.backbone(pixels).feature_maps
        expected = reference_features(name, weights, pixels)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-5 * b.abs().max()


@pytest.mark.parametrize("save", [zipped, legacy, wrapped, save_file])
def test_files_are_told_apart_by_content(
    save: Callable[[Weights, Path], None], tmp_path: Path
) -> None:
    weights = random_weights("resnet-18", counters=save is not legacy)
    path = tmp_path / ("w.pth" if save is save_file else "w.safetensors")
    save(weights, path)
    state = DBNet(backbone_weights=path, channels=16).backbone.state_dict()
    assert len(state) == 120
    for key, value in state.items():
        if original_name(key) in weights:
            assert torch.equal(value, weights[original_name(key)]), key


def test_half_precision_is_loaded_as_float32(tmp_path: Path) -> None:
    weights = {k: v.half() if v.ndim else v for k, v in random_weights("resnet-18").items()}
    save_file(weights, tmp_path / "w")
    network = DBNet(backbone_weights=tmp_path / "w", channels=16)
    first = network.backbone.state_dict()["embedder.embedder.convolution.weight"]
    assert first.dtype == torch.float32
    assert torch.equal(first, weights["conv1.weight"].float())


def without(weights: Weights) -> Weights:
    return {k: v for k, v in weights.items() if not k.startswith("layer4.1.bn2")}


def renamed(weights: Weights) -> Weights:
    """As timm's resnet50d has its stem: three convolutions."""
    return {k.replace("conv1.weight", "conv1.0.weight", 1) if k == "conv1.weight" else k: v
            for k, v in weights.items()}  # fmt: skip


def reshaped(weights: Weights) -> Weights:
    return {**weights, "layer2.0.conv1.weight": torch.zeros(128, 64, 1, 1)}


def infinite(weights: Weights) -> Weights:
    weights["layer1.0.bn1.bias"][3] = float("nan")
    return weights


def integer(weights: Weights) -> Weights:
    return {**weights, "conv1.weight": torch.zeros(64, 3, 7, 7, dtype=torch.int8)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without, r"is not of resnet-18: lacks layer4\.1\.bn2\.weight and 3 more; name weights of"),
        (renamed, r"is not of resnet-18: holds conv1\.0\.weight and lacks conv1\.weight; name"),
        (reshaped, r"layer2\.0\.conv1\.weight is 128x64x1x1 and not 128x64x3x3; name weights of"),
        (infinite, r"layer1\.0\.bn1\.bias holds values that are not finite; the file is damaged"),
        (integer, r"conv1\.weight is of type torch\.int8; name weights of floats"),
        (lambda w: {"epoch": 3}, "holds no tensors by name"),
        (lambda w: [1, 2], "holds no tensors by name"),
        (lambda w: {}, r"lacks conv1\.weight and"),
    ],
)
def test_weights_of_another_network_are_refused(
    change: Callable[[Weights], Any], message: str, tmp_path: Path
) -> None:
    torch.save(change(random_weights("resnet-18")), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=rf"w\.pth: .*{message}"):
        DBNet(backbone_weights=tmp_path / "w.pth", channels=16)


@pytest.mark.parametrize("name", ["resnet-18", "resnet-34"])
def test_weights_of_a_larger_network_are_refused(name: str, tmp_path: Path) -> None:
    save_file(random_weights("resnet-50"), tmp_path / "w")
    with pytest.raises(CheckpointError, match=rf"is not of {name}: holds layer1\.0\.(conv|bn)3"):
        DBNet(name, backbone_weights=tmp_path / "w", channels=16)


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def test_hostile_and_damaged_files(tmp_path: Path) -> None:
    path, touched = tmp_path / "w", tmp_path / "touched"
    torch.save({"conv1.weight": Payload(touched)}, path)
    contents = [path.read_bytes(), path.read_bytes()[:200], b"", b"\x00" * 99]
    contents.append((2**60).to_bytes(8, "little") + b"{}")
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"w: is no file of weights alone, of torch or"):
            DBNet(backbone_weights=path, channels=16)
    assert not touched.exists()
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(CheckpointError, match="there is no such file; name one of weights"):
            DBNet(backbone_weights=missing, channels=16)
    with pytest.raises(ValueError, match="pretrained and backbone_weights both name weights"):
        DBNet(backbone_weights=path, pretrained=True, channels=16)
