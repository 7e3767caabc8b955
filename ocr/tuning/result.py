"""What a search came to: in numbers, for JSON, for a screen, and as a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ocr.errors import ModelError
from ocr.inference.postprocess import PostProcess
from ocr.metrics.icdar import MatchCounts
from ocr.reports.validation import Counts, Groups, group_lines
from ocr.tuning.maps import KeptMaps
from ocr.tuning.search import judged, search
from ocr_precompute.errors import PrecomputeError, printable

SEARCHED = ("threshold", "min_score", "unclip_ratio", "min_size")
"""Settings of post-processing that are searched for."""

_MARK = "# Written by ocr-train tune"
_FEW = 30  # images, of which a handful decides
_LOOSER = 0.01  # by how much the mean IoU of matches may fall without a word


@dataclass(frozen=True)
class Reading:
    """What settings of post-processing find on a split.

    counts: of texts. iou: mean IoU of the pairs that match. by_score: of the detections that
    `min_score` 0 leaves. sides, aspects: as of `Validated`.
    """

    settings: PostProcess
    counts: MatchCounts
    iou: float
    by_score: Counts
    sides: Groups
    aspects: Groups

    @property
    def figures(self) -> dict[str, float]:
        """H-mean, precision, recall, average precision, and the mean IoU of what matches."""
        tally = self.counts.tally
        return {
            "hmean": tally.hmean,
            "precision": tally.precision,
            "recall": tally.recall,
            "average_precision": self.by_score.average_precision,
            "mean_iou": self.iou,
        }


@dataclass(frozen=True)
class Tuned:
    """What was found. split: in words. points: pairs of threshold and unclip ratio tried."""

    split: str
    images: int
    points: int
    default: Reading
    tuned: Reading

    @property
    def warnings(self) -> list[str]:
        """What to keep in mind, a sentence each."""
        few = f"only {self.images} images, and " if self.images < _FEW else ""
        warnings = [
            f"these settings were chosen on {few}{printable(self.split)}, where their H-mean is "
            "better than it will be elsewhere; take figures that you report from a split on which "
            "nothing was chosen, with --config and the YAML file"
        ]
        before, after = self.default.iou, self.tuned.iou
        if after < before - _LOOSER:
            warnings.append(
                f"polygons that match fit less well, with a mean IoU of {after:.3f}, before "
                f"{before:.3f}: H-mean asks for 0.5 and no more; look at some before they are cut "
                "out and read"
            )
        return warnings

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": 1,
            **{name: getattr(self, name) for name in ("split", "images", "points", "warnings")},
            "default": _as_dict(self.default),
            "tuned": _as_dict(self.tuned),
        }


def tuned(maps: KeptMaps, base: PostProcess, split: str) -> Tuned:
    """The best settings by the maps of a split, beside `base`.

    Raises PrecomputeError if there is no text to find.
    """
    if not any((~page.ignored).any() for page in maps.pages):
        reason = (
            "holds no text to find, so nothing can be tuned on it; name another with --data.val"
        )
        raise PrecomputeError(f"{split} {reason}")
    best = search(maps, base)
    default, found = (_reading(maps, each) for each in (base, best.settings))
    return Tuned(split, len(maps.pages), best.points, default, found)


def _reading(maps: KeptMaps, settings: PostProcess) -> Reading:
    outcomes = judged(maps, settings)
    counts, of_any_score = outcomes.counts, judged(maps, replace(settings, min_score=0.0)).counts
    total = MatchCounts(sum(counts.matched), counts.annotated, sum(counts.detected))
    iou = outcomes.iou / max(total.matched, 1)
    return Reading(settings, total, iou, of_any_score, outcomes.sides, outcomes.aspects)


def check_configuration(path: Path | None) -> None:
    """Raises ModelError if a configuration there would take the place of another file."""
    if path is None:
        return
    try:
        with path.open("rb") as file:
            if file.read(len(_MARK)) == _MARK.encode():
                return
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        pass
    raise ModelError(f"{path}: is not what tune wrote; give another --yaml, or move it away")


def configuration(found: Tuned, checkpoint: str) -> str:
    """The settings as YAML that lies over any other configuration."""
    before, after = (each.figures["hmean"] for each in (found.default, found.tuned))
    about = (
        f"{_MARK} for {checkpoint}, chosen on {found.split} ({found.images} images):",
        f"# H-mean there {before:.4f} before, {after:.4f} with these. Give it as last --config.",
    )
    settings = {"model": {"postprocess": asdict(found.tuned.settings)}}
    return "\n".join([*map(printable, about), yaml.safe_dump(settings, sort_keys=False)])


def summary(found: Tuned) -> str:
    """For a screen: figures and settings side by side, what to paste, and groups of texts."""
    default, tuned = found.default, found.tuned
    lines = [
        f"{printable(found.split)}: {found.images} images, {default.counts.annotated} texts; "
        f"{found.points} pairs of threshold and unclip_ratio tried, each with all values of "
        "min_score and min_size",
        f"{'':<20}{'default':>9}{'tuned':>9}",
    ]
    names = {"hmean": "H-mean", "average_precision": "average precision"}
    names["mean_iou"] = "mean IoU of matches"
    for name, before in default.figures.items():
        after = tuned.figures[name]
        change = f"{after - before:>+10.4f}" if round(after - before, 4) else ""
        lines.append(f"{names.get(name, name):<20}{before:>9.4f}{after:>9.4f}{change}")
    at_first, at_last = _values(default.settings), _values(tuned.settings)
    lines += [f"{name:<20}{at_first[name]:>9.4g}{at_last[name]:>9.4g}" for name in SEARCHED]
    changed = [name for name in SEARCHED if at_first[name] != at_last[name]]
    if changed:
        flags = " ".join(f"--model.postprocess.{name} {at_last[name]:.6g}" for name in changed)
        lines.append(f"settings: {flags}")
    else:
        lines.append("settings: no others find more; the default ones stay")
    return "\n".join([*lines, *group_lines(tuned.sides, tuned.aspects)])


def _values(settings: PostProcess) -> Mapping[str, float]:
    """What was searched, as numbers."""
    told = {name: getattr(settings, name) for name in SEARCHED}
    return {**told, "unclip_ratio": settings.ratio}


def _as_dict(reading: Reading) -> dict[str, Any]:
    return {
        "settings": asdict(reading.settings),
        **reading.figures,
        "counts": reading.counts._asdict(),
        "curve": reading.by_score.curve(),
        "by_shorter_side": asdict(reading.sides),
        "by_aspect": asdict(reading.aspects),
    }
