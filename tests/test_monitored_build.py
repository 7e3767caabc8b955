"""A build that is looked at: its report, its alerts, its metrics; and that it goes on."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Dataset, published, run
from prometheus_client.parser import text_string_to_metric_families
from test_monitor import PATIENCE, Samples, refused, threads
from typer.testing import CliRunner

from ocr_precompute.cli import app
from ocr_precompute.errors import InputError
from ocr_precompute.monitoring import exporter
from ocr_precompute.monitoring.exporter import MetricsFile, MetricsPort
from ocr_precompute.monitoring.monitor import Seen
from ocr_precompute.monitoring.processes import Machine
from ocr_precompute.pipeline import watching
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.engines import running as engines
from ocr_precompute.pipeline.plan import Plan
from ocr_precompute.pipeline.progress import Progress
from ocr_precompute.runtime.stages import Totals, recording, stage
from ocr_precompute.settings import Settings, load_settings

LABELS = {"run": "build", "split": "val"}


def values(text: str) -> dict[tuple[str, str], float]:
    """Metrics by name and the label of their own, of a text that Prometheus would read."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            own = [value for name, value in sample.labels.items() if name not in LABELS]
            assert {name: sample.labels[name] for name in LABELS} == LABELS
            found[sample.name, *(own or [""])] = sample.value
    return found


