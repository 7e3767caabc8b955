"""What a training's speed depends on, by name, and which machine it belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import torch
from lightning.pytorch import Trainer

from ocr_precompute.baselines.baseline import Measuring
from ocr_precompute.baselines.machine import this_machine
from ocr_precompute.baselines.reference import WORKLOAD
from ocr_precompute.reading.store import open_store
from ocr_precompute.runtime.clock import median_seconds

_TRAINER = (
    *("accelerator", "devices", "num_nodes", "strategy", "precision"),
    *("accumulate_grad_batches", "gradient_clip_val"),
)
_PLACES = (
    "store",
    "storage",
    "cache",
    "cache_size",
    "live",
    "val",
    "tune",
)  # not what is trained on
_LIBRARIES = ("ocr-precompute", "torch", "lightning", "numpy", "opencv-python-headless")
_SIDE, _PRODUCTS = 4096, 20  # of matrices multiplied on a GPU


def measuring(chosen: Any, trainer: Trainer) -> Measuring:
    """What is measured when a configuration trains. Raises StoreError if its store has no split.

    chosen: the settings of `fit`. trainer: made from them.
    """
    on_gpu = trainer.strategy.root_device.type == "cuda"
    gpus = tuple(map(torch.cuda.get_device_name, trainer.device_ids)) if on_gpu else ()
    settings = json.loads(json.dumps(chosen.as_dict(), default=str))
    data = {name: value for name, value in settings["data"].items() if name not in _PLACES}
    parts = {
        "data": {**data, "live": bool(settings["data"].get("live"))},
        "model": settings["model"],
        "optimizer": settings["optimizer"],
        "trainer": {name: settings["trainer"].get(name) for name in _TRAINER},
    }
    return Measuring(
        kind="training",
        machine=this_machine(gpus),
        workload=f"{WORKLOAD} on a GPU" if gpus else WORKLOAD,
        conditions={**dict(_flat(parts)), **_split(settings["data"])},
        versions={name: version(name) for name in _LIBRARIES},
    )


def _flat(parts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their full names."""
    for name, value in parts.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _split(data: Mapping[str, Any]) -> dict[str, Any]:
    """The split that is trained on; a store that was built again by other versions is the same."""
    options = {name: str(value) for name, value in (data.get("storage") or {}).items()}
    split = open_store(data["store"], options=options).split(data["train"])
    names = hashlib.sha256("\0".join(split.names).encode()).hexdigest()
    parameters = split.manifest.parameters
    return {"names": names, "size": list(parameters.size), "recipe": parameters.recipe.name}


def device_seconds(device: torch.device) -> float:
    """Seconds that a fixed number of matrix products take on a GPU; the median of three passes."""
    a, b = (torch.ones(_SIDE, _SIDE, dtype=torch.bfloat16, device=device) for _ in range(2))

    def products() -> None:
        for _ in range(_PRODUCTS):
            torch.mm(a, b)
        torch.cuda.synchronize(device)

    products()
    return median_seconds(products)
