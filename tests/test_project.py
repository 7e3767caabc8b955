"""The architecture and the documents hold what they promise."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from conftest import run
from typer.testing import CliRunner

import ocr
import ocr_precompute
from ocr_precompute.cli import app
from ocr_precompute.settings import load_settings

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "ocr_precompute").rglob("*.py"))
README = (ROOT / "README.md").read_text()


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_import_rules(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    assert not tops & {"torch", "lightning", "ocr", "PIL"}
    assert "zarr" not in tops or path.parts[-2:] == ("reading", "split.py")
    assert "numcodecs" not in tops or path.name == "blosc.py"
    assert "numba" not in tops or path.name in {"compiled.py", "together.py"}
    assert not {"rich", "typer"} & tops or path.parent.name == "cli"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "ocr").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_import_rules_of_the_trainer(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    assert not tops & {"zarr", "numcodecs"}
    if path.parent.name in {"models", "metrics", "monitoring", "profiling"}:
        assert not tops & {"lightning"}
    if path.parent.name in {"models", "metrics"}:
        assert not {name for name in imports(path) if name.startswith("ocr_precompute.reading")}


LAYERS = [
    {"errors", "runtime"},
    {"parameters", "samples", "files"},
    {"settings"},
    {"images", "understood"},
    {"targets"},
    {"annotations", "format"},
    {"storage"},
    {"pipeline", "reading"},
    {"checking"},
    {"reports"},
    {"cli"},
]


def test_imports_go_downwards() -> None:
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    top = ROOT / "ocr_precompute"
    assert set(level) == {p.relative_to(top).parts[0].removesuffix(".py") for p in MODULES} - {
        "__init__",
        "__main__",
    }
    for path in MODULES:
        room = path.relative_to(top).parts[0].removesuffix(".py")
        for imported in imports(path):
            parts = imported.split(".")
            if room in level and parts[0] == "ocr_precompute" and parts[1:2] and parts[1] in level:
                low, high = level[parts[1]], level[room]
                assert low < high or parts[1] == room, f"{path} imports {imported}"


def test_the_base_package_loads_lightly() -> None:
    code = "import sys, ocr_precompute.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "zarr", "numba", "cv2", "joblib"} & set(loaded)


def test_reading_one_sample_needs_no_compiler() -> None:
    code = "import sys, ocr_precompute.reading.split; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "zarr", "numba"} & set(loaded)


def public_objects() -> list[tuple[str, object]]:
    found = []
    packages = (ocr_precompute, ocr)
    modules = [m for p in packages for m in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
    for info in modules:
        if info.name.endswith("__main__"):
            continue
        module = import_module(info.name)
        assert module.__doc__, info.name
        for name, member in vars(module).items():
            if not name.startswith("_") and getattr(member, "__module__", "") == info.name:
                found.append((f"{info.name}.{name}", member))
    return found


def test_everything_public_is_documented() -> None:
    undocumented = []
    for name, member in public_objects():
        if inspect.isclass(member):
            methods = [m for m in vars(member).items() if not m[0].startswith("_")]
            undocumented += [
                f"{name}.{n}" for n, m in methods if inspect.isfunction(m) and not m.__doc__
            ]
        if (inspect.isclass(member) or inspect.isfunction(member)) and not member.__doc__:
            undocumented.append(name)
    assert undocumented == []


def test_the_compilers_config_loads() -> None:
    settings = load_settings(ROOT / "configs" / "precompute.yaml", {})
    assert {"train", "val"} <= set(settings.splits)
    # all others belong to ocr-train, and are loaded where that is tested
    others = {path.parent.name for path in (ROOT / "configs").rglob("*.yaml")}
    assert others == {"configs", "experiment"}


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_is_in_the_readme(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert all(option.help for option in command.params)
    assert f"ocr-precompute {name}" in README
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert {"--store", "--json", "--config"} <= {o for p in command.params for o in p.opts}


def test_commands_in_the_documents_are_real() -> None:
    text = README + (ROOT / "scripts" / "quickstart").read_text()
    lines = re.findall(
        r"ocr-precompute ((?:build|verify|inspect|preview|bench|remove|gc)\b[^`\n|]*)", text
    )
    assert len(lines) > 8
    for line in lines:
        name, *arguments = shlex.split(line.split("  ")[0], comments=True)
        options = {option for param in COMMANDS[name].params for option in param.opts}
        assert {a for a in arguments if a.startswith("--")} - {"--help"} <= options, line


def test_no_arguments_and_wrong_ones(tmp_path: Path) -> None:
    assert "Usage" in run("--help").stdout
    wrong = run("build", "--split", "val", "--recipe", "sead", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def test_scripts_are_executable() -> None:
    for name in (
        "scripts/quickstart",
        "scripts/test",
        "scripts/environment",
        "scripts/lowest",
        ".ci/run",
    ):
        assert (ROOT / name).stat().st_mode & 0o111
    checked = (ROOT / ".ci" / "run").read_text()
    assert {"scripts/test", "scripts/lowest"} <= set(checked.split())


def test_scripts_install_nothing_into_the_system() -> None:
    scripts = [p for p in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"] if p.is_file()]
    tools = r"(?<![\w-])(apt|apt-get|apk|yum|dnf|brew|sudo|conda)\s"
    for path in scripts:
        assert not re.search(tools, path.read_text()), path


def test_lower_bounds_can_be_pinned() -> None:
    """As scripts/lowest does, with the extras that it tests."""
    command = [sys.executable, ROOT / "scripts" / "lowest.py", "requirements"]
    shown = subprocess.run(
        [*command, "plot", "remote", "sample"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {line.split("==")[0] for line in shown} >= {"numpy", "joblib", "typer", "fsspec"}
