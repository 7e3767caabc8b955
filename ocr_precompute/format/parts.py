"""Parts of a manifest: which shards follow each other, and an index of their samples.

A manifest lists its shards in parts of some hundred to two thousand, so that what has to be written
and sent after a change does not grow with the split. A part is a ZIP file that any Zarr v3 reader
opens, as a shard is, and is named by the SHA-256 of its bytes. It also holds the names and sizes of
its samples, so that these are known without opening every shard.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ocr_precompute.format.archive import archive_bytes, directory_length, parse_directory
from ocr_precompute.format.boundaries import shard_bounds
from ocr_precompute.format.chunks import strip_checksum, with_checksum
from ocr_precompute.format.manifest import MOST_SAMPLES, PartEntry, ShardEntry
from ocr_precompute.format.records import offsets_of
from ocr_precompute.format.schema import RECORDS, ArrayKind, array_name, group_documents

PART_LENGTH = 1024
"""About so many shards a part."""

ARRAYS: dict[str, ArrayKind] = {
    "name_bytes": RECORDS["name_bytes"],
    "name_offsets": RECORDS["name_offsets"],
    "original_size": RECORDS["original_size"],
    "shard_key": (np.dtype("<u1"), (32,)),
    "shard_samples": (np.dtype("<i4"), ()),
}
"""Arrays of a part: dtype, and the axes after the first; names and sizes as in a shard's records.

Shard i has the key shard_key[i] and holds shard_samples[i] samples.
"""

_ENTRIES = tuple(
    name.encode()
    for name in (
        *(array_name(field, ARRAYS[field]) for field in ARRAYS),
        *(f"{field}/zarr.json" for field in ARRAYS),
        "zarr.json",
    )
)


@dataclass(frozen=True, eq=False)
class ShardContents:
    """What a part says of one shard: names of its samples, and (height, width) in pixels of each.

    sizes: int32 (n, 2), of the images as displayed.
    """

    entry: ShardEntry
    names: Sequence[str]
    sizes: np.ndarray


@dataclass(frozen=True, eq=False)
class SampleIndex:
    """Names and original sizes of samples in a row; sizes: int32 (n, 2), (height, width)."""

    names: tuple[str, ...]
    sizes: np.ndarray


def cut_parts(
    shards: Sequence[ShardContents], length: int = PART_LENGTH
) -> Iterator[tuple[PartEntry, bytes]]:
    """The parts of a manifest of these shards, and the bytes of each.

    Up to `length` shards are one part. More are cut as samples are into shards, by keys instead of
    names, so that a changed shard changes the parts around it and no other.
    """
    bounds = [(0, len(shards))] if shards else []
    if len(shards) > length:
        bounds = shard_bounds([shard.entry.key for shard in shards], length)
    for start, stop in bounds:
        some = shards[start:stop]
        data = _part_bytes(some)
        samples = sum(shard.entry.samples for shard in some)
        yield PartEntry(hashlib.sha256(data).hexdigest(), len(some), samples), data


def _part_bytes(shards: Sequence[ShardContents]) -> bytes:
    names = [name.encode() for shard in shards for name in shard.names]
    keys = b"".join(bytes.fromhex(shard.entry.key) for shard in shards)
    arrays = {
        "name_bytes": np.frombuffer(b"".join(names), "<u1"),
        "name_offsets": offsets_of([len(name) for name in names]),
        "original_size": np.concatenate([shard.sizes for shard in shards]),
        "shard_key": np.frombuffer(keys, "<u1").reshape(-1, 32),
        "shard_samples": np.array([shard.entry.samples for shard in shards]),
    }
    lengths = {field: len(array) for field, array in arrays.items()}
    contents = [
        with_checksum(np.ascontiguousarray(arrays[field], dtype).tobytes())
        for field, (dtype, _) in ARRAYS.items()
    ]
    contents += group_documents("shards", ARRAYS, lengths).values()
    names_of = (name.decode() for name in _ENTRIES)
    return archive_bytes(list(zip(names_of, contents, strict=True)))


def part_shards(data: bytes, entry: PartEntry) -> tuple[ShardEntry, ...]:
    """The shards that a part names. Raises ValueError if it is not the part of that entry."""
    arrays = _arrays(data, entry, ("shard_key", "shard_samples"))
    digits = arrays["shard_key"].tobytes().hex()
    keys = [digits[i : i + 64] for i in range(0, len(digits), 64)]
    samples = arrays["shard_samples"].tolist()
    if len(keys) != entry.shards or len(samples) != entry.shards or sum(samples) != entry.samples:
        raise ValueError("it holds other shards than the manifest says")
    if not 0 < min(samples) <= max(samples) <= MOST_SAMPLES:
        raise ValueError("it claims to have shards of a length that none has")
    return tuple(map(ShardEntry, keys, samples))


def part_index(data: bytes, entry: PartEntry) -> SampleIndex:
    """Names and sizes of a part's samples. Raises as part_shards does."""
    arrays = _arrays(data, entry, ("name_bytes", "name_offsets", "original_size"))
    text, ends = arrays["name_bytes"].tobytes(), arrays["name_offsets"].tolist()
    names = tuple(text[a:b].decode() for a, b in itertools.pairwise(ends))
    if len(names) != entry.samples or len(arrays["original_size"]) != entry.samples:
        raise ValueError("it holds other samples than the manifest says")
    return SampleIndex(names, arrays["original_size"])


def _arrays(data: bytes, entry: PartEntry, fields: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Arrays of a part, by name. Raises ValueError if the part is damaged."""
    if hashlib.sha256(data).hexdigest() != entry.key:
        raise ValueError("its bytes are not those that its name was made of")
    tail = data[max(0, len(data) - directory_length(_ENTRIES)) :]
    directory = parse_directory(tail, _ENTRIES, len(data))
    spans = zip(directory.starts.tolist(), directory.sizes.tolist(), strict=True)
    places = dict(zip(ARRAYS, itertools.islice(spans, len(ARRAYS)), strict=True))
    found = {}
    for field in fields:
        dtype, tail_axes = ARRAYS[field]
        start, size = places[field]
        plain = strip_checksum(memoryview(data)[start : start + size])
        found[field] = np.frombuffer(plain, dtype).reshape(-1, *tail_axes)
    return found
