"""What a gallery knows: a light index of its samples, and polygons and pictures of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ocr_precompute.images.decoding import fitted_size
from ocr_precompute.parameters import Parameters
from ocr_precompute.reading.split import Split
from ocr_precompute.reports.layers import QUALITIES, layers
from ocr_precompute.reports.page import embedded
from ocr_precompute.reports.survey import FATES, Look, Survey
from ocr_precompute.reports.suspicion import SIGNS
from ocr_precompute.samples import CanonicalSample, Polygons
from ocr_precompute.understood import DONT_CARE

_NOTED = {
    "damaged": "damaged image",
    "declared-size": "of another size than declared",
    "declared-turned": "turned, by the size declared",
    "exif": "points turned, by EXIF",
    "declared-tiny": "coordinates of another unit",
    "nothing-trains": "nothing trains",
    "without-words": "no words",
    "unlabelled-text": "a bad polygon left no label",
    "self-crossing": "self-crossing, left",
    "repaired": "self-crossing, repaired",
    "kept-as-ignore": "bad polygons, don't-care",
}
"""What may be said of a whole image, in a few words."""


@dataclass(frozen=True)
class Kind:
    """Something that a gallery filters by. group: `fate` and `sign` are of polygons, or `image`."""

    key: str
    text: str
    group: str


def kinds(seen: Survey, parameters: Parameters) -> list[Kind]:
    """All that this split has, in order."""
    named = {"outside-image": "outside"}
    size = max(parameters.size)
    texts = {key: DONT_CARE.get(named.get(key, key), "train") for key in FATES.values()}
    found = [
        Kind(key, text.format(min_size=parameters.recipe.min_size, size=size), "fate")
        for key, text in texts.items()
    ]
    found += [Kind(key, text, "sign") for key, text in SIGNS.items()]
    present = [kind for kind in found if kind.key in seen.counts and seen.counts[kind.key].any()]
    return present + [Kind(key, _NOTED[key], "image") for key in _NOTED if key in seen.noted]


def index(split: Split, seen: Survey, chosen: Sequence[int]) -> dict[str, Any]:
    """The index of a gallery: facts about the split, kinds, and a row for each chosen sample.

    A row is [number, name, score in thousandths, polygons, kinds and their counts in turn, kinds
    that make it suspicious, the weightiest first].
    """
    manifest, known = split.manifest, kinds(seen, split.manifest.parameters)
    place = {kind.key: number for number, kind in enumerate(known)}
    names = split.names
    rows = []
    for number in chosen:
        counts: list[int] = []
        for kind in known:
            of = seen.noted if kind.group == "image" else seen.counts
            if count := int(of[kind.key][number]):
                counts += [place[kind.key], count]
        reasons = [place[key] for key in seen.scores.reasons(number) if key in place]
        score = round(float(seen.scores.total[number]) * 1000)
        rows.append([number, names[number], score, int(seen.polygons[number]), counts, reasons])
    understood, (height, width) = manifest.understood, manifest.parameters.size
    return {
        "split": manifest.split,
        "samples": len(split),
        "words": understood.words,
        "trained": understood.trained,
        "size": [height, width],
        "recipe": manifest.parameters.recipe.name,
        "hash": manifest.data_hash[:12],
        "predictions": seen.predictions,
        "kinds": [[kind.key, kind.text, kind.group] for kind in known],
        "fates": list(FATES.values()),
        "signs": list(SIGNS),
        "rows": rows,
    }


def detail(sample: CanonicalSample, seen: Look, labels: Polygons, room: int) -> str:
    """A sample's polygons and pictures as JSON for a page, of at most about `room` bytes.

    Pictures are as large and as good as fits. Polygons that have no room are left out and counted,
    those with a sign last. Each is [fate, signs as bits, x, y, x, y, ...], canonical pixels.
    """
    content = fitted_size(sample.original_size, sample.image.shape[:2])
    shapes = _shapes(sample, seen, labels, room // 2)
    for quality in QUALITIES:
        text = embedded({**shapes, "layers": layers(sample, content, quality)})
        if len(text) <= room:
            break
    return text


def _shapes(sample: CanonicalSample, seen: Look, labels: Polygons, room: int) -> dict[str, Any]:
    content = fitted_size(sample.original_size, sample.image.shape[:2])
    bits = np.zeros(len(sample.fate), np.int64)
    for place, sign in enumerate(SIGNS):
        if sign in seen.signs and sign != "unlabelled":
            bits |= seen.signs[sign].astype(np.int64) << place
    numbers = np.arange(len(bits))
    kept = _within(labels, room, np.argsort(bits == 0, kind="stable"))
    polygons = [
        [int(numbers[n]), int(sample.fate[n]), int(bits[n]), *_flat(labels, n)] for n in kept
    ]
    shapes: dict[str, Any] = {
        "size": list(content),
        "original": list(sample.original_size),
        "polygons": polygons,
        "left": len(bits) - len(polygons),
        "damage": str(sample.damage) if sample.damage else "",
    }
    if seen.comparison is not None:
        predicted, alone = seen.comparison.predictions, seen.comparison.unlabelled
        kept = _within(predicted, room // 4, np.argsort(~alone, kind="stable"))
        shapes["predictions"] = [[int(alone[n]), *_flat(predicted, n)] for n in kept]
        shapes["left"] += len(alone) - len(kept)
    return shapes


def _within(polygons: Polygons, room: int, order: np.ndarray) -> list[int]:
    """Numbers of those that fit, in order, taken in the order given. A point takes 14 bytes."""
    sizes = 14 * polygons.lengths[order] + 20
    return sorted(order[np.cumsum(sizes) <= room].tolist())


def _flat(polygons: Polygons, number: int) -> list[float]:
    first, last = polygons.starts[number : number + 2]
    rounded: list[float] = np.round(polygons.points[first:last].astype(float), 1).ravel().tolist()
    return rounded
