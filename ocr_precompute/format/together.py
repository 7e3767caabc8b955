"""Blosc called from compiled code: many chunks in one call without the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import types
from numba.core.typing.templates import Signature

from ocr_precompute.runtime.compiled import compiled

_CALL = types.int32(types.int64, types.int64, types.int64, types.int32)


def together(address: int) -> Callable[[np.ndarray, np.ndarray, np.ndarray], int]:
    """A function that decompresses chunks from and to addresses, without a look at their headers.

    address: that of `blosc_decompress_ctx`.
    The function takes addresses of chunks and arrays and the arrays' sizes in bytes, all int64
    (N,). It returns the position of the first chunk that cannot be decompressed, or -1.
    """
    return partial(_decompress_at, _Blosc(address))


class _Blosc(types.WrapperAddressProtocol):
    """`blosc_decompress_ctx`, for compiled code to call."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __wrapper_address__(self) -> int:
        return self._address

    def signature(self) -> Signature:
        return _CALL


@compiled(
    types.int64(types.FunctionType(_CALL), types.int64[::1], types.int64[::1], types.int64[::1])
)
def _decompress_at(blosc: Any, sources: np.ndarray, targets: np.ndarray, sizes: np.ndarray) -> int:
    for position in range(sources.size):
        size = sizes[position]
        if blosc(sources[position], targets[position], size, np.int32(1)) != size:
            return position
    return -1
