"""Baselines: what is compared, what is refused, and when something counts as slower."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Dataset, run
from hypothesis import given
from hypothesis import strategies as st
from lightning_noise import NOISE
from train_once import BACKBONE

from ocr import command
from ocr.baselines.command import Rounds
from ocr.baselines.command import main as baseline_command
from ocr_precompute.baselines.baseline import (
    Baseline,
    Measuring,
    check_comparable,
    read_baseline,
    write_baseline,
)
from ocr_precompute.baselines.comparison import compared, compared_in_turn, regression_share
from ocr_precompute.baselines.machine import Machine, this_machine
from ocr_precompute.baselines.reference import WORKLOAD, reference_seconds
from ocr_precompute.errors import InputError
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings

pytestmark = NOISE

ROOT = Path(__file__).resolve().parents[1]
HERE = Machine(processor="one", cores=2)


def measured(rate: float, seconds: float = 0.1, noise: float = 0.02, seed: int = 0) -> Baseline:
    """Nine rounds of that speed, on a machine that needs so long for the fixed work."""
    random = np.random.default_rng(seed)
    rates, reference = (1 + noise * random.standard_normal((2, 9))) * [[rate], [seconds]]
    return Baseline(
        kind="bench",
        machine=HERE,
        workload=WORKLOAD,
        conditions={"samples": 64, "crop": 320},
        reference=tuple(reference),
        rates={"store": tuple(rates)},
    )


@pytest.mark.parametrize(
    ("now", "seconds", "slower"),
    [
        (100.0, 0.1, False),
        (95.0, 0.1, False),
        (80.0, 0.1, True),
        (200.0, 0.1, False),
        (50.0, 0.2, False),  # the machine itself takes twice as long
        (100.0, 0.05, True),  # a machine twice as fast, and the work is not
    ],
)
def test_slower_is_beyond_chance_and_by_the_machines_own_speed(
    now: float, seconds: float, slower: bool
) -> None:
    comparison = compared(measured(100.0), measured(now, seconds, seed=1), 0.1)
    assert bool(comparison.slower) is slower
    (ratio,) = comparison.ratios
    assert ratio.low < ratio.ratio < ratio.high
    assert ratio.ratio == pytest.approx(now * seconds / 10, rel=0.05)
    assert comparison.as_dict()["slower"] == (["store"] if slower else [])
    assert (comparison.line == "slower by more than 10%: store") is slower


def test_noise_that_hides_a_regression_is_no_regression() -> None:
    noisy = compared(measured(100.0, noise=0.3), measured(85.0, noise=0.3, seed=1), 0.1)
    assert noisy.ratios[0].high > 0.9
    assert not noisy.slower


def test_rounds_in_turn_are_pairs() -> None:
    """A machine that is slow in some rounds is so for both."""
    slow = np.array([1, 1, 0.3, 0.5, 1, 0.2, 0.9, 1, 0.4])
    before, now = {"store": tuple(100 * slow)}, {"store": tuple(85 * slow)}
    (ratio,) = compared_in_turn(before, now, 0.1).ratios
    assert (ratio.low, ratio.ratio, ratio.high) == pytest.approx((0.85, 0.85, 0.85))
    assert compared_in_turn(before, now, 0.1).slower == ("store",)
    assert compared_in_turn(before, now, 0.2).slower == ()


@given(
    st.lists(st.floats(1, 1e4), min_size=5, max_size=12),
    st.lists(st.floats(1, 1e4), min_size=5, max_size=12),
)
def test_an_interval_lies_within_what_was_seen(before: list[float], now: list[float]) -> None:
    rounds = min(len(before), len(now))
    comparison = compared_in_turn({"x": before[:rounds]}, {"x": now[:rounds]}, 0.1)
    (ratio,) = comparison.ratios
    pairs = np.array(now[:rounds]) / np.array(before[:rounds])
    assert pairs.min() <= ratio.low <= ratio.high <= pairs.max()


def test_shares_as_people_write_them() -> None:
    assert (regression_share("10%"), regression_share(" 0.25 ")) == (0.1, 0.25)
    for text in ("100%", "1", "-5%", "10", "ten", "", "nan", "1e-1"):
        with pytest.raises(InputError, match="as in 10% or 0"):
            regression_share(text)


def test_this_machine_and_its_speed() -> None:
    here = this_machine(("a GPU",))
    assert here.processor
    assert here.cores >= 1
    assert here.differences(here) == []
    assert here.differences(this_machine()) == ["gpus none instead of a GPU"]
    assert 0 < reference_seconds() < 60


def test_what_is_not_the_same_is_refused(tmp_path: Path) -> None:
    saved, path = measured(1.0), tmp_path / "b.json"
    fields = dict(saved)
    now = Measuring(**{name: fields[name] for name in Measuring.model_fields})
    check_comparable(path, saved, now)
    more = {"samples": 64, "crop": 320, "a new condition": 1}
    check_comparable(path, saved, now.model_copy(update={"conditions": more}))
    other = now.model_copy(
        update={
            "machine": Machine(processor="two", cores=4, gpus=("X",)),
            "workload": "0",
            "conditions": {"samples": 64, "crop": 640},
        }
    )
    with pytest.raises(InputError) as caught:
        check_comparable(path, saved, other)
    lines = str(caught.value).splitlines()
    what = "; save a baseline here and now, and compare with that"
    assert lines == [
        f"{path}: {line}{what}"
        for line in (
            "was measured on processor one instead of two",
            "was measured on cores 2 instead of 4",
            "was measured on gpus none instead of X",
            "used reference work 1; there is 0 now",
            "was measured with crop 320 instead of 640",
        )
    ]
    with pytest.raises(InputError, match="is a baseline of kind bench; one of training is needed"):
        check_comparable(path, saved, now.model_copy(update={"kind": "training"}))


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "b.json"
    write_baseline(path, measured(3.0))
    assert read_baseline(path) == measured(3.0)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "of a later version": 1}))
    assert read_baseline(path) == measured(3.0)


def changed(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **changes})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda _: "", "is no baseline"),
        (lambda _: "[" * 100_000, "is no baseline"),
        (lambda _: "{}", "kind: Field required"),
        (changed(rates={"x": [1.0] * 4}), "rates of 'x' are of 4 rounds, the reference of 9"),
        (changed(rates={"x": [0.0] * 9}), "rates.x.0"),
        (changed(rates={"x": [float("inf")] * 9}), "rates.x.0"),
        (changed(reference=[1.0], rates={"x": [1.0]}), "is of 1 rounds; 5 are the least"),
        (lambda text: text + " " * 5_000_000, "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused(
    spoil: Callable[[str], str], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "b.json"
    write_baseline(path, measured(3.0))
    path.write_text(spoil(path.read_text()))
    with pytest.raises(InputError) as caught:
        read_baseline(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


# --------------------------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """12 pages at 64 px, as splits train and val."""
    made = Dataset(tmp_path_factory.mktemp("data"), count=12)
    settings = Settings(
        store=tmp_path_factory.mktemp("store") / "s", size=64, backend="sequential", monitor=False
    )
    for name in ("train", "val"):
        build(name, made.source, settings)
    return made, settings.store


def bench(store: Path, *options: object) -> subprocess.CompletedProcess[str]:
    flags = ("--split", "val", "--seconds", 0, "--samples", 4, "--threads", 1, "--rounds", 5)
    return run("bench", *flags, "--store", store, *options, cwd=store.parent)


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def scale(factor: float) -> Callable[[dict[str, Any]], object]:
    """What was measured, as if it had been so many times as fast."""

    def change(document: dict[str, Any]) -> None:
        rates = document["rates"]
        document["rates"] = {name: [factor * x for x in rates[name]] for name in rates}

    return change


def test_bench_saves_and_compares(split: tuple[Dataset, Path], tmp_path: Path) -> None:
    store, path = split[1], tmp_path / "b.json"
    saved = bench(store, "--save", path)
    assert saved.returncode == 0, saved.stderr
    kept = read_baseline(path)
    kinds = ["varied, live", "varied, store", "as stored, live", "as stored, store"]
    assert [*kept.rates] == kinds
    assert kept.machine == this_machine()
    edited(path, scale(0.01))
    faster = bench(store, "--compare", path, "--json")
    assert faster.returncode == 0, faster.stderr
    ratios = json.loads(faster.stdout)["comparison"]["ratios"]
    assert min(ratio["low"] for ratio in ratios.values()) > 1
    edited(path, scale(100 * 100))
    slower = bench(store, "--compare", path, "--max-regression", "20%")
    assert slower.returncode == 1, slower.stderr
    assert f"slower by more than 20%: {'; '.join(kinds)}" in slower.stderr
    edited(path, lambda document: document["machine"].update(processor="another"))
    refused = bench(store, "--compare", path)
    assert refused.returncode == 2
    assert f"{path}: was measured on processor another instead of" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_bench_against_another_configuration(split: tuple[Dataset, Path], tmp_path: Path) -> None:
    made, store = split
    other = Settings(store=tmp_path / "larger", size=96, backend="sequential", monitor=False)
    build("val", made.source, other)
    config = tmp_path / "larger.yaml"
    config.write_text(json.dumps({"store": str(other.store)}))
    result = bench(store, "--against", config, "--json", "--max-regression", "99%")
    assert result.returncode in (0, 1), result.stderr
    document = json.loads(result.stdout)
    assert set(document["comparison"]["ratios"]) == {
        *("varied, live", "varied, store", "as stored, live", "as stored, store")
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--compare", "x.json", "--against", "y.yaml"), "--against: give one of them"),
        (("--max-regression", "5%"), "--max-regression: give --compare or --against too"),
        (("--save", "x.json", "--rounds", 2), "--rounds 2: give at least 5 to save or compare"),
        (("--compare", "nowhere.json"), "nowhere.json: cannot be read: No such file"),
        (("--compare", "x.json", "--max-regression", "all"), "as in 10% or 0.1"),
    ],
)
def test_options_of_bench_that_do_not_fit(
    split: tuple[Dataset, Path], options: tuple[object, ...], said: str
) -> None:
    result = bench(split[1], *options)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def settings_of(store: Path) -> list[str]:
    return [
        *("--config", str(ROOT / "configs" / "train.yaml"), "--data.store", str(store)),
        *("--data.batch_size", "4", "--data.augmentation.crop", "48", "--trainer.devices", "1"),
        *("--model.backbone", str(BACKBONE), "--model.channels", "16"),
        *("--trainer.accelerator", "cpu"),
    ]


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each configuration the first round is one, and the others are said to be like it."""
    real, seen = Rounds.add, {}

    def add(self: Rounds, warmup: int, steps: int) -> None:
        key = " ".join(self.settings)
        if key not in seen:
            real(self, warmup, steps)
            seen[key] = self.what, self.rates[-1], self.reference[-1]
            return
        self.what, rate, seconds = seen[key]
        self.rates.append(rate)
        self.reference.append(seconds)

    monkeypatch.setattr(Rounds, "add", add)


