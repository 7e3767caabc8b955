"""What a report shows of the validation images with the most mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ocr.reports.files import many
from ocr.reports.run import Run
from ocr.reports.validation import Outcome


def mistakes(run: Run, pictures: Mapping[str, str]) -> list[dict[str, Any]]:
    """The worst images; each shape is [kind, score or null, x, y, x, y, ...]."""
    if run.validated is None:
        said = "No validation has left its worst images here (validation.json)."
        return [{"kind": "note", "text": said}]
    worst = run.validated.worst
    if not worst:
        said = f"No mistake in any of {many(run.validated.images, 'image')}."
        return [{"kind": "text", "text": said}]
    said = (
        f"Of {many(run.validated.images, 'image')} of the last validation those with the most "
        "mistakes: texts missed, and detections that match none. Detections that lie in don't-care "
        "count as nothing."
    )
    return [
        {"kind": "text", "text": said},
        {"kind": "worst", "images": [_shown(each, pictures) for each in worst]},
    ]


def _shown(outcome: Outcome, pictures: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "size": list(outcome.size),
        "picture": pictures.get(outcome.picture, ""),
        "matched": outcome.matched,
        "missed": outcome.missed,
        "wrong": outcome.wrong,
        "left": outcome.left,
        "shapes": [
            [
                shape.kind,
                shape.score,
                *(round(value, 1) for point in shape.points for value in point),
            ]
            for shape in outcome.shapes
        ],
    }
