"""The manifest: everything needed to read a split, and nothing that depends on the machine."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from ocr_precompute.config import Parameters
from ocr_precompute.errors import StoreError, VersionError
from ocr_precompute.files import json_bytes
from ocr_precompute.fingerprint import FORMAT_VERSION

_MOST_SAMPLES = 8192  # a shard: twice the largest shard_length


@dataclass(frozen=True)
class ShardEntry:
    """One shard of a manifest: its key and how many samples it holds."""

    key: str
    samples: int


@dataclass(frozen=True)
class Skipped:
    """What `--skip-bad` left out: a whole image or one polygon (entry) of a sample.

    digest: hex SHA-256 of a bad image's file, so that the same bytes are not tried again.
    """

    kind: str
    sample: str
    entry: str
    reason: str
    digest: str = ""


@dataclass(frozen=True)
class Manifest:
    """A published split."""

    split: str
    data_hash: str
    parameters: Parameters
    shards: tuple[ShardEntry, ...]
    skipped: tuple[Skipped, ...]

    @property
    def samples(self) -> int:
        """How many samples the split holds."""
        return sum(shard.samples for shard in self.shards)

    def to_bytes(self) -> bytes:
        """The manifest file's bytes."""
        return json_bytes(
            {
                "format": "ocr-precompute",
                "format_version": FORMAT_VERSION,
                "split": self.split,
                "data_hash": self.data_hash,
                "samples": self.samples,
                "parameters": self.parameters.model_dump(mode="json"),
                "shards": [asdict(shard) for shard in self.shards],
                "skipped": [asdict(skipped) for skipped in self.skipped],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, origin: Path) -> Manifest:
        """Parse a manifest. Raises StoreError, naming origin, if it is damaged or too new."""
        try:
            document = json.loads(data)
            if document["format"] != "ocr-precompute":
                raise ValueError("not an ocr-precompute manifest")
            check_format_version(document["format_version"], origin)
            shards = tuple(ShardEntry(**shard) for shard in document["shards"])
            if not all(is_key(shard.key) and _is_length(shard.samples) for shard in shards):
                raise ValueError("a shard entry is not a key and a length")
            skipped = tuple(Skipped(**skipped) for skipped in document["skipped"])
            texts = [document["split"], *(text for s in skipped for text in astuple(s))]
            if not (is_key(document["data_hash"]) and all(isinstance(t, str) for t in texts)):
                raise ValueError("the data hash is no hash, or a name no text")
            return cls(
                split=document["split"],
                data_hash=document["data_hash"],
                parameters=Parameters.model_validate(document["parameters"]),
                shards=shards,
                skipped=skipped,
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{origin}: is damaged ({_one_line(error)}); build the split again"
            ) from error


def is_key(key: Any) -> bool:
    """Whether it is a key as shards have them: 64 lower-case hexadecimal digits."""
    return isinstance(key, str) and len(key) == 64 and set(key) <= set("0123456789abcdef")


def _is_length(samples: Any) -> bool:
    return type(samples) is int and 0 < samples <= _MOST_SAMPLES


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:200]


def check_format_version(version: Any, origin: Path) -> None:
    """Raises VersionError unless this version of the package can read that format version."""
    if version != FORMAT_VERSION:
        older = type(version) is int and version < FORMAT_VERSION
        remedy = "build it again into another store" if older else "install the version it needs"
        raise VersionError(
            f"{origin}: has format version {_one_line(version)}, this ocr-precompute reads version "
            f"{FORMAT_VERSION}; {remedy}"
        )
