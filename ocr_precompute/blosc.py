"""Blosc called from compiled code: many chunks in one call without the interpreter lock."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.typing.templates import Signature

_CALL = types.int32(types.int64, types.int64, types.int64, types.int32)


def together(library: str) -> Callable[[Sequence[bytes | memoryview], Sequence[np.ndarray]], int]:
    """A function that decompresses chunks, each into its array, without a look at their headers.

    library: file of the shared library that holds Blosc.
    The function returns the position of the first chunk that cannot be decompressed, or -1.
    Raises OSError or AttributeError if Blosc is not found in the library.
    """
    blosc = _Blosc(library)

    def decompress(packed: Sequence[bytes | memoryview], out: Sequence[np.ndarray]) -> int:
        sizes = np.array([array.nbytes for array in out], np.int64)
        views = [np.frombuffer(chunk, np.uint8) for chunk in packed]
        return int(_decompress_at(blosc, _addresses(views), _addresses(out), sizes))

    return decompress


def _addresses(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([array.__array_interface__["data"][0] for array in arrays], np.int64)


class _Blosc(types.WrapperAddressProtocol):
    """`blosc_decompress_ctx`, for compiled code to call."""

    def __init__(self, library: str) -> None:
        function = ctypes.CDLL(library).blosc_decompress_ctx
        self._address = ctypes.cast(function, ctypes.c_void_p).value or 0

    def __wrapper_address__(self) -> int:
        return self._address

    def signature(self) -> Signature:
        return _CALL


@numba.njit(
    types.int64(types.FunctionType(_CALL), types.int64[::1], types.int64[::1], types.int64[::1]),
    nogil=True,
    cache=True,
)
def _decompress_at(blosc: Any, sources: np.ndarray, targets: np.ndarray, sizes: np.ndarray) -> int:
    for position in range(sources.size):
        size = sizes[position]
        if blosc(sources[position], targets[position], size, np.int32(1)) != size:
            return position
    return -1
