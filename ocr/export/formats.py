"""A network in the bytes of other formats, and run from them."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from ocr.errors import ModelError
from ocr.inference.description import MULTIPLE, Description
from ocr.inference.onnx_network import INPUT, OUTPUT, OnnxNetwork
from ocr.inference.tiles import Network
from ocr.models import DBNet
from ocr.packages import imported
from ocr_precompute.errors import PrecomputeError, one_line

OPSET = 18
"""Of ONNX; ONNX Runtime reads such files from 1.18 on."""

EXTRA = "'ocr-precompute[export]'"
_TRACED = (2, 3 * MULTIPLE, 2 * MULTIPLE, 3)  # shape of what is shown while a network is recorded
_MOST_SIDES = 2**20  # MULTIPLEs that a side may have, as far as the file says


@dataclass(frozen=True)
class Format:
    """How a network becomes bytes and is run from them; what to call them on a card, and the code
    that uses them without this project, if there is any.
    """

    written: Callable[[DBNet, Description], bytes]
    run: Callable[[bytes, Description], Network]
    title: str
    use: str


class Probabilities(nn.Module):
    """What is exported: a network's probability map, normalisation included."""

    def __init__(self, network: DBNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """As DBNet.probabilities."""
        return self.network.probabilities(images)


def _onnx(network: DBNet, description: Description) -> bytes:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        imported(package, EXTRA)
    axes = {
        0: torch.export.Dim("batch", min=1),
        1: MULTIPLE * torch.export.Dim("rows", min=1, max=_MOST_SIDES),
        2: MULTIPLE * torch.export.Dim("columns", min=1, max=_MOST_SIDES),
    }
    program: Any = torch.onnx.export(
        Probabilities(network).eval(),
        (torch.zeros(_TRACED, dtype=torch.uint8),),
        dynamo=True,
        dynamic_shapes={"images": axes},
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
        verbose=False,
    )
    model = program.model_proto
    # Where each node was written, on this machine, is nobody's business.
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]
    for part in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del part.metadata_props[:]
    for name, value in description.as_metadata().items():
        model.metadata_props.add(key=name, value=value)
    written: bytes = model.SerializeToString()
    return written


def _torchscript(network: DBNet, description: Description) -> bytes:
    jit: Any = torch.jit
    traced = jit.trace(
        Probabilities(network).eval(),
        torch.zeros(_TRACED, dtype=torch.uint8),
        check_trace=False,  # done on other pictures, of other sizes
    )
    memory = io.BytesIO()
    jit.save(traced, memory, _extra_files=description.as_metadata())
    return memory.getvalue()


def _safetensors(network: DBNet, description: Description) -> bytes:
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    return save_safetensors(tensors, description.as_metadata())


def _run_onnx(data: bytes, description: Description) -> Network:
    return OnnxNetwork(data, "the exported model")


def _run_torchscript(data: bytes, description: Description) -> Network:
    jit: Any = torch.jit
    with _silent():
        module = jit.load(io.BytesIO(data))

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            made: np.ndarray = module(torch.from_numpy(images)).numpy()
        return made

    return run


def _run_safetensors(data: bytes, description: Description) -> Network:
    network = DBNet(**description.network)
    network.load_state_dict(load_safetensors(data))
    return network.eval().probabilities_of


_USE_ONNX = """\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{name}")
images = np.zeros((1, {height}, {width}, 3), np.uint8)  # your pictures, RGB
(prob,) = session.run(["prob"], {{"images": images}})
"""
_USE_TORCHSCRIPT = """\
import torch

model = torch.jit.load("{name}")
images = torch.zeros((1, {height}, {width}, 3), dtype=torch.uint8)  # your pictures, RGB
prob = model(images)
"""
_WEIGHTS = "safetensors: weights alone, of this project's DBNet"

FORMATS = {
    "onnx": Format(_onnx, _run_onnx, f"ONNX, opset {OPSET}", _USE_ONNX),
    "torchscript": Format(_torchscript, _run_torchscript, "TorchScript", _USE_TORCHSCRIPT),
    "safetensors": Format(_safetensors, _run_safetensors, _WEIGHTS, ""),
}


def written(name: str, network: DBNet, description: Description) -> bytes:
    """A network in the bytes of a format. Raises ModelError if it cannot be said in that format,
    PrecomputeError if a package is missing.
    """
    try:
        with _silent():
            return FORMATS[name].written(network, description)
    except PrecomputeError:
        raise
    except Exception as error:  # whatever a network makes an exporter raise
        raise ModelError(
            f"this network cannot be exported as {name} ({one_line(error, 300)}); choose another "
            "--format"
        ) from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Exporters warn of what the comparison with the checkpoint answers, and of their own past."""
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "transformers")]
    levels = [each.level for each in noisy]
    for each in noisy:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(noisy, levels, strict=True):
            each.setLevel(level)
