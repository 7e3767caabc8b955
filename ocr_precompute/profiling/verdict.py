"""What a run is bound by, as a value and as the page that says it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ocr_precompute.runtime.stages import Totals


@dataclass(frozen=True)
class Verdict:
    """What a run is bound by.

    bottleneck: its name. share: of the run's time, 0 to 1. gain: how many times as fast the run
    would be at most if that took no time. evidence, advice: sentences.
    """

    bottleneck: str
    share: float
    gain: float
    evidence: tuple[str, ...] = field(default=())
    advice: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def line(self) -> str:
        """In a sentence."""
        return (
            f"bound by {self.bottleneck}, {100 * self.share:.0f} % of the time: at most "
            f"{self.times} times as fast without; try {self.advice[0]}"
        )

    @property
    def times(self) -> str:
        """The gain as a number for people."""
        return f"{self.gain:.2g}" if self.gain < 10 else f"{self.gain:.0f}"


def gain_without(share: float) -> float:
    """How many times as fast a run is at most without a share of its time, 0 to 1."""
    return 1 / (1 - min(share, 0.99))


def shares_told(parts: Mapping[str, float], whose: str, seconds: float) -> list[str]:
    """A sentence for each of the three longest parts. seconds: of all of them."""
    return [
        f"{name} took {part:.2f} s of the {whose}'s {seconds:.2f} s "
        f"({100 * part / (seconds or 1.0):.0f} %)"
        for name, part in list(parts.items())[:3]
    ]


def verdict_page(said: Verdict, run: str) -> Iterator[str]:
    """Markdown: the verdict, its evidence, and what to try. run: what it is about, in a word."""
    yield f"# Bound by {said.bottleneck}"
    yield ""
    yield (
        f"{100 * said.share:.0f} % of the time. Without it the {run} would be at most "
        f"{said.times} times as fast; what is second then bounds it."
    )
    yield from ("", "## Evidence", "", *(f"- {line}" for line in said.evidence))
    advice = (f"{number}. {line}" for number, line in enumerate(said.advice, 1))
    yield from ("", "## What to try", "", *advice)


def parts_page(parts: Mapping[str, float], whose: str, seconds: float) -> Iterator[str]:
    """Markdown: a table of the parts of a run's time. seconds: of all of them."""
    yield from ("", f"## The {whose}'s {seconds:.2f} s", "")
    yield from table(
        ("part", "seconds", "share"),
        (
            (name, f"{part:.2f}", f"{100 * part / (seconds or 1.0):.1f} %")
            for name, part in parts.items()
        ),
    )


def stages_page(totals: Totals, where: str) -> Iterator[str]:
    """Markdown: a table of all stages, the longest first. where: they ran."""
    yield from ("", f"## Stages, {where}", "")
    yield from table(
        ("stage", "times", "seconds", "median"),
        (
            (name, times.count, f"{times.seconds:.2f}", f"{1000 * times.quantile(0.5):.2f} ms")
            for name, times in sorted(totals.stages.items(), key=lambda item: -item[1].seconds)
        ),
    )


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A table in Markdown."""
    head = tuple(head)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
