"""Packages of other stacks, which are imported when an adapter first needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ocr_precompute.errors import PrecomputeError, one_line


def imported(module: str, package: str) -> Any:
    """A module of another stack.

    package: what it is called where packages are installed from.
    Raises PrecomputeError, one line that says what to install, if it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise PrecomputeError(
            f"{module} cannot be imported ({one_line(error)}): pip install {package}"
        ) from error
