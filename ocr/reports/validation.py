"""What `validation.json` says of a validation: counts by score, and the worst images.

The training writes it after each validation, each process of its own share: `validation.json`,
`validation.1.json`. Pictures of the worst images lie beside it, in `validation/`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

from ocr.reports.files import count, fields, items, json_object, number, text
from ocr_precompute.errors import ImageError, one_line
from ocr_precompute.files import read_bounded
from ocr_precompute.images.jpeg import MAGIC, read_header

FILE_NAME, PICTURES = "validation.json", "validation"
MOST_IMAGES = 24
MOST_SIDE = 640  # pixels of a picture
MOST_POLYGONS = 1000  # of an image
MOST_VERTICES = 64
BINS = 100  # of scores, each a hundredth wide
SIDES: tuple[float, ...] = (8, 12, 16, 24, 32, 64)
"""Where groups of texts begin by their shorter side, canonical pixels."""
ASPECTS: tuple[float, ...] = (2, 4, 8, 16)
"""Where they begin by their longer side / their shorter side."""
_MOST_JSON, _MOST_PICTURE = 32_000_000, 1_000_000  # bytes
_MOST_COUNT = 10**12
_NAME = re.compile(r"validation(?:\.(\d{1,5}))?\.json")
PICTURE_NAME = re.compile(r"\d{1,5}-[0-9a-f]{16}\.jpg")

Kind = Literal["found", "missed", "wrong", "care"]


@dataclass(frozen=True)
class Counts:
    """Texts of a validation, don't-cares left out: annotated, and detected and matched by score.

    detected, matched: for each hundredth of the score, from 0, how many have one in it.
    """

    annotated: int = 0
    detected: tuple[int, ...] = (0,) * BINS
    matched: tuple[int, ...] = (0,) * BINS

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.annotated + other.annotated,
            tuple(a + b for a, b in zip(self.detected, other.detected, strict=True)),
            tuple(a + b for a, b in zip(self.matched, other.matched, strict=True)),
        )

    def at(self, first: int) -> tuple[float, float, float]:
        """Precision, recall and H-mean of the detections from that hundredth of the score on."""
        return _ratios(self.annotated, sum(self.detected[first:]), sum(self.matched[first:]))

    def rising(self, first: int) -> list[tuple[float, float, float]]:
        """Precision, recall and H-mean of all, then of those from each hundredth after `first`."""
        return [self.at(0), *(self.at(number) for number in range(first + 1, BINS))]

    def curve(self) -> list[dict[str, float]]:
        """What each hundredth of the score that is asked for gives, for JSON."""
        names = ("min_score", "precision", "recall", "hmean")
        return [
            dict(zip(names, (number / BINS, *point), strict=True))
            for number, point in enumerate(self.rising(0))
        ]

    @property
    def average_precision(self) -> float:
        """Area under precision over recall, as the score that is asked for falls.

        Precision at a recall is the best at that recall or a higher one (Everingham et al. 2010,
        the PASCAL VOC challenge, as of 2010); what was never detected adds nothing.
        """
        points = self.rising(0)
        best = accumulate((precision for precision, _, _ in points), max)
        recalls = [recall for _, recall, _ in points]
        steps = zip(recalls, [*recalls[1:], 0.0], best, strict=True)
        return math.fsum((recall - after) * precision for recall, after, precision in steps)


@dataclass(frozen=True)
class Groups:
    """Texts of a validation by a measure of theirs, don't-cares left out.

    bounds: where each group but the first begins. annotated, detected, matched: how many there are
    in each group. A pair that matches is in its text's group, and a detection that matches nothing
    in its own.
    """

    bounds: tuple[float, ...]
    annotated: tuple[int, ...]
    detected: tuple[int, ...]
    matched: tuple[int, ...]

    @classmethod
    def none(cls, bounds: tuple[float, ...]) -> Groups:
        """Of no text."""
        return cls(bounds, *[(0,) * (len(bounds) + 1)] * 3)

    def __add__(self, other: Groups) -> Groups:
        return Groups(
            self.bounds,
            *(
                tuple(a + b for a, b in zip(getattr(self, name), getattr(other, name), strict=True))
                for name in ("annotated", "detected", "matched")
            ),
        )

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of each group in which there is anything, under `GROUP_HEAD`."""
        bounds = [f"{bound:g}" for bound in self.bounds]
        between = [f"{low} to {high}" for low, high in pairwise(bounds)]
        names = [f"under {bounds[0]}", *between, f"from {bounds[-1]}"]
        counts = list(zip(self.annotated, self.detected, self.matched, strict=True))
        return [
            (name, f"{each[0]}", f"{each[1]}", *(f"{value:.4f}" for value in _ratios(*each)))
            for name, each in zip(names, counts, strict=True)
            if any(each)
        ]


