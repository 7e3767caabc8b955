"""What a shard is made of: its arrays, what they are called in its file, and their metadata.

Metadata is written here, to the Zarr v3 specification, so that its bytes depend on nothing but this
file and the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from ocr_precompute.files import json_bytes
from ocr_precompute.format.chunks import block_bytes, shuffle_of
from ocr_precompute.format.keys import FORMAT_VERSION
from ocr_precompute.parameters import Parameters

ArrayKind = tuple[np.dtype, tuple[int, ...]]
"""An array's dtype, and its axes after the first, or of a map after (n, H, W)."""

MAPS: dict[str, ArrayKind] = {
    "image": (np.dtype("<u1"), (3,)),
    "prob": (np.dtype("<u1"), ()),
    "prob_mask": (np.dtype("<u1"), ()),
    "thresh": (np.dtype("<f4"), ()),
    "thresh_mask": (np.dtype("<u1"), ()),
}
"""Per-pixel arrays: dtype, and the axes after (n, H, W)."""

RECORDS: dict[str, ArrayKind] = {
    "key": (np.dtype("<u1"), (32,)),
    "name_bytes": (np.dtype("<u1"), ()),
    "name_offsets": (np.dtype("<i8"), ()),
    "original_size": (np.dtype("<i4"), (2,)),
    "matrix": (np.dtype("<f8"), (3, 3)),
    "points": (np.dtype("<f4"), (2,)),
    "polygon_offsets": (np.dtype("<i8"), ()),
    "sample_offsets": (np.dtype("<i8"), ()),
    "ignore": (np.dtype("|b1"), ()),
    "fate": (np.dtype("<u1"), ()),
    "damage": (np.dtype("<u1"), ()),
}
"""Per-sample and ragged arrays: dtype, and the axes after the first.

`name_bytes[name_offsets[i]:name_offsets[i + 1]]` is sample i's name in UTF-8. Sample i holds the
polygons sample_offsets[i] to sample_offsets[i + 1], and polygon j the points polygon_offsets[j] to
polygon_offsets[j + 1]. `fate` says of each polygon whether it trains, and if not, why not: see
`samples.Fate`. `damage` is JSON text: [row, decoder's words, lost share or null] of each damaged
image.
"""

_ZARR_TYPES = {"u1": "uint8", "f4": "float32", "i4": "int32", "i8": "int64", "f8": "float64"}
_CHUNK_TAILS = {field: ".0" * (2 + len(tail)) for field, (_, tail) in MAPS.items()}


def chunk_name(field: str, row: int) -> str:
    """The entry of a shard's file that holds one sample of a map."""
    return f"{field}/c.{row}{_CHUNK_TAILS[field]}"


def record_name(field: str) -> str:
    """The entry of a shard's file that holds a record array."""
    return array_name(field, RECORDS[field])


def array_name(field: str, kind: ArrayKind) -> str:
    """The entry of a file that holds an array of one chunk."""
    return f"{field}/c.0" + ".0" * len(kind[1])


METADATA_NAMES = (*(f"{field}/zarr.json" for field in (*MAPS, *RECORDS)), "zarr.json")
"""The entries that describe the arrays, and all of them together."""


@lru_cache(maxsize=256)  # shards are of a few lengths, again and again
def entry_names(samples: int) -> tuple[bytes, ...]:
    """The entries of a shard's file, in order: sample after sample its maps, records, metadata."""
    names = [chunk_name(field, row) for row in range(samples) for field in MAPS]
    names += [*map(record_name, RECORDS), *METADATA_NAMES]
    return tuple(name.encode() for name in names)


def samples_of(entries: int) -> int:
    """How many samples a shard of so many entries has. Raises ValueError if none has so many."""
    samples, rest = divmod(entries - len(RECORDS) - len(METADATA_NAMES), len(MAPS))
    if samples < 1 or rest:
        raise ValueError("it has not the entries of a shard")
    return samples


def group_metadata() -> bytes:
    """The `zarr.json` of a store."""
    return json_bytes(_group("splits"))


def shard_metadata(lengths: Mapping[str, int], parameters: Parameters) -> dict[str, bytes]:
    """The content of each of METADATA_NAMES. lengths: of each record array."""
    arrays = {field: _map_metadata(field, lengths["key"], parameters) for field in MAPS}
    arrays |= {field: _record_metadata(kind, lengths[field]) for field, kind in RECORDS.items()}
    return _documents("samples", arrays)


def group_documents(
    holds: str, kinds: Mapping[str, ArrayKind], lengths: Mapping[str, int]
) -> dict[str, bytes]:
    """Each `zarr.json` of a group of arrays of one chunk, by name: arrays first, then the group.

    holds: what the group is of. lengths: of each array.
    """
    return _documents(
        holds, {field: _record_metadata(kind, lengths[field]) for field, kind in kinds.items()}
    )


def _documents(holds: str, arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    consolidated = {"kind": "inline", "must_understand": False, "metadata": arrays}
    return {
        **{f"{field}/zarr.json": json_bytes(array) for field, array in arrays.items()},
        "zarr.json": json_bytes(_group(holds) | {"consolidated_metadata": consolidated}),
    }


@lru_cache(maxsize=256)
def map_metadata(field: str, samples: int, canonical: bytes) -> bytes:
    """The `zarr.json` of a map. canonical: of the parameters (see there)."""
    return json_bytes(_map_metadata(field, samples, Parameters.model_validate_json(canonical)))


def _group(holds: str) -> dict[str, Any]:
    attributes = {"ocr_precompute": {"format_version": FORMAT_VERSION, "holds": holds}}
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def _map_metadata(field: str, samples: int, parameters: Parameters) -> dict[str, Any]:
    """A map array of (samples, H, W, ...), one chunk a sample."""
    dtype, tail = MAPS[field]
    compression, shape = parameters.compression, [samples, *parameters.size, *tail]
    blosc = {
        "typesize": dtype.itemsize,
        "cname": compression.cname,
        "clevel": compression.clevel,
        "shuffle": shuffle_of(dtype, compression),
        "blocksize": block_bytes(shape[1:], compression) if field == "image" else 0,
    }
    codecs = [
        _bytes_codec(dtype),
        {"name": "blosc", "configuration": blosc},
        {"name": "crc32c"},
    ]
    return _array_metadata(dtype, shape, [1, *shape[1:]], codecs)


def _record_metadata(kind: ArrayKind, length: int) -> dict[str, Any]:
    """An array of the given length, one chunk in all."""
    dtype, tail = kind
    shape = [length, *tail]
    return _array_metadata(dtype, shape, shape, [_bytes_codec(dtype), {"name": "crc32c"}])


def _bytes_codec(dtype: np.dtype) -> dict[str, Any]:
    if dtype.itemsize == 1:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _array_metadata(
    dtype: np.dtype, shape: list[int], chunk: list[int], codecs: list[dict[str, Any]]
) -> dict[str, Any]:
    boolean, floating = dtype.kind == "b", dtype.kind == "f"
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": "bool" if boolean else _ZARR_TYPES[dtype.str[1:]],
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [max(1, side) for side in chunk]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": False if boolean else 0.0 if floating else 0,
        "codecs": codecs,
        "attributes": {},
    }
