"""The protocols that detections can be evaluated by, under their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ocr.metrics.cleval import cleval
from ocr.metrics.ctw1500 import ctw1500
from ocr.metrics.deteval import deteval, totaltext
from ocr.metrics.icdar import icdar
from ocr.metrics.tally import Tally


@dataclass(frozen=True)
class Protocol:
    """One of them.

    summary: what it counts, in a line. score: takes the polygons that were detected in an image,
    those that are annotated, which of these are don't-care and, if it counts characters, how many
    each has.
    """

    summary: str
    score: Callable[..., Tally]
    counts_characters: bool = False


PROTOCOLS = {
    "icdar": Protocol("ICDAR 2015: pairs with an IoU above 0.5, don't-care left out", icdar),
    "ctw1500": Protocol("CTW1500 and ArT: each detection's best text, IoU above 0.5", ctw1500),
    "totaltext": Protocol("Total-Text: DetEval for polygons, shares 0.7 and 0.6", totaltext),
    "deteval": Protocol("ICDAR 2013: DetEval, shares 0.8 and 0.4, pieces and merges", deteval),
    "cleval": Protocol("CLEval: characters, from the length of each text", cleval, True),
}
