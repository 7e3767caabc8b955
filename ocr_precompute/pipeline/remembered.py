"""What scanning a sorted part came to, remembered on this machine until the part changes.

A part whose bytes, rules and parameters are the same says the same; if it gives all digests, no
image is looked at either, so a build with nothing to do need not parse it. A file holds a line of
JSON, and columns of blocks as they are in memory. As the digest cache it may be deleted at any
time, and what is not as it should be is as if it were not there.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ocr_precompute.annotations import Note
from ocr_precompute.annotations.sorted_parts import Part
from ocr_precompute.files import read_bounded, replace_file
from ocr_precompute.format.keys import FORMAT_VERSION
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.counting import Counted
from ocr_precompute.pipeline.tables import BLOCK, Columns
from ocr_precompute.settings import Marks, Source
from ocr_precompute.storage.store import forget_scans
from ocr_precompute.understood import MOST_NAMES, UNDERSTOOD_VERSION, Tally

log = logging.getLogger(__name__)

_VERSION = 1  # of these files and of all that is checked when annotations are read
_LARGEST = 1 << 30  # bytes
_HASH = 32  # bytes


@dataclass(frozen=True, eq=False)
class Remembered:
    """All that a part came to: blocks of samples, what was noted, and its extreme coordinates."""

    blocks: tuple[Columns, ...]
    notes: tuple[Note, ...]
    bounds: tuple[float, ...]


class PartMemory:
    """Remembers parts of a split in a folder; those that are not asked for any more are forgotten.

    folder: None remembers nothing. writes: whether anything may be written there.
    """

    def __init__(self, folder: Path | None, writes: bool) -> None:
        self._folder, self._writes = folder, writes
        self._used: set[str] = set()

    def name(self, part: Part, source: Source, prefix: str, parameters: Parameters) -> str:
        """What a part is remembered under; empty if it is not to be."""
        marks = Marks.model_validate({key: getattr(source, key) for key in Marks.model_fields})
        if self._folder is None or marks != Marks():
            return ""
        facts = [_VERSION, FORMAT_VERSION, UNDERSTOOD_VERSION, MOST_NAMES, prefix, source.format]
        rules = source.rules.model_dump(mode="json") if source.rules else None
        digest = hashlib.sha256(json.dumps([*facts, rules]).encode() + parameters.canonical)
        try:
            with part.path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            return ""
        return digest.hexdigest()

    def find(self, name: str, part: Part, source: Source, prefix: str) -> Remembered | None:
        """What is remembered under that name of a part."""
        if not name or self._folder is None:
            return None
        try:
            data = read_bounded(self._folder / name, _LARGEST)
            found = _unpacked(data, part, source, prefix)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.debug("%s: not remembered (%s)", part.path, error)
            return None
        self._used.add(name)
        return found

    def keep(self, name: str, found: Remembered) -> None:
        """Remember it."""
        if not name or self._folder is None or not self._writes:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / name, _packed(found))
            self._used.add(name)
        except OSError as error:
            log.info("%s: cannot be written (%s)", self._folder, error)

    def forget_others(self) -> None:
        """Delete what has been neither found nor kept, and what killed builds left."""
        if self._folder is not None and self._writes:
            forget_scans(self._folder, self._used)


def _packed(found: Remembered) -> bytes:
    said = {
        "blocks": [
            {"samples": len(each.turned), "names": len(each.name_bytes), **_counts(each.counted)}
            for each in found.blocks
        ],
        "format": found.blocks[0].format if found.blocks else "",
        "notes": [asdict(note) for note in found.notes],
        "bounds": found.bounds,
    }
    columns = [
        data
        for each in found.blocks
        for data in (
            each.name_bytes,
            each.name_offsets.astype("<u4").tobytes(),
            each.image_sizes.astype("<i4").tobytes(),
            each.geometry,
        )
    ]
    return b"".join([json.dumps(said).encode(), b"\n", *columns])


def _counts(counted: Counted | None) -> dict[str, Any]:
    if counted is None:
        return {}
    tallies = [[t.kind, t.words, t.images, t.worst] for t in counted.tallies.values()]
    plain = {key: getattr(counted, key) for key in ("words", "trained", "sized", "kept")}
    return {**plain, "tallies": tallies, "needed": counted.needed.tolist()}


def _unpacked(data: bytes, part: Part, source: Source, prefix: str) -> Remembered:
    """Raises ValueError, KeyError or TypeError for what was not written here."""
    head, _, body = data.partition(b"\n")
    said = json.loads(head)
    place = 0

    def take(size: int) -> bytes:
        nonlocal place
        place += size
        return body[place - size : place]

    blocks = []
    for each in said["blocks"]:
        count, names = each["samples"], each["names"]
        if not 0 < count <= BLOCK or not 0 < names <= len(body):
            raise ValueError("a block of another length")
        text = take(names)
        offsets = np.frombuffer(take(4 * count + 4), "<u4").astype(np.uint32)
        sizes = np.frombuffer(take(8 * count), "<i4").astype(np.int32).reshape(-1, 2)
        geometry = take(_HASH * count)
        if offsets[0] or offsets[-1] != names or (np.diff(offsets.astype(np.int64)) <= 0).any():
            raise ValueError("names that overlap")
        blocks.append(
            Columns(
                source=source,
                format=str(said["format"]),
                part=part,
                prefix=prefix,
                name_bytes=text,
                name_offsets=offsets,
                digests=b"",
                image_sizes=sizes,
                turned=np.zeros(count, bool),
                declared_sizes=sizes,
                geometry=geometry,
                counted=_counted(each),
            )
        )
    if place != len(body):
        raise ValueError("of another length than it says")
    return Remembered(
        tuple(blocks),
        tuple(Note(**note) for note in said["notes"]),
        tuple(map(float, said["bounds"])),
    )


def _counted(said: Mapping[str, Any]) -> Counted:
    tallies: Sequence[Any] = said["tallies"]
    return Counted(
        images=int(said["samples"]),
        words=int(said["words"]),
        trained=int(said["trained"]),
        tallies={
            kind: Tally(kind, words, images, tuple((name, count) for name, count in worst))
            for kind, words, images, worst in tallies
        },
        sized=int(said["sized"]),
        kept=tuple(map(int, said["kept"])),
        needed=np.array(said["needed"], np.int64),
    )
