"""Count what was understood of a source: from polygons, image sizes and parameters, no pixels."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import astuple, replace
from itertools import chain
from pathlib import Path

import numpy as np

from ocr_precompute.annotations import Reading
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.parameters import Parameters
from ocr_precompute.samples import Fate, Polygons, Sample
from ocr_precompute.targets.fates import outside_page, polygon_fates
from ocr_precompute.targets.shapes import boxes
from ocr_precompute.understood import (
    KINDS,
    MOST_NAMES,
    NEARLY_ALL,
    UNDERSTOOD_VERSION,
    Tally,
    Understood,
    warning_lines,
)

_PART = 2048  # images counted in one go, so that their words stay in the processor's cache
_EDGE = 1.0  # pixels that a point may lie beyond the image: tools round outwards
_SIZES = (640, 736, 960, 1024, 1280, 1536, 2048)
_STEP, _LARGEST = 32, 8192  # of canonical sizes to recommend, pixels

_CAUSES = {
    "trained": Fate.TRAINS,
    "annotated": Fate.ANNOTATED,
    "outside": Fate.OUTSIDE,
    "no-area": Fate.NO_AREA,
    "small": Fate.SMALL,
    "collapsed": Fate.COLLAPSED,
}
_NOT = -1  # in place of a count of words: the image is not of that kind
Counts = dict[str, np.ndarray]
"""How many words of each image are of a kind, int64 (n,), or _NOT; by kind."""


def understand(
    samples: Sequence[Sample],
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
    parts = [
        _count(samples[i : i + _PART], parameters) for i in range(0, max(1, len(samples)), _PART)
    ]
    counts = {kind: np.concatenate([part[kind] for part, _ in parts]) for kind in parts[0][0]}
    names = [sample.name for sample in samples]
    words, trained = counts.pop("words"), counts.pop("trained")
    _add_notes(counts, names, reading)
    tallies = {kind: _tally(kind, names, each, most) for kind, each in counts.items()}
    missing = tuple((name, 0) for name in reading.unannotated[:most])
    tallies["unannotated"] = Tally("unannotated", 0, len(reading.unannotated), missing)
    kept, needed = _sizes(np.concatenate([sides for _, sides in parts]), parameters)
    return Understood(
        key=key,
        format=reading.format,
        dialect=reading.dialect,
        images=len(samples),
        words=int(words.sum()),
        trained=int(trained.sum()),
        tallies=tuple(tallies[kind] for kind in KINDS if kind in tallies and tallies[kind].images),
        kept=kept,
        size_needed=needed,
        left_out=reading.left_out[:most],
        all_left_out=len(reading.left_out),
        warnings=reading.warnings,
    )


def _key(samples: Sequence[Sample], reading: Reading, data_hash: str) -> str:
    """Hex SHA-256 over all that decides what is understood; the data hash stands for polygons,
    images and parameters.
    """
    declared = [(s.name, s.declared_size) for s in samples if s.declared_size is not None]
    facts = [
        *(UNDERSTOOD_VERSION, data_hash, reading.format, reading.dialect),
        *(declared, [astuple(note) for note in reading.notes]),
        *(reading.unannotated, reading.left_out, reading.warnings),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def refuse_suspicions(understood: Understood, parameters: Parameters, annotations: Path) -> None:
    """Raises InputError if anything is legal and probably not meant. annotations: for messages."""
    remedy = "correct it, or build without --strict"
    problems = [
        Problem("annotations", str(annotations), "", f"{line}; {remedy}")
        for line in warning_lines(understood, parameters)
    ]
    if problems:
        raise InputError(problems)


def _count(samples: Sequence[Sample], parameters: Parameters) -> tuple[Counts, np.ndarray]:
    """Counts of some images by kind, and of each word that only its size may keep from training
    the smaller side of its box, canonical pixels.
    """
    polygons = Polygons.joined([s.polygons for s in samples] or [Polygons.from_list([], [])])
    image = np.repeat(np.arange(len(samples)), [len(s.polygons.lengths) for s in samples])
    sizes = np.fromiter(chain.from_iterable(s.image.size for s in samples), float).reshape(-1, 2)
    low, high = boxes(polygons)
    page = sizes.T[::-1][:, image]  # width and height
    outside = outside_page(polygons, page)
    beyond = _either((low < -_EDGE) | (high > page + _EDGE))
    beyond_file = _either((low < -_EDGE) | (high > page[::-1] + _EDGE))
    scales = (np.array(parameters.size) / sizes).min(axis=1)
    fates, sides = _fates(polygons, scales[image], outside, parameters)
    fates["partly-outside"] = ~polygons.ignore & beyond & ~outside

    def per_image(words: np.ndarray) -> np.ndarray:
        return np.bincount(image[words], minlength=len(samples))

    counts = {kind: _without_zeros(per_image(words)) for kind, words in fates.items()}
    words, trained = np.bincount(image, minlength=len(samples)), per_image(fates["trained"])
    turned = np.fromiter((s.image.turned for s in samples), bool)
    flags = {
        "without-words": words == 0,
        "nothing-trains": (words > 0) & (trained == 0),
        "exif": turned & (per_image(beyond) > 0) & (per_image(beyond_file) == 0),
        **_declared(samples),
    }
    counts |= {kind: np.where(flag, words, _NOT) for kind, flag in flags.items()}
    return counts | {"words": words, "trained": trained}, sides


def _fates(
    polygons: Polygons, scales: np.ndarray, outside: np.ndarray, parameters: Parameters
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Which words train, and which do not by what cause, bool (N,) each; and sides as in _count.

    polygons: in original pixels. scales: of each word, to canonical pixels. outside: whether it
    lies outside its image.
    """
    each = np.repeat(scales, polygons.lengths)[:, None]
    canonical = replace(polygons, points=(polygons.points * each).astype(np.float32))
    fates, sides = polygon_fates(canonical, outside, parameters.size, parameters.recipe)
    by_cause = {kind: fates == fate for kind, fate in _CAUSES.items()}
    by_cause["in-padding"] = by_cause["trained"] & outside
    sized = np.isin(fates, (Fate.TRAINS, Fate.SMALL, Fate.COLLAPSED))
    return by_cause, sides[sized]


