"""`ocr-train baseline save` and `compare`, whose trainings are processes of their own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocr.baselines import RATE
from ocr_precompute.baselines import DEFAULT_REGRESSION, LEAST_ROUNDS
from ocr_precompute.baselines.baseline import (
    Baseline,
    Measuring,
    check_comparable,
    read_baseline,
    write_baseline,
)
from ocr_precompute.baselines.comparison import (
    Comparison,
    compared,
    compared_in_turn,
    regression_share,
)
from ocr_precompute.errors import PrecomputeError, error_lines

_DESCRIPTION = """\
Measure how fast a configuration trains, keep it as a baseline, and see later whether a training has
become slower: after an upgrade, another setting, a change of code.

Each round is a training of its own process: some steps to warm up, then those that are timed. There
is no validation, no logger and no checkpoint, and the loader keeps to data.threads. With a saved
baseline the speed counts by a fixed work that was timed in both, and another processor or GPU is
refused. With --against both configurations take turns. The interval of the ratio is 95 % of a
bootstrap; it is slower only if the whole interval lies beyond --max-regression.
"""
_EPILOG = """\
Whatever else is given goes to `ocr-train fit`, so --data.batch_size 16 measures that.

examples:
  ocr-train baseline save baseline.json --config configs/train.yaml
  ocr-train baseline compare baseline.json --config configs/train.yaml --max-regression 5%
  ocr-train baseline compare --against configs/half.yaml --config configs/train.yaml

Exit status: 0 done, 1 slower, 2 bad input or usage.
"""


@dataclass
class Rounds:
    """What the rounds of one configuration have given so far.

    waited: shares of the time. memory: bytes, the most of each round.
    """

    settings: list[str]
    rates: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    what: Measuring | None = None

    def add(self, warmup: int, steps: int) -> None:
        """One more. Raises PrecomputeError, with what its process said, if that fails."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "round.json"
            command = [sys.executable, "-m", "ocr.baselines.round", str(out)]
            command += [str(warmup), str(steps), *self.settings]
            command += ["--trainer.default_root_dir", folder]
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
            )
            if done.returncode or not out.exists():
                raise PrecomputeError(_reason(done.stderr))
            seen = json.loads(out.read_bytes())
        self.what = Measuring.model_validate(seen["what"])
        self.rates.append(seen["rate"])
        self.waited.append(seen["waited"])
        self.memory.append(seen["memory"])
        self.reference.append(seen["reference"])

    def baseline(self) -> Baseline:
        """All of it."""
        assert self.what is not None
        return Baseline(
            **dict(self.what), reference=tuple(self.reference), rates={RATE: tuple(self.rates)}
        )


def _reason(said: str) -> str:
    """What a process said went wrong."""
    lines = said.strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return "\n".join(errors) or (lines[-1] if lines else "a training ended without a word")


def main(arguments: Sequence[str]) -> int:
    """Run the command. Exit status: 0 done, 1 slower, 2 bad input or usage."""
    command, file, chosen, settings = _parsed(arguments)
    try:
        regression = regression_share(chosen.max_regression)
        saved = read_baseline(file) if file and command == "compare" else None
        configs = [part for path in chosen.config for part in ("--config", path)]
        measured = [Rounds([*configs, *settings])]
        if chosen.against:
            measured.append(Rounds(["--config", chosen.against, *settings]))
        for told in _measure(measured, chosen):
            print(told, file=sys.stderr)
            if saved and file and measured[0].what:  # before more time is spent
                check_comparable(file, saved, measured[0].what)
        now = measured[0].baseline()
        if command == "save" and file:
            write_baseline(file, now)
            print(f"baseline in {file}", file=sys.stderr)
            document, slower = now.model_dump(mode="json"), False
        else:
            comparison = (
                compared(saved, now, regression)
                if saved
                else compared_in_turn({RATE: measured[1].rates}, now.rates, regression)
            )
            _show(comparison)
            document, slower = comparison.as_dict(), bool(comparison.slower)
    except PrecomputeError as error:
        print(error_lines(error), file=sys.stderr)
        return 2
    if chosen.json:
        print(json.dumps(document, indent=1))
    return int(slower)


def _measure(measured: Sequence[Rounds], chosen: argparse.Namespace) -> Iterator[str]:
    """All rounds, in turns; yields what there is to say of each."""
    for number in range(chosen.rounds):
        for place, each in list(enumerate(measured))[:: 1 if number % 2 else -1]:
            each.add(chosen.warmup, chosen.steps)
            name = (" of " + str(chosen.against)) if place else ""
            yield f"round {number + 1} of {chosen.rounds}{name}: {each.rates[-1]:,.1f} samples/s"


def _show(comparison: Comparison) -> None:
    for ratio in comparison.ratios:
        name, before, now, value, interval, _ = ratio.cells(comparison.max_regression)
        print(
            f"{name}: {now} samples/s, before {before}; ratio {value}, 95 % interval {interval}",
            file=sys.stderr,
        )
    print(comparison.line, file=sys.stderr)


def _parsed(
    arguments: Sequence[str],
) -> tuple[str, Path | None, argparse.Namespace, list[str]]:
    """Which of the two, the file, own options, and settings of the training."""
    parser = _parser()
    given = list(arguments)
    if not given or given[0] in ("-h", "--help"):
        parser.print_help()
        sys.exit(0 if given else 2)
    command = given.pop(0)
    if command not in ("save", "compare"):
        parser.error(f"{command!r} is neither save nor compare")
    file = Path(given.pop(0)) if given and not given[0].startswith("-") else None
    chosen, settings = parser.parse_known_args(given)
    if chosen.against and (file or command == "save"):
        parser.error("--against compares two configurations, and takes no file")
    if file is None and not chosen.against:
        parser.error(f"give the baseline's file after {command}")
    if chosen.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds {chosen.rounds}: give at least {LEAST_ROUNDS}")
    if chosen.steps < 1 or chosen.warmup < 1:
        parser.error("--steps and --warmup are at least 1")
    return command, file, chosen, settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ocr-train baseline",
        usage="ocr-train baseline {save,compare} [FILE] --config FILE [options] [settings]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options: Mapping[str, Mapping[str, Any]] = {
        "config": {"action": "append", "default": [], "help": "configuration of the training"},
        "against": {"metavar": "CONFIG", "help": "another configuration, in turn with this one"},
        "rounds": {"type": int, "default": 7, "help": "trainings of each; default: 7"},
        "steps": {"type": int, "default": 40, "help": "that are timed; default: 40"},
        "warmup": {"type": int, "default": 10, "help": "steps before them; default: 10"},
        "max-regression": {
            "default": str(DEFAULT_REGRESSION),
            "help": f"share of the speed that may be lost; {DEFAULT_REGRESSION:.0%}".replace(
                "%", "%%"
            ),
        },
        "json": {"action": "store_true", "help": "print one JSON document on stdout"},
    }
    for name, settings in options.items():
        parser.add_argument(f"--{name}", **settings)
    return parser
