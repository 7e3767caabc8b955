"""A baseline: what was measured, on which machine and under which conditions, as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, ValidationError, model_validator

from ocr_precompute.baselines import LEAST_ROUNDS
from ocr_precompute.baselines.machine import Machine
from ocr_precompute.errors import InputError, Problem, one_line
from ocr_precompute.files import json_bytes, read_bounded, replace_file
from ocr_precompute.parameters import Frozen

_MOST_BYTES = 4_000_000
_REGULAR = 1e-12  # least of anything measured, and the inverse of the most

Rates = Mapping[str, Sequence[float]]
"""Samples a second by what gave them, one a round."""

Measured = Annotated[float, Field(gt=_REGULAR, lt=1 / _REGULAR)]


class Measuring(Frozen):
    """What is measured, and where.

    workload: which fixed work is timed beside it. conditions: by name; speeds of others cannot be
    compared. versions: of libraries; they are told, and may differ.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: Literal["bench", "training"]
    machine: Machine
    workload: str
    conditions: dict[str, JsonValue]
    versions: dict[str, str] = Field(default_factory=dict)


class Baseline(Measuring):
    """Speeds that were measured.

    rates: samples per second by what gave them, one a round. reference: seconds that the fixed work
    took in each round.
    """

    reference: tuple[Measured, ...] = Field(min_length=1)
    rates: dict[str, tuple[Measured, ...]] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_whole_rounds(self) -> Baseline:
        for name, rates in self.rates.items():
            if len(rates) != len(self.reference):
                raise ValueError(
                    f"rates of {name!r} are of {len(rates)} rounds, the reference of "
                    f"{len(self.reference)}"
                )
        return self


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write it whole. Raises InputError if the file cannot be written."""
    try:
        replace_file(path, json_bytes(baseline.model_dump(mode="json")))
    except OSError as error:
        raise _problem(path, f"cannot be written: {error.strerror}") from error


def read_baseline(path: Path) -> Baseline:
    """Read one. Raises InputError, with all that is wrong with it, if it cannot be used."""
    try:
        found = Baseline.model_validate(json.loads(read_bounded(path, _MOST_BYTES)))
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problems = [
            Problem("config", str(path), ".".join(map(str, found["loc"])), one_line(found["msg"]))
            for found in error.errors()
        ]
        raise InputError(problems) from error
    except (ValueError, RecursionError) as error:
        raise _problem(path, f"is no baseline: {one_line(error)}; save one") from error
    if len(found.reference) < LEAST_ROUNDS:
        reason = f"is of {len(found.reference)} rounds; {LEAST_ROUNDS} are the least; save another"
        raise _problem(path, reason)
    return found


def check_comparable(path: Path, baseline: Baseline, now: Measuring) -> None:
    """Raises InputError, with every difference, if the two are not of the same work and machine.

    A condition that only one of them knows, as of another version of this package, is no
    difference.
    """
    if baseline.kind != now.kind:
        raise _problem(path, f"is a baseline of kind {baseline.kind}; one of {now.kind} is needed")
    found = [f"was measured on {said}" for said in now.machine.differences(baseline.machine)]
    if baseline.workload != now.workload:
        found.append(f"used reference work {baseline.workload}; there is {now.workload} now")
    found += [
        f"was measured with {name} {_said(before)} instead of {_said(now.conditions[name])}"
        for name, before in sorted(baseline.conditions.items())
        if name in now.conditions and before != now.conditions[name]
    ]
    if found:
        what = "; save a baseline here and now, and compare with that"
        raise InputError([Problem("config", str(path), "", text + what) for text in found])


def _said(value: JsonValue) -> str:
    return one_line(json.dumps(value))


def _problem(path: Path, reason: str) -> InputError:
    return InputError([Problem("config", str(path), "", reason)])
