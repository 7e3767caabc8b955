"""How much memory objects take, with all that they hold."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

# What is there once for a process, whatever data there is.
_SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType, CodeType)


def footprint(parts: Mapping[str, Any]) -> dict[str, int]:
    """Bytes that each of some objects takes, by their names.

    What two of them hold counts for the first. Arrays count with the memory that they are views of,
    but not what lies in mapped files; classes, functions and modules do not count.
    """
    seen: set[int] = set()
    return {name: _held(root, seen) for name, root in parts.items()}


def _held(root: Any, seen: set[int]) -> int:
    total, left = 0, [root]
    while left:
        found = left.pop()
        if id(found) in seen or isinstance(found, _SHARED):
            continue
        seen.add(id(found))
        total += sys.getsizeof(found)
        left += gc.get_referents(found)
        if isinstance(found, np.ndarray) and found.base is not None:
            left.append(found.base)  # the collector does not see it
    return total
