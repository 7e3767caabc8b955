"""What was read lately, of at most so many bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar

from ocr_precompute.runtime.forks import undisturbed


class Sized(Protocol):
    """Something that knows how much memory it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes, about."""


S = TypeVar("S", bound=Sized)


class BytesCache:
    """Values that were made once, until those made after them take all of the room.

    most: bytes of all values together; the last one is kept whatever it takes.
    Values are given back without a lock, and in the order in which they were made the oldest goes
    first: samples are read in random order, where nothing tells which will be wanted next.
    """

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._held: dict[Hashable, Sized] = {}

    def get(self, key: Hashable, make: Callable[[], S]) -> S:
        """The value of that key, made if it is not there. Raises as make does."""
        found = self._held.get(key)
        if found is None:
            found = make()
            self._keep(key, found)
        return found  # type: ignore[return-value]

    def _keep(self, key: Hashable, value: Sized) -> None:
        with undisturbed:
            if key in self._held:
                return
            self._held[key] = value
            self._bytes += value.nbytes
            while self._bytes > self._most and len(self._held) > 1:
                self._bytes -= self._held.pop(next(iter(self._held))).nbytes