GROUP_HEAD = ("texts", "detections", "precision", "recall", "H-mean")
"""What the cells of `Groups.rows` are, after the group's name."""


def group_lines(sides: Groups, aspects: Groups) -> list[str]:
    """Both as tables for a screen, each after an empty line."""
    lines = []
    for head, groups in (("shorter side, px", sides), ("longer / shorter", aspects)):
        rows = [(head, *GROUP_HEAD), *groups.rows()]
        lines += ["", *(f"{row[0]:<18}" + "".join(f"{c:>12}" for c in row[1:]) for row in rows)]
    return lines


def _ratios(annotated: int, detected: int, matched: int) -> tuple[float, float, float]:
    """Precision, recall and H-mean, each 0 where it is undefined."""
    precision, recall = matched / max(detected, 1), matched / max(annotated, 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-12)


@dataclass(frozen=True)
class Shape:
    """A polygon to draw, xy in canonical pixels, and its score if it was detected."""

    kind: Kind
    points: tuple[tuple[float, float], ...]
    score: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    size: height and width of its canonical pixels, without padding. picture: name of its JPEG.
    matched, missed, wrong: texts. shapes: at most MOST_POLYGONS; left: further ones.
    """

    name: str
    size: tuple[int, int]
    picture: str
    matched: int
    missed: int
    wrong: int
    shapes: tuple[Shape, ...] = ()
    left: int = 0

    @property
    def order(self) -> tuple[int, str]:
        """What outcomes are sorted by, the worst first."""
        return -(self.missed + self.wrong), self.name


@dataclass(frozen=True)
class Validated:
    """One process's share of a validation, or those of all processes.

    epoch: counted from 0. step: steps done. min_score: of post-processing. best: epoch, step,
    H-mean and counts of the best validation so far. sides, aspects: by shorter side in canonical
    pixels, and by longer side / shorter side; nothing where a record is older than these.
    """

    epoch: int
    step: int
    images: int
    min_score: float
    counts: Counts
    best: tuple[int, int, float, Counts] | None = None
    worst: tuple[Outcome, ...] = ()
    sides: Groups | None = None
    aspects: Groups | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        best = self.best and dict(zip(("epoch", "step", "hmean"), self.best, strict=False))
        return {
            "format": 1,
            **{name: getattr(self, name) for name in ("epoch", "step", "images", "min_score")},
            "counts": vars(self.counts),
            "sides": self.sides and vars(self.sides),
            "aspects": self.aspects and vars(self.aspects),
            "best": best and {**best, "counts": vars(self.best[3]) if self.best else None},
            "worst": [
                {**vars(each), "shapes": [vars(shape) for shape in each.shapes]}
                for each in self.worst
            ],
        }


def file_name(process: int) -> str:
    """Of a process's file."""
    return FILE_NAME if not process else f"validation.{process}.json"


def worst_of(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """The worst, the worst first; images without a mistake are none of them."""
    wrong = (each for each in outcomes if each.missed + each.wrong)
    return tuple(sorted(wrong, key=lambda each: each.order)[:MOST_IMAGES])


def read_validations(folder: Path) -> tuple[Validated | None, list[str]]:
    """The last validation of a run, all processes' shares together; and what is wrong with it.

    Shares of an earlier validation, as of a process that was killed, are left out and noted.
    Raises OSError if the folder cannot be read.
    """
    shares: dict[str, Validated] = {}
    notes: list[str] = []
    for path in sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))[:64]:
        try:
            share = _validated(json_object(read_bounded(path, _MOST_JSON)))
        except OSError as error:
            notes.append(f"{path.name}: cannot be read ({error.strerror or one_line(error)})")
            continue
        if share is None:
            notes.append(f"{path.name}: is damaged, or no record of a validation; left out")
        else:
            shares[path.name] = share
    if not shares:
        return None, notes
    last = max((share.step, share.epoch) for share in shares.values())
    for name, share in shares.items():
        if (share.step, share.epoch) != last:
            notes.append(f"{name}: is of an earlier validation, of step {share.step}; left out")
    return merged([s for s in shares.values() if (s.step, s.epoch) == last]), notes


