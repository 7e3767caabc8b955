"""Keys: the one mechanism behind reuse, resume and verification."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from ocr_precompute.parameters import Parameters
from ocr_precompute.samples import Polygons

FORMAT_VERSION = 4
"""Version of the layout on disk and of all that is computed; part of every geometry hash."""

_HASH = 32  # bytes
_TAG = f"ocr-precompute {FORMAT_VERSION} ".encode()


def geometry_hash(parameters: Parameters, image_digest: bytes, polygons: Polygons) -> bytes:
    """32 bytes that change whenever a byte of the stored sample could.

    SHA-256 over the format version, the parameters, the image file's digest, and the polygons
    with their ignore flags, as annotated (float64 pixels).
    """
    digest = hashlib.sha256(_TAG + parameters.canonical + b"\n" + image_digest)
    digest.update(np.asarray(polygons.lengths, "<i8").tobytes() + b"|")
    digest.update(np.asarray(polygons.points, "<f8").tobytes() + b"|")
    digest.update(np.asarray(polygons.ignore, bool).tobytes())
    return digest.digest()


class Hashes(Sequence[bytes]):
    """Geometry hashes one after the other."""

    __slots__ = ("joined",)

    def __init__(self, joined: bytes) -> None:
        self.joined = joined

    @property
    def prefixes(self) -> np.ndarray:
        """The first 8 bytes of each, by which few others are mistaken for them: uint64 (n,)."""
        return np.frombuffer(self.joined, np.uint64)[:: _HASH // 8]

    @classmethod
    def of(cls, hashes: Iterable[bytes]) -> Hashes:
        """The same hashes, packed."""
        return cls(b"".join(hashes))

    def __reduce__(self) -> tuple[Any, ...]:
        return Hashes, (self.joined,)

    def __len__(self) -> int:
        return len(self.joined) // _HASH

    def __iter__(self) -> Iterator[bytes]:
        return (self.joined[i : i + _HASH] for i in range(0, len(self.joined), _HASH))

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Hashes: ...
    def __getitem__(self, index: int | slice) -> bytes | Hashes:
        if isinstance(index, slice):
            return Hashes.of(tuple(self)[index])
        start = _HASH * range(len(self))[index]
        return self.joined[start : start + _HASH]


def shard_key(names: Iterable[str], hashes: Iterable[bytes]) -> str:
    """Hex SHA-256 over a shard's ordered (name, geometry hash) pairs; names its folder."""
    digest = hashlib.sha256(_TAG + b"shard ")
    for name, geometry in zip(names, hashes, strict=True):
        encoded = name.encode()
        digest.update(len(encoded).to_bytes(4, "little") + encoded + geometry)
    return digest.hexdigest()


def data_hash(shard_keys: Iterable[str]) -> str:
    """Hex SHA-256 over a split's ordered shard keys: equal hashes, equal splits."""
    digest = hashlib.sha256(_TAG + b"split ")
    for key in shard_keys:
        digest.update(bytes.fromhex(key))
    return digest.hexdigest()
