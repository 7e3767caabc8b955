"""Count what was understood of a source: from polygons, image sizes and parameters, no pixels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple
from pathlib import Path

from ocr_precompute.annotations import Reading
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.counting import Counted, added, count, size_needed, sizes_told
from ocr_precompute.pipeline.tables import Listed, Samples, Table
from ocr_precompute.understood import (
    KINDS,
    MOST_NAMES,
    UNDERSTOOD_VERSION,
    Tally,
    Understood,
    warning_lines,
)


def understand(
    samples: Samples,
    reading: Reading,
    parameters: Parameters,
    data_hash: str,
    known: Understood | None = None,
    every_name: bool = False,
) -> Understood:
    """What was understood of a source, given the samples that are built of it.

    samples: in order of their names. data_hash: of the split that they make. known: what was
    understood in an earlier build; it is returned if it comes from the same. every_name: name all
    images of each kind, and not the worst alone.
    """
    key = _key(samples, reading, data_hash)
    if known is not None and known.key == key and not every_name:
        return known
    most = None if every_name else MOST_NAMES
    parts = [_counted(each, reading, parameters, most) for each in samples.stretches]
    counted = added(parts or [count((), (), parameters, most)], most)
    tallies = dict(counted.tallies)
    missing = tuple((name, 0) for name in reading.unannotated[:most])
    tallies["unannotated"] = Tally("unannotated", 0, len(reading.unannotated), missing)
    sized = counted.sized if parameters.recipe.min_size else 0
    told = zip(sizes_told(parameters), counted.kept, strict=True)
    return Understood(
        key=key,
        format=reading.format,
        dialect=reading.dialect,
        images=len(samples),
        words=counted.words,
        trained=counted.trained,
        tallies=tuple(tallies[kind] for kind in KINDS if kind in tallies and tallies[kind].images),
        kept=tuple((side, round(kept / sized, 6)) for side, kept in told) if sized else (),
        size_needed=size_needed(counted) if sized else 0,
        left_out=reading.left_out[:most],
        all_left_out=len(reading.left_out),
        warnings=reading.warnings,
    )


def _counted(
    stretch: Listed | Table, reading: Reading, parameters: Parameters, most: int | None
) -> Counted:
    """The counts of a stretch; those that it brings along, if these will do."""
    if most is not None and isinstance(stretch, Table) and stretch.counted:
        return stretch.counted
    return count(stretch.load(), reading.notes, parameters, most)


def _key(samples: Samples, reading: Reading, data_hash: str) -> str:
    """Hex SHA-256 over all that decides what is understood; the data hash stands for polygons,
    images and parameters.
    """
    digest = hashlib.sha256()
    head = [UNDERSTOOD_VERSION, data_hash, reading.format, reading.dialect]
    tail = [
        [astuple(note) for note in reading.notes],
        *(reading.unannotated, reading.left_out, reading.warnings),
    ]
    digest.update(f"{json.dumps(head)[:-1]}, [".encode())  # one JSON list, stretch by stretch
    between = b""
    for each in samples.stretches:
        if declared := list(each.declared()):
            digest.update(between + json.dumps(declared)[1:-1].encode())
            between = b", "
    digest.update(f"], {json.dumps(tail)[1:]}".encode())
    return digest.hexdigest()


def refuse_suspicions(understood: Understood, parameters: Parameters, annotations: Path) -> None:
    """Raises InputError if anything is legal and probably not meant. annotations: for messages."""
    remedy = "correct it, or build without --strict"
    problems = [
        Problem("annotations", str(annotations), "", f"{line}; {remedy}")
        for line in warning_lines(understood, parameters)
    ]
    if problems:
        raise InputError(problems)
