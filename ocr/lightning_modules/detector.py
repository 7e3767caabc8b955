"""DBNet as a LightningModule: thin, for the work is done in ocr.models and ocr.metrics."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch import Callback
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from ocr.errors import CheckpointError
from ocr.inference.pages import map_of
from ocr.inference.postprocess import Detections, PostProcess
from ocr.lightning_modules.averaging import AveragedWeights
from ocr.lightning_modules.evaluation import (
    Beside,
    Maps,
    annotated,
    evaluated,
    predicted,
    predicted_page,
    rows,
)
from ocr.lightning_modules.schedule import WarmupPolynomialLR, fuse, parameter_groups, settings_of
from ocr.metrics.hmean import DetectionHmean
from ocr.metrics.icdar import MatchCounts
from ocr.metrics.outcomes import Judged, Outcomes
from ocr.models import DBLoss, DBNet
from ocr.models.checkpoint import NETWORK, POSTPROCESS, check_weights, read_checkpoint
from ocr.models.checkpointing import MODES, Mode, apply_checkpointing, fitting_modes
from ocr.models.compiling import compile_network
from ocr.models.dbnet import Norm
from ocr.tuning.maps import KeptMaps
from ocr_precompute.runtime.stages import stage, waiting

Batch = dict[str, Any]
_PENDING = 64  # images that may wait for post-processing; each holds a map of its size


class TextDetector(lightning.LightningModule):
    """Trains, validates and predicts with a DBNet.

    Logs train/loss and its parts, and val/hmean, val/precision, val/recall.

    Args:
        backbone: resnet-18, resnet-34, resnet-50, or what transformers' AutoBackbone takes: a
            folder, or a name on its hub.
        pretrained: Load the backbone's weights; a name is then asked from the hub.
        backbone_weights: File of a ResNet's weights, of torchvision or timm, to start from.
        backbone_config: Configuration of the backbone, in place of that of a folder or the hub;
            a checkpoint brings it along.
        channels: Channels of the neck, a multiple of 16; the paper has 256.
        norm: batch; group, the same for any number of processes; or frozen batch statistics.
        loss: Weights and constants of the loss.
        postprocess: How probability maps become polygons.
        optimizer: An optimiser of torch, or any like it.
        lr_scheduler: Moves the learning rate after every step, or for one that watches a metric
            after every validation.
        decay_norms: Let the weight decay apply to norms and biases too.
        weights: Checkpoint whose weights to start from, without its progress.
        activation_checkpointing: none, selective, full, auto, or a mode for each stage by name.
        memory_budget: For auto: GB that a process may keep as activations.
        channels_last: Memory layout of weights and activations, which images come in too.
        offload_activations: Keep activations in the host's memory until they are needed.
        compile: Have torch.compile make the training step's network; where that cannot be done
            the training goes on without, and says so.
        ema: Validate with, and keep in checkpoints, an average of the weights over the steps,
            in which each step leaves this share of what was; 0.999, or null for none.
        evaluation_threads: Threads that post-process and match while the network goes on; the
            machine's cores by default, and 0 for none, so that the network waits.
    """

    kept: KeptMaps | None = None  # where each validated map goes, if anybody asks

    def __init__(
        self,
        backbone: str = "resnet-18",
        pretrained: bool = False,
        backbone_weights: str | None = None,
        backbone_config: dict[str, Any] | None = None,
        channels: int = 256,
        norm: Norm = "batch",
        loss: DBLoss = DBLoss(),  # noqa: B008
        postprocess: PostProcess = PostProcess(),  # noqa: B008
        optimizer: OptimizerCallable = partial(torch.optim.AdamW, lr=1e-3, weight_decay=1e-4),  # noqa: B008
        lr_scheduler: LRSchedulerCallable = WarmupPolynomialLR,
        decay_norms: bool = False,
        weights: str | None = None,
        activation_checkpointing: Literal["none", "selective", "full", "auto"]
        | dict[str, Literal["none", "selective", "full"]] = "none",
        memory_budget: float | None = None,
        channels_last: bool = True,
        offload_activations: bool = False,
        compile: bool = False,
        ema: float | None = None,
        evaluation_threads: int | None = None,
    ) -> None:
        """Take the settings. Raises ValueError for one that makes no sense."""
        super().__init__()
        self._architecture: dict[str, Any] = {
            "backbone": backbone,
            "channels": channels,
            "norm": norm,
        }
        self._checkpointing, self._memory_budget = activation_checkpointing, memory_budget
        self.model = self._network(pretrained, backbone_weights, backbone_config, channels_last)
        self.loss, self.postprocess, self.hmean = loss, postprocess, DetectionHmean()
        self._optimizer, self._lr_scheduler = optimizer, lr_scheduler
        self._decay_norms, self._offload = decay_norms, offload_activations
        self._optimizer_settings = settings_of(optimizer, lr_scheduler, decay_norms)
        self._compiled, self._average = compile, None if ema is None else AveragedWeights(ema)
        self._beside = Beside(evaluation_threads)
        self._pending: deque[tuple[Maps, Future[Judged]]] = deque()
        self._counted = MatchCounts(0, 0, 0)  # of what is validated in this process
        self.outcomes: Outcomes | None = None  # where each validated image goes, if anybody asks
        if weights is not None:
            self._load_weights(Path(weights))

    def __deepcopy__(self, memo: dict[int, Any]) -> TextDetector:
        """As of any module, but what makes optimiser and schedule is shared: it may hold a parser,
        which cannot be copied.
        """
        for shared in (self._optimizer, self._lr_scheduler):
            memo[id(shared)] = shared
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__setstate__(copy.deepcopy(self.__getstate__(), memo))  # type: ignore[no-untyped-call]
        return made

    def _network(
        self,
        pretrained: bool,
        backbone_weights: str | None,
        backbone_config: dict[str, Any] | None,
        channels_last: bool,
    ) -> DBNet:
        """The model. Raises ValueError for settings that do not go together."""
        if self._checkpointing == "auto" and self._memory_budget is None:
            raise ValueError("activation_checkpointing auto needs memory_budget, in GB")
        model = DBNet(
            **self._architecture,
            pretrained=pretrained,
            backbone_weights=None if backbone_weights is None else Path(backbone_weights),
            backbone_config=backbone_config,
        )
        if isinstance(self._checkpointing, dict):  # names are checked here, before any work
            apply_checkpointing(model, self._checkpointing)
        if channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.channels_last = channels_last
        return model

    # ------------------------------------------------------------------------------- training

    def configure_callbacks(self) -> list[Callback]:
        """What averages the weights, if anything does."""
        training = self.trainer.state.fn == TrainerFn.FITTING
        return [self._average] if self._average is not None and training else []

    def setup(self, stage: str) -> None:
        """Choose what is checkpointed, and compile the network."""
        if stage != "fit":
            return
        modes = self._modes()
        apply_checkpointing(self.model, modes)
        if not self._compiled:
            return
        in_the_way = compile_network(
            self.model.to(self.trainer.strategy.root_device),
            modes,
            self._like_a_batch(),
            self.trainer.precision_plugin.train_step_context(),
        )
        if in_the_way:
            rank_zero_warn(
                f"model.compile: the network cannot be compiled here ({in_the_way}); the training "
                "goes on without"
            )
        elif self.trainer.world_size > 1:
            torch.compiler.reset()  # what several processes run is cut where gradients are shared

    def _modes(self) -> dict[str, Mode]:
        """What of each stage is kept for the backward pass."""
        asked = self._checkpointing
        if isinstance(asked, dict):
            return dict(asked)
        if asked in MODES:
            return dict.fromkeys(self.model.stages(), asked)
        budget = (self._memory_budget or 0) * 1e9
        model = self.model.to(self.trainer.strategy.root_device)
        with self.trainer.precision_plugin.train_step_context():
            modes = fitting_modes(model, self._like_a_batch(), budget)
        self.print(f"activation checkpointing within {self._memory_budget:g} GB: {modes}")
        return modes

    def _like_a_batch(self) -> Tensor:
        """Images of the size of a training batch, uint8 (B, H, W, 3), on the device."""
        size, samples = self.trainer.datamodule.train_shape  # type: ignore[attr-defined]
        device = self.trainer.strategy.root_device
        return torch.zeros((samples, *size, 3), dtype=torch.uint8, device=device)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of a batch."""
        offload = (
            torch.autograd.graph.save_on_cpu(pin_memory=torch.cuda.is_available())
            if self._offload
            else nullcontext()
        )
        with stage("forward"), offload:
            losses = self.loss(self.model(batch["image"]), batch)
        samples = len(batch["image"])
        self.log("train/loss", losses.total.detach(), prog_bar=True, batch_size=samples)
        for name in ("prob", "thresh", "binary"):
            value = getattr(losses, name).detach()
            self.log(f"train/{name}_loss", value, batch_size=samples)
        return losses.total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Gradients of the loss."""
        with stage("backward"):
            super().backward(loss, *args, **kwargs)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step of the optimiser, in which Lightning calls forward and backward."""
        with stage("optimiser"):
            super().optimizer_step(*args, **kwargs)

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule. Norms and biases do not decay, unless decay_norms is set."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = self._optimizer(parameter_groups(parameters, self._decay_norms))
        fuse(optimizer)
        scheduler = self._lr_scheduler(optimizer)
        plan: dict[str, Any] = {"scheduler": scheduler, "interval": "step"}
        if isinstance(scheduler, WarmupPolynomialLR):
            scheduler.end_at(self.trainer.estimated_stepping_batches)
        elif isinstance(scheduler, ReduceLROnPlateau):
            every = self.trainer.check_val_every_n_epoch or 1
            plan |= {"interval": "epoch", "monitor": scheduler.monitor, "frequency": every}
        return {"optimizer": optimizer, "lr_scheduler": plan}

    # ----------------------------------------------------------------------------- evaluation

    def validation_step(self, batch: Batch, index: int) -> None:
        """Start to find and match the polygons of a batch, on threads."""
        maps = Maps.of(self._probabilities(batch))
        images = batch["image"] if self.outcomes is not None else [None] * len(batch["image"])
        for number, (row, image) in enumerate(zip(rows(batch), images, strict=True)):
            if self.kept is not None:
                self.kept.add(maps[number], annotated(row))
            arguments = self.postprocess, maps, number, row, image, self.outcomes
            self._pending.append((maps, self._beside.begin(evaluated, *arguments)))
        while len(self._pending) > _PENDING:
            self._add_evaluated()

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log the metric over all images of all processes."""
        self._log_metric("val")

    def on_test_epoch_end(self) -> None:
        """Log the metric over all images of all processes."""
        self._log_metric("test")

    def predict_step(self, batch: Batch, index: int) -> list[Future[Detections] | None]:
        """Polygons, in pixels of the original image, of each image of a batch; None for one that
        could not be read.
        """
        maps = Maps.of(self._probabilities(batch))
        return [
            None if row.get("problem") else self._found(maps, number, row)
            for number, row in enumerate(rows(batch))
        ]

    def _found(self, maps: Maps, number: int, row: Batch) -> Future[Detections]:
        if row.get("page") is None:
            return self._beside.begin(predicted, self.postprocess, maps, number, row)
        page = row["page"]()
        prob = map_of(page, self._tile_probabilities)
        return self._beside.begin(predicted_page, self.postprocess, prob, page)

    def _tile_probabilities(self, images: np.ndarray) -> np.ndarray:
        tiles = {"image": torch.from_numpy(images).to(self.device)}
        found: np.ndarray = self._probabilities(tiles).cpu().numpy()
        return found

    def teardown(self, stage: str) -> None:
        """Let the threads go."""
        self._pending.clear()
        self._beside.close()

    def _log_metric(self, role: str) -> None:
        while self._pending:
            self._add_evaluated()
        with stage("metric"):
            self.hmean.update(self._counted)  # once, for a GPU is waited for
            self._counted = MatchCounts(0, 0, 0)
            for name, value in self.hmean.compute().items():  # summed over processes by the metric
                self.log(f"{role}/{name}", value, prog_bar=name == "hmean")
            self.hmean.reset()

    def _add_evaluated(self) -> None:
        maps, future = self._pending.popleft()
        if maps.arrived is not None:  # on a GPU the network may not have come so far
            with stage("inference"):
                maps.wait()
        with waiting("postprocess"):
            judged = future.result()
        both = zip(self._counted, judged.matching.counts, strict=True)
        self._counted = MatchCounts(*map(sum, both))
        if self.outcomes is not None:
            self.outcomes.add(judged)

    def _probabilities(self, batch: Batch) -> Tensor:
        """Probability maps of a batch, float32 (B, H, W); not compiled, for sizes differ."""
        with stage("inference"):
            return torch.sigmoid(self.model.forward(batch["image"]).prob.float())

    # ---------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what network the weights belong to, and how its output is read."""
        checkpoint[NETWORK] = {**self._architecture, "backbone_config": self.model.backbone_config}
        checkpoint[POSTPROCESS] = asdict(self.postprocess)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises CheckpointError for the checkpoint of another network or optimiser."""
        self._check(checkpoint, "the checkpoint")
        if self._trainer is None or self._trainer.state.fn != TrainerFn.FITTING:
            return
        beside = checkpoint.get("current_model_state")
        if beside is not None and self._average is None:
            raise CheckpointError(
                "the checkpoint is of a training that averages its weights; set model.ema as it "
                "was, or start anew from the average with --model.weights"
            )
        if beside is not None:
            check_weights(beside, self.state_dict(), "the checkpoint's own weights")
        for state in checkpoint.get("optimizer_states", []):
            lacking = [self._optimizer_settings - set(group) for group in state["param_groups"]]
            if any(lacking):
                raise CheckpointError(
                    "the checkpoint is of another optimizer, without "
                    f"{', '.join(sorted(set.union(*lacking)))}; correct the setting, or start anew "
                    "from the checkpoint's weights with --model.weights"
                )

    def _check(self, checkpoint: Mapping[str, Any], where: str) -> None:
        has = checkpoint.get(NETWORK)
        if not isinstance(has, dict):
            raise CheckpointError(f"{where} holds no text detector; name one that ocr-train wrote")
        for name, value in self._architecture.items():
            if has.get(name) != value:
                raise CheckpointError(
                    f"{where} is of another model: its {name} is {has.get(name)!r}, and "
                    f"model.{name} is {value!r}; correct the setting, or name another checkpoint"
                )
        check_weights(checkpoint.get("state_dict"), self.state_dict(), where)

    def _load_weights(self, path: Path) -> None:
        checkpoint = read_checkpoint(path)
        self._check(checkpoint, str(path))
        self.load_state_dict(checkpoint["state_dict"])
