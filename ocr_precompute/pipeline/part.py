"""One part of a build, of several that run anywhere at any time; a last one publishes.

Where samples are cut into shards depends on their names alone. So a part knows which are its own
before anybody has looked at an image, and looks at no others.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ocr_precompute.errors import InputError, Problem
from ocr_precompute.format.boundaries import bounds_of_names

_RUNS = 32  # of shards that follow each other, which a part has of a large split: equal work


@dataclass(frozen=True)
class Share:
    """The samples of one part: those from one name to another, several times.

    firsts, lasts: those names, both of samples in it, in order.
    """

    firsts: tuple[str, ...]
    lasts: tuple[str, ...]

    def holds(self, name: str) -> bool:
        """Whether a sample of that name is in it."""
        run = self.run(name)
        return run >= 0 and name <= self.lasts[run]

    def run(self, name: str) -> int:
        """Number of the first name that it lies behind, or is; -1 if none."""
        return bisect_right(self.firsts, name) - 1


@dataclass(frozen=True)
class Part:
    """The part of that number, from 1 on, of so many."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Part:
        """The part that I/N means. Raises InputError if it means none."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        part = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= part.number <= part.of:
            reason = "give two whole numbers, I/N with I from 1 to N, as in 3/16"
            raise InputError([Problem("config", "command line", f"--part {text!r}", reason)])
        return part

    def share(self, names: Callable[[], Iterable[str]], length: int) -> Share:
        """What is this part's of all samples, in whole shards of about that length.

        names: gives the names of all samples, in order; called twice. What is there already has no
        say in it, so that all parts agree whenever they run.
        """
        bounds = list(bounds_of_names(names(), length))
        run = max(1, len(bounds) // (_RUNS * self.of))
        first, step = (self.number - 1) * run, self.of * run
        runs = [bounds[start : start + run] for start in range(first, len(bounds), step)]
        ends = {each for some in runs for each in (some[0][0], some[-1][1] - 1)}
        at = {number: name for number, name in enumerate(names()) if number in ends}
        return Share(
            tuple(at[some[0][0]] for some in runs), tuple(at[some[-1][1] - 1] for some in runs)
        )


def chosen_part(text: str | None, finish: bool) -> Part | None:
    """The part that a build is asked for. Raises InputError for one that would also finish."""
    if text and finish:
        reason = "give one of them: parts build, and --finish publishes when all are done"
        raise InputError([Problem("config", "command line", "--part, --finish", reason)])
    return Part.parse(text) if text else None
