"""Compile a text-detection dataset once; train from it for ever."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ocr_precompute.checking.verify import verify as verify
    from ocr_precompute.errors import DamagedImageWarning as DamagedImageWarning
    from ocr_precompute.errors import ImageError as ImageError
    from ocr_precompute.errors import InputError as InputError
    from ocr_precompute.errors import PrecomputeError as PrecomputeError
    from ocr_precompute.errors import Problem as Problem
    from ocr_precompute.errors import StoreError as StoreError
    from ocr_precompute.errors import VersionError as VersionError
    from ocr_precompute.errors import WorkerError as WorkerError
    from ocr_precompute.pipeline.build import build as build
    from ocr_precompute.pipeline.copying import copy_store as copy_store
    from ocr_precompute.reading.split import Split as Split
    from ocr_precompute.reading.store import Store as Store
    from ocr_precompute.reading.store import open_store as open_store
    from ocr_precompute.settings import Settings as Settings
    from ocr_precompute.settings import Source as Source
    from ocr_precompute.targets.maps import make_targets as make_targets

__version__ = "0.2.0"

_HOMES = {
    "build": "pipeline.build",
    "copy_store": "pipeline.copying",
    "make_targets": "targets.maps",
    "open_store": "reading.store",
    "verify": "checking.verify",
    **dict.fromkeys(("Settings", "Source"), "settings"),
    "Split": "reading.split",
    "Store": "reading.store",
    **dict.fromkeys(("DamagedImageWarning", "ImageError", "InputError"), "errors"),
    **dict.fromkeys(("PrecomputeError", "Problem", "StoreError"), "errors"),
    **dict.fromkeys(("VersionError", "WorkerError"), "errors"),
}

__all__ = [
    "DamagedImageWarning",
    "ImageError",
    "InputError",
    "PrecomputeError",
    "Problem",
    "Settings",
    "Source",
    "Split",
    "Store",
    "StoreError",
    "VersionError",
    "WorkerError",
    "__version__",
    "build",
    "copy_store",
    "make_targets",
    "open_store",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import on first use: the command line should not load numba and zarr to print its help."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "targets":
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
