"""A look at every sample of a split: what is at its polygons, and how suspicious that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ocr_precompute.format.records import SampleRecord
from ocr_precompute.images.decoding import fitted_size
from ocr_precompute.reading.split import Split
from ocr_precompute.reports.predictions import Comparison, compared, labels_of
from ocr_precompute.reports.suspicion import (
    OF_PREDICTIONS,
    SIGNS,
    Scores,
    Usual,
    forms,
    score,
    signs,
)
from ocr_precompute.samples import Fate, Polygons
from ocr_precompute.understood import SUSPICIONS

_MOST_TEXTS = 200_000  # of which it is asked what is usual; of a larger split those of some samples
_EVERY = 64  # samples between two words about progress

FATES = {
    Fate.TRAINS: "trains",
    Fate.ANNOTATED: "annotated",
    Fate.OUTSIDE: "outside-image",
    Fate.NO_AREA: "no-area",
    Fate.SMALL: "small",
    Fate.COLLAPSED: "collapsed",
}
"""What becomes of a polygon, as a word."""

NOTES = ("unlabelled-text", "self-crossing", "repaired", "kept-as-ignore")
"""What a manifest says of whole images, and is no suspicion."""

Told = Callable[[str, int, int], None]
"""Called with what is being done, how far it is, and how much there is."""


@dataclass(frozen=True, eq=False)
class Look:
    """One sample's polygons, and what is at them.

    signs: of each label, bool (N,); for `unlabelled` of each prediction. of: how many could show
    each sign. comparison: None without predictions.
    """

    signs: Mapping[str, np.ndarray]
    of: Mapping[str, int]
    comparison: Comparison | None


@dataclass(frozen=True, eq=False)
class Survey:
    """What was seen of a whole split, of n samples.

    usual: what its texts are like. polygons: how many each sample has, int (n,). counts: polygons
    of each fate and sign in each sample, int32 (n,) each. noted: whole images of which something
    is said, bool (n,) each. scores: how suspicious each is. predictions: how many samples have some
    to compare with; None if none were given.
    """

    usual: Usual
    polygons: np.ndarray
    counts: Mapping[str, np.ndarray]
    noted: Mapping[str, np.ndarray]
    scores: Scores
    predictions: int | None


def look(
    record: SampleRecord,
    size: tuple[int, int],
    usual: Usual,
    predicted: Mapping[str, Polygons] | None,
) -> Look:
    """What is at one sample's polygons. size: canonical (H, W). predicted: by name, or none."""
    polygons = labels_of(record)
    page = fitted_size(record.original_size, size)
    found = signs(polygons, record.fate, page, usual)
    texts = int(np.count_nonzero(record.fate != Fate.ANNOTATED))
    of = dict.fromkeys(found, texts)
    comparison = compared(record, predicted or {})
    if comparison is not None:
        found["unlabelled"], of["unlabelled"] = comparison.unlabelled, comparison.judged
        found["unpredicted"] = comparison.unpredicted
        of["unpredicted"] = int(np.count_nonzero(record.fate == Fate.TRAINS))
    return Look(found, of, comparison)


def survey(
    split: Split, predicted: Mapping[str, Polygons] | None = None, told: Told = lambda *_: None
) -> Survey:
    """Look at every sample of a split, one at a time; no pixel is read.

    predicted: polygons by the sample's name, original pixels. Raises StoreError if data is damaged.
    """
    size, samples = split.manifest.parameters.size, len(split)
    usual = _usual(split, told)
    asked = [sign for sign in SIGNS if predicted is not None or sign not in OF_PREDICTIONS]
    counts = {kind: np.zeros(samples, np.int32) for kind in (*FATES.values(), *asked)}
    of = {sign: np.zeros(samples, np.int32) for sign in asked}
    polygons = np.zeros(samples, np.int32)
    damaged = np.zeros(samples, bool)
    for number in range(samples):
        record = split.record(number)
        polygons[number], damaged[number] = len(record.fate), record.damage is not None
        for fate, kind in FATES.items():
            counts[kind][number] = np.count_nonzero(record.fate == fate)
        seen = look(record, size, usual, predicted)
        for sign, flags in seen.signs.items():
            counts[sign][number] = np.count_nonzero(flags)
            of[sign][number] = seen.of[sign]
        if number % _EVERY == 0 or number + 1 == samples:
            told("looking", number + 1, samples)
    noted = _noted(split) | {"damaged": damaged}
    weighty = {kind: flags for kind, flags in noted.items() if kind not in NOTES}
    noted["nothing-trains"] = (polygons > 0) & (counts["trains"] == 0)
    noted["without-words"] = polygons == 0
    return Survey(
        usual=usual,
        polygons=polygons,
        counts=counts,
        noted={kind: flags for kind, flags in noted.items() if flags.any()},
        scores=score({sign: counts[sign] for sign in asked}, of, weighty),
        predictions=None if predicted is None else len(predicted),
    )


def _usual(split: Split, told: Told) -> Usual:
    """What the texts of a split are like, from samples spread over it."""
    samples, held = len(split), 0
    measures: list[np.ndarray] = []
    order = np.random.default_rng(0).permutation(samples)
    words = max(1, split.manifest.understood.words)
    spread = np.sort(order[: max(1, int(samples * min(1.0, _MOST_TEXTS / words)))])
    for done, number in enumerate(spread.tolist(), 1):
        record = split.record(number)
        texts = np.flatnonzero(record.fate == Fate.TRAINS)
        measures.append(forms(labels_of(record).chosen(texts)))
        held += len(texts)
        if done % _EVERY == 0:
            told("measuring texts", done, len(spread))
        if held > 2 * _MOST_TEXTS:
            break
    return Usual.of(np.concatenate([np.zeros((2, 0)), *measures], axis=1))


def _noted(split: Split) -> dict[str, np.ndarray]:
    """Images that the manifest names, the worst of each kind, bool (n,)."""
    noted: dict[str, np.ndarray] = {}
    for tally in split.manifest.understood.tallies:
        kind = "unlabelled-text" if tally.kind == "unlabelled" else tally.kind
        if kind not in SUSPICIONS and kind not in NOTES:
            continue
        kind = "declared-tiny" if kind == "tiny" else kind
        flags = np.zeros(len(split), bool)
        for name, _ in tally.worst:
            try:
                flags[split.index(name)] = True
            except KeyError:  # the manifest may come from elsewhere
                continue
        noted[kind] = flags
    return noted
