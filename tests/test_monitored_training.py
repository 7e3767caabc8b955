"""A training that is looked at: the same losses, its figures, alerts, metrics, a clean end."""

from __future__ import annotations

import json
import socket
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
from conftest import Dataset
from lightning_noise import NOISE
from prometheus_client.parser import text_string_to_metric_families
from test_monitor import PATIENCE, Samples, refused, threads
from train_once import BACKBONE, Record, train

from ocr import train as command
from ocr.lightning_modules.callbacks import Performance, ResourceMonitor, resources
from ocr.lightning_modules.checkpoint_io import WholeCheckpointIO
from ocr_precompute.monitoring.exporter import MetricsPort
from ocr_precompute.monitoring.processes import Machine

ROOT = Path(__file__).resolve().parents[1]

pytestmark = NOISE


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """12 pages as splits train and val, at 64 px."""
    made = Dataset(tmp_path_factory.mktemp("data"), count=12)
    return made.built(tmp_path_factory.mktemp("store") / "s")


def once(out: Path, store: str, monitor: dict[str, Any] | None, **trainer: Any) -> Record:
    data = {"store": store, "batch_size": 4, "threads": 2, "augmentation": {"crop": 48}}
    return train(str(out), data, trainer=trainer, monitor=monitor)


def test_losses_are_the_same_bit_for_bit(store: str, tmp_path: Path) -> None:
    off = once(tmp_path / "off", store, None, max_epochs=2)
    on = once(tmp_path / "on", store, {"interval": 0.001, "metrics_port": 0}, max_epochs=2)
    assert len(on.losses) == 6
    assert on.losses == off.losses
    assert on.metrics["val/hmean"] == off.metrics["val/hmean"]
    assert on.metrics["resources/memory_peak"] > 10**7
    assert not {name for name in off.metrics if name.startswith("resources/")}


@pytest.mark.parametrize("name", ["taken port", "no /proc", "no driver"])
def test_a_monitor_that_fails_never_stops_a_training(
    name: str,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monitor: dict[str, Any] = {"interval": 0.001}
        if name == "taken port":
            monitor["metrics_port"] = taken.getsockname()[1]
        elif name == "no /proc":
            monkeypatch.setattr(Machine, "read", refused)
        else:
            monkeypatch.setitem(sys.modules, "pynvml", None)
            monkeypatch.setattr(resources, "_gpus", lambda device: resources.Gpus())
        assert len(once(tmp_path, store, monitor).losses) == 3
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("ocr_precompute")]
    warned = [line for line in lines if "the run goes on without it" in line]
    assert len(warned) == (name != "no driver"), lines


def fit(store: str, out: Path, *arguments: object) -> list[str]:
    return [
        *("ocr-train", "fit", "--config", str(ROOT / "configs" / "train.yaml")),
        *("--data.store", store, "--data.batch_size", "4", "--data.augmentation.crop", "48"),
        *("--model.backbone", str(BACKBONE), "--model.channels", "16"),
        *("--trainer.default_root_dir", str(out), "--trainer.logger.init_args.save_dir", str(out)),
        *("--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"),
        *("--trainer.max_epochs", "2", "--trainer.check_val_every_n_epoch", "1"),
        *map(str, arguments),
    ]


