"""A training's report: what it reads of a run folder, and what it says of what it cannot read."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import (
    HOSTILE,
    epoch_line,
    make_run,
    metric_rows,
    write_lines,
    write_metrics,
)

from ocr.reports import files
from ocr.reports.charts import MOST_ROWS, Axis, Chart, Curve, short, ticks
from ocr.reports.metrics import Epochs, read_curves
from ocr.reports.performance import read_process
from ocr.reports.report import write_report
from ocr.reports.run import RunError, read_run
from ocr.reports.series import MOST_POINTS, Thinned
from ocr_precompute.errors import StoreError


def shown(page: Path) -> dict[str, Any]:
    """The data of a page."""
    text = page.read_text().partition('id="run">')[2].partition("</script>")[0]
    found: dict[str, Any] = json.loads(text)
    return found


def part(data: dict[str, Any], section: str, title: str = "") -> dict[str, Any]:
    """The only part of a section that has that title, or is no chart."""
    (parts,) = (each["parts"] for each in data["sections"] if each["id"] == section)
    (found,) = [each for each in parts if each.get("title", "") == title]
    return found


def said(data: dict[str, Any]) -> str:
    """All notes and texts of a page."""
    parts = [each for section in data["sections"] for each in section["parts"]]
    texts = [each["text"] for each in parts if each["kind"] in ("note", "text")]
    return "\n".join(data["notes"] + texts)


def points(chart: dict[str, Any], name: str) -> list[list[float]]:
    (found,) = [curve["points"] for curve in chart["curves"] if curve["name"] == name]
    return found


def report(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "ocr.command", "report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


# -------------------------------------------------------------------------------- a whole run


def test_a_run_is_shown(tmp_path: Path) -> None:
    data = shown(write_report(make_run(tmp_path / "train" / "version_0")))
    assert data["title"] == "train/version_0"
    assert data["facts"] == ["3 whole epochs", "30 steps"]
    assert data["notes"] == []
    figures = {name: value for name, value, _ in data["figures"]}
    assert figures == {
        "Best H-mean": "0.7000",
        "Samples per second": "10",
        "Waited for the loader": "10.0 %",
        "Memory, at most": "400 MB",
        "Alerts": "0",
    }
    loss = part(data, "learning", "Loss")
    assert points(loss, "loss") == [[0.5, 8], [1, 7.5], [1.5, 7], [2, 6.5], [2.5, 6], [3, 5.5]]
    assert (loss["x"]["label"], loss["x"]["low"], loss["y"]["low"]) == ("epoch", 0, 0)
    assert loss["rows"][0] == ["0.5", "8"]
    assert points(part(data, "learning", "Parts of the loss"), "probability")[1] == [1, 0.25]
    scores = part(data, "scores", "H-mean, precision, recall")
    assert points(scores, "H-mean") == [[1, 0.5], [2, 0.6], [3, 0.7]]
    assert points(scores, "recall") == [[1, 0.4], [2, 0.4], [3, 0.4]]
    assert scores["y"]["high"] == 1
    speed = part(data, "speed", "Samples per second")
    assert speed["curves"][0]["points"] == [[1, 10], [2, 10], [3, 10]]
    stages = part(data, "speed", "Stages")["rows"]
    assert stages[0] == ["forward", "", 1.0, "6.00", "30", "200", "2400"]
    assert [row[0] for row in stages] == ["forward", "decode"]
    assert part(data, "speed", "Waits in all")["rows"][0][3] == "1.20"
    assert points(part(data, "resources", "Memory"), "without mapped files")[0] == [1, 400]
    assert ["Processor used", "6 s"] in part(data, "resources", "In all")["rows"]
    assert ["Seed", "3"] in part(data, "setup", "Settings")["rows"]
    assert "backbone: resnet-18" in part(data, "setup", "config.yaml")["text"]


def test_two_processes_are_both_shown(tmp_path: Path) -> None:
    data = shown(write_report(make_run(tmp_path / "run", processes=2)))
    assert "2 processes" in data["facts"]
    speed = part(data, "speed", "Samples per second")
    assert points(speed, "process 0")[0] == [1, 10]
    assert points(speed, "process 1")[0] == [1, 11]
    stages = part(data, "speed", "Stages")
    assert stages["processes"]
    assert [row[:2] + row[3:4] for row in stages["rows"][:2]] == [
        ["forward", "process 0", "6.00"],
        ["forward", "process 1", "9.00"],
    ]
    figures = {name: value for name, value, _ in data["figures"]}
    assert figures["Samples per second"] == "20"  # 240 samples in 12 s
    assert figures["Memory, at most"] == "800 MB"
    assert part(data, "resources")["head"] == ["In all", "process 0", "process 1"]


def test_alerts_of_all_processes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", processes=2)
    alert = {"rule": "memory", "detail": f"{HOSTILE} is short", "raised": 12.3, "over": None}
    lines = [epoch_line(0), epoch_line(1, alerts=[alert, "no alert", 7])]
    write_lines(folder / "performance.1.jsonl", lines)
    rows = part(shown(write_report(folder)), "alerts")["rows"]
    assert ["memory", f"{HOSTILE} is short", "1", "2", "12", ""] in rows
    assert len(rows) == 3


def test_it_is_one_file_that_allows_nothing_else(tmp_path: Path) -> None:
    folder = make_run(tmp_path / HOSTILE.replace("/", ""))
    (folder / "config.yaml").write_text(f"model: '</script>{HOSTILE}'\n")
    page = write_report(folder, tmp_path / "out" / "page.html")
    text = page.read_text()
    assert page == tmp_path / "out" / "page.html"
    assert not (folder / "report.html").exists()
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


# -------------------------------------------------------------------- what a run may be lacking


def test_of_a_run_without_figures(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "performance.jsonl").unlink()
    data = shown(write_report(folder))
    assert "There is no performance.jsonl" in said(data)
    assert "Nothing says whether any was raised." in said(data)
    assert part(data, "learning", "Loss")["x"]["label"] == "epoch"  # metrics.csv knows it too


@pytest.mark.parametrize("logger", ["tensorboard", "none"])
def test_of_a_run_without_curves(logger: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "metrics.csv").unlink()
    if logger == "tensorboard":
        (folder / "events.out.tfevents.1.machine").write_bytes(b"\0" * 9)
    data = shown(write_report(folder))
    why = "TensorBoard's files; with the CSVLogger" if logger == "tensorboard" else "no metrics.csv"
    assert why in said(data)
    assert data["facts"] == ["3 whole epochs", "30 steps"]
    assert part(data, "speed", "Samples per second")["curves"]


def test_of_a_run_without_validation(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    rows = [row for row in metric_rows(2) if "val/hmean" not in row]
    write_metrics(folder / "metrics.csv", rows)
    data = shown(write_report(folder))
    assert "no validation was logged" in said(data)
    assert "Best H-mean" not in {name for name, *_ in data["figures"]}


def test_of_a_run_that_was_cut_off_in_an_epoch(tmp_path: Path) -> None:
    """A number that is cut short would be another number."""
    folder = make_run(tmp_path / "run", epochs=2)
    with (folder / "metrics.csv").open("a") as file:
        file.write("2,24,nan,,,,,\r\n2,29,4.5,,,,,\r\n2,34,4.12")
    with (folder / "performance.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 3')
    data = shown(write_report(folder))
    assert points(part(data, "learning", "Loss"), "loss")[-1] == [3, 4.5]
    assert data["facts"] == ["2 whole epochs", "30 steps"]
    assert data["notes"] == [
        "metrics.csv: its last line is cut short, and left out",
        "train/loss was not a finite number 1 time",
        "performance.jsonl: its last line is cut short, and left out",
    ]


def test_without_a_whole_epoch_the_axis_is_steps(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "performance.jsonl").unlink()
    write_metrics(folder / "metrics.csv", metric_rows(1)[:2])
    loss = part(shown(write_report(folder)), "learning", "Loss")
    assert loss["x"]["label"] == "step"
    assert points(loss, "loss") == [[5, 8], [10, 7.5]]


# ------------------------------------------------------------------------------- hostile files

DAMAGE: dict[str, tuple[str, bytes]] = {
    "no table": ("metrics.csv", b"\x00\xff\xfe nothing\n" * 50),
    "an open quote": ("metrics.csv", b'epoch,step,train/loss\n0,1,"' + b"1\n" * 200_000),
    "many columns": ("metrics.csv", b"a," * 300_000 + b"\n" + b"," * 300_000 + b"\n"),
    "strings": ("metrics.csv", b"epoch,step,train/loss\nx,y,z\n-1,-5,1e999\n"),
    "an endless line": ("performance.jsonl", b"[" * 3_000_000 + b"\n"),
    "deep": ("performance.jsonl", b'{"a":' * 100_000 + b"\n"),
    "other types": (
        "performance.jsonl",
        b'{"epoch": 1, "step": 2, "stages": [1], "waits": {"a": 3, "": {}}, "samples": "x", '
        b'"figures": {"samples_per_second": "fast", "loader_wait": NaN}, "resources": '
        b'{"cpu_share": 1e400, "memory_peak": true}, "memory": -1, "alerts": {"rule": 1}}\n'
        b'{"epoch": 1e300, "step": 1}\n[]\n7\n{"epoch": -1, "step": 1}\n',
    ),
    "a bomb": (
        "config.yaml",
        b"a: &a [x, x, x, x, x, x, x, x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (c, c, b"*%c," % (c - 1) * 9) for c in b"bcdefghij"),
    ),
    "an object": ("config.yaml", b"a: !!python/object/apply:os.system ['exit 7']\n"),
    "a large configuration": ("config.yaml", b"a: 1\n" * 100_000),
    "a record of nothing": ("run.json", b'{"state": {}, "versions": [], "machine": {"a": {}}}'),
    "surrogates": ("run.json", b'{"state": "\\ud800", "versions": {"\\udfff": "\\u0007"}}'),
    "no validation": ("validation.json", b'{"epoch": 1}'),
    "half a validation": ("validation.json", b'{"epoch": 1, "counts": {"annota'),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_noted_and_the_rest_is_shown(name: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    file, content = DAMAGE[name]
    (folder / file).write_bytes(content)
    data = shown(write_report(folder))
    silent = {"a record of nothing", "surrogates"}
    assert any(file in note for note in data["notes"]) == (name not in silent), data["notes"]
    if file != "performance.jsonl":
        assert part(data, "speed", "Samples per second")["curves"]
    if file != "metrics.csv":
        assert len(points(part(data, "learning", "Loss"), "loss")) == 6


@pytest.mark.parametrize("name", ["metrics.csv", "performance.jsonl", "config.yaml", "run.json"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "nowhere"])
def test_what_is_no_file_is_not_waited_for(name: str, kind: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / name).unlink(missing_ok=True)
    if kind == "folder":
        (folder / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(tmp_path / "gone")
    notes = shown(write_report(folder))["notes"]
    assert any(note.startswith(f"{name}: cannot be read") for note in notes) == (
        name != "run.json"  # which only adds to the rest
    )


def test_large_files_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "run")
    rows = [{"epoch": 0, "step": step, "train/loss": step} for step in range(20_000)]
    write_metrics(folder / "metrics.csv", rows)
    curves = read_curves(folder / "metrics.csv")
    assert MOST_POINTS <= len(curves.points["train/loss"]) <= 2 * MOST_POINTS
    assert curves.width == 16
    assert curves.points["train/loss"][0] == (16, 7.5)  # the mean of 0 to 15, after 16 steps
    monkeypatch.setattr(files, "MOST_BYTES", 1000)
    cut = read_curves(folder / "metrics.csv")
    assert 0 < len(cut.points["train/loss"]) < 100
    assert any("is larger than" in note for note in cut.notes)


def test_long_lines_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "performance.jsonl"
    write_lines(path, [epoch_line(0), {"epoch": 1, "step": 1, "x": "y" * 5000}, epoch_line(2)])
    monkeypatch.setattr(files, "MOST_LINE", 2000)
    process = read_process(0, path)
    assert [epoch.epoch for epoch in process.epochs] == [0, 2]
    assert len(process.notes) == 1
    assert "1 line of over" in process.notes[0]


def test_an_epoch_that_was_run_twice_counts_twice_and_is_shown_once(tmp_path: Path) -> None:
    path = tmp_path / "performance.jsonl"
    again = epoch_line(1, figures={"samples_per_second": 99.0})
    write_lines(path, [epoch_line(0), epoch_line(1), again])
    process = read_process(0, path)
    assert [epoch.values["samples_per_second"] for epoch in process.epochs] == [10, 99]
    assert process.stages["forward"].count == 30


# ------------------------------------------------------------------------------------- charts


@given(st.floats(-1e18, 1e18), st.floats(-1e18, 1e18))
def test_ticks_are_few_round_and_around_the_values(a: float, b: float) -> None:
    low, high = sorted((a, b) if max(abs(a), abs(b)) > 1e-100 else (0.0, 0.0))
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    little = 1e-6 * (high - low)
    assert found[0] <= low + little
    assert found[-1] >= high - little
    assert all(later > earlier for earlier, later in itertools.pairwise(found))


def test_ticks_are_what_a_person_would_choose() -> None:
    assert ticks(0, 1) == (0, 0.2, 0.4, 0.6, 0.8, 1)
    assert ticks(0, 9.3) == (0, 2, 4, 6, 8, 10)
    assert ticks(3, 3) == (2.4, 2.6, 2.8, 3, 3.2, 3.4, 3.6)
    assert Axis.over("x", []).ticks == ticks(0, 0)


def test_a_table_has_the_numbers_of_its_chart() -> None:
    curves = (Curve("a", ((1.0, 2.0), (2.0, 3.5))), Curve("b", ((2.0, 0.123456),)))
    chart = Chart("t", "about", Axis.over("epoch", [1, 2]), Axis.over("", [0, 4], "s"), curves)
    table = chart.as_dict()
    assert table["head"] == ("epoch", "a, s", "b, s")
    assert table["rows"] == (("1", "2", ""), ("2", "3.5", "0.1235"))
    long = Curve("a", tuple((float(x), 0.0) for x in range(999)))
    rows = Chart("t", "", chart.x, chart.y, (long,)).as_dict()["rows"]
    assert len(rows) <= MOST_ROWS
    assert rows[-1][0] == "998"


def test_numbers_in_few_characters() -> None:
    assert [short(value) for value in (3.0, 0.5, 1234567.8, 0.000012345)] == [
        *("3", "0.5", "1.235e+06", "1.234e-05"),
    ]


@given(st.lists(st.floats(), max_size=300))
def test_thinning_keeps_means_and_counts_the_rest(values: list[float]) -> None:
    made = Thinned()
    for place, value in enumerate(values):
        made.add(place, value)
    finite = [value for value in values if math.isfinite(value)]
    assert [y for _, y in made.points()] == finite
    assert made.lost == len(values) - len(finite)


def test_steps_lie_in_epochs() -> None:
    epochs = Epochs.of({0: 10, 1: 20, 3: 40})
    assert [epochs.place(step) for step in (0, 5, 10, 25, 45)] == [0, 0.5, 1, 2.5, 4.5]
    resumed = Epochs.of({7: 80, 8: 90})
    assert resumed.place(75) == 7.5
    assert (Epochs.of({7: 80}).unit, Epochs.of({}).unit) == ("step", "step")


# -------------------------------------------------------------------------------- the command


def test_the_command_names_the_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    done = report(folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{folder / 'report.html'}\n", "")
    assert shown(folder / "report.html")["title"].endswith("/run")
    helped = report("--help")
    assert helped.returncode == 0
    assert "ocr-train report runs/train/version_0" in helped.stdout


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs" / "version_2").mkdir(parents=True)
    (tmp_path / "runs" / "version_10").mkdir()
    folder = make_run(tmp_path / "run")
    (folder / "taken").mkdir()
    for arguments, reason in (
        ([tmp_path / "gone"], "No such file or directory; name the folder of a training's run"),
        ([folder / "metrics.csv"], "Not a directory"),
        ([tmp_path / "runs"], "name one of them, such as"),
        ([tmp_path / "runs" / "version_2"], "holds nothing of a training (metrics.csv"),
        ([folder, "--out", folder / "taken"], "cannot be written: Is a directory"),
        ([folder, "--out", folder / "metrics.csv" / "x.html"], "cannot be written"),
    ):
        done = report(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert reason in done.stderr
    assert "version_10" in report(tmp_path / "runs").stderr
    assert report().returncode == report(folder, "--outt", "x").returncode == 2


def test_errors_are_ours(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds nothing of a training"):
        read_run(tmp_path)
    folder = make_run(tmp_path / "run")
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(folder, folder)
