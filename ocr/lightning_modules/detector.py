"""DBNet as a LightningModule: thin, for the work is done in ocr.models and ocr.metrics."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import joblib
import lightning
import numpy as np
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from ocr.errors import CheckpointError
from ocr.inference.pages import Page, found_in, map_of
from ocr.inference.postprocess import Detections, PostProcess
from ocr.lightning_modules.schedule import WarmupPolynomialLR, parameter_groups, settings_of
from ocr.metrics.hmean import DetectionHmean
from ocr.metrics.icdar import match_polygons
from ocr.metrics.outcomes import Judged, Outcomes
from ocr.models import DBLoss, DBNet
from ocr.models.checkpoint import NETWORK, POSTPROCESS, check_weights, read_checkpoint
from ocr.models.checkpointing import MODES, Mode, apply_checkpointing, fitting_modes
from ocr.models.dbnet import Norm
from ocr.tuning.maps import Annotated, Maps
from ocr_precompute.images.decoding import scaled_size
from ocr_precompute.runtime.stages import stage, waiting

Batch = dict[str, Any]
_PENDING = 64  # images that may wait for post-processing; each holds a map of its size


class TextDetector(lightning.LightningModule):
    """Trains, validates and predicts with a DBNet.

    Logs train/loss and its parts, and val/hmean, val/precision, val/recall.
    """

    maps: Maps | None = None  # where each validated map goes, if anybody asks

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
        channels_last: bool = False,
        offload_activations: bool = False,
    ) -> None:
        """Settings of model and optimiser.

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
            channels_last: Memory layout of the weights.
            offload_activations: Keep activations in the host's memory until they are needed.
        """
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
        self._pool: ThreadPoolExecutor | None = None
        self._pending: deque[Future[Judged]] = deque()
        self.outcomes: Outcomes | None = None  # where each validated image goes, if anybody asks
        if weights is not None:
            self._load_weights(Path(weights))

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
        return model

    # ------------------------------------------------------------------------------- training

    def setup(self, stage: str) -> None:
        """Choose what is checkpointed."""
        if stage != "fit" or isinstance(self._checkpointing, dict):
            return
        stages = self.model.stages()
        if self._checkpointing in MODES:
            apply_checkpointing(self.model, dict.fromkeys(stages, self._checkpointing))
            return
        size, samples = self.trainer.datamodule.train_shape  # type: ignore[attr-defined]
        device = self.trainer.strategy.root_device
        images = torch.zeros((samples, *size, 3), dtype=torch.uint8, device=device)
        budget = (self._memory_budget or 0) * 1e9
        with self.trainer.precision_plugin.train_step_context():
            modes: dict[str, Mode] = fitting_modes(self.model.to(device), images, budget)
        apply_checkpointing(self.model, modes)
        self.print(f"activation checkpointing within {self._memory_budget:g} GB: {modes}")

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
        images = batch["image"] if self.outcomes is not None else [None] * len(batch["image"])
        for prob, row, image in zip(self._probabilities(batch), _rows(batch), images, strict=True):
            if self.maps is not None:
                polygons, ignored = row["polygons"], np.asarray(row["ignore"], bool)
                page = Annotated(row["name"], _content(row), polygons, ignored)
                self.maps.add(prob, page)
            arguments = self.postprocess, prob, row, image, self.outcomes
            self._pending.append(self._threads.submit(_evaluate, *arguments))
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
        return [
            None if row.get("problem") else self._found(prob, row)
            for prob, row in zip(self._probabilities(batch), _rows(batch), strict=True)
        ]

    def _found(self, prob: np.ndarray, row: Batch) -> Future[Detections]:
        if row.get("page") is None:
            return self._threads.submit(_predict, self.postprocess, prob, row)
        page = row["page"]()
        prob = map_of(page, self._tile_probabilities)
        return self._threads.submit(_predict_page, self.postprocess, prob, page)

    def _tile_probabilities(self, images: np.ndarray) -> np.ndarray:
        return self._probabilities({"image": torch.from_numpy(images).to(self.device)})

    def teardown(self, stage: str) -> None:
        """Let the threads go."""
        self._pending.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _log_metric(self, role: str) -> None:
        while self._pending:
            self._add_evaluated()
        with stage("metric"):
            for name, value in self.hmean.compute().items():  # summed over processes by the metric
                self.log(f"{role}/{name}", value, prog_bar=name == "hmean")
            self.hmean.reset()

    def _add_evaluated(self) -> None:
        with waiting("postprocess"):
            judged = self._pending.popleft().result()
        self.hmean.update(judged.matching.counts)
        if self.outcomes is not None:
            self.outcomes.add(judged)

    def _probabilities(self, batch: Batch) -> np.ndarray:
        """Probability maps of a batch, float32 (B, H, W)."""
        with stage("inference"):
            prob = torch.sigmoid(self.model(batch["image"]).prob.float())
            return prob.cpu().numpy()

    @property
    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(joblib.cpu_count(), thread_name_prefix="postprocess")
        return self._pool

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


def _rows(batch: Batch) -> list[Batch]:
    """The annotations of each image of a batch."""
    wanted = ("name", "polygons", "ignore", "matrix", "original_size", "problem", "page")
    given = [field for field in wanted if field in batch]
    columns = [
        batch[field].cpu().numpy() if isinstance(batch[field], Tensor) else batch[field]
        for field in given
    ]
    return [dict(zip(given, row, strict=True)) for row in zip(*columns, strict=True)]


def _evaluate(
    postprocess: PostProcess,
    prob: np.ndarray,
    row: Batch,
    image: Tensor | None,
    outcomes: Outcomes | None,
) -> Judged:
    size = _content(row)
    with stage("postprocess"):
        found = postprocess(prob, size)
    with stage("match"):
        matching = match_polygons(found.polygons, row["polygons"], row["ignore"])
    judged = Judged(row.get("name", ""), size, found, row["polygons"], matching)
    if image is None or outcomes is None or not outcomes.wants(judged):
        return judged
    with stage("record"):
        return judged.pictured(image.cpu().numpy())


def _predict(postprocess: PostProcess, prob: np.ndarray, row: Batch) -> Detections:
    with stage("postprocess"):
        return postprocess(prob, _content(row)).mapped(row["matrix"])


def _predict_page(postprocess: PostProcess, prob: np.ndarray, page: Page) -> Detections:
    with stage("postprocess"):
        return found_in(page, prob, postprocess)


def _content(row: Batch) -> tuple[int, int]:
    """Height and width of the canonical image without its padding."""
    return scaled_size(row["original_size"].tolist(), 1 / row["matrix"][0, 0])