def _either(axes: np.ndarray) -> np.ndarray:
    """Whether it holds in x or in y: bool (2, N) to (N,)."""
    return np.asarray(axes[0] | axes[1])


def _without_zeros(counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, counts, _NOT)


def _declared(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Which images are not of the size that their annotation declares, bool (n,) each."""
    turned, other = np.zeros((2, len(samples)), bool)
    for number, sample in enumerate(samples):
        if sample.declared_size is not None and sample.declared_size != sample.image.size:
            swapped = sample.declared_size == sample.image.size[::-1]
            (turned if swapped else other)[number] = True
    return {"declared-turned": turned, "declared-size": other}


def _add_notes(counts: Counts, names: Sequence[str], reading: Reading) -> None:
    """Count what was noted when the annotations were read, of images that are built."""
    place = {name: number for number, name in enumerate(names)} if reading.notes else {}
    noted: dict[str, np.ndarray] = {}
    for note in reading.notes:
        if note.sample in place and note.kind in KINDS:
            of_kind = noted.setdefault(note.kind, np.full(len(names), _NOT))
            number = place[note.sample]
            of_kind[number] = max(of_kind[number], 0) + bool(note.entry)
    if "kept-as-ignore" in noted:  # these have the flag too
        annotated = counts["annotated"] - np.maximum(noted["kept-as-ignore"], 0)
        noted["annotated"] = _without_zeros(annotated)
    counts.update(noted)


def _tally(kind: str, names: Sequence[str], counts: np.ndarray, most: int | None) -> Tally:
    found = np.flatnonzero(counts > _NOT)
    worst = found[np.argsort(-counts[found], kind="stable")][:most].tolist()
    pairs = tuple((names[number], int(counts[number])) for number in worst)
    return Tally(kind, int(counts[found].sum()), len(found), pairs)


def _sizes(sides: np.ndarray, parameters: Parameters) -> tuple[tuple[tuple[int, float], ...], int]:
    """Shares of words that canonical sizes keep, and the longer side that keeps nearly all."""
    smallest, longer = parameters.recipe.min_size, max(parameters.size)
    if not (smallest and len(sides)):
        return (), 0
    kept = tuple(
        (side, round(float(np.mean(sides * (side / longer) >= smallest)), 6))
        for side in sorted({longer, *_SIZES})
    )
    spared = int((1 - NEARLY_ALL) * len(sides))
    needed = longer * smallest / float(np.partition(sides, spared)[spared])
    size = math.ceil(round(needed / _STEP, 6)) * _STEP
    return kept, size if size <= _LARGEST else 0