def run(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    command.main()


def lines(out: Path, name: str = "performance.jsonl") -> list[dict[str, Any]]:
    (path,) = out.rglob(name)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_epoch_says_what_it_used(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its checkpoints too, of which the last comes when all else of the epoch is done."""
    saved, save = [], WholeCheckpointIO.save_checkpoint

    def counted(self: WholeCheckpointIO, *arguments: Any, **named: Any) -> None:
        saved.append(arguments)
        save(self, *arguments, **named)

    monkeypatch.setattr(WholeCheckpointIO, "save_checkpoint", counted)
    run(monkeypatch, fit(store, tmp_path, "--monitor_interval", 3600))
    told = [line["stages"]["checkpoint"]["count"] for line in lines(tmp_path)]
    assert len(told) == 2
    assert sum(told) == len(saved)
    for line in lines(tmp_path):
        used = line["resources"]
        assert used["memory_peak"] > 10**7
        assert used["cpu_seconds"] > 0
        assert line["alerts"] == []
    (metrics,) = tmp_path.rglob("metrics.csv")
    header = metrics.read_text().splitlines()[0].split(",")
    for name in ("cpu_share", "memory_peak", "read_bytes", "major_faults"):
        assert f"resources/{name}" in header
    assert threads() == []


def test_monitor_false_is_off(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: object) -> None:
        raise AssertionError("somebody looks")

    monkeypatch.setattr(ResourceMonitor, "setup", looked)
    run(monkeypatch, fit(store, tmp_path, "--monitor", "false", "--trainer.max_epochs", 1))
    (line,) = lines(tmp_path)
    assert "resources" not in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--metrics_port", 70000], "metrics_port is 70000; give a port from 0 to 65535"),
        (
            ["--monitor", "false", "--metrics_port", 1, "--fail_on_alert", "true"],
            "monitor is off, which metrics_port and fail_on_alert cannot do without",
        ),
    ],
)
def test_settings_that_make_no_sense(
    arguments: list[object],
    told: str,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, fit(store, tmp_path, *arguments))
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("counts", ["true", "false"])
def test_alerts_decide_about_the_exit_status_if_they_are_to(
    counts: str,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    read, samples = Machine.read, Samples(lambda seen: bool(seen.alerts))
    monkeypatch.setattr(
        Machine, "read", lambda self: replace(read(self), memory_used=9, memory_size=10)
    )
    make = resources.Monitor

    def watched(*arguments: Any, **named: Any) -> Any:
        return make(*arguments, **{**named, "interval": 0.001, "sinks": [samples]})

    monkeypatch.setattr(resources, "Monitor", watched)
    start = ResourceMonitor.on_train_start

    def waiting(self: ResourceMonitor, *arguments: Any) -> None:
        start(self, *arguments)
        assert samples.reached.wait(PATIENCE)

    monkeypatch.setattr(ResourceMonitor, "on_train_start", waiting)
    arguments = fit(store, tmp_path, "--fail_on_alert", counts)
    if counts == "true":
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, arguments)
        assert ended.value.code == 1
        assert "alerts were raised: memory" in capsys.readouterr().err
    else:
        run(monkeypatch, arguments)
    first, second = lines(tmp_path)
    assert [alert["rule"] for alert in first["alerts"]] == ["memory"]
    assert second["alerts"] == []  # told once
    assert caplog.text.count("alert: memory: 90% of the memory") == 1
    assert list(tmp_path.rglob("last.ckpt"))  # the training is done anyway


def test_metrics_of_a_running_training(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports, texts, opened = [], [], MetricsPort.open

    def recorded(self: MetricsPort, seen: Any) -> None:
        opened(self, seen)
        ports.append(self.port)

    monkeypatch.setattr(MetricsPort, "open", recorded)

    class Asking(lightning.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            url = f"http://127.0.0.1:{ports[0]}/metrics"
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                texts.append(answer.read().decode())

    data = {"store": store, "batch_size": 4, "threads": 2}
    monitor = {"interval": 3600.0, "metrics_port": 0}
    train(str(tmp_path), data, trainer={"max_epochs": 2}, monitor=monitor, more=[Asking()])
    found = {
        (sample.name, sample.labels.get("stage", sample.labels.get("wait", ""))): sample
        for family in text_string_to_metric_families(texts[-1])
        for sample in family.samples
    }
    assert found["ocr_samples_total", ""].value == 24
    assert found["ocr_samples_total", ""].labels == {"run": "fit", "process": "0"}
    assert found["ocr_stage_runs_total", "forward"].value >= 6
    assert found["ocr_wait_seconds_total", "loader"].value >= 0
    assert found["ocr_work_seconds_total", ""].value > 0


def test_further_processes_take_the_ports_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    class Port(Samples):
        url = ""

        def __init__(self, port: int, *_: object) -> None:
            super().__init__()
            taken.append(port)

    monkeypatch.setattr(resources, "MetricsPort", Port)

    class Process:
        loggers = ()
        default_root_dir = "."

        def __init__(self, rank: int) -> None:
            self.global_rank = self.local_rank = rank
            self.strategy = lightning.Trainer(
                accelerator="cpu", logger=False, enable_checkpointing=False
            ).strategy

    for port in (9000, 0):
        for rank in range(2):
            callback = ResourceMonitor(Performance(), metrics_port=port)
            callback.setup(Process(rank), None, "fit")  # type: ignore[arg-type]
            callback.teardown(Process(rank), None, "fit")  # type: ignore[arg-type]
    assert taken == [9000, 9001, 0, 0]
    assert threads() == []
