"""DBNet: Differentiable Binarization, Liao et al. 2020 (arXiv 1911.08947)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoBackbone, AutoConfig, ResNetConfig

from ocr.models.weights import load_backbone_weights
from ocr_precompute.errors import one_line

Norm = Literal["batch", "group", "frozen"]

# Architectures known without a download, as the ResNet paper defines them (arXiv 1512.03385).
BACKBONES: dict[str, dict[str, Any]] = {
    "resnet-18": {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
    "resnet-34": {"depths": [3, 4, 6, 3], "hidden_sizes": [64, 128, 256, 512]},
    "resnet-50": {"depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]},
}
_LEVELS = (1, 2, 3, 4)  # the stages behind the stem: strides 4, 8, 16, 32
_STRIDE = 32
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in RGB


class DBOutput(NamedTuple):
    """What the network says of a batch, all (B, H, W), before any sigmoid.

    prob: logits of the probability map. thresh: logits of the threshold map.
    """

    prob: Tensor
    thresh: Tensor


class DBNet(nn.Module):
    """Backbone, feature pyramid and differentiable binarization head.

    Takes images as they are stored, uint8 (B, H, W, 3) RGB of any size, and normalises them where
    it runs. Names of its parts: `backbone` (four feature maps at strides 4, 8, 16 and 32), `neck`
    (those merged to `channels` channels at stride 4), `prob_head` and `thresh_head`.
    """

    def __init__(
        self,
        backbone: str = "resnet-18",
        *,
        pretrained: bool = False,
        backbone_weights: Path | None = None,
        backbone_config: Mapping[str, Any] | None = None,
        channels: int = 256,
        norm: Norm = "batch",
    ) -> None:
        """Make a network.

        backbone: one of BACKBONES, or whatever transformers' AutoBackbone takes: the name of a
        model on its hub, or a folder. pretrained: load its weights, which for a name asks the hub;
        otherwise weights are random. backbone_weights: a file of torchvision or timm to load into a
        ResNet instead. backbone_config: transformers' configuration of the backbone, as
        `backbone_config` of a network has it, so that neither folder nor hub is asked for one; of
        no account with pretrained. channels: of the neck; the paper has 256. norm: `batch`;
        `group`, the same for any batch size and number of processes; `frozen`, batch statistics
        that stay as they were loaded.
        Raises ValueError if the backbone is unknown or gives no pyramid, CheckpointError if the
        file is not of this backbone.
        """
        super().__init__()
        if channels < 16 or channels % 16:
            raise ValueError(f"channels is {channels}; it must be a multiple of 16")
        if pretrained and backbone_weights is not None:
            raise ValueError("pretrained and backbone_weights both name weights; leave one out")
        self.backbone = _backbone(backbone, pretrained, backbone_config)
        self._is_built_in = backbone in BACKBONES
        if backbone_weights is not None:
            load_backbone_weights(self.backbone, backbone, backbone_weights)
        self.neck = FeaturePyramid(list(self.backbone.channels), channels)
        self.prob_head = Head(channels)
        self.thresh_head = Head(channels)
        for part in (self.neck, self.prob_head, self.thresh_head):
            part.apply(_initialise)
        self.norm = norm
        self.channels_last = True
        """Whether `forward` leaves pixels in the layout that they come in. Convolutions then go on
        in it, whatever that of their weights is."""
        if norm == "group":
            _replace_batch_norm(self)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1) * 255, persistent=False)
        self.mean: Tensor
        self.std: Tensor

    @property
    def backbone_config(self) -> dict[str, Any] | None:
        """The backbone's configuration as plain data; None for those of BACKBONES."""
        if self._is_built_in:
            return None
        config: dict[str, Any] = json.loads(self.backbone.config.to_json_string(use_diff=False))
        config.pop("_name_or_path", None)  # a place on this machine
        return config

    def forward(self, images: Tensor) -> DBOutput:
        """Logits for images, uint8 (B, H, W, 3) RGB."""
        height, width = images.shape[1:3]
        pixels = functional.pad(
            self._normalised(images), (0, -width % _STRIDE, 0, -height % _STRIDE)
        )
        if not self.channels_last:
            pixels = pixels.contiguous()
        merged = self.neck(self.backbone(pixels).feature_maps)
        prob, thresh = self.prob_head(merged), self.thresh_head(merged)
        return DBOutput(prob[:, 0, :height, :width], thresh[:, 0, :height, :width])

    def probabilities(self, images: Tensor) -> Tensor:
        """The probability map alone, float32 (B, H, W) in 0 to 1, without what only a loss needs.

        images: uint8 (B, H, W, 3) RGB; H and W must be multiples of 32.
        """
        merged = self.neck(self.backbone(self._normalised(images)).feature_maps)
        return torch.sigmoid(self.prob_head(merged)[:, 0].float())

    def probabilities_of(self, images: np.ndarray) -> np.ndarray:
        """The same of arrays: see ocr.inference.tiles.Network."""
        with torch.inference_mode():
            made: np.ndarray = self.probabilities(torch.from_numpy(images)).numpy()
        return made

    def _normalised(self, images: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), as the backbone takes them: in the dtype of its weights."""
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return pixels.to(self.mean.dtype)

    def train(self, mode: bool = True) -> DBNet:
        """As of any module; frozen batch statistics stay frozen."""
        super().train(mode)
        if mode and self.norm == "frozen":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def stages(self) -> dict[str, nn.Module]:
        """The network's large parts in the order they run, by name."""
        encoder = getattr(self.backbone, "encoder", None)
        blocks = getattr(encoder, "stages", None) or getattr(encoder, "layers", None)
        if blocks is None:
            found: dict[str, nn.Module] = {"backbone": self.backbone}
        else:
            found = {f"stage{number}": block for number, block in enumerate(blocks, 1)}
            stem = getattr(self.backbone, "embedder", None) or getattr(
                self.backbone, "embeddings", None
            )
            found = {"stem": stem, **found} if stem is not None else found
        found |= {"neck": self.neck, "prob_head": self.prob_head, "thresh_head": self.thresh_head}
        # A stage may lie in a wrapper that checkpoints it.
        return {
            name: getattr(stage, "_checkpoint_wrapped_module", stage)
            for name, stage in found.items()
        }