def merged(shares: Sequence[Validated]) -> Validated:
    """The shares of several processes in one validation, as one."""
    first, bests = shares[0], [share.best for share in shares if share.best is not None]
    best = None
    if bests:
        epoch, step, hmean, _ = max(bests, key=lambda best: (best[2], best[1]))
        of_it = [counts for _, at, _, counts in bests if at == step]
        best = epoch, step, hmean, sum(of_it, Counts())
    return Validated(
        epoch=first.epoch,
        step=first.step,
        images=sum(share.images for share in shares),
        min_score=first.min_score,
        counts=sum((share.counts for share in shares), Counts()),
        best=best,
        worst=worst_of(each for share in shares for each in share.worst),
        sides=_together([share.sides for share in shares]),
        aspects=_together([share.aspects for share in shares]),
    )


def _together(groups: Sequence[Groups | None]) -> Groups | None:
    """Their sum; none if any of them is not known."""
    known = [each for each in groups if each is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(groups) else None


def read_picture(folder: Path, outcome: Outcome) -> bytes | None:
    """The JPEG of an image; None if there is none, or it is not what this package writes."""
    if not PICTURE_NAME.fullmatch(outcome.picture):
        return None
    try:
        data = read_bounded(folder / PICTURES / outcome.picture, _MOST_PICTURE)
        height, width = read_header(data).size if data.startswith(MAGIC) else (0, 0)
    except (OSError, ImageError):
        return None
    return data if 0 < max(height, width) <= 2 * MOST_SIDE else None


def _validated(said: Mapping[str, Any] | None) -> Validated | None:
    """What a file says; None if it does not say all that is needed."""
    said = fields(said)
    epoch, step, images = (count(said.get(name)) for name in ("epoch", "step", "images"))
    min_score, counts = number(said.get("min_score")), _counts(said.get("counts"))
    if epoch is None or step is None or images is None or min_score is None or counts is None:
        return None
    best, has = fields(said.get("best")), None
    at, when, hmean = count(best.get("epoch")), count(best.get("step")), number(best.get("hmean"))
    best_counts = _counts(best.get("counts"))
    if at is not None and when is not None and hmean is not None and best_counts is not None:
        has = at, when, hmean, best_counts
    outcomes = (_outcome(fields(each)) for each in items(said.get("worst"), MOST_IMAGES))
    worst = worst_of(each for each in outcomes if each is not None)
    return Validated(
        *(epoch, step, images, min(max(min_score, 0.0), 1.0), counts, has, worst),
        sides=_groups(said.get("sides"), SIDES),
        aspects=_groups(said.get("aspects"), ASPECTS),
    )


def _counts(said: object) -> Counts | None:
    annotated = count(fields(said).get("annotated"))
    detected, matched = (_whole(fields(said).get(name), BINS) for name in ("detected", "matched"))
    if annotated is None or annotated > _MOST_COUNT or detected is None or matched is None:
        return None
    return Counts(annotated, detected, matched)


def _groups(said: object, bounds: tuple[float, ...]) -> Groups | None:
    """Groups that begin where they do here; None if they do not, or are none."""
    if items(fields(said).get("bounds"), len(bounds) + 1) != list(bounds):
        return None
    names = ("annotated", "detected", "matched")
    counts = [_whole(fields(said).get(name), len(bounds) + 1) for name in names]
    known = [each for each in counts if each is not None]
    return Groups(bounds, *known) if len(known) == len(names) else None


def _whole(said: object, many: int) -> tuple[int, ...] | None:
    """So many counts; None if it is anything else."""
    counts = [count(value) for value in items(said, many)]
    known = tuple(value for value in counts if value is not None and value <= _MOST_COUNT)
    return known if len(known) == many else None


def _outcome(said: Mapping[str, Any]) -> Outcome | None:
    size = [count(side) for side in items(said.get("size"), 2)]
    matched, missed, wrong = (count(said.get(name)) for name in ("matched", "missed", "wrong"))
    height, width = size if len(size) == 2 else (None, None)
    if not height or not width or matched is None or missed is None or wrong is None:
        return None
    shapes = (_shape(fields(each)) for each in items(said.get("shapes"), MOST_POLYGONS))
    return Outcome(
        name=text(said.get("name"), 400) or "without a name",
        size=(height, width),
        picture=text(said.get("picture"), 60),
        matched=matched,
        missed=missed,
        wrong=wrong,
        shapes=tuple(shape for shape in shapes if shape is not None),
        left=count(said.get("left")) or 0,
    )


def _shape(said: Mapping[str, Any]) -> Shape | None:
    kind, points = said.get("kind"), []
    if kind not in ("found", "missed", "wrong", "care"):
        return None
    for pair in items(said.get("points"), MOST_VERTICES):
        x, y = (number(value) for value in [*items(pair, 2), None, None][:2])
        if x is None or y is None:
            return None
        points.append((x, y))
    return Shape(kind, tuple(points), number(said.get("score"))) if len(points) > 2 else None
