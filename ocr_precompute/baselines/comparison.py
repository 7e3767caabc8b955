"""Is it slower? Ratios of speeds with the interval that chance leaves, and what to make of them.

The interval is the percentile bootstrap's (Efron and Tibshirani, An Introduction to the Bootstrap,
1993, section 13.3), of ratios of medians over rounds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ocr_precompute.baselines.baseline import Baseline, Rates
from ocr_precompute.errors import InputError, Problem

_RESAMPLES = 10_000
_INTERVAL = (2.5, 97.5)  # percent


@dataclass(frozen=True)
class Ratio:
    """How fast something is now, as a share of how fast it was.

    before, now: samples per second, medians over rounds. ratio: of the two, and low, high: its 95 %
    interval; all three corrected for how fast the machine itself was.
    """

    name: str
    before: float
    now: float
    ratio: float
    low: float
    high: float

    def is_slower(self, max_regression: float) -> bool:
        """Whether the whole interval lies beyond that share less."""
        return self.high < 1 - max_regression

    def cells(self, max_regression: float) -> tuple[str, ...]:
        """Of a row of a table: name, before, now, ratio, interval, and a word if it is slower."""
        interval = f"{self.low:.3f} to {self.high:.3f}"
        word = "slower" if self.is_slower(max_regression) else ""
        rates = f"{self.before:,.1f}", f"{self.now:,.1f}"
        return self.name, *rates, f"{self.ratio:.3f}", interval, word


@dataclass(frozen=True)
class Comparison:
    """Ratios of all that was measured. max_regression: share of the speed that may be lost."""

    ratios: tuple[Ratio, ...]
    max_regression: float

    @property
    def slower(self) -> tuple[str, ...]:
        """What has become slower by more than that, beyond chance."""
        return tuple(each.name for each in self.ratios if each.is_slower(self.max_regression))

    @property
    def line(self) -> str:
        """In a sentence."""
        if not self.slower:
            return f"nothing is slower by more than {self.max_regression:.0%}, beyond chance"
        return f"slower by more than {self.max_regression:.0%}: {'; '.join(self.slower)}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "max_regression": self.max_regression,
            "slower": list(self.slower),
            "ratios": {each.name: asdict(each) for each in self.ratios},
        }


def compared(baseline: Baseline, now: Baseline, max_regression: float) -> Comparison:
    """With a baseline that was measured at another time: rounds of the two have no pairs.

    Each speed counts in samples by the fixed work's time, so that a machine that is slower today as
    a whole changes nothing.
    """

    def ratio(name: str) -> Ratio:
        random = np.random.default_rng(0)
        before, after = (_resampled(each, name, random) for each in (baseline, now))
        return _ratio(name, baseline.rates[name], now.rates[name], after / before)

    return Comparison(tuple(ratio(name) for name in now.rates), max_regression)


def compared_in_turn(before: Rates, now: Rates, max_regression: float) -> Comparison:
    """Of two that took turns: each round is a pair, and was of one machine at one time."""

    def ratio(name: str) -> Ratio:
        pairs = np.array(now[name]) / np.array(before[name])
        chosen = np.random.default_rng(0).integers(len(pairs), size=(_RESAMPLES, len(pairs)))
        ratios = np.median(pairs[np.vstack([np.arange(len(pairs)), chosen])], axis=1)
        return _ratio(name, before[name], now[name], ratios)

    return Comparison(tuple(ratio(name) for name in now), max_regression)


def _resampled(measured: Baseline, name: str, random: np.random.Generator) -> np.ndarray:
    """Samples by the fixed work's time: of the rounds as they are, then of each resample."""
    rounds = len(measured.reference)
    chosen = random.integers(rounds, size=(_RESAMPLES, rounds))
    chosen = np.vstack([np.arange(rounds), chosen])
    rates, seconds = np.array(measured.rates[name]), np.array(measured.reference)
    return np.asarray(np.median(rates[chosen], axis=1) * np.median(seconds[chosen], axis=1))


def _ratio(name: str, before: Sequence[float], now: Sequence[float], ratios: np.ndarray) -> Ratio:
    """ratios: that of the rounds as they are, then those of resamples."""
    low, high = np.percentile(ratios[1:], _INTERVAL)
    medians = float(np.median(before)), float(np.median(now))
    return Ratio(name, *medians, float(ratios[0]), float(low), float(high))


def regression_share(text: str) -> float:
    """A share as given on the command line, 10% or 0.1. Raises InputError for anything else."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)(%?)", text.strip())
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= share < 1:
        reason = "give a share of the speed that may be lost, as in 10% or 0.1"
        raise InputError([Problem("config", "command line", f"--max-regression {text!r}", reason)])
    return share
