"""Trainings with all that watches them on at once: nothing grows, nothing is left, losses equal.

That is the monitor with its port, a profile, the records of validations and the report, files for
CSV and TensorBoard, and the loader that tunes itself; by the real command in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import psutil
import pytest
import yaml
from conftest import Dataset
from lightning_noise import NOISE
from looking import PATIENCE
from test_report import part, shown
from test_validation_record import worst
from train_once import BACKBONE

from ocr import command
from ocr.reports.metrics import read_curves
from ocr.reports.validation import read_validations

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).with_name("looking.py")
PAGES, BATCH, EPOCHS = 24, 2, 10
GROWTH = 8_000_000  # bytes of memory in seven epochs, of some 600 MB
SETTINGS = ("config.yaml", "settings.yaml")

pytestmark = NOISE


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """24 pages as splits train and val, at 64 px."""
    made = Dataset(tmp_path_factory.mktemp("data"), count=PAGES)
    return made.built(tmp_path_factory.mktemp("store") / "s")


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens at."""
    while True:
        with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
            first = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = int(first.getsockname()[1])
            for number in range(1, count):
                opened.enter_context(socket.create_server(("127.0.0.1", port + number)))
            return port


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) != 0


def logger(name: str, out: Path) -> dict[str, Any]:
    settings = {"save_dir": str(out), "name": "run"}
    return {"class_path": f"lightning.pytorch.loggers.{name}", "init_args": settings}


