"""Activation checkpointing: less memory for activations, some of them computed twice.

Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost (arXiv 1604.06174).
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl,
    CheckpointWrapper,
    checkpoint_wrapper,
)
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from ocr.models.dbnet import DBNet

Mode = Literal["none", "selective", "full"]

MODES: tuple[Mode, ...] = ("none", "selective", "full")
"""What is kept of a stage for the backward pass: all; what convolutions and matrix products gave,
so that only cheap operations run twice; or the stage's input alone."""

_COSTLY = {
    torch.ops.aten.convolution.default,
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
}


def apply_checkpointing(model: DBNet, modes: Mapping[str, Mode], *, compiled: bool = False) -> None:
    """Checkpoint stages of a model, in place; names in its state dict stay as they are.

    modes: for each stage (a name of `model.stages()`) its mode, `none` where not given. compiled:
    for a model that torch.compile traces, and otherwise not to be run.
    Gradients and running statistics are those of the model without checkpointing. Works under
    DistributedDataParallel.
    Raises ValueError for an unknown stage or mode.
    """
    stages = model.stages()
    for name, mode in modes.items():
        if name not in stages:
            raise ValueError(f"no stage {name!r}; one of {', '.join(stages)}")
        if mode not in MODES:
            raise ValueError(f"stage {name}: mode {mode!r}; one of {', '.join(MODES)}")
    names = {id(stage): name for name, stage in stages.items()}
    for parent in list(model.modules()):
        for attribute, child in list(parent.named_children()):
            wrapped = isinstance(child, CheckpointWrapper)
            stage: Any = child._checkpoint_wrapped_module if wrapped else child
            if id(stage) in names:
                mode = modes.get(names[id(stage)], "none")
                made = stage if mode == "none" else _checkpointed(stage, mode, compiled)
                setattr(parent, attribute, made)


def _checkpointed(stage: nn.Module, mode: Mode, compiled: bool) -> nn.Module:
    contexts: dict[str, Any] = {"context_fn": partial(_contexts, stage, mode)}
    if compiled:  # which computes a second time, but never writes running statistics then
        selective = partial(create_selective_checkpoint_contexts, _policy)
        contexts = {"context_fn": selective} if mode == "selective" else {}
    return checkpoint_wrapper(stage, checkpoint_impl=CheckpointImpl.NO_REENTRANT, **contexts)


def _contexts(
    stage: nn.Module, mode: Mode
) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """What the first and the second computation of a stage run in."""
    if mode == "selective":
        contexts: Any = create_selective_checkpoint_contexts
        first, second = contexts(_policy)
        return first, _both(second, stage)
    return nullcontext(), _statistics_kept(stage)


@contextmanager
def _both(recompute: AbstractContextManager[Any], stage: nn.Module) -> Iterator[None]:
    with _statistics_kept(stage), recompute:
        yield


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    costly = operation in _COSTLY
    return CheckpointPolicy.MUST_SAVE if costly else CheckpointPolicy.PREFER_RECOMPUTE


@contextmanager
def _statistics_kept(stage: nn.Module) -> Iterator[None]:
    """Batch norms count a batch once, though it passes twice."""
    norms = [m for m in stage.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches


def fitting_modes(model: DBNet, images: Tensor, budget: float) -> dict[str, Mode]:
    """The least checkpointing with which a training step keeps no more activations than a budget.

    images: a batch, uint8 (B, H, W, 3). budget: bytes. What each stage keeps in each mode is
    measured with the first of the images; then modes are raised where a step frees most, to
    `selective` first, since that costs little time, and to `full` only if that is not enough.
    Returns a mode for each stage; all `full` if even that does not fit.
    """
    chosen: dict[str, Mode] = dict.fromkeys(model.stages(), "none")

    def kept(modes: Mapping[str, Mode]) -> int:
        apply_checkpointing(model, modes)
        return saved_bytes(lambda: model(images[:1])) * len(images)

    training = model.training
    model.train()
    try:
        with _statistics_kept(model), torch.enable_grad():
            total = kept(chosen)
            for mode in MODES[1:]:
                frees = {name: total - kept({**chosen, name: mode}) for name in chosen}
                for name in sorted(frees, key=frees.__getitem__, reverse=True):
                    if total <= budget:
                        break
                    if frees[name] > 0 or mode == "full":
                        chosen[name] = mode
                        total = kept(chosen)
    finally:
        apply_checkpointing(model, dict.fromkeys(chosen, "none"))
        model.train(training)
    return chosen


def saved_bytes(run: Callable[[], Any]) -> int:
    """Bytes that a forward pass allocates and that are still there when it has returned.

    That is what the backward pass needs, however it is kept: by autograd, by checkpointing, or in
    a cache of either; parameters and inputs were there before. run: the pass; what it returns is
    kept until the count.
    """
    ledger = _Ledger()
    with ledger:
        result = run()
    gc.collect()
    total = ledger.alive()
    del result
    return total


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every storage that operations allocate, by weak reference."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._storages: dict[int, tuple[weakref.ref[Any], int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_memory(a) for a in _tensors((args, kwargs or {}))}
        for tensor in _tensors(result):
            if _memory(tensor) not in given:
                storage = tensor.untyped_storage()
                self._storages[_memory(tensor)] = (weakref.ref(storage), storage.nbytes())
        return result

    def alive(self) -> int:
        """Bytes of the storages that somebody still holds."""
        return sum(nbytes for reference, nbytes in self._storages.values() if reference())


def _memory(tensor: Tensor) -> int:
    """What tensors over the same memory share, as long as it is there."""
    return int(tensor.untyped_storage()._cdata)


def _tensors(tree: Any) -> list[Tensor]:
    leaves, _ = torch.utils._pytree.tree_flatten(tree)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]
