"""Predictions on disk against annotations of any format."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ocr.metrics.groups import by_score, grouped
from ocr.metrics.icdar import match_polygons
from ocr.metrics.protocols import PROTOCOLS
from ocr.metrics.tally import Tally, total
from ocr.reports.validation import ASPECTS, SIDES, Counts, Groups
from ocr_precompute.annotations import Annotation, Reading
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.pipeline.scan import raise_unless_usable, read_source
from ocr_precompute.reports.predictions import all_predictions
from ocr_precompute.samples import Polygons
from ocr_precompute.settings import Source


@dataclass(frozen=True)
class Parts:
    """ICDAR's counts in parts.

    by_score: by hundredths of the score, if all predictions have one. sides, aspects: by shorter
    side in pixels of the original images, and by longer side / shorter side.
    """

    by_score: Counts | None
    sides: Groups
    aspects: Groups


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What predictions are worth.

    tallies: over all annotated images, by protocol. images: how many these are. unpredicted: names
    of those without predictions, in which nothing counts as found. unannotated: how many images
    have predictions alone, which count for nothing. reading: what was understood. parts: if they
    were asked for.
    """

    tallies: Mapping[str, Tally]
    images: int
    unpredicted: tuple[str, ...]
    unannotated: int
    reading: Reading
    parts: Parts | None = None


def evaluate(
    source: Source, predictions: Path, names: Sequence[str], parts: bool = False
) -> Evaluation:
    """Evaluate what `ocr-train predict` wrote.

    source: images and their annotations, which are read and checked as for a build. predictions:
    the JSON file. names: of `PROTOCOLS`. parts: whether to count ICDAR's in parts too. All is in
    pixels of the original images.
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
        parts=_parts(annotated, predicted, predictions) if parts else None,
    )


def _parts(annotated: Sequence[Annotation], predicted: Mapping[str, Polygons], path: Path) -> Parts:
    scores, known = _scores(path), Counts()
    sides, aspects, scored = Groups.none(SIDES), Groups.none(ASPECTS), True
    for each in annotated:
        polygons, texts = predicted.get(each.name), each.polygons.as_list()
        found = [] if polygons is None else polygons.as_list()
        matching = match_polygons(found, texts, each.polygons.ignore.tolist())
        by_side, by_aspect = grouped(matching, texts, found)
        sides, aspects = sides + by_side, aspects + by_aspect
        of_it = scores.get(each.name, np.zeros(0))
        scored &= len(of_it) == len(found) and bool(np.isfinite(of_it).all())
        known += by_score(matching, of_it) if scored else Counts()
    return Parts(known if scored else None, sides, aspects)


def _scores(path: Path) -> dict[str, np.ndarray]:
    """Scores of each image's predictions, float64 (N,), NaN where there is none.

    path: a file of predictions that has been read as such.
    """
    images = json.loads(path.read_bytes())["images"]
    return {
        name: np.array([_score(word) for word in (entry.get("words") or {}).values()], float)
        for name, entry in images.items()
    }


def _score(word: Mapping[str, object]) -> float:
    score = word.get("score")
    return float(score) if isinstance(score, int | float) and 0 <= score <= 1 else math.nan


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
