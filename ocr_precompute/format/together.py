"""Blosc called from compiled code: many chunks in one call without the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ocr_precompute.runtime.compiled import compiled


def together(address: int) -> Callable[[np.ndarray, np.ndarray, np.ndarray], int]:
    """A function that decompresses chunks from and to addresses, without a look at their headers.

    address: that of `blosc_decompress_ctx`.
    The function takes addresses of chunks and arrays and the arrays' sizes in bytes, all int64
    (N,). It returns the position of the first chunk that cannot be decompressed, or -1.
    """
    return partial(_decompress_at, address)


def _call(context: Any, address: Any, source: Any, target: Any, size: Any) -> Any:
    """Blosc's function at that address, on one thread.

    The address is handed over as a number, for a function takes 30 us to be recognised.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, place = ir.IntType(32), ir.IntType(64)
        function = ir.FunctionType(number, [place, place, place, number])
        called = builder.inttoptr(arguments[0], function.as_pointer())
        return builder.call(called, [*arguments[1:], ir.Constant(number, 1)])

    return types.int32(types.int64, types.int64, types.int64, types.int64), code


_blosc: Any = intrinsic(_call)


@compiled(types.int64(types.int64, types.int64[::1], types.int64[::1], types.int64[::1]))
def _decompress_at(
    address: int, sources: np.ndarray, targets: np.ndarray, sizes: np.ndarray
) -> int:
    for position in range(sources.size):
        size = sizes[position]
        if _blosc(address, sources[position], targets[position], size) != size:
            return position
    return -1
