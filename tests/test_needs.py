"""Tests that cannot run everywhere are left out in one line, and nothing else is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from needs import NEEDS

ROOT = Path(__file__).resolve().parents[1]

CONFTEST = """
import needs
from needs import *
from needs import _data
needs.NEEDS["gpu"] = ("a GPU", lambda: "")
needs.NEEDS["browser"] = ("a browser", lambda: "no browser")
needs.NEEDS["cluster"] = ("a cluster", lambda: "no cluster")
"""

TESTS = """
import pytest
def test_plain(): pass
@pytest.mark.gpu
def test_gpu(): pass
@pytest.mark.browser
@pytest.mark.parametrize("number", [1, 2])
def test_browser(number): assert False
@pytest.mark.browser
@pytest.mark.parametrize("number", [])
def test_browser_nothing(number): assert False
@pytest.mark.cluster
def test_cluster(): assert False
@pytest.mark.xfail
def test_xfail(): assert False
"""

SKIPS = {
    "a skip": "import pytest\ndef test_a(): pytest.skip('not today')",
    "skipif": "import pytest\n@pytest.mark.skipif(True, reason='not today')\ndef test_a(): pass",
    "a module": "import pytest\npytest.skip('not today', allow_module_level=True)",
    "an import": "import pytest\npytest.importorskip('nothing_of_that_name')\ndef test_a(): pass",
    "a fixture": "import pytest\n@pytest.fixture\ndef a(): pytest.skip('x')\ndef test_a(a): pass",
    "no parameters": "import pytest\n@pytest.mark.parametrize('a', [])\ndef test_a(a): pass",
}


ALONE, TWO = ("-n", "0"), ("-n", "2")
"""Tests run in one process, and in two."""
ALONE_AND_TWO = [
    pytest.param(ALONE, id="alone"),
    pytest.param(TWO, id="two", marks=pytest.mark.time),
]


def outcome(
    folder: Path, tests: str, require: str = "", workers: tuple[str, str] = ALONE, *more: str
) -> tuple[int, str]:
    """Run pytest on these tests in a process of its own: exit status and what it prints.

    Without its closing summary, which has whole messages only where `CI` is set.
    """
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    environment = {**os.environ, "OCR_REQUIRE": require, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rN", "-p", "no:cacheprovider", *workers, *more],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", ALONE_AND_TWO)
def test_what_is_missing_is_left_out_in_one_line(tmp_path: Path, workers: tuple[str, str]) -> None:
    status, shown = outcome(tmp_path, TESTS, workers=workers)
    assert status == 0, shown
    assert re.search(r"2 passed, (4 deselected, )?1 xfailed", shown)
    line = "left out: 3 that need browser (no browser); 1 that need cluster (no cluster)"
    assert shown.count("left out") == 1
    assert line in shown.splitlines()


@pytest.mark.parametrize("workers", ALONE_AND_TWO)
def test_what_is_required_must_be_there(tmp_path: Path, workers: tuple[str, str]) -> None:
    assert outcome(tmp_path, TESTS, "gpu,data", workers)[0] == 0
    status, shown = outcome(tmp_path, TESTS, "gpu, browser", workers)
    assert status != 0
    assert shown.count("OCR_REQUIRE=browser says is here what is not: no browser") == 2
    status, shown = outcome(tmp_path, TESTS, "brwser")
    assert status != 0
    assert f"OCR_REQUIRE names brwser; it knows {', '.join(NEEDS)}" in shown


@pytest.mark.parametrize("workers", ALONE_AND_TWO)
def test_any_other_skip_fails(tmp_path: Path, workers: tuple[str, str]) -> None:
    """By whatever way it is skipped, with a test that passes beside it."""
    for number, skip in enumerate(SKIPS.values()):
        (tmp_path / f"test_{number}.py").write_text(skip)
    on = "--continue-on-collection-errors"
    status, shown = outcome(tmp_path, "def test_plain(): pass", "", workers, on)
    assert status != 0, shown
    told = "a test that cannot run everywhere carries a marker: data, gpu, browser"
    assert shown.count(told) >= len(SKIPS)  # each worker tells what it cannot collect


def test_what_takes_minutes_is_left_out_unless_required(tmp_path: Path) -> None:
    tests = "import pytest\n@pytest.mark.time\ndef test_a(): pass\ndef test_b(): pass"
    status, shown = outcome(tmp_path, tests)
    assert status == 0, shown
    assert "left out: 1 that need time (OCR_REQUIRE=time grants it)" in shown.splitlines()
    status, shown = outcome(tmp_path, tests, "time")
    assert status == 0, shown
    assert "2 passed" in shown
    assert "left out" not in shown
