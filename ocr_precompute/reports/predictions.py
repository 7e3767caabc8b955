"""Predictions beside labels: what `ocr-train predict` wrote, and where the two disagree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ocr_precompute.annotations import read_annotations
from ocr_precompute.errors import InputError, Problem, StoreError, printable
from ocr_precompute.format.records import SampleRecord
from ocr_precompute.reports.overlaps import matched, overlaps
from ocr_precompute.samples import Fate, Polygons
from ocr_precompute.settings import Rules

_SAME = 0.5  # IoU above which a prediction and a label are the same text
_COVERED = 0.5  # share of a prediction in don't-care above which it is neither right nor wrong


@dataclass(frozen=True, eq=False)
class Comparison:
    """Labels and predictions of one sample.

    predictions: canonical pixels, N of them. unlabelled: bool (N,), those that no label and no
    don't-care explains. judged: how many are not excused by don't-care. unpredicted: bool of each
    label, those that train and that no prediction finds.
    """

    predictions: Polygons
    unlabelled: np.ndarray
    judged: int
    unpredicted: np.ndarray


def read_predictions(path: Path, names: tuple[str, ...]) -> dict[str, Polygons]:
    """Predicted polygons of each sample that the file knows, original pixels.

    path: as for `all_predictions`. names: samples of the split, in order. Raises InputError as that
    does, and if the file is about none of these samples.
    """
    predicted, known = all_predictions(path), set(names)
    found = {name: polygons for name, polygons in predicted.items() if name in known}
    if not found:
        reason = (
            f"is about none of the {len(names)} samples of the split, but about {len(predicted)} "
            "other images; predict the images that the split was built from"
        )
        raise InputError([Problem("annotations", str(path), "", reason)])
    return found


def all_predictions(path: Path) -> dict[str, Polygons]:
    """Predicted polygons of each image that the file knows, original pixels.

    path: JSON of the form `words`, as `ocr-train predict` writes it. Raises InputError if it cannot
    be read, or holds what is no polygon.
    """
    no_images = path / "images"  # below a file there are none
    reading = read_annotations(path, no_images, "words", Rules(repair=False))
    if reading.problems:
        raise InputError(reading.problems)
    return {each.name: each.polygons for each in reading.annotations}


def labels_of(record: SampleRecord) -> Polygons:
    """A sample's polygons, canonical pixels.

    Raises StoreError if they, or the sample's size and matrix, cannot be.
    """
    labels = Polygons.from_list(record.polygons, record.ignore.tolist())
    sound = (
        bool((labels.lengths >= 3).all())
        and bool(np.isfinite(labels.points).all())
        and bool(np.isfinite(record.matrix).all())
        and min(record.original_size) > 0
        and record.matrix[0, 0] > 0
    )
    if not sound:
        name = printable(record.name)
        raise StoreError(f"sample {name!r} holds what no build writes; run `ocr-precompute verify`")
    return labels


def compare(record: SampleRecord, predicted: Polygons) -> Comparison:
    """Labels and predictions of one sample. predicted: original pixels."""
    labels = labels_of(record)
    # Canonical pixels are original ones scaled: the matrix has no other part.
    points = (predicted.points - record.matrix[:2, 2]) / record.matrix[0, 0]
    predictions = replace(predicted, points=points.astype(np.float32))
    labelled, explained = matched(labels, predictions, _SAME)
    trains = record.fate == Fate.TRAINS
    excused = np.zeros(len(predictions.lengths), bool)
    dont_care = overlaps(predictions, labels.chosen(np.flatnonzero(~trains)), 0.0)
    excused[dont_care.first[dont_care.covered[0] > _COVERED]] = True
    excused &= ~explained
    return Comparison(
        predictions,
        unlabelled=~explained & ~excused,
        judged=int(np.count_nonzero(~excused)),
        unpredicted=trains & ~labelled,
    )


def compared(record: SampleRecord, all_predicted: Mapping[str, Polygons]) -> Comparison | None:
    """The comparison of a sample; None if there are no predictions for it."""
    predicted = all_predicted.get(record.name)
    return None if predicted is None else compare(record, predicted)
