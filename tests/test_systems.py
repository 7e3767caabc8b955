"""Stores are read where Linux's calls are missing; nothing here ran on another system itself."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Dataset, published
from other_system import CALLS, MODULES, SIGNALS

from ocr_precompute import files
from ocr_precompute.files import flush, is_abandoned, temporary_name
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for top in ("ocr", "ocr_precompute") for path in (ROOT / top).rglob("*.py"))


def on(system: str, script: str, store: Path, dataset: Dataset) -> str:
    """What a script prints that runs there."""
    command = [sys.executable, str(ROOT / "tests" / "other_system.py"), system, script, str(store)]
    command += [str(dataset.images), str(dataset.annotations)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


READ = """
import os, signal
from typer.testing import CliRunner
from ocr_precompute import Source, open_store, verify
from ocr_precompute.cli import app

assert not hasattr(os, "fork") and not hasattr(os, "O_NONBLOCK") and not hasattr(signal, "SIGKILL")
split = open_store(store)["val"]
print(len(split), split.read([0, 5, 23], ("image", "thresh"))["thresh"].shape, split[7].name)
report = verify(store, sources={"val": Source(**source)}, recompute=1.0, jobs=1)
print(report.ok, report.recomputed)
print(CliRunner().invoke(app, ["inspect", "--store", str(store)]).exit_code)
"""


def test_windows_reads_and_verifies(dataset: Dataset, settings: Settings) -> None:
    build("val", dataset.source, settings)
    printed = on("windows", READ, Path(settings.store), dataset)
    assert printed.splitlines() == ["24 (3, 64, 64) page_007.jpg", "True 24", "0"]


REFUSED = """
from typer.testing import CliRunner
from ocr_precompute import Settings, Source, StoreError, build, open_store
from ocr_precompute.cli import app

for settings in (Settings(store=store), Settings(store=store.with_name("new"))):
    try:
        build("val", Source(**source), settings)
    except StoreError as error:
        print(str(error).removeprefix(str(settings.store)))
assert not store.with_name("new").exists()
try:
    open_store(store, cache=store.with_name("cache"))
except StoreError as error:
    print(str(error).removeprefix(str(store.with_name("cache"))))
for command in (["gc"], ["verify", "--repair", "--jobs", "1"]):
    ended = CliRunner().invoke(app, [*command, "--store", str(store)])
    print(ended.exit_code, "needs file locks" in ended.stderr)
"""


def test_what_windows_cannot_do_is_one_error(dataset: Dataset, settings: Settings) -> None:
    store = Path(settings.store)
    build("val", dataset.source, settings)
    shard = next(store.glob("shards/*/*.zip"))
    shard.write_bytes(shard.read_bytes()[:-1])  # so that there is something to repair
    before = published(store)
    lines = on("windows", REFUSED, store, dataset).splitlines()
    locks = "needs file locks that end with their process (flock), which this system does not have"
    writing = f": writing {locks}; reading works; write it on Linux or macOS"
    assert lines[:2] == [writing, writing]
    assert lines[2] == f": a cache {locks}; read without one"
    assert lines[3:] == ["2 True", "2 True"]
    assert published(store) == before


BUILT = """
import os
from ocr_precompute import Settings, Source, build, open_store, verify

assert not hasattr(os, "sched_getaffinity")
settings = Settings(store=store, size=64, shard_length=8, backend="threading", jobs=2)
print(build("val", Source(**source), settings).computed)
print(verify(store, recompute=0.5, sources={"val": Source(**source)}).ok)
print(open_store(store)["val"].read([3])["image"].shape)
"""


def test_macos_builds_too(dataset: Dataset, settings: Settings, tmp_path: Path) -> None:
    printed = on("macos", BUILT, tmp_path / "there", dataset)
    assert printed.splitlines() == ["24", "True", "(1, 64, 64, 3)"]
    build("val", dataset.source, settings)
    assert published(tmp_path / "there") == published(Path(settings.store))


def unguarded(path: Path) -> set[str]:
    """Modules that not every system has, imported when the module is, outside of any `try`."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    found = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
        elif not isinstance(node, ast.Try | ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)
    return found & set(MODULES)


def test_no_module_needs_one_of_unix_to_be_imported() -> None:
    assert len(SOURCES) > 150
    assert {str(p.relative_to(ROOT)): found for p in SOURCES if (found := unguarded(p))} == {}


def test_calls_of_unix_are_few_and_known() -> None:
    """Each is behind a look whether it is there, or behind a lock that is refused elsewhere."""
    missing = {"os": CALLS["windows"].split(), "signal": SIGNALS["windows"].split()}
    found = {
        (path.relative_to(ROOT).as_posix(), node.attr)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.attr in missing.get(node.value.id, ())
    }
    assert found == {
        ("ocr_precompute/monitoring/processes.py", "sched_getaffinity"),
        ("ocr_precompute/reading/shard_cache.py", "O_NOFOLLOW"),
        ("ocr_precompute/reports/bench.py", "posix_fadvise"),
        ("ocr_precompute/runtime/clock.py", "sysconf"),  # after a look into /proc
        ("ocr_precompute/runtime/forks.py", "register_at_fork"),
        ("ocr_precompute/storage/locks.py", "O_NOFOLLOW"),
        ("ocr_precompute/storage/locks.py", "O_NONBLOCK"),
    }


def test_windows_flushes_files_that_it_may_write_and_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_WINDOWS", True)
    opened, usual = [], os.open

    def recorded(path: Path, flags: int, *more: int) -> int:
        opened.append((path, flags))
        return usual(path, flags, *more)

    monkeypatch.setattr(os, "open", recorded)
    (tmp_path / "a").write_bytes(b"a")
    flush(tmp_path)
    flush(tmp_path / "a")
    assert opened == [(tmp_path / "a", os.O_RDWR)]


def test_windows_asks_no_process_whether_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question would end it there; so what may be in use is left for a day."""
    left = tmp_path / temporary_name("a")
    left.touch()
    left = left.rename(str(left).replace(f"-{os.getpid()}-", "-999999999-"))
    assert is_abandoned(left)
    monkeypatch.setattr(files, "_WINDOWS", True)
    monkeypatch.delattr(os, "kill")
    assert not is_abandoned(left)
    os.utime(left, (time.time() - 2 * 86400,) * 2)
    assert is_abandoned(left)
