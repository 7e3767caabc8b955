"""Weights of a ResNet as torchvision and timm name them, for the ResNet of transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ocr.errors import CheckpointError

_HEADER = 8  # bytes that hold the length of safetensors' header, which is JSON
_WRAPPERS = ("state_dict", "model")  # under which trainers keep weights beside other things
_CLASSIFIER = re.compile(r"fc\.(weight|bias)")
_COUNTER = ".num_batches_tracked"  # not in the older files, and of no effect
_STEM = re.compile(r"embedder\.embedder\.(convolution|normalization)\.(\w+)")
_IN_A_BLOCK = re.compile(
    r"encoder\.stages\.(\d)\.layers\.(\d+)\.(?:layer\.(\d)|shortcut)\."
    r"(convolution|normalization)\.(\w+)"
)
_PARTS = {"convolution": "conv", "normalization": "bn"}


def load_backbone_weights(backbone: nn.Module, name: str, path: Path) -> None:
    """Load a file of torchvision or timm into a ResNet backbone of transformers.

    name: of the backbone, for messages. The file is what torch.save wrote or safetensors, told
    apart by content; no code in it is run. A classifier that it holds is left out.
    Raises CheckpointError if the file cannot be read, or is not exactly of this network.
    """
    if getattr(getattr(backbone, "config", None), "model_type", None) != "resnet":
        raise CheckpointError(
            f"{path}: such files are read for a ResNet alone, and {name} is none; use pretrained"
        )
    given = {k: v for k, v in _read_tensors(path).items() if not _CLASSIFIER.fullmatch(k)}
    own = {original_name(key): value for key, value in backbone.state_dict().items()}
    foreign = [key for key in given if key not in own]
    lacking = [key for key in own if key not in given and not key.endswith(_COUNTER)]
    if foreign or lacking:
        found = [f"holds {_some(foreign)}"] if foreign else []
        found += [f"lacks {_some(lacking)}"] if lacking else []
        raise CheckpointError(
            f"{path}: is not of {name}: {' and '.join(found)}; name weights of the same network"
        )
    for key, value in given.items():
        if value.shape != own[key].shape:
            raise CheckpointError(
                f"{path}: is not of {name}: {key} is {_shape(value)} and not {_shape(own[key])}; "
                "name weights of the same network"
            )
        if value.dtype.is_floating_point != own[key].dtype.is_floating_point:
            raise CheckpointError(f"{path}: {key} is of type {value.dtype}; name weights of floats")
        if not value.isfinite().all():
            raise CheckpointError(
                f"{path}: {key} holds values that are not finite; the file is damaged, name another"
            )
    for key, value in given.items():
        own[key].copy_(value)


def original_name(name: str) -> str:
    """What torchvision and timm call a tensor of transformers' ResNet backbone."""
    if stem := _STEM.fullmatch(name):
        return f"{_PARTS[stem[1]]}1.{stem[2]}"
    found = _IN_A_BLOCK.fullmatch(name)
    if not found:
        return name
    stage, block, number, part, tensor = found.groups()
    if number is None:
        inside = f"downsample.{list(_PARTS).index(part)}"
    else:
        inside = f"{_PARTS[part]}{int(number) + 1}"
    return f"layer{int(stage) + 1}.{block}.{inside}.{tensor}"


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. Raises CheckpointError."""
    try:
        if not path.is_file():
            raise CheckpointError(f"{path}: there is no such file; name one of weights")
        content: Any
        with path.open("rb") as file:
            if file.read(_HEADER + 1)[_HEADER:] == b"{":
                content = load_file(path)
            else:
                file.seek(0)  # not by its path: torch would go by the suffix
                content = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}; name another file"
        raise CheckpointError(f"{path}: {reason}") from error
    except Exception as error:  # whatever a damaged file makes a reader raise
        reason = "is no file of weights alone, of torch or safetensors, or is damaged; name another"
        raise CheckpointError(f"{path}: {reason}") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise CheckpointError(
            f"{path}: holds no tensors by name; name a file of a network's weights"
        )
    # As torch's own wrapper for several GPUs names them.
    return {key.removeprefix("module."): value for key, value in content.items()}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "one number"
