"""Packages that not everybody has, imported when they are first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ocr_precompute.errors import PrecomputeError, one_line


def imported(module: str, package: str) -> Any:
    """A module of another stack, or of an extra.

    package: what to install, as pip takes it.
    Raises PrecomputeError, one line that says what to install, if it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise PrecomputeError(
            f"{module} cannot be imported ({one_line(error)}): pip install {package}"
        ) from error
