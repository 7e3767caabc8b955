"""The manifest: everything needed to read a split, and nothing that depends on the machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from ocr_precompute.errors import StoreError, VersionError, one_line
from ocr_precompute.files import json_bytes
from ocr_precompute.format.keys import FORMAT_VERSION
from ocr_precompute.parameters import Parameters
from ocr_precompute.samples import Damage
from ocr_precompute.understood import Understood

_Key = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

MOST_SAMPLES = 2 * 4096
"""Samples of a shard: see boundaries.shard_bounds and Settings.shard_length."""


@dataclass(frozen=True)
class ShardEntry:
    """One shard of a manifest: its key and how many samples it holds."""

    key: _Key
    samples: Annotated[int, Field(gt=0, le=MOST_SAMPLES, strict=True)]


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
class Damaged:
    """A sample whose image is damaged and was built all the same; words and lost as in Damage."""

    sample: str
    words: str
    lost: Annotated[float, Field(ge=0, le=1)] | None = None

    @property
    def damage(self) -> Damage:
        """What is wrong with the image."""
        return Damage(self.words, self.lost)


@dataclass(frozen=True)
class Manifest:
    """A published split. understood: with the worst names of each kind alone."""

    split: str
    data_hash: _Key
    parameters: Parameters
    shards: tuple[ShardEntry, ...]
    skipped: tuple[Skipped, ...]
    damaged: tuple[Damaged, ...]
    understood: Understood

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
                "damaged": [asdict(damaged) for damaged in self.damaged],
                "understood": self.understood.as_dict(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, origin: Path) -> Manifest:
        """Parse a manifest; unknown fields are left alone.

        Raises StoreError, naming origin, if it is damaged or too new.
        """
        try:
            document = json.loads(data)
            if document["format"] != "ocr-precompute":
                raise ValueError("not an ocr-precompute manifest")
            check_format_version(document["format_version"], origin)
            return _MANIFEST.validate_python(document)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{origin}: is damaged ({_first_fault(error)}); build the split again"
            ) from error


_MANIFEST = TypeAdapter(Manifest)


def is_key(key: Any) -> bool:
    """Whether it is a key as shards have them: 64 lower-case hexadecimal digits."""
    return isinstance(key, str) and len(key) == 64 and set(key) <= set("0123456789abcdef")


def _first_fault(text: object) -> str:
    """What is wrong; of many things that are, the first."""
    if isinstance(text, ValidationError):
        first = text.errors(include_url=False, include_input=False)[0]
        text = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return one_line(text)


def check_format_version(version: Any, origin: Path) -> None:
    """Raises VersionError unless this version of the package can read that format version."""
    if version != FORMAT_VERSION:
        older = type(version) is int and version < FORMAT_VERSION
        remedy = "build it again into another store" if older else "install the version it needs"
        raise VersionError(
            f"{origin}: has format version {one_line(version)}, this ocr-precompute reads version "
            f"{FORMAT_VERSION}; {remedy}"
        )
