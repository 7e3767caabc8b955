"""What was read lately, of at most so many bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar

from ocr_precompute.runtime.forks import undisturbed
from ocr_precompute.runtime.stages import count


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
        self._held: dict[tuple[str, Hashable], Sized] = {}

    def get(self, kind: str, key: Hashable, make: Callable[[], S]) -> S:
        """The value of that kind and key, made if it is not there. Raises as make does."""
        found = self._held.get((kind, key))
        if found is None:
            count(f"{kind} misses")
            found = make()
            self._keep((kind, key), found)
        else:
            count(f"{kind} hits")
        return found  # type: ignore[return-value]

    def held(self, kind: str) -> dict[Hashable, Sized]:
        """All values of a kind, by their keys."""
        held = list(self._held.items())
        return {key: value for (name, key), value in held if name == kind}

    def forget(self, kind: str, key: Hashable) -> None:
        """Have a value made anew."""
        with undisturbed:
            if found := self._held.pop((kind, key), None):
                self._bytes -= found.nbytes

    def _keep(self, key: tuple[str, Hashable], value: Sized) -> None:
        with undisturbed:
            if key in self._held:
                return
            self._held[key] = value
            self._bytes += value.nbytes
            while self._bytes > self._most and len(self._held) > 1:
                oldest = next(iter(self._held))
                self._bytes -= self._held.pop(oldest).nbytes
                count(f"{oldest[0]} evictions")