def asked(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def settings(tmp_path: Path, **more: object) -> Settings:
    given = {"store": tmp_path / "store", "size": 64, "shard_length": 8, "backend": "sequential"}
    return Settings.model_validate({**given, **more})


def test_the_report_says_what_was_used(dataset: Dataset, tmp_path: Path) -> None:
    flags = [*dataset.flags(), "--store", tmp_path / "store", "--size", "64", "--json"]
    done = run("build", *flags, "--jobs", "2", "-v", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    used = report["resources"]
    assert used["memory_peak"] > 20_000_000
    assert used["cpu_seconds"] > 0
    assert 0 < used["cpu_share"] <= 1.5
    assert used["seconds"] < report["seconds"] + 10
    assert {"read_bytes", "written_bytes", "reads", "writes", "mean_read"} <= set(used)
    assert isinstance(report["alerts"], list)
    assert "memory " in done.stderr
    assert "read from disk" in done.stderr
    assert "ocr_precompute.monitoring.monitor: " in done.stderr


def test_nobody_looks_if_that_is_not_wanted(dataset: Dataset, tmp_path: Path) -> None:
    flags = [*dataset.flags(), "--store", tmp_path / "store", "--size", "64"]
    done = run("build", *flags, "--no-monitor", "--json", "-v", cwd=tmp_path)
    assert json.loads(done.stdout)["resources"] is None
    assert "monitoring" not in done.stderr
    refused_flags = [*flags, "--no-monitor", "--fail-on-alert", "--metrics-port", "0"]
    wrong = run("build", *refused_flags, cwd=tmp_path)
    assert wrong.returncode == 2
    assert "monitor is off, which metrics_port and fail_on_alert cannot do without" in wrong.stderr
    with pytest.raises(InputError, match="metrics_port"):
        load_settings(None, {"metrics_port": 70000})


def test_looking_changes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    for name in ("on", "off"):
        chosen = settings(tmp_path / name, monitor=name == "on", monitor_interval=0.01)
        build("val", dataset.source, chosen)
    assert published(tmp_path / "on" / "store") == published(tmp_path / "off" / "store")


class Asking(Progress):
    """A watcher that asks for metrics when it is known what there is to do."""

    def __init__(self, ports: list[int]) -> None:
        self.ports, self.text, self.threads = ports, "", threads()

    def planned(self, plan: Plan) -> None:
        if self.ports:
            self.text = asked(self.ports[-1])


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ports that metrics were shown at."""
    found, opened = [], MetricsPort.open

    def recorded(self: MetricsPort, seen: object) -> None:
        opened(self, seen)  # type: ignore[arg-type]
        found.append(self.port)

    monkeypatch.setattr(MetricsPort, "open", recorded)
    return found


def test_metrics_of_a_running_build_and_of_one_that_is_done(
    dataset: Dataset, tmp_path: Path, ports: list[int]
) -> None:
    path = tmp_path / "textfiles" / "build.prom"
    asking = Asking(ports)
    chosen = settings(tmp_path, metrics_port=0, metrics_file=path)
    build("val", dataset.source, chosen, progress=asking)
    during, after = values(asking.text), values(path.read_text())
    assert during["ocr_samples_total", ""] == 0
    assert during["ocr_stage_seconds_total", "annotations"] > 0
    assert during["ocr_memory_bytes", ""] > 1_000_000
    assert during["ocr_alert", "memory"] in (0, 1)
    assert after["ocr_samples_total", ""] == 24
    assert after["ocr_samples_per_second", ""] > 0
    assert after["ocr_stage_runs_total", "decode"] == 24
    assert after["ocr_processor_seconds_total", ""] > 0
    assert after["ocr_alerts_raised_total", "disk"] == 0
    assert os.listdir(path.parent) == ["build.prom"]
    with pytest.raises(OSError, match="refused"):
        asked(ports[0])
    assert exporter._listening == []


def test_metrics_are_for_this_machine_alone() -> None:
    port = MetricsPort(0, LABELS, Totals)
    port.open(Seen)
    try:
        assert port._server is not None
        assert port._server.socket.getsockname()[0] == "127.0.0.1"
    finally:
        port.close(Seen())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_does_not_hold_the_port() -> None:
    port = MetricsPort(0, LABELS, Totals)
    port.open(Seen)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent is done
        os._exit(0)
    try:
        port.close(Seen())
        with socket.create_server(("127.0.0.1", port.port)):
            pass  # it is free, though the child still runs
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)


def test_a_port_that_is_taken_is_one_warning(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        report = build("val", dataset.source, settings(tmp_path, metrics_port=port))
    assert report.built == 5
    (record,) = caplog.records
    assert f"metrics port {port} cannot be used: Address already in use" in record.message


def test_a_file_that_cannot_be_written_is_one_warning(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "build.prom"
    report = build("val", dataset.source, settings(tmp_path, metrics_file=path))
    assert report.built == 5
    (record,) = caplog.records
    assert f"{path}: cannot be written: " in record.message


def test_a_disk_that_fills_up_ends_the_file_alone(
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    written, write = [], exporter.replace_file

    def full(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) > 1:
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(exporter, "replace_file", full)
    path = tmp_path / "build.prom"
    report = build("val", dataset.source, settings(tmp_path, metrics_file=path))
    assert report.built == 5
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    assert values(path.read_text())["ocr_samples_total", ""] == 0  # whole, as it was first


def test_metrics_without_their_library_are_one_warning(
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert build("val", dataset.source, settings(tmp_path, metrics_port=0)).built == 5
    assert "pip install 'ocr-precompute[monitor]'" in caplog.text
    assert len(caplog.records) == 1


def test_a_build_goes_on_where_nothing_can_be_read(
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Machine, "read", refused)
    report = build("val", dataset.source, settings(tmp_path))
    assert (report.built, report.resources) == (5, None)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_the_thread_ends_with_a_build_that_fails(tmp_path: Path, dataset: Dataset) -> None:
    class Failing(Progress):
        def planned(self, plan: Plan) -> None:
            assert threads() == ["monitor"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build("val", dataset.source, settings(tmp_path), progress=Failing())
    assert threads() == []


@pytest.mark.parametrize("counts", [True, False])
def test_alerts_decide_about_the_exit_status_if_they_are_to(
    counts: bool, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, samples = Machine.read, Samples(lambda seen: bool(seen.alerts))
    monkeypatch.setattr(
        Machine, "read", lambda self: replace(read(self), memory_used=9, memory_size=10)
    )
    monkeypatch.setattr(watching, "_sinks", lambda *_: [samples])
    monkeypatch.setattr(
        watching.BuildWatch, "encoding", lambda self: samples.reached.wait(PATIENCE)
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(f"monitor_interval: 0.01\nfail_on_alert: {counts}\n")
    flags = [*dataset.flags(), "--store", str(tmp_path / "store"), "--size", "64", "--json"]
    flags += ["--backend", "sequential", "--config", "config.yaml"]
    done = CliRunner().invoke(app, ["build", *flags])
    assert done.exit_code == int(counts), done.output
    report = json.loads(done.stdout)
    (alert,) = report["alerts"]
    assert (alert["rule"], alert["over"]) == ("memory", None)
    assert "alert: memory: 90% of the memory" in done.stderr
    assert report["built"] > 0  # it is done anyway
    assert (tmp_path / "store" / "splits" / "val.json").exists()


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_fewer_workers_go_on_while_memory_is_short(backend: str) -> None:
    notices: list[str] = []
    done = engines.run(
        abs,
        range(-40, 0),
        4,
        backend,
        notices.append,
        crowded=lambda: True,  # type: ignore[arg-type]
    )
    assert sorted(done) == list(range(1, 41))
    assert [notice.partition(" from")[0] for notice in notices] == [
        "memory is short: 2 at a time",
        "memory is short: 1 at a time",
    ]


def test_at_last_one_task_is_done_at_a_time() -> None:
    running, most, lock = 0, [], threading.Lock()
    together = threading.Barrier(2)

    def work(number: int) -> int:
        nonlocal running
        with lock:
            running += 1
            most.append((threading.current_thread() is threading.main_thread(), running))
        if number < 2:
            together.wait(PATIENCE)  # two at a time, at first
        with lock:
            running -= 1
        return number

    done = engines.run(work, range(30), 2, "threading", lambda _: None, crowded=lambda: True)
    assert sorted(done) == list(range(30))
    assert max(most)[1] >= 1
    here = [count for main, count in most if main]
    assert set(here) == {1}
    assert len(here) > 20


def test_memory_that_is_enough_ends_no_worker() -> None:
    notices: list[str] = []
    done = engines.run(abs, range(-20, 0), 2, "threading", notices.append, crowded=lambda: False)
    assert sorted(done) == list(range(1, 21))
    assert notices == []


def test_a_build_with_little_memory_gives_the_same_store(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noticing(Progress):
        def __init__(self) -> None:
            self.notices: list[str] = []

        def notice(self, message: str) -> None:
            self.notices.append(message)

    more = {"backend": "threading", "jobs": 4, "shard_length": 2}
    build("val", dataset.source, settings(tmp_path / "a", **more))
    monkeypatch.setattr(watching.BuildWatch, "crowded", lambda self: True)
    watcher = Noticing()
    build("val", dataset.source, settings(tmp_path / "b", **more), progress=watcher)
    assert published(tmp_path / "a" / "store") == published(tmp_path / "b" / "store")
    assert [line for line in watcher.notices if line.startswith("memory is short: ")]


def test_a_file_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "a.prom", [Seen()]
    with recording() as recorded:
        file = MetricsFile(path, LABELS, recorded.totals)
        file.open(lambda: seen[0])
        with stage("decode"):
            pass
        file.show(seen[0])  # too soon
        assert ("ocr_stage_runs_total", "decode") not in values(path.read_text())
        monkeypatch.setattr(exporter, "_FILE_EVERY", 0.0)
        file.show(seen[0])
        assert values(path.read_text())["ocr_stage_runs_total", "decode"] == 1


def test_labels_of_odd_splits_and_stages_are_escaped() -> None:
    with recording() as recorded, stage('a "b"\n\\c'):
        pass
    made = exporter.registry(LABELS, recorded.totals, Seen)
    from prometheus_client import generate_latest

    assert values(generate_latest(made).decode())["ocr_stage_runs_total", 'a "b"\n\\c'] == 1
