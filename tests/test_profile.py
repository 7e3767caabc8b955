"""A profile: its verdict on evidence made up, and what it writes of a real training."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Dataset
from lightning_noise import NOISE
from test_train import quick, run
from torch.autograd import DeviceType
from train_once import Record, train

from ocr.profiling import Evidence, verdict
from ocr.profiling.device import DeviceSeconds, device_seconds
from ocr.profiling.verdict import HANDING_OVER, TRY
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
        # The loader's threads have the cores, so that steps take long.
        (
            "processor",
            evidence(COMPUTING | {"warp": 300}, waited=20, starved=50, processor=0.7),
            70,
        ),
        # Other processes have them, and the loader waits for something else.
        ("data", evidence(WAITING | {"warp": 60}, waited=60, starved=20, processor=0.2), 60),
        ("compute", evidence(COMPUTING | {"warp": 30}, waited=20, starved=10), 65),
        ("transfer", evidence({**WAITING, "transfer": 50}), 50),
        ("synchronisation", evidence(COMPUTING, synchronising=38), 38),
        ("validation", evidence(COMPUTING, validation=200), 200),
        ("post-processing", evidence(COMPUTING, {"postprocess": 150}, validation=200), 150),
        # Validations that wait for their samples are not slow themselves.
        ("data", evidence({**WAITING, "warp": 60}, validation=90, waited_validating=80), 80),
        ("disk", evidence({"read": 90}, validation=90, waited=9, waited_validating=80), 89),
        ("validation", evidence(COMPUTING, validation=200, waited_validating=60), 140),
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


HANDED_OVER = {"forward": 3.0, "backward": 4.0, "optimiser": 3.0}


def on_gpu(
    stages: dict[str, float],
    computing: float,
    copying: float = 0.0,
    nccl: float = 0.0,
    **given: Any,
) -> Evidence:
    """Evidence of 50 steps, in which a GPU took so many seconds."""
    device = DeviceSeconds(computing, copying, nccl).times(1 / 50)
    return evidence(stages, steps=50, device=device, **given)


@pytest.mark.parametrize(
    ("bottleneck", "seen", "seconds"),
    [
        # What the GPU computes is waited for in logging, in the optimiser, or in a transfer.
        ("compute", on_gpu(HANDED_OVER, 80), 80),
        ("compute", on_gpu({**HANDED_OVER, "optimiser": 80}, 80), 87),
        ("compute", on_gpu({**HANDED_OVER, "transfer": 85}, 80, copying=2), 80),
        # What is handed over slowly counts in full.
        ("compute", on_gpu(COMPUTING, 10), 75),
        # Copies from memory that is not page-locked, and those that the optimiser waits for.
        ("transfer", on_gpu({**HANDED_OVER, "transfer": 70}, 20, copying=60), 70),
        ("transfer", on_gpu(HANDED_OVER, 20, copying=60), 60),
        ("transfer", on_gpu({**HANDED_OVER, "optimiser": 80}, 35, copying=60), 60),
        # Copies beside kernels that are handed over cost nothing.
        ("compute", on_gpu({**HANDED_OVER, "forward": 90}, 20, copying=40), 97),
        # NCCL alone, whatever the clock says of gradients under way.
        ("synchronisation", on_gpu(HANDED_OVER, 30, nccl=50, synchronising=80), 50),
        ("compute", on_gpu({**HANDED_OVER, "backward": 80}, 80, nccl=5, synchronising=70), 86),
        # NCCL was not seen, so the clock counts.
        ("synchronisation", on_gpu({**HANDED_OVER, "backward": 80}, 20, synchronising=70), 70),
        # The GPU computes while the loop waits for data, and goes on waiting.
        ("data", on_gpu({**HANDED_OVER, "warp": 90}, 60, waited=85), 85),
        ("validation", on_gpu(HANDED_OVER, 80, validation=200), 200),
    ],
)
def test_on_a_gpu_its_own_time_counts(bottleneck: str, seen: Evidence, seconds: float) -> None:
    assert verdict(seen).bottleneck == bottleneck
    parts = seen.parts()
    assert parts[bottleneck] == pytest.approx(seconds)
    assert sum(parts.values()) == pytest.approx(seen.seconds)
    assert min(parts.values()) >= 0


def test_a_gpu_that_would_go_on_computing_bounds_the_gain() -> None:
    seen = on_gpu({**HANDED_OVER, "warp": 90}, 60, waited=85)
    assert verdict(seen).gain == pytest.approx(110 / (60 + 10))


def test_more_seconds_than_there_were_are_not_moved() -> None:
    seen = on_gpu({**HANDED_OVER, "transfer": 20}, 300, copying=50, waited=15)
    parts = seen.parts()
    assert parts["compute"] == pytest.approx(10 + 55)
    assert parts["data"] == 15
    assert sum(parts.values()) == pytest.approx(seen.seconds)


def test_how_busy_the_gpu_was_is_in_the_evidence_where_there_is_one() -> None:
    assert not any("GPU" in line for line in verdict(evidence(COMPUTING)).evidence)
    said = verdict(on_gpu(HANDED_OVER, 60, copying=20, nccl=5))
    assert (
        "the GPU was busy 85 % of the training: of a step of 2000.00 ms it computed for 1200.00 ms "
        "and copied for 400.00 ms, and NCCL alone ran for 100.00 ms" in said.evidence
    )
    assert said.advice == TRY["compute"]


def test_work_that_takes_longer_to_hand_over_than_to_do_is_told() -> None:
    said = verdict(on_gpu(COMPUTING, 10))
    assert said.bottleneck == "compute"
    assert said.advice == HANDING_OVER
    assert "batch_size" in said.line
    assert any("handing its kernels over took longer" in line for line in said.evidence)


def happened(name: str, start: float, end: float, **given: Any) -> SimpleNamespace:
    """An event as torch.profiler gives it, in microseconds."""
    usual = {"device_type": DeviceType.CUDA, "is_user_annotation": False}
    return SimpleNamespace(
        name=name, time_range=SimpleNamespace(start=start, end=end), **{**usual, **given}
    )


def test_each_moment_of_a_gpu_counts_once() -> None:
    found = device_seconds(
        [
            happened("aten::conv2d", 0, 9e6, device_type=DeviceType.CPU),
            happened("Optimizer.step#AdamW.step", 0, 9e6, is_user_annotation=True),
            happened("Memcpy HtoD (Pageable -> Device)", 0, 2e6),
            happened("sm90_xmma_fprop", 1e6, 3e6),
            happened("void at::native::elementwise_kernel", 2.5e6, 4e6),  # on another stream
            happened("Memset (Device)", 4e6, 4.5e6),
            happened("ncclDevKernel_AllReduce_Sum_f32_RING_LL", 3e6, 6e6),
            happened("Memcpy DtoH (Device -> Pinned)", 5e6, 5.5e6),
            happened("Memcpy DtoD (Device -> Device)", 7e6, 8e6),
        ]
    )
    assert found.computing == pytest.approx(4.5)
    assert found.copying == pytest.approx(1.5)
    assert found.synchronising == pytest.approx(1.0)
    assert found.busy == pytest.approx(7.0)
    assert found.times(0.5).busy == pytest.approx(3.5)


def test_a_gpu_of_which_nothing_was_seen_did_nothing() -> None:
    assert device_seconds([]) == DeviceSeconds(0.0)


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
    once(tmp_path, store, {"after": 2, "steps": 2}, max_epochs=2, check_val_every_n_epoch=2)
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


@pytest.mark.parametrize(("after", "steps"), [(1, 2), (2, 1), (3, 2), (4, 2), (6, 0)])
def test_no_validation_is_among_the_profiled_steps(
    after: int, steps: int, store: str, tmp_path: Path
) -> None:
    once(tmp_path, store, {"after": after, "steps": 2}, max_epochs=2)  # of 3 steps
    found = json.loads((tmp_path / "profile" / "report.json").read_text())
    assert (found["profiled"] or {"steps": 0})["steps"] == steps
    assert found["stages"]["forward"]["count"] == 6 - steps
    assert found["stages"]["inference"]["count"] == 6
    assert (tmp_path / "profile" / "trace.json").exists() == (steps > 0)


@pytest.mark.gpu
def test_a_gpu_is_looked_at(store: str, tmp_path: Path) -> None:
    once(tmp_path, store, {"after": 1, "steps": 2}, max_epochs=2, accelerator="gpu")
    found = json.loads((tmp_path / "profile" / "report.json").read_text())
    device = found["profiled"]["device"]
    assert found["profiled"]["steps"] == 2
    assert 0 < 2 * device["computing"] < found["profiled"]["seconds"]
    assert device["copying"] > 0
    assert any("the GPU was busy" in line for line in found["verdict"]["evidence"])
    convolution = next(o for o in found["profiled"]["operations"] if "conv" in o["name"])
    assert 0 < convolution["seconds"] < found["profiled"]["seconds"]


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:.*deterministic")
def test_losses_on_a_gpu_are_the_same_bit_for_bit(store: str, tmp_path: Path) -> None:
    trainer = {"max_epochs": 2, "accelerator": "gpu", "deterministic": "warn"}
    off = once(tmp_path / "off", store, None, **trainer)
    again = once(tmp_path / "again", store, None, **trainer)
    on = once(tmp_path / "on", store, {"after": 2, "steps": 2}, **trainer)
    assert len(on.losses) == 6
    assert again.losses == off.losses
    assert on.losses == off.losses


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
