"""Compile a text-detection dataset once; train from it for ever."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ocr_precompute.reading.store import open_store as open_store
    from ocr_precompute.targets.maps import make_targets as make_targets

__version__ = "0.1.0"
__all__ = ["__version__", "make_targets", "open_store"]

_HOMES = {"open_store": "reading.store", "make_targets": "targets.maps"}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line should not load numba and zarr to print its help."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "targets":
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
