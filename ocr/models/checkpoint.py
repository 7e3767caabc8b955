"""Files of a trained network: looked at before they are used, and no code in them is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ocr.errors import CheckpointError
from ocr.inference.description import KEY, Description, Size, described, parse
from ocr.inference.postprocess import PostProcess
from ocr.models.dbnet import DBNet
from ocr.models.outline import outline
from ocr_precompute.errors import one_line

NETWORK = "text_detector"
"""Where a checkpoint says what network its weights belong to: arguments of DBNet."""
POSTPROCESS = "postprocess"
"""Where it says how the network's output is read: arguments of PostProcess."""
_DATA = "DetectionData"  # where it says what data it was trained on
_ARGUMENTS = ("backbone", "backbone_config", "channels", "norm")  # of DBNet, at most
_PREFIX = "model."  # of the network's tensors
_HEADER = 8  # bytes that hold the length of safetensors' header, which is JSON


def read_model(path: Path, size: Size = None) -> tuple[DBNet, Description]:
    """The network of a checkpoint, or of a safetensors file that `ocr-train export` wrote, ready
    for use, and what it says of itself.

    size: canonical size to say in place of that of the training.
    Raises CheckpointError if there is none, or its weights are not of the network it names, and
    ModelError if what it says of itself makes no sense.
    """
    if _is_safetensors(path):
        checkpoint, description = _read_safetensors(path, size)
    else:
        checkpoint = read_checkpoint(path)
        description = None
    settings = saved_settings(checkpoint, str(path))
    postprocess = settings.pop(POSTPROCESS, {})
    if not settings:
        raise CheckpointError(f"{path}: holds no text detector; name one that ocr-train wrote")
    if description is None:
        told = {**_told(checkpoint), "network": _placeless(settings), "postprocess": postprocess}
        description = described(told, path, size)
    network = DBNet(**settings)
    weights = checkpoint["state_dict"]
    network.load_state_dict({name.removeprefix(_PREFIX): weights[name] for name in weights})
    return network.eval().requires_grad_(False), description


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint file holds. No code in it is run.

    Raises CheckpointError if the file is missing, damaged, or holds more than plain data.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}; name another checkpoint"
        raise CheckpointError(f"{path}: {reason}") from error
    except Exception as error:  # whatever a damaged file makes the reader raise
        reason = "is no checkpoint of weights and plain data, or is damaged; name another"
        raise CheckpointError(f"{path}: {reason}") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise CheckpointError(f"{path}: holds no model; name a checkpoint that ocr-train wrote")
    return checkpoint


def check_weights(weights: Any, model: Mapping[str, torch.Tensor], where: str) -> None:
    """Look whether weights are those of a model, by its state dict.

    Raises CheckpointError, naming the first that is missing, unknown, of another shape, or not of
    numbers.
    """
    weights = weights if isinstance(weights, dict) else {}
    name = next((name for name in model if name not in weights), None)
    if name is not None:
        raise CheckpointError(f"{where} lacks the model's {name}; name another checkpoint")
    for name, value in weights.items():
        if name not in model:
            raise CheckpointError(
                f"{where} holds {name!r}, which the model lacks; name another checkpoint"
            )
        shape = tuple(model[name].shape)
        has = tuple(value.shape) if isinstance(value, torch.Tensor) else None
        if has != shape:
            raise CheckpointError(
                f"{where}: {name} is of shape {has}, not {shape}; name another checkpoint"
            )
        check_numbers(value, f"{where}: {name}")


def check_numbers(values: torch.Tensor, where: str) -> None:
    """Raises CheckpointError if any of the values is no finite number."""
    if values.is_floating_point() and not bool(torch.isfinite(values).all()):
        raise CheckpointError(
            f"{where} holds values that are no finite numbers: its training had failed; name an "
            "earlier checkpoint"
        )


def saved_settings(checkpoint: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings of a TextDetector with which a checkpoint of it can be used, as far as it says.

    Raises CheckpointError if its weights are not of the network that it says they are of.
    """
    network, postprocess = checkpoint.get(NETWORK), checkpoint.get(POSTPROCESS)
    network = network if isinstance(network, dict) else {}
    settings = {name: network[name] for name in _ARGUMENTS if name in network}
    if settings:
        weights = checkpoint["state_dict"]
        try:
            model = outline(settings, most=4 * len(weights))  # group norm takes some twice
        except (TypeError, ValueError, RuntimeError) as error:
            reason = f"says that its network is {str(settings)[:200]}, which cannot be made"
            raise CheckpointError(f"{where}: {reason} ({error})") from error
        shapes = {f"{_PREFIX}{name}": value for name, value in model.state_dict().items()}
        check_weights(weights, shapes, where)
    if isinstance(postprocess, dict):
        known = {field.name for field in fields(PostProcess)}
        settings[POSTPROCESS] = {k: v for k, v in postprocess.items() if k in known}
    return settings


def _told(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its training, in the words of a Description."""
    data = _dict(checkpoint.get(_DATA))
    images = _dict(data.get("images"))
    scores = {}
    for state in map(_dict, _dict(checkpoint.get("callbacks")).values()):
        name, value = state.get("monitor"), state.get("current_score")
        if isinstance(name, str) and isinstance(value, torch.Tensor) and value.numel() == 1:
            scores[name] = float(value)
    return {
        **{name: images[name] for name in ("size", "decode") if name in images},
        "data_hash": data.get("data_hash", ""),
        "epoch": checkpoint.get("epoch", 0),
        "step": checkpoint.get("global_step", 0),
        "metrics": scores,
    }


def _placeless(network: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of DBNet without the folder that a backbone came from, where its configuration is
    known.
    """
    config = network.get("backbone_config")
    kind = _dict(config).get("model_type")
    return {**network, "backbone": kind} if kind else dict(network)


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_safetensors(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(_HEADER + 1)[_HEADER:] == b"{"
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}; name another model"
        raise CheckpointError(f"{path}: {reason}") from error


def _read_safetensors(path: Path, size: Size) -> tuple[dict[str, Any], Description]:
    """An exported file in the form of a checkpoint, and what it says of itself."""
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(KEY)
            names: Iterable[str] = file.keys()
            weights = {f"{_PREFIX}{name}": file.get_tensor(name) for name in names}
    except Exception as error:  # whatever a damaged file makes the reader raise
        reason = f"is damaged ({one_line(error)}); name another model"
        raise CheckpointError(f"{path}: {reason}") from error
    if told is None:
        reason = "does not say of which network it is; name one that ocr-train export wrote"
        raise CheckpointError(f"{path}: {reason}")
    description = parse(told, path, size)
    return {"state_dict": weights, NETWORK: dict(description.network)}, description
