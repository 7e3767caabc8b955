"""The network compiled by torch.compile, where that can be done."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ocr.models.checkpointing import Mode, apply_checkpointing
from ocr.models.dbnet import DBNet
from ocr_precompute.errors import one_line


def compile_network(
    model: DBNet,
    modes: dict[str, Mode],
    images: Tensor,
    context: AbstractContextManager[object],
) -> str:
    """Compile a network in place, its checkpointing with it, and try a step.

    Names in its state dict, weights and statistics stay as they are; so does what `forward` does,
    which is not compiled: only a call of the network is. modes: of checkpointing, for each stage.
    images: a batch as trainings have them, uint8 (B, H, W, 3), on the network's device. context:
    what forward passes run in, for their precision.
    Returns what is in the way, in a line, and the network is as it was; nothing if it is compiled.
    """
    statistics = [(buffer, buffer.clone()) for buffer in model.buffers()]
    was_training = model.training
    devices = [images.device] if images.device.type == "cuda" else []
    try:
        apply_checkpointing(model, modes, compiled=True)
        model.compile()
        with torch.random.fork_rng(devices), torch.enable_grad(), context:
            output = model.train()(images)
            learnt = [p for p in model.parameters() if p.requires_grad]
            torch.autograd.grad(output.prob.float().mean() + output.thresh.float().mean(), learnt)
    except Exception as error:  # whatever a compiler makes of it
        model.compile(disable=True)
        apply_checkpointing(model, modes)
        return one_line(error, 160)
    finally:
        model.train(was_training)
        with torch.no_grad():
            for buffer, before in statistics:
                buffer.copy_(before)
    return ""
