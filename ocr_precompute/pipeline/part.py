"""One part of a build, of several that run anywhere at any time; a last one publishes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ocr_precompute.errors import InputError, Problem


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

    def others(self, keys: Sequence[str]) -> frozenset[str]:
        """Keys that are left to other parts. keys: of all shards, in the split's order.

        Which shards exist already has no say in it, so that all parts agree whenever they run.
        """
        return frozenset(keys).difference(keys[self.number - 1 :: self.of])


def chosen_part(text: str | None, finish: bool) -> Part | None:
    """The part that a build is asked for. Raises InputError for one that would also finish."""
    if text and finish:
        reason = "give one of them: parts build, and --finish publishes when all are done"
        raise InputError([Problem("config", "command line", "--part, --finish", reason)])
    return Part.parse(text) if text else None
