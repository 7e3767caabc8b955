"""Count what becomes of words, from polygons, image sizes and parameters, no pixels.

Counts of parts of a split can be added up: they hold what is said of the whole, and no list of its
words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from ocr_precompute.annotations import Note
from ocr_precompute.parameters import Parameters
from ocr_precompute.samples import Fate, Polygons, Sample
from ocr_precompute.targets.fates import outside_page, polygon_fates
from ocr_precompute.targets.shapes import boxes
from ocr_precompute.understood import KINDS, NEARLY_ALL, Tally

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


@dataclass(frozen=True, eq=False)
class Counted:
    """What was counted of some images.

    words, trained: how many there are, and train. tallies: by kind. sized: how many words only
    their size may keep from training; kept: how many of these each of `sizes_told` keeps; needed:
    how many need a longer side of so many times 32 pixels, int64 (258,).
    """

    images: int
    words: int
    trained: int
    tallies: Mapping[str, Tally]
    sized: int
    kept: tuple[int, ...]
    needed: np.ndarray


def sizes_told(parameters: Parameters) -> tuple[int, ...]:
    """Longer sides of canonical sizes of which it is told how many words they keep."""
    return tuple(sorted({max(parameters.size), *_SIZES}))


def count(
    samples: Sequence[Sample], notes: Sequence[Note], parameters: Parameters, most: int | None
) -> Counted:
    """Counts of some images, which are in order of their names.

    notes: what was noted when they were read. most: names that a tally keeps; None: all of them.
    """
    noted = defaultdict(list)
    for note in notes:
        noted[note.sample].append(note)
    parts = []
    for start in range(0, max(1, len(samples)), _PART):
        part = samples[start : start + _PART]
        own = [note for s in part for note in noted.get(s.name, ())] if noted else []
        parts.append(_count_part(part, own, parameters, most))
    return added(parts, most)


def added(parts: Sequence[Counted], most: int | None) -> Counted:
    """The counts of several parts together, which are in order of their names."""
    if len(parts) == 1:
        return parts[0]
    tallies = defaultdict(list)
    for part in parts:
        for kind, tally in part.tallies.items():
            tallies[kind].append(tally)
    return Counted(
        images=sum(part.images for part in parts),
        words=sum(part.words for part in parts),
        trained=sum(part.trained for part in parts),
        tallies={kind: _sum(each, most) for kind, each in tallies.items()},
        sized=sum(part.sized for part in parts),
        kept=tuple(map(sum, zip(*(part.kept for part in parts), strict=True))),
        needed=np.sum([part.needed for part in parts], axis=0),
    )


def _sum(tallies: Sequence[Tally], most: int | None) -> Tally:
    worst = sorted(chain.from_iterable(t.worst for t in tallies), key=lambda each: -each[1])
    words, images = sum(t.words for t in tallies), sum(t.images for t in tallies)
    return Tally(tallies[0].kind, words, images, tuple(worst[:most]))


def size_needed(counted: Counted) -> int:
    """The longer side that keeps nearly all words, pixels; 0 if no size does."""
    spared = int((1 - NEARLY_ALL) * counted.sized)
    at_least = np.cumsum(counted.needed[::-1])[::-1]  # so many need so many steps or more
    size = int(np.flatnonzero(at_least > spared)[-1]) * _STEP
    return size if size <= _LARGEST else 0


def _count_part(
    samples: Sequence[Sample], notes: Sequence[Note], parameters: Parameters, most: int | None
) -> Counted:
    counts, sides = _count(samples, parameters)
    names = [sample.name for sample in samples]
    words, trained = counts.pop("words"), counts.pop("trained")
    _add_notes(counts, names, notes)
    return Counted(
        images=len(samples),
        words=int(words.sum()),
        trained=int(trained.sum()),
        tallies={kind: _tally(kind, names, each, most) for kind, each in counts.items()},
        sized=len(sides),
        kept=_kept(sides, parameters),
        needed=_needed(sides, parameters),
    )


def _kept(sides: np.ndarray, parameters: Parameters) -> tuple[int, ...]:
    """How many of the words each size keeps. sides: as `_count` gives them."""
    smallest, longer = parameters.recipe.min_size, max(parameters.size)
    return tuple(
        int(np.count_nonzero(sides * (side / longer) >= smallest))
        for side in sizes_told(parameters)
    )


def _needed(sides: np.ndarray, parameters: Parameters) -> np.ndarray:
    """How many words need a longer side of so many steps, int64; the last: of more."""
    smallest, longer = parameters.recipe.min_size, max(parameters.size)
    most = _LARGEST // _STEP + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.ceil(np.round(longer * smallest / sides.astype(np.float64) / _STEP, 6))
    steps = np.nan_to_num(np.clip(steps, 0, most), nan=0)
    return np.bincount(steps.astype(np.int64), minlength=most + 1)


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


def _add_notes(counts: Counts, names: Sequence[str], notes: Sequence[Note]) -> None:
    """Count what was noted when the annotations of images were read."""
    place = {name: number for number, name in enumerate(names)} if notes else {}
    noted: dict[str, np.ndarray] = {}
    for note in notes:
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
