"""What some tests need and not every machine has: real data, a GPU, a browser, and so on.

A test says so with a marker. Where it is missing, tests of that marker are left out, and one line
says how many and why; OCR_REQUIRE=data,gpu makes that a failure. A test that skips for any other
reason fails: nobody reads skips. Tests that take minutes need `time`, which is there where it is
required.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

_REQUIRED = "OCR_REQUIRE"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_left_out, _refused = pytest.StashKey[str](), pytest.StashKey[str]()


def _data() -> str:
    return "" if SHARED.is_dir() else f"there is no {os.path.relpath(SHARED)}"


def _gpu() -> str:
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed"
    import torch

    return "" if torch.cuda.is_available() else "PyTorch finds no CUDA device"


def browser() -> str | None:
    """The command of the system's browser; None if there is none that tests can drive."""
    return next((found for name in _BROWSERS if (found := shutil.which(name))), None)


def _browser() -> str:
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed"
    return "" if browser() else f"none of {', '.join(_BROWSERS)} is installed"


def _namespaces() -> str:
    if shutil.which("unshare") is None:
        return "there is no unshare command"
    command = ["unshare", "--user", "--map-root-user", "--mount", "--net", "true"]
    allowed = subprocess.run(command, capture_output=True).returncode == 0
    return "" if allowed else "the system does not allow them"


def _cluster() -> str:
    missing = [name for name in ("distributed", "ray") if not importlib.util.find_spec(name)]
    return f"not installed: {', '.join(missing)}" if missing else ""


def _package(name: str) -> str:
    return "" if importlib.util.find_spec(name) else f"the package {name} is not installed"


def _proc() -> str:
    return "" if Path("/proc/self/stat").exists() else "the system shows no processes there"


def _promtool() -> str:
    return "" if shutil.which("promtool") else "promtool, of Prometheus, is not installed"


def _scipy() -> str:
    return "" if importlib.util.find_spec("scipy") else "SciPy is not installed"


def _time() -> str:
    return "" if "time" in _required() else f"{_REQUIRED}=time grants it"


NEEDS: dict[str, tuple[str, Callable[[], str]]] = {
    "data": ("receipts, photographs and golden labels beside the repository", _data),
    "gpu": ("a CUDA device", _gpu),
    "browser": ("a Chromium browser, and Playwright to drive it", _browser),
    "namespaces": ("user, mount and network namespaces of Linux", _namespaces),
    "cluster": ("the cluster engines, Dask and Ray", _cluster),
    "mmengine": ("MMEngine", lambda: _package("mmengine")),
    "datasets": ("datasets, of Hugging Face", lambda: _package("datasets")),
    "doctr": ("docTR", lambda: _package("doctr")),
    "proc": ("processes shown in /proc", _proc),
    "promtool": ("promtool, which comes with Prometheus", _promtool),
    "scipy": ("SciPy, which reads MATLAB files", _scipy),
    "mkdocs": ("MkDocs, of the extra docs", lambda: _package("mkdocs")),
    "curl": ("curl", lambda: "" if shutil.which("curl") else "curl is not installed"),
    "time": ("minutes", _time),
}
"""For each marker what it stands for, and what says why it is missing (empty: it is not)."""


def pytest_configure(config: pytest.Config) -> None:
    for name, (meaning, _) in NEEDS.items():
        config.addinivalue_line("markers", f"{name}: needs {meaning}")
    unknown = _required() - set(NEEDS)
    if unknown:
        raise pytest.UsageError(
            f"{_REQUIRED} names {', '.join(sorted(unknown))}; it knows {', '.join(NEEDS)}"
        )


def _required() -> set[str]:
    return {name.strip() for name in os.environ.get(_REQUIRED, "").split(",")} - {""}


def pytest_itemcollected(item: pytest.Item) -> None:
    if "shared" in getattr(item, "fixturenames", ()):
        item.add_marker("data")


@pytest.hookimpl(trylast=True)  # after what the command line selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that cannot run here; if they are required to, they fail."""
    wanted = {name for name in NEEDS if any(item.get_closest_marker(name) for item in items)}
    missing = {name: why for name in wanted if (why := NEEDS[name][1]())}
    absent = {item: n for item in items for n in missing if item.get_closest_marker(n)}
    for item, name in list(absent.items()):
        if name in _required():
            del absent[item]
            item.stash[_refused] = f"{_REQUIRED}={name} says is here what is not: {missing[name]}"
    counts = Counter(absent.values())
    left_out = "; ".join(f"{counts[n]} that need {n} ({missing[n]})" for n in NEEDS if counts[n])
    if absent:
        config.stash[_left_out] = f"left out: {left_out}"
        config.hook.pytest_deselected(items=list(absent))
        items[:] = [item for item in items if item not in absent]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if reason := item.stash.get(_refused, ""):
        pytest.fail(reason, pytrace=False)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Of workers, which collect on their own and all the same, the last one's line is shown."""
    node.config.stash[_left_out] = getattr(node, "workeroutput", {}).get("left_out", "")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(_left_out, "")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if line := terminalreporter.config.stash.get(_left_out, ""):
        terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _failed_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _failed_if_skipped((yield))


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _failed_if_skipped(report: Report) -> Report:
    if report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        markers = ", ".join(NEEDS)
        report.longrepr = f"{why}: a test that cannot run everywhere carries a marker: {markers}"
    return report
