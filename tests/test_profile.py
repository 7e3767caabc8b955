"""A profile: its verdict on evidence made up, and what it writes of a real training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Dataset
from lightning_noise import NOISE
from test_train import quick, run
from train_once import Record, train

from ocr.profiling import Evidence, verdict
from ocr.profiling.verdict import TRY
from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.stages import Times, Totals
from ocr_precompute.settings import Settings

pytestmark = NOISE


def evidence(
    stages: dict[str, float], waits: dict[str, float] | None = None, **given: Any
) -> Evidence:
    """100 s of training and 10 s of validation, of which these stages took so many seconds."""
    totals = Totals(
        {name: Times.of([seconds]) for name, seconds in stages.items()},
        {name: Times.of([seconds]) for name, seconds in (waits or {}).items()},
    )
    usual = {"training": 100.0, "validation": 10.0, "waited": 0.0, "synchronising": 0.0}
    return Evidence(totals=totals, **{"processor": 0.5, **usual, **given})


COMPUTING = {"forward": 30.0, "backward": 40.0, "optimiser": 5.0}
WAITING = {"forward": 10.0, "backward": 20.0}


@pytest.mark.parametrize(
    ("bottleneck", "seen", "share"),
    [
        ("compute", evidence(COMPUTING), 75),
        ("data", evidence({**WAITING, "warp": 60, "read": 2}, waited=65), 65),
        ("processor", evidence({**WAITING, "warp": 99, "read": 2}, waited=65, processor=0.95), 65),
        ("disk", evidence({**WAITING, "warp": 9, "read": 50}, waited=65), 65),
        ("disk", evidence({**WAITING, "warp": 9, "checksum": 50}, waited=65, faults=5000), 65),
        ("data", evidence({**WAITING, "warp": 9, "checksum": 50}, waited=65, faults=5), 65),
        ("disk", evidence({**WAITING, "checkpoint": 60}), 60),
        ("transfer", evidence({**WAITING, "transfer": 50}), 50),
        ("synchronisation", evidence(COMPUTING, synchronising=38), 38),
        ("validation", evidence(COMPUTING, validation=200), 200),
        ("post-processing", evidence(COMPUTING, {"postprocess": 150}, validation=200), 150),
    ],
)
def test_the_largest_part_is_named(bottleneck: str, seen: Evidence, share: float) -> None:
    said = verdict(seen)
    assert said.bottleneck == bottleneck
    assert said.share == pytest.approx(share / seen.seconds)
    assert said.gain == pytest.approx(1 / (1 - said.share))
    assert said.advice == TRY[bottleneck]
    assert said.line.startswith(f"bound by {bottleneck}, {100 * said.share:.0f} % of the time")


def test_parts_are_all_of_the_time() -> None:
    seen = evidence(COMPUTING, {"postprocess": 4}, waited=12, synchronising=10)
    parts = seen.parts()
    assert sum(parts.values()) == pytest.approx(seen.seconds)
    assert parts["other"] == pytest.approx(100 - 75 - 12)
    assert list(parts.values()) == sorted(parts.values(), reverse=True)


def test_nothing_to_judge() -> None:
    assert verdict(evidence({}, training=0.0, validation=0.0)).share == 0


def test_the_gpu_is_in_the_evidence_where_there_is_one() -> None:
    seen = evidence(COMPUTING)
    assert not any("GPU" in line for line in verdict(seen).evidence)
    assert (
        "the GPU computed 31 % of the profiled time" in verdict(replace(seen, device=0.31)).evidence
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """12 pages as splits train and val, at 64 px."""
    made = Dataset(tmp_path_factory.mktemp("data"), count=12)
    settings = Settings(store=tmp_path_factory.mktemp("s") / "s", size=64, backend="sequential")
    for split in ("train", "val"):
        build(split, made.source, settings)
    return str(settings.store)


def once(out: Path, store: str, profile: dict[str, Any] | None, **trainer: Any) -> Record:
    data = {"store": store, "batch_size": 4, "threads": 2, "augmentation": {"crop": 48}}
    trainer = {"default_root_dir": str(out), **trainer}
    return train(str(out), data, trainer=trainer, profile=profile)


def test_losses_are_the_same_bit_for_bit(store: str, tmp_path: Path) -> None:
    off = once(tmp_path / "off", store, None, max_epochs=2)
    on = once(tmp_path / "on", store, {"after": 2, "steps": 2}, max_epochs=2)
    assert len(on.losses) == 6
    assert on.losses == off.losses


def test_the_report_says_what_the_training_was_bound_by(store: str, tmp_path: Path) -> None:
    once(tmp_path, store, {"after": 2, "steps": 2}, max_epochs=2)
    found = json.loads((tmp_path / "profile" / "report.json").read_text())
    said = found["verdict"]
    assert said["bottleneck"] in TRY
    page = (tmp_path / "profile" / "report.md").read_text()
    assert page.startswith(f"# Bound by {said['bottleneck']}\n")
    assert all(line in page for line in (*said["evidence"], *said["advice"]))
    assert found["stages"]["forward"]["count"] == 4  # those that were not profiled
    assert found["profiled"]["steps"] == 2
    convolution = next(o for o in found["profiled"]["operations"] if "conv" in o["name"])
    assert f"`{convolution['name']}` | {convolution['calls']}" in page
    trace = json.loads((tmp_path / "profile" / "trace.json").read_text())
    assert any(event.get("name") == "aten::convolution" for event in trace["traceEvents"])


@pytest.mark.parametrize(("after", "steps", "profiled"), [(2, 9, True), (9, 9, False)])
def test_a_short_training_has_a_verdict_too(
    after: int, steps: int, profiled: bool, store: str, tmp_path: Path
) -> None:
    once(tmp_path, store, {"after": after, "steps": steps})
    found = json.loads((tmp_path / "profile" / "report.json").read_text())
    assert found["verdict"]["bottleneck"] in TRY
    assert (tmp_path / "profile" / "trace.json").exists() == profiled
    said = "No step was profiled" in (tmp_path / "profile" / "report.md").read_text()
    assert said != profiled


def test_a_training_goes_on_where_its_profile_cannot_be_written(store: str, tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("no folder")
    with pytest.warns(UserWarning, match=r"profile: .*; the training goes on without it"):
        record = once(tmp_path, store, {"after": 1, "steps": 1})
    assert len(record.losses) == 3


def test_it_is_off_unless_asked_for(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*quick(store, tmp_path), "--trainer.max_epochs", 1]
    run(monkeypatch, "fit", *arguments)
    assert not list(tmp_path.rglob("profile"))
    run(monkeypatch, "fit", *arguments, "--profile", "true")
    assert next(tmp_path.rglob("profile/report.md")).read_text().startswith("# Bound by ")
