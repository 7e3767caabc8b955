"""Blosc as numcodecs brings it, always on one thread, whatever numcodecs is set to.

Blosc on several threads orders its blocks by chance; one thread gives equal bytes every time.
numcodecs chooses by a setting of the process, which belongs to whoever else uses it, so its library
is called directly.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numcodecs
import numcodecs.blosc
import numpy as np

from ocr_precompute.runtime.forks import undisturbed

SHUFFLES = {
    "noshuffle": numcodecs.Blosc.NOSHUFFLE,
    "shuffle": numcodecs.Blosc.SHUFFLE,
    "bitshuffle": numcodecs.Blosc.BITSHUFFLE,
}
_FEW = 500  # chunks that a process decompresses before half a second for the compiler is worth it
_SAMPLE = 5  # chunks of a sample, for which one call takes 6 us longer than one for each


class Packed(NamedTuple):
    """A chunk without its checksum, and the address at which it begins in memory.

    Of chunks that lie in one piece of memory only that one need be asked for its address, which
    takes microseconds.
    """

    data: bytes | memoryview
    address: int

    @classmethod
    def of(cls, data: bytes | memoryview) -> Packed:
        """A chunk by itself."""
        return cls(data, address_of(data))


def address_of(data: bytes | memoryview) -> int:
    """Where bytes that may not be written begin in memory."""
    return _address(np.frombuffer(data, np.uint8))


class Library(Protocol):
    """One way to call Blosc."""

    def compress(
        self, array: np.ndarray, cname: str, clevel: int, shuffle: int, block: int = 0
    ) -> bytes:
        """The bytes of a contiguous array, compressed in blocks of so many; 0: as Blosc chooses."""

    def decompress(self, chunks: Sequence[Packed], out: Sequence[np.ndarray]) -> int:
        """Decompress chunks, each into its array, without a look at their headers.

        Returns the position of the first chunk that cannot be decompressed, or -1.
        """


@lru_cache(maxsize=1)
def library() -> Library:
    """Blosc's own functions if they are found in the library that numcodecs loaded."""
    try:
        return Direct(numcodecs.blosc.__file__)
    except (OSError, AttributeError):  # built so that they cannot be found
        return ThroughNumcodecs()


class Direct:
    """Blosc's own functions, which take the number of threads.

    path: file of the shared library. Raises OSError or AttributeError if they are not in there.
    """

    def __init__(self, path: str) -> None:
        loaded = ctypes.CDLL(path)  # its functions are called without the interpreter lock
        self._compress, self._decompress = loaded.blosc_compress_ctx, loaded.blosc_decompress_ctx
        size, address, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
        self._compress.argtypes = [
            *(number, number, size, size, address, address, size),
            *(ctypes.c_char_p, size, number),
        ]
        self._decompress.argtypes = [address, address, size, number]
        self._address = ctypes.cast(self._decompress, address).value or 0
        self._together: Callable[[np.ndarray, np.ndarray, np.ndarray], int] | None = None
        self._done = 0  # chunks, as long as they are few

    def compress(
        self, array: np.ndarray, cname: str, clevel: int, shuffle: int, block: int = 0
    ) -> bytes:
        """The bytes of a contiguous array, compressed in blocks of so many; 0: as Blosc chooses."""
        packed = np.empty(array.nbytes + numcodecs.blosc.MAX_OVERHEAD, np.uint8)
        written = self._compress(
            *(clevel, shuffle, array.itemsize, array.nbytes, _address(array)),
            *(_writeable_address(packed), packed.nbytes, cname.encode(), block, 1),
        )
        if written <= 0:
            raise RuntimeError(f"Blosc cannot compress with {cname}: error {written}")
        return packed[:written].tobytes()

    def decompress(self, chunks: Sequence[Packed], out: Sequence[np.ndarray]) -> int:
        """Decompress chunks, each into its array, without a look at their headers.

        They are decompressed in one call that does not hold the interpreter lock, for threads that
        take it back after every chunk spend a sixth of their time waiting for each other. The first
        of a process, and those of one sample where there is no other thread, go one by one.
        Returns the position of the first chunk that cannot be decompressed, or -1.
        """
        self._done += len(chunks)
        alone = len(chunks) <= _SAMPLE and threading.active_count() == 1
        if self._done > _FEW and not alone:
            sources, targets = [chunk.address for chunk in chunks], map(_writeable_address, out)
            sizes = [array.nbytes for array in out]
            return self._all(*np.array([*sources, *targets, *sizes], np.int64).reshape(3, -1))
        for position, (chunk, array) in enumerate(zip(chunks, out, strict=True)):
            size = array.nbytes
            if self._decompress(chunk.address, _writeable_address(array), size, 1) != size:
                return position
        return -1

    def _all(self, sources: np.ndarray, targets: np.ndarray, sizes: np.ndarray) -> int:
        if self._together is None:
            # The compiler takes half a second to import; whoever reads one sample does without.
            with undisturbed:
                from ocr_precompute.format.together import together

                self._together = together(self._address)
        return self._together(sources, targets, sizes)


class ThroughNumcodecs:
    """Blosc through numcodecs, one call at a time, its setting put back after each."""

    def compress(
        self, array: np.ndarray, cname: str, clevel: int, shuffle: int, block: int = 0
    ) -> bytes:
        """The bytes of a contiguous array, compressed in blocks of so many; 0: as Blosc chooses."""
        with _single_thread():
            return bytes(numcodecs.blosc.compress(array, cname.encode(), clevel, shuffle, block))

    def decompress(self, chunks: Sequence[Packed], out: Sequence[np.ndarray]) -> int:
        """Decompress chunks, each into its array, without a look at their headers.

        Returns the position of the first chunk that cannot be decompressed, or -1.
        """
        for position, (chunk, array) in enumerate(zip(chunks, out, strict=True)):
            try:
                with _single_thread():
                    numcodecs.blosc.decompress(chunk.data, array)
            except RuntimeError:
                return position
        return -1


@contextlib.contextmanager
def _single_thread() -> Iterator[None]:
    with undisturbed:
        before, numcodecs.blosc.use_threads = numcodecs.blosc.use_threads, False
        try:
            yield
        finally:
            numcodecs.blosc.use_threads = before


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _writeable_address(array: np.ndarray) -> int:
    """Where the array begins. Raises TypeError or ValueError unless it can be written through."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array.data))  # sooner than the above
