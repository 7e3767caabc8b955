"""What every protocol comes to: precision, recall and H-mean from sums over images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Tally(NamedTuple):
    """What a protocol counts in one image, or in many, don't-care left out.

    recalled: what of the annotated was found, of `annotated`. precise: what of the detected is
    right, of `detected`. The two differ where one text was found in pieces, or several as one.
    They are texts, or characters where the protocol counts those, and may have fractions where it
    gives part of a point.
    """

    recalled: float
    annotated: int
    precise: float
    detected: int

    @property
    def precision(self) -> float:
        """Share of the detected that is right, 0 where nothing was detected."""
        return max(0.0, self.precise) / self.detected if self.detected else 0.0

    @property
    def recall(self) -> float:
        """Share of the annotated that was found, 0 where nothing is annotated."""
        return max(0.0, self.recalled) / self.annotated if self.annotated else 0.0

    @property
    def hmean(self) -> float:
        """Harmonic mean of precision and recall, 0 where both are."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum over images, the same to the last digit in any order of them."""
    columns = list(zip(*tallies, strict=True)) or [()] * 4
    recalled, annotated, precise, detected = columns
    return Tally(math.fsum(recalled), sum(annotated), math.fsum(precise), sum(detected))
