"""All of a shard but its maps: names, keys, sizes, polygons."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ocr_precompute.samples import CanonicalSample, Damage, Fate

_PLAIN_RECORDS = (
    *("original_size", "matrix", "points", "polygon_offsets", "sample_offsets", "ignore", "fate"),
)


@dataclass(frozen=True, eq=False)
class SampleRecord:
    """All of a stored sample but its maps; fields as in CanonicalSample, key = geometry hash."""

    name: str
    key: bytes
    original_size: tuple[int, int]
    matrix: np.ndarray
    polygons: list[np.ndarray]
    ignore: np.ndarray
    fate: np.ndarray
    damage: Damage | None = None

    @classmethod
    def of(cls, sample: CanonicalSample, key: bytes) -> SampleRecord:
        """The record of a computed sample."""
        return cls(
            sample.name,
            key,
            sample.original_size,
            sample.matrix,
            sample.polygons,
            sample.ignore,
            sample.fate,
            sample.damage,
        )

    def copy(self) -> SampleRecord:
        """The same record with arrays of its own."""
        return replace(
            self,
            matrix=self.matrix.copy(),
            polygons=[polygon.copy() for polygon in self.polygons],
            ignore=self.ignore.copy(),
            fate=self.fate.copy(),
        )


@dataclass(frozen=True, eq=False)
class Records:
    """All of a shard but its maps.

    names, keys (geometry hashes): one a sample. original_size: int32 (n, 2). matrix: float64
    (n, 3, 3). points: float32 (P, 2). polygon_offsets: int64 (N + 1,). sample_offsets: int64
    (n + 1,). ignore: bool (N,). fate: uint8 (N,), see Fate. damage: of damaged images, by row.
    """

    names: tuple[str, ...]
    keys: tuple[bytes, ...]
    original_size: np.ndarray
    matrix: np.ndarray
    points: np.ndarray
    polygon_offsets: np.ndarray
    sample_offsets: np.ndarray
    ignore: np.ndarray
    fate: np.ndarray
    damage: Mapping[int, Damage]

    @classmethod
    def of(cls, rows: Sequence[SampleRecord]) -> Records:
        """The record arrays of samples, in their order."""
        polygons = [polygon for row in rows for polygon in row.polygons]
        return cls(
            names=tuple(row.name for row in rows),
            keys=tuple(row.key for row in rows),
            original_size=np.array([row.original_size for row in rows], "<i4"),
            matrix=np.array([row.matrix for row in rows], "<f8"),
            points=np.concatenate(polygons) if polygons else np.zeros((0, 2), "<f4"),
            polygon_offsets=offsets_of([len(polygon) for polygon in polygons]),
            sample_offsets=offsets_of([len(row.polygons) for row in rows]),
            ignore=np.concatenate([row.ignore for row in rows]).astype(bool),
            fate=np.concatenate([row.fate for row in rows]).astype("<u1"),
            damage={i: row.damage for i, row in enumerate(rows) if row.damage},
        )

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the records take, about."""
        arrays = sum(getattr(self, field).nbytes for field in _PLAIN_RECORDS)
        return int(arrays) + sum(map(len, self.names)) + 200 * len(self.names)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Records:
        """The opposite of arrays(). Raises ValueError if they contradict each other."""
        _check_offsets(arrays)
        text, ends = arrays["name_bytes"].tobytes(), arrays["name_offsets"].tolist()
        return cls(
            names=tuple(text[a:b].decode() for a, b in itertools.pairwise(ends)),
            keys=tuple(key.tobytes() for key in arrays["key"]),
            damage=_damage_from_json(arrays["damage"].tobytes(), len(arrays["key"])),
            **{field: arrays[field] for field in _PLAIN_RECORDS},
        )

    def __getitem__(self, row: int) -> SampleRecord:
        """One sample's record. Its arrays are views."""
        first, last = self.sample_offsets[row : row + 2]
        ends = self.polygon_offsets
        height, width = self.original_size[row]
        return SampleRecord(
            name=self.names[row],
            key=self.keys[row],
            original_size=(int(height), int(width)),
            matrix=self.matrix[row],
            polygons=[self.points[ends[i] : ends[i + 1]] for i in range(first, last)],
            ignore=self.ignore[first:last],
            fate=self.fate[first:last],
            damage=self.damage.get(row),
        )

    def rows(self) -> Iterator[SampleRecord]:
        """Every sample's record, in order."""
        return (self[row] for row in range(len(self.names)))

    def arrays(self) -> dict[str, np.ndarray]:
        """The record arrays as stored."""
        names = [name.encode() for name in self.names]
        damage = [[row, each.words, each.lost] for row, each in self.damage.items()]
        return {
            "key": np.frombuffer(b"".join(self.keys), "<u1").reshape(-1, 32),
            "name_bytes": np.frombuffer(b"".join(names), "<u1"),
            "name_offsets": offsets_of([len(name) for name in names]),
            "original_size": self.original_size,
            "matrix": self.matrix,
            "points": self.points,
            "polygon_offsets": self.polygon_offsets,
            "sample_offsets": self.sample_offsets,
            "ignore": self.ignore,
            "fate": self.fate,
            "damage": np.frombuffer(json.dumps(damage).encode(), "<u1"),
        }


def _damage_from_json(data: bytes, samples: int) -> dict[int, Damage]:
    """Damage by row. Raises ValueError unless the text is what was written."""
    try:
        found = {row: Damage(words, lost) for row, words, lost in json.loads(data)}
        fits = all(
            type(row) is int
            and 0 <= row < samples
            and isinstance(each.words, str)
            and (each.lost is None or 0 <= each.lost <= 1)
            for row, each in found.items()
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError("damage is not the text that was written") from error
    if not fits:
        raise ValueError("damage holds what cannot be")
    return found


def offsets_of(lengths: Sequence[int]) -> np.ndarray:
    """Where each of so long pieces begins, and where the last ends: int64 (n + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")


def _check_offsets(arrays: Mapping[str, np.ndarray]) -> None:
    samples = len(arrays["key"])
    polygons = len(arrays["ignore"])
    for field, count, end in (
        ("name_offsets", samples, len(arrays["name_bytes"])),
        ("sample_offsets", samples, polygons),
        ("polygon_offsets", polygons, len(arrays["points"])),
    ):
        offsets = arrays[field]
        fits = len(offsets) == count + 1 and offsets[0] == 0 and offsets[-1] == end
        if not fits or (np.diff(offsets) < 0).any():
            raise ValueError(f"{field} does not fit the array it points into")
    if (arrays["ignore"].view(np.uint8) > 1).any():
        raise ValueError("ignore holds flags that are neither 0 nor 1")
    if len(arrays["fate"]) != polygons or (arrays["fate"] > max(Fate)).any():
        raise ValueError("fate does not fit the polygons")
    if len(arrays["original_size"]) != samples or len(arrays["matrix"]) != samples:
        raise ValueError("record arrays differ in length")