def callback(path: str, **settings: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": settings}


def fit(store: str, out: Path, port: int | None, **trainer: Any) -> list[str]:
    """A training in which everything is on, or, without a port, nothing that can be off."""
    on = port is not None
    monitoring = {"monitor_interval": 0.05, "metrics_port": port} if on else {}
    callbacks = [callback("looking.Looking", out=str(out), port=port)]
    if on:
        callbacks.append(callback("ocr.lightning_modules.callbacks.BestAndLast"))
    settings = {
        **{"monitor": on, "profile": on, "report": on, **monitoring},
        "data": {
            **{"store": store, "batch_size": BATCH, "threads": 2, "tune": on},
            "augmentation": {"crop": 48},
        },
        "model": {"backbone": str(BACKBONE), "channels": 16},
        "trainer": {
            **{"accelerator": "cpu", "check_val_every_n_epoch": 1, "default_root_dir": str(out)},
            **{"enable_progress_bar": False, "enable_checkpointing": on, "callbacks": callbacks},
            "logger": [logger("CSVLogger", out), logger("TensorBoardLogger", out)] if on else False,
            **trainer,
        },
    }
    out.mkdir()
    path = out / "settings.yaml"
    path.write_text(yaml.safe_dump(settings))
    usual = str(ROOT / "configs" / "train.yaml")
    return [sys.executable, str(SCRIPT), "fit", "--config", usual, "--config", str(path)]


def started(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[tuple[str, str]]:
    """What a process said; whatever happens, it and its children are gone after this."""
    try:
        yield process.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def alone(process: subprocess.Popen[str]) -> bool:
    """Whether none is left of the processes that one that has ended had started."""
    deadline = time.monotonic() + PATIENCE
    while left := [
        each
        for each in psutil.process_iter(["status"])
        if each.info["status"] != psutil.STATUS_ZOMBIE and _group(each.pid) == process.pid
    ]:
        if time.monotonic() > deadline:
            return False
        psutil.wait_procs(left, timeout=1)
    return True


def _group(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid)
    return None


def whole(arguments: list[str]) -> list[str]:
    """Threads that a training left, which is to end well and to leave no process."""
    process = started(arguments)
    with ended(process) as (out, err):
        assert process.returncode == 0, err[-4000:]
        assert "Traceback" not in err
        assert alone(process)
    left: list[str] = json.loads(out.splitlines()[-1])
    return left


def looked(out: Path, process: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"looked.{process}.json").read_text())
    return found


def run_folder(out: Path) -> Path:
    return out / "run" / "version_0"


@pytest.fixture(scope="module")
def watched(store: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, list[str]]:
    """Where ten epochs with everything on wrote, the port, and the threads that were left."""
    out, port = tmp_path_factory.mktemp("on") / "on", free_ports(1)
    return out, port, whole(fit(store, out, port, max_epochs=EPOCHS))


@pytest.mark.time
def test_everything_was_on(watched: tuple[Path, int, list[str]]) -> None:
    out, _, _ = watched
    folder = run_folder(out)
    names = {path.name for path in folder.iterdir()}
    assert names >= {"run.json", "report.html", "validation.json", "metrics.csv", "config.yaml"}
    assert list(out.rglob("events.out.tfevents.*"))
    assert list(folder.rglob("last.ckpt"))
    profile = json.loads((folder / "profile" / "report.json").read_text())
    assert 0 < profile["profiled"]["steps"] <= 10
    lines = [json.loads(x) for x in (folder / "performance.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(EPOCHS))
    assert all(line["resources"]["memory_peak"] > 10**7 for line in lines)
    assert 'ocr_samples_total{process="0",run="fit"} 24.0' in looked(out)["metrics"]
    assert shown(folder / "report.html")["facts"][0] == "finished"


@pytest.mark.time
@pytest.mark.proc
def test_nothing_grows_over_epochs_and_nothing_is_left(
    watched: tuple[Path, int, list[str]],
) -> None:
    out, port, left = watched
    epochs = looked(out)["epochs"]
    assert len(epochs) == EPOCHS
    assert "monitor" in epochs[2]["threads"]
    for epoch in epochs:  # how many loaders have is for them to choose, within bounds
        loading = [name for name in epoch["threads"] if name.startswith("batch-loader")]
        assert len(loading) <= 2 * max(8, 2 * joblib.cpu_count())
        epoch["threads"] = [name for name in epoch["threads"] if name not in loading]
        epoch["tasks"] -= len(loading)
    third, later = epochs[2], epochs[3:]
    for kind in ("threads", "tasks", "files"):
        assert [epoch[kind] for epoch in later] == [third[kind]] * len(later)
    assert max(epoch["memory"] for epoch in later) < third["memory"] + GROWTH
    assert left == ["MainThread"]
    assert refuses(port)


@pytest.mark.time
def test_losses_are_the_same_bit_for_bit(
    watched: tuple[Path, int, list[str]], store: str, tmp_path: Path
) -> None:
    on = looked(watched[0])
    out = tmp_path / "off"
    left = whole(fit(store, out, None, max_epochs=EPOCHS))
    off = looked(out)
    assert len(on["losses"]) == EPOCHS * PAGES // BATCH
    assert on["losses"] == off["losses"]
    assert on["hmean"] == off["hmean"]
    assert {path.name for path in out.iterdir()} == {"looked.0.json", *SETTINGS}
    assert left == ["MainThread"]


@pytest.mark.time
def test_interrupted_from_the_keyboard(store: str, tmp_path: Path) -> None:
    out, port = tmp_path / "out", free_ports(1)
    process = started(fit(store, out, port, max_epochs=100_000))
    folder = run_folder(out)
    deadline = time.monotonic() + PATIENCE
    while not (folder / "performance.jsonl").exists():  # an epoch is done, the profiler may run
        assert process.poll() is None, process.communicate()[1][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not refuses(port)
    process.send_signal(signal.SIGINT)
    with ended(process) as (said, err):
        assert process.returncode == 130, err[-4000:]
        assert "Traceback" not in err
        assert err.splitlines()[-1] == "interrupted"
        assert alone(process)
    left = [name for name in json.loads(said.splitlines()[-1]) if "postprocess" not in name]
    assert left == ["MainThread"]  # those of a validation in its midst go with the process
    assert refuses(port)
    assert json.loads((folder / "run.json").read_text())["state"] == "interrupted"
    assert shown(folder / "report.html")["facts"][0] == "interrupted"
    for line in (folder / "performance.jsonl").read_text().splitlines():
        assert json.loads(line)["resources"]["memory_peak"] > 10**7
    assert not list(folder.rglob(".*.part"))


def test_interrupted_before_anything_has_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def impatient(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("ocr.reports.command.main", impatient)
    monkeypatch.setattr(sys, "argv", ["ocr-train", "report", "somewhere"])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.time
def test_two_processes_write_and_show_each_its_own(store: str, tmp_path: Path) -> None:
    out, port = tmp_path / "out", free_ports(2)
    whole(fit(store, out, port, max_epochs=4, devices=2, strategy="ddp"))
    folder = run_folder(out)
    for process, suffix in enumerate(("", ".1")):
        lines = (folder / f"performance{suffix}.jsonl").read_text().splitlines()
        assert len(lines) == 4
        for line in map(json.loads, lines):
            assert line["process"] == process
            assert line["resources"]["memory_peak"] > 10**7
            assert line["resources"]["processes"] == 1  # each for itself
        report = json.loads((folder / f"profile{suffix}" / "report.json").read_text())
        assert 0 < report["profiled"]["steps"] <= 10
        assert (folder / f"profile{suffix}" / "trace.json").exists()
        validated = json.loads((folder / f"validation{suffix}.json").read_text())
        assert validated["images"] == PAGES // 2
        metrics = looked(out, process)["metrics"]
        assert f'ocr_samples_total{{process="{process}",run="fit"}} 12.0' in metrics
        assert refuses(port + process)
    data = shown(folder / "report.html")
    assert "2 processes" in data["facts"]
    assert data["notes"] == []
    curves = part(data, "speed", "Samples per second")["curves"]
    assert [curve["name"] for curve in curves] == ["process 0", "process 1"]
    assert part(data, "resources")["head"] == ["In all", "process 0", "process 1"]
    both, notes = read_validations(folder)
    assert notes == []
    assert both is not None
    assert (both.images, both.counts.annotated) == (PAGES, 3 * PAGES)
    logged = [
        read_curves(folder / "metrics.csv").points[f"val/{name}"][-1][1]
        for name in ("precision", "recall", "hmean")
    ]
    assert both.counts.at(0) == pytest.approx(logged, abs=1e-6)
    assert {each["name"] for each in worst(data)} == {each.name for each in both.worst}
    assert {each.picture[0] for each in both.worst} == {"0", "1"}
