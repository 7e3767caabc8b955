"""What a report shows of how a training learnt: losses, H-mean, and what min_score decides."""

from __future__ import annotations

import math
from typing import Any

from ocr.reports.charts import Axis, Chart, Curve, Mark, short
from ocr.reports.files import many
from ocr.reports.metrics import LOSSES, SCORES
from ocr.reports.run import Run
from ocr.reports.validation import BINS, GROUP_HEAD, Groups, Validated

_PARTS = {"train/prob_loss": "probability", "train/thresh_loss": "threshold"}
_PARTS |= {"train/binary_loss": "binary"}
_NAMES = {"val/hmean": "H-mean", "val/precision": "precision", "val/recall": "recall"}


def learning(run: Run) -> list[dict[str, Any]]:
    """The curves of the losses."""
    points = run.curves.points
    if not any(points.get(name) for name in LOSSES):
        return [_note(f"There are no curves of losses: {_why(run)}.")]
    joined = run.curves.width
    each = "a step that was logged" if joined == 1 else f"the mean of {joined} logged steps"
    parts = []
    if points.get("train/loss"):
        about = f"What the optimiser lowers, of a training batch; each point is {each}."
        parts.append(_curves(run, "Loss", about, {"train/loss": "loss"}))
    if any(points.get(name) for name in _PARTS):
        about = "Its three parts, before they are weighted and added."
        parts.append(_curves(run, "Parts of the loss", about, _PARTS))
    return parts


def scores(run: Run) -> list[dict[str, Any]]:
    """Precision, recall and H-mean: over the epochs, and over the score that is asked for."""
    points, parts = run.curves.points, []
    if any(points.get(name) for name in SCORES):
        about = "Over all validation images; a match is an IoU above 0.5."
        parts.append(_curves(run, "H-mean, precision, recall", about, _NAMES, most=1.0))
    elif run.validated is None:
        reason = _why(run) if run.logger != "csv" else "no validation was logged"
        parts.append(_note(f"There are no curves of H-mean, precision and recall: {reason}."))
    if run.validated is not None:
        parts += _tradeoff(run.validated)
        parts += _grouped(run.validated)
    elif run.record.state or run.processes:
        parts.append(
            _note(
                "There is no validation.json, so nothing is known about other values of min_score."
            )
        )
    return parts


def _why(run: Run) -> str:
    if run.logger == "tensorboard":
        return "they are in TensorBoard's files; with the CSVLogger they would be here"
    if not run.logger:
        return "there is no metrics.csv, which Lightning's CSVLogger writes"
    return "none was logged yet; trainer.log_every_n_steps says how often one is"


def _note(text: str) -> dict[str, Any]:
    return {"kind": "note", "text": text}


def _curves(
    run: Run, title: str, about: str, names: dict[str, str], most: float | None = None
) -> dict[str, Any]:
    curves = tuple(
        Curve(label, tuple((x, _rounded(y)) for x, y in run.epochs.placed(points)))
        for name, label in names.items()
        if (points := run.curves.points.get(name))
    )
    xs, ys = ([point[axis] for curve in curves for point in curve.points] for axis in (0, 1))
    x, y = Axis.over(run.epochs.unit, xs), Axis.over("", ys, most=most)
    return Chart(title, about, x, y, curves).as_dict()


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _tradeoff(validated: Validated) -> list[dict[str, Any]]:
    """Precision against recall, and H-mean, as min_score rises."""
    first = min(int(validated.min_score * BINS + 1e-9), BINS - 1)
    last, where = validated.counts.rising(first), _where(validated)
    if not validated.counts.annotated and not sum(validated.counts.detected):
        return [_note(f"The last validation ({where}) had no text, and none was found.")]
    if not sum(validated.counts.matched):
        said = f"Nothing that the last validation ({where}) found matches a text"
        return [_note(f"{said}, whatever min_score asks for.")]
    curves = [Curve("last validation", _against(last))]
    if validated.best is not None and validated.best[1] != validated.step:
        best = validated.best[3].rising(first)
        curves.append(Curve(f"best, epoch {validated.best[0] + 1}", _against(best)))
    place = max(range(len(last)), key=lambda number: (last[number][2], -number))
    marks = [Mark(_rounded(last[0][1]), _rounded(last[0][0]), f"{validated.min_score:g}")]
    if place:
        precision, recall, _ = last[place]
        marks.append(Mark(_rounded(recall), _rounded(precision), f"{(first + place) / BINS:g}"))
    rows = tuple(
        (_score(validated, first, number), *(f"{value:.4f}" for value in last[number]))
        for number in range(len(last))
    )
    about = (
        "What is varied is min_score of post-processing, the score that a detection needs, upwards "
        f"from {validated.min_score:g}, the run's own: what scores less was not looked at. Matches "
        f"are those of the last validation ({where})."
    )
    chart = Chart(
        "Precision against recall",
        about,
        Axis.over("recall", [], most=1.0),
        Axis.over("precision", [], most=1.0),
        tuple(curves),
        tuple(marks),
        ("min_score", "precision", "recall", "H-mean"),
        rows,
    )
    said = f"At min_score {validated.min_score:g}: H-mean {last[0][2]:.4f}. "
    if place:
        said += f"Best here at {(first + place) / BINS:g}: {last[place][2]:.4f}."
    else:
        said += "No higher value gives a better one."
    average = validated.counts.average_precision
    said += f" Average precision, the area under the curve: {average:.4f}."
    return [chart.as_dict() | {"said": said}]


def _grouped(validated: Validated) -> list[dict[str, Any]]:
    """By size and shape of the texts."""
    groups: dict[str, Groups | None] = {
        "shorter side, px": validated.sides,
        "longer / shorter side": validated.aspects,
    }
    tables = [
        {"kind": "table", "head": [name, *GROUP_HEAD], "rows": [list(row) for row in rows]}
        for name, each in groups.items()
        if each is not None and (rows := each.rows())
    ]
    about = (
        "By the shorter side of texts, in pixels of the canonical size, and by how many times as "
        "long they are: what was found of the last validation's texts of each group. A wrong "
        "detection counts in the group of its own size."
    )
    return [{"kind": "text", "text": about}, *tables] if tables else []


def _where(validated: Validated) -> str:
    images = many(validated.images, "image")
    if not validated.step:  # without a training
        return images
    return f"epoch {validated.epoch + 1}, step {validated.step}, {images}"


def _score(validated: Validated, first: int, number: int) -> str:
    return short(validated.min_score) if not number else f"{(first + number) / BINS:.2f}"


def _against(points: list[tuple[float, float, float]]) -> tuple[tuple[float, float], ...]:
    """(recall, precision) of each, without those that find nothing."""
    return tuple(
        (_rounded(recall), _rounded(precision))
        for precision, recall, hmean in points
        if hmean > 0 and math.isfinite(hmean)
    )
