"""What Prometheus and Grafana are given asks for what a run shows, and its rules do theirs."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from ocr_precompute.monitoring.exporter import registry
from ocr_precompute.monitoring.metrics import METRICS
from ocr_precompute.monitoring.monitor import Seen
from ocr_precompute.monitoring.resources import Gpu, Reading
from ocr_precompute.monitoring.rules import Alarm, rules_of_a_build, rules_of_a_training
from ocr_precompute.runtime.stages import Times, Totals

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "configs" / "monitoring"
RULES = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
NAMES = {metric.name for metric in METRICS}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}


def asked(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    return set(re.findall(r"\bocr[_:][a-z0-9_:]+", expression))


def shown() -> str:
    """All metrics, as a run with everything in it shows them."""
    times = {"a": Times.of([0.5])}
    totals = Totals(times, times, {"handle hits": 3})
    alarm = Alarm.of(rules_of_a_training())
    reading = Reading(1.0, gpus=(Gpu("0", 0.5, 1, 2),))
    seen = Seen(reading, alarm=alarm)
    return generate_latest(registry({"run": "fit"}, lambda: totals, lambda: seen)).decode()


def test_what_is_shown_has_the_names_that_are_promised() -> None:
    lines = [line for line in shown().splitlines() if not line.startswith("#")]
    assert {re.split(r"[{ ]", line)[0] for line in lines} == NAMES
    assert len(NAMES) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"ocr_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not re.search(r"_(ms|kb|mb|gb|percent|minutes)(_|$)", metric.name)  # base units


@pytest.mark.promtool
def test_promtool_finds_nothing_wrong_with_what_is_shown() -> None:
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=shown(), capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.promtool
def test_the_rules_do_what_their_tests_say() -> None:
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]):
        done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


@pytest.mark.promtool
def test_the_tests_of_the_rules_can_fail(tmp_path: Path) -> None:
    changed = (FOLDER / "rules.yaml").read_text().replace("> 0.8", "> 0.95")
    (tmp_path / "rules.yaml").write_text(changed)
    (tmp_path / "rules_test.yaml").write_text((FOLDER / "rules_test.yaml").read_text())
    command = ["promtool", "test", "rules", "rules_test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "OcrMemoryShort" in done.stdout + done.stderr


def test_rules_ask_for_what_is_shown() -> None:
    for rule in RULES:
        assert asked(rule["expr"]) <= NAMES | RECORDED
    series = set()
    document = yaml.safe_load((FOLDER / "rules_test.yaml").read_text())
    for test in document["tests"]:
        series |= {entry["series"].partition("{")[0] for entry in test["input_series"]}
    assert series <= NAMES
    cases = [case for test in document["tests"] for case in test.get("alert_rule_test", [])]
    tested = {case["alertname"] for case in cases}
    assert tested == {rule["alert"] for rule in RULES if "alert" in rule}


def panels() -> list[dict[str, Any]]:
    found = DASHBOARD["panels"]
    assert len(found) > 10
    return list(found)


def test_the_dashboard_asks_for_what_is_shown() -> None:
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    for expression in expressions:
        assert asked(expression)
        assert asked(expression) <= NAMES, expression
    variables = json.dumps(DASHBOARD["templating"])
    assert asked(variables) == {"ocr_run_seconds_total"}
    every = set().union(*map(asked, expressions))
    assert {"ocr_alert", "ocr_stage_seconds_total", "ocr_gpu_busy_ratio"} <= every


def test_panels_lie_side_by_side() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in mine) < 24
        assert not mine & cells, panel["title"]
        cells |= mine
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_document_names_every_metric_and_every_alert() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    assert asked(text) >= NAMES
    assert asked(text) <= NAMES | RECORDED | {"ocr_precompute"}
    for rule in (*rules_of_a_build(), *rules_of_a_training()):
        assert f"`{rule.name}`" in text
