"""A network as somebody's data describes it, known by its shapes before it takes any memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ocr.models.dbnet import DBNet

_LARGEST_NUMBER = 10**6  # far above any width, depth or size of an image


def outline(settings: Mapping[str, Any], most: int) -> DBNet:
    """A network of shapes alone, which takes no memory however wide it is said to be.

    settings: arguments of DBNet. most: parameters that it may have, so that a deep one takes no
    time. Raises ValueError, TypeError or RuntimeError if there is no such network.
    """
    if any(number > _LARGEST_NUMBER for number in _whole_numbers(settings)):
        raise ValueError(f"a number in it is above {_LARGEST_NUMBER:,}")
    counted = itertools.count(1)

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if next(counted) > most:
            raise ValueError(f"it has more than {most} parameters")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            return DBNet(**settings)
    finally:
        hook.remove()


def _whole_numbers(value: object) -> Iterator[int]:
    """All whole numbers in plain data."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _whole_numbers(each)
