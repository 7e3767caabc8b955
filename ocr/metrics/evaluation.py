"""Predictions on disk against annotations of any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocr.metrics.protocols import PROTOCOLS
from ocr.metrics.tally import Tally, total
from ocr_precompute.annotations import Annotation, Reading
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.pipeline.scan import raise_unless_usable, read_source
from ocr_precompute.reports.predictions import all_predictions
from ocr_precompute.samples import Polygons
from ocr_precompute.settings import Source


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What predictions are worth.

    tallies: over all annotated images, by protocol. images: how many these are. unpredicted: names
    of those without predictions, in which nothing counts as found. unannotated: how many images
    have predictions alone, which count for nothing. reading: what was understood.
    """

    tallies: Mapping[str, Tally]
    images: int
    unpredicted: tuple[str, ...]
    unannotated: int
    reading: Reading


def evaluate(source: Source, predictions: Path, names: Sequence[str]) -> Evaluation:
    """Evaluate what `ocr-train predict` wrote.

    source: images and their annotations, which are read and checked as for a build. predictions:
    the JSON file. names: of `PROTOCOLS`. All is in pixels of the original images.
    Raises InputError for what cannot be read or is wrong and not skipped, for predictions of none
    of the annotated images, and for texts of unknown length where a protocol counts characters.
    """
    predicted = all_predictions(predictions)
    reading = read_source(source, told=True)
    raise_unless_usable(source, reading.problems, bool(reading.annotations))
    annotated = reading.annotations
    missing = tuple(each.name for each in annotated if each.name not in predicted)
    if len(missing) == len(annotated):
        reason = (
            f"is about none of the {len(annotated)} annotated images, such as {missing[0]!r}; "
            "predict these images, with data.images the same folder as --images"
        )
        raise InputError([Problem("annotations", str(predictions), "", reason)])
    if any(PROTOCOLS[name].counts_characters for name in names):
        _check_texts(source, annotated)
    return Evaluation(
        tallies={
            name: total(_tally(name, each, predicted.get(each.name)) for each in annotated)
            for name in names
        },
        images=len(annotated),
        unpredicted=missing,
        unannotated=len(predicted) - len(annotated) + len(missing),
        reading=reading,
    )


def _tally(name: str, annotation: Annotation, predicted: Polygons | None) -> Tally:
    protocol, polygons = PROTOCOLS[name], annotation.polygons
    found = [] if predicted is None else predicted.as_list()
    lengths = [_lengths(annotation)] if protocol.counts_characters else []
    return protocol.score(found, polygons.as_list(), polygons.ignore, *lengths)


def _lengths(annotation: Annotation) -> list[int]:
    """Characters of each polygon's text, 0 where none is known."""
    texts = annotation.texts or [None] * len(annotation.polygons.lengths)
    return [len((text or "").strip()) for text in texts]


def _check_texts(source: Source, annotated: Sequence[Annotation]) -> None:
    """Raises InputError, with a line for each image, if the length of a text is not known."""
    problems: list[Problem] = []
    told = False
    for each in annotated:
        unknown = [
            number
            for number, (length, skip) in enumerate(
                zip(_lengths(each), each.polygons.ignore, strict=True)
            )
            if not (length or skip)
        ]
        told |= any(each.texts)
        if unknown:
            first = each.labels[unknown[0]] if each.labels else f"word {unknown[0] + 1}"
            reason = (
                f"{len(unknown)} texts have no transcription, of which cleval counts the "
                f"characters, {first} the first; add them, or mark these texts as don't care"
            )
            problems.append(Problem("annotations", str(source.annotations), each.name, reason))
    if problems and not told:
        reason = "holds no transcriptions, of which cleval counts the characters; choose another"
        problems = [Problem("annotations", str(source.annotations), "", f"{reason} metric")]
    if problems:
        raise InputError(problems)