class FeaturePyramid(nn.Module):
    """Feature maps of four strides, merged from the coarsest down.

    Source: Lin et al. 2017 (arXiv 1612.03144), with the concatenation of the DBNet paper.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        part = channels // len(widths)
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1, bias=False) for width in widths)
        self.smooth = nn.ModuleList(
            nn.Conv2d(channels, part, 3, padding=1, bias=False) for _ in widths
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(B, channels, H / 4, W / 4) from feature maps, the finest first."""
        merged: Tensor | None = None
        levels = []
        size = features[0].shape[-2:]
        for feature, lateral, smooth in reversed(
            list(zip(features, self.lateral, self.smooth, strict=True))
        ):
            level = lateral(feature)
            if merged is not None:
                level = level + functional.interpolate(merged, level.shape[-2:])
            merged = level
            levels.append(functional.interpolate(smooth(level), size))
        return torch.cat(levels, dim=1)


class Head(nn.Module):
    """Logits at four times the neck's resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        self.layers = nn.Sequential(
            nn.Conv2d(channels, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.ConvTranspose2d(inner, inner, 2, 2, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.ConvTranspose2d(inner, 1, 2, 2),
        )

    def forward(self, merged: Tensor) -> Tensor:
        """(B, 1, 4 h, 4 w) from (B, channels, h, w)."""
        logits: Tensor = self.layers(merged)
        return logits


def _backbone(name: str, pretrained: bool, told: Mapping[str, Any] | None) -> Any:
    from_config: Any = AutoBackbone.from_config
    if name in BACKBONES and not pretrained:
        layer = "bottleneck" if name == "resnet-50" else "basic"
        resnet: Any = ResNetConfig
        return from_config(resnet(layer_type=layer, out_indices=list(_LEVELS), **BACKBONES[name]))
    path = f"microsoft/{name}" if name in BACKBONES else name
    try:
        if told is not None and not pretrained:  # may come of a checkpoint: nothing is fetched
            return from_config(AutoConfig.for_model(**{**told, "use_pretrained_backbone": False}))
        config = AutoConfig.from_pretrained(path, out_indices=list(_LEVELS))
        backbone = from_config(config)
        if not pretrained:
            return backbone
        # Not AutoBackbone's own from_pretrained, which takes no folders. Safetensors hold numbers
        # alone; a pickle could run code.
        return type(backbone).from_pretrained(path, config=config, use_safetensors=True)
    except Exception as error:  # whatever the hub, a file or a configuration makes it raise
        known = ", ".join(BACKBONES)
        raise ValueError(
            f"backbone {name!r} cannot be loaded ({one_line(error, 160)}); "
            f"name one of {known}, a folder, or a model of the hub that can be reached"
        ) from error


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _replace_batch_norm(module: nn.Module) -> None:
    """Group norm in the place of every batch norm, 16 channels a group at most.

    Source: Wu and He 2018 (arXiv 1803.08494).
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                groups = max(1, child.num_features // 16)
                setattr(parent, name, nn.GroupNorm(groups, child.num_features))
