"""The manifest: everything needed to read a split, and nothing that depends on the machine.

It is a root, a JSON file, and parts that say which shards there are (see `parts`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

from pydantic import Field, SkipValidation, TypeAdapter, ValidationError

from ocr_precompute.errors import StoreError, VersionError, one_line
from ocr_precompute.files import json_bytes
from ocr_precompute.format.keys import FORMAT_VERSION
from ocr_precompute.parameters import Parameters
from ocr_precompute.samples import Damage
from ocr_precompute.understood import Understood

_Key = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

_MANY = 2**40

MOST_SAMPLES = 2 * 4096
"""Samples of a shard: see boundaries.shard_bounds and Settings.shard_length."""


class ShardEntry(NamedTuple):
    """One shard of a manifest: its key and how many samples it holds; a split may have millions."""

    key: str
    samples: int


@dataclass(frozen=True)
class PartEntry:
    """One part: the hex SHA-256 of its bytes, and how many shards and samples it names."""

    key: _Key
    shards: Annotated[int, Field(gt=0, le=_MANY, strict=True)]
    samples: Annotated[int, Field(gt=0, le=_MANY, strict=True)]


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
    """A published split.

    shards: in order, as the parts name them, which are checked where they are read. understood:
    with the worst names of each kind alone.
    """

    split: str
    data_hash: _Key
    parameters: Parameters
    parts: tuple[PartEntry, ...]
    shards: SkipValidation[tuple[ShardEntry, ...]]
    skipped: tuple[Skipped, ...]
    damaged: tuple[Damaged, ...]
    understood: Understood

    @property
    def samples(self) -> int:
        """How many samples the split holds."""
        return sum(samples for _, samples in self.shards)

    @property
    def keys(self) -> list[str]:
        """Keys of all files that the split needs: shards and parts."""
        return [shard.key for shard in self.shards] + [part.key for part in self.parts]

    def to_bytes(self) -> bytes:
        """The bytes of the root."""
        return json_bytes(
            {
                "format": "ocr-precompute",
                "format_version": FORMAT_VERSION,
                "split": self.split,
                "data_hash": self.data_hash,
                "samples": self.samples,
                "parameters": self.parameters.model_dump(mode="json"),
                "parts": [asdict(part) for part in self.parts],
                "skipped": [asdict(skipped) for skipped in self.skipped],
                "damaged": [asdict(damaged) for damaged in self.damaged],
                "understood": self.understood.as_dict(),
            }
        )

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        origin: str,
        read_parts: Callable[[Sequence[PartEntry]], Iterable[Sequence[ShardEntry]]],
    ) -> Manifest:
        """Parse a root; unknown fields are left alone.

        read_parts: gives the shards of each part. Raises as it does, and StoreError, naming origin,
        if the root is damaged or too new.
        """
        try:
            document = json.loads(data)
            if document["format"] != "ocr-precompute":
                raise ValueError("not an ocr-precompute manifest")
            check_format_version(document["format_version"], origin)
            parts = _ROOT.validate_python(document).parts
            shards = tuple(itertools.chain.from_iterable(read_parts(parts)))
            return _MANIFEST.validate_python({**document, "parts": parts, "shards": shards})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{origin}: is damaged ({_first_fault(error)}); build the split again"
            ) from error


@dataclass(frozen=True)
class _Root:
    """What of a root has to be known before the parts are."""

    parts: tuple[PartEntry, ...]


_ROOT, _MANIFEST = TypeAdapter(_Root), TypeAdapter(Manifest)


def is_key(key: Any) -> bool:
    """Whether it is a key as shards have them: 64 lower-case hexadecimal digits."""
    return isinstance(key, str) and len(key) == 64 and set(key) <= set("0123456789abcdef")


def _first_fault(text: object) -> str:
    """What is wrong; of many things that are, the first."""
    if isinstance(text, ValidationError):
        first = text.errors(include_url=False, include_input=False)[0]
        text = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return one_line(text)


def check_format_version(version: Any, origin: str) -> None:
    """Raises VersionError unless this version of the package can read that format version."""
    if version != FORMAT_VERSION:
        older = type(version) is int and version < FORMAT_VERSION
        remedy = "build it again into another store" if older else "install the version it needs"
        raise VersionError(
            f"{origin}: has format version {one_line(version)}, this ocr-precompute reads version "
            f"{FORMAT_VERSION}; {remedy}"
        )
