"""MMOCR and MMEngine: dicts of inputs and data samples, with the stored maps beside them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ocr.datasets import StoreDataset
from ocr.datasets.samples import ANNOTATIONS
from ocr.packages import imported

TARGETS = ("prob", "prob_mask", "thresh", "thresh_mask")
"""The stored maps, in the order in which MMOCR's DBModuleLoss has its targets."""

_TOLD = ("img_path", "sample_idx", "img_shape", "ori_shape", "scale_factor")


class MMOCRDataset:
    """A split as MMOCR's datasets give it to a text detector.

    inputs: uint8 (3, H, W), BGR, as MMOCR's configurations expect it. data_samples: a
    TextDetDataSample, without MMOCR a BaseDataElement of MMEngine, with `gt_instances` and, as
    `gt_maps`, the stored maps.
    With a pipeline of MMOCR's transforms, samples go through that instead, and without the maps,
    which would not fit once pixels have moved; it ends with PackTextDetInputs.
    """

    def __init__(
        self, store: str | Path, split: str, pipeline: Sequence[dict[str, Any]] | None = None
    ) -> None:
        """Open a split. Raises StoreError, or PrecomputeError if MMEngine is not installed."""
        maps, steps = (TARGETS, [packed]) if pipeline is None else ((), pipeline)
        self._stored = StoreDataset(store, split, ("image", *maps, *ANNOTATIONS))
        self._pipeline = imported("mmengine.dataset", "mmengine").Compose(steps)
        self.metainfo = {"dataset_type": "TextDetDataset", "task_name": "textdet"}

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> Any:
        """One sample. Raises as StoreDataset does."""
        return self._pipeline(self.get_data_info(index))

    def get_data_info(self, index: int) -> dict[str, Any]:
        """One sample as MMOCR's transforms know it: as if loaded, resized and padded."""
        sample = self._stored[index]
        image, polygons = np.ascontiguousarray(sample["image"][..., ::-1]), sample["polygons"]
        return {
            "img": image,
            "img_path": sample["name"],
            "sample_idx": index,
            "img_shape": image.shape[:2],
            "ori_shape": tuple(sample["original_size"].tolist()),
            "scale_factor": tuple((1 / sample["matrix"].diagonal()[:2]).tolist()),
            "flip": False,
            "flip_direction": None,
            "gt_polygons": [polygon.ravel() for polygon in polygons],
            "gt_bboxes": np.array([[p.min(0), p.max(0)] for p in polygons], "f4").reshape(-1, 4),
            "gt_bboxes_labels": np.zeros(len(polygons), np.int64),
            "gt_ignored": sample["ignore"],
            **{field: sample[field][None] for field in TARGETS if field in sample},
        }


def packed(results: dict[str, Any]) -> dict[str, Any]:
    """What PackTextDetInputs would make of a sample, and the stored maps."""
    structures = imported("mmengine.structures", "mmengine")
    sample = structures.BaseDataElement()
    if find_spec("mmocr"):
        sample = imported("mmocr.structures", "mmocr").TextDetDataSample()
    sample.gt_instances = structures.InstanceData(
        bboxes=torch.from_numpy(results["gt_bboxes"]),
        labels=torch.from_numpy(results["gt_bboxes_labels"]),
        polygons=results["gt_polygons"],
        ignored=torch.from_numpy(results["gt_ignored"]),
    )
    sample.gt_maps = structures.PixelData(**{f: torch.from_numpy(results[f]) for f in TARGETS})
    sample.set_metainfo({key: results[key] for key in _TOLD})
    image = torch.from_numpy(results["img"]).permute(2, 0, 1).contiguous()
    return {"inputs": image, "data_samples": sample}


def stored_targets(data_samples: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """The stored maps of a batch, as DBModuleLoss.get_targets gives those that it draws.

    Returns four float32 (n, H, W): probability, its mask, threshold, its mask.
    """
    return tuple(torch.cat([s.gt_maps.get(f) for s in data_samples]).float() for f in TARGETS)