def rounds(*rest: str) -> list[str]:
    return ["--rounds", "5", "--warmup", "1", "--steps", "2", *rest]


@pytest.mark.time
def test_a_training_saved_compared_and_watched(
    split: tuple[Dataset, Path],
    one_process: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, settings = tmp_path / "b.json", settings_of(split[1])
    assert baseline_command(["save", str(path), *rounds("--json"), *settings]) == 0
    kept = read_baseline(path)
    seen = capsys.readouterr()
    assert json.loads(seen.out) == kept.model_dump(mode="json")
    assert seen.err.count("round ") == 5
    assert kept.conditions["data.batch_size"] == 4
    assert kept.conditions["size"] == [64, 64]
    edited(path, scale(1000))
    assert baseline_command(["compare", str(path), *rounds(), *settings]) == 1
    assert "slower by more than 10%: training" in capsys.readouterr().err
    other = [*settings, "--data.batch_size", "2"]
    assert baseline_command(["compare", str(path), *rounds(), *other]) == 2
    said = capsys.readouterr().err
    assert "was measured with data.batch_size 4 instead of 2; save a baseline here" in said
    assert said.count("round ") == 1  # found out before more time is spent
    logs = ["--trainer.logger.init_args.save_dir", str(tmp_path)]
    fit = ["ocr-train", "fit", *other, *logs, "--baseline", str(path)]
    monkeypatch.setattr(sys, "argv", fit)
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"error: {path}: was measured with data.batch_size 4 instead of 2" in said


@pytest.mark.time
def test_what_a_round_says_is_told(
    split: tuple[Dataset, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*settings_of(split[1]), "--data.train", "nowhere"]
    against = str(ROOT / "configs" / "train.yaml")
    assert baseline_command(["compare", "--against", against, *rounds(), *settings]) == 2
    assert ": no split 'nowhere' in this store; splits: train, val" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage"),
        (["keep", "x.json"], "'keep' is neither save nor compare"),
        (["save"], "give the baseline's file after save"),
        (["save", "x.json", "--against", "y.yaml"], "compares two configurations"),
        (["save", "x.json", "--rounds", "2"], "--rounds 2: give at least 5"),
        (["compare", "x.json", "--steps", "0"], "at least 1"),
    ],
)
def test_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        baseline_command(arguments)
    assert ended.value.code == 2
    assert said in "".join(capsys.readouterr())
