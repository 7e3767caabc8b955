"""The architecture and the documents hold what they promise."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Dataset, run
from pydantic import BaseModel
from typer.testing import CliRunner

import ocr
import ocr_precompute
from ocr_precompute.cli import app
from ocr_precompute.pipeline import encode as encoding
from ocr_precompute.settings import Packing, Rules, Settings, Source, load_settings

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
    assert "zarr" not in tops or path.parts[-2:] == ("reading", "foreign.py")
    assert "numcodecs" not in tops or path.name == "blosc.py"
    assert "numba" not in tops or path.name in {"compiled.py", "together.py"}
    assert not {"psutil", "pynvml", "prometheus_client"} & tops or path.parent.name == "monitoring"
    assert not {"rich", "typer"} & tops or path.parent.name == "cli"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "ocr").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_import_rules_of_the_trainer(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    assert not tops & {"zarr", "numcodecs"}
    if path.parent.name in {"models", "metrics", "monitoring", "profiling", "reports", "export"}:
        assert not tops & {"lightning"}
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("ocr.")}
    if path.parent.name == "reports":  # reads a run folder on a machine that does not train
        assert not tops & {"torch", "torchmetrics", "shapely", "cv2"}
        assert rooms <= {"reports"}
    if path.parent.name == "inference":  # goes on where nothing else is installed
        assert tops <= {
            *sys.stdlib_module_names,
            "numpy",
            "cv2",
            "pyclipper",
            "ocr",
            "ocr_precompute",
        }
        assert rooms <= {"inference", "packages", "errors"}
    if path.parent.name == "interop":  # other stacks are imported when they are used
        assert not tops & {"lightning", "doctr", "mmengine", "mmocr", "paddle", "ppocr", "datasets"}
        assert rooms <= {"interop", "datasets", "packages"}
    else:
        assert "interop" not in rooms
    if path.parent.name in {"models", "metrics"}:
        assert not {name for name in imports(path) if name.startswith("ocr_precompute.reading")}


LAYERS = [
    {"errors", "remote_images"},
    {"parameters", "samples", "files", "runtime"},
    {"settings", "monitoring", "baselines", "profiling"},
    {"images", "understood"},
    {"targets"},
    {"annotations", "format"},
    {"storage", "augmentation"},
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


def long_functions(path: Path) -> list[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        f"{path.relative_to(ROOT)}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, functions) and node.end_lineno - node.lineno >= 60
    ]


def test_every_function_fits_on_a_screen() -> None:
    paths = [p for top in ("ocr_precompute", "ocr", "scripts") for p in (ROOT / top).rglob("*.py")]
    assert len(paths) > 100
    assert [found for path in paths for found in long_functions(path)] == []


def test_five_functions_lead_from_the_command_to_the_pixel(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from the command to the function that computes a sample, both included."""
    package = Path(ocr_precompute.__file__).parent
    compute, stacks = encoding.compute_sample, []

    def recorded(*arguments: object) -> object:
        frames = [(Path(f.filename), f.function) for f in inspect.stack(0)]
        stacks.append([(p.relative_to(package), n) for p, n in frames if package in p.parents])
        return compute(*arguments)

    monkeypatch.setattr(encoding, "compute_sample", recorded)
    monkeypatch.chdir(tmp_path)
    flags = [*dataset.flags(), "--store", str(tmp_path / "store"), "--size", "64"]
    result = CliRunner().invoke(app, ["build", *flags, "--backend", "sequential"])
    assert result.exit_code == 0, result.output
    assert len(stacks) == 24
    command = (Path("cli/build.py"), "build")
    ways = {tuple(stack[: stack.index(command) + 1]) for stack in stacks}
    assert {len(way) + 1 for way in ways} == {5}, ways  # compute_sample itself is the fifth


def test_the_base_package_loads_lightly() -> None:
    code = "import sys, ocr_precompute.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "zarr", "numba", "cv2", "joblib", "psutil"} & set(loaded)


def test_a_report_needs_no_training_environment() -> None:
    code = "import sys, ocr.command, ocr.reports.command; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "ocr.reports.report" in loaded
    assert not {"torch", "lightning", "cv2", "zarr", "numba", "joblib", "pydantic"} & set(loaded)


def test_reading_one_sample_needs_no_compiler() -> None:
    code = "import sys, ocr_precompute.reading.split; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "zarr", "numba"} & set(loaded)


EXPORTS = """
import importlib, sys
for name in sys.argv[1:]:
    for module in [m for m in sys.modules if m.split(".")[0] == "ocr_precompute"]:
        del sys.modules[module]
    package = importlib.import_module("ocr_precompute")
    print(name, type(getattr(package, name)).__name__, callable(package.targets.make_targets))
"""
"""Each name is the first that is asked of the package."""


def test_what_the_package_exports() -> None:
    names = ocr_precompute.__all__
    command = [sys.executable, "-c", EXPORTS, *names]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {name: (kind, told) for name, kind, told in map(str.split, shown.splitlines())}
    assert set(found) == set(names) <= set(dir(ocr_precompute))
    for name, (kind, told) in found.items():
        wanted = "type" if name[0].isupper() else "str" if name == "__version__" else "function"
        assert kind in {wanted, "ModelMetaclass"}, name
        assert told == "True", name


def test_type_hints_are_for_users_too() -> None:
    assert (ROOT / "ocr_precompute" / "py.typed").exists()
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert packaged["package-data"] == {
        "ocr": ["configs/*.yaml", "configs/experiment/*.yaml", "reports/pages/*"],
        "ocr_precompute": ["configs/*.yaml", "py.typed", "reports/pages/*"],
    }


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
    others = {path.parent.name for path in (ROOT / "configs").glob("*/*.yaml")}
    assert others == {"experiment", "monitoring"}


@pytest.mark.parametrize("model", [Settings, Source, Rules, Packing])
def test_every_setting_says_what_it_is(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_is_in_the_readme(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert all(option.help for option in command.params)
    assert f"ocr-precompute {name}" in README
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    of_a_store = {"--store", "--config"} if name not in ("formats", "convert", "init") else set()
    if name in ("push", "pull"):  # of two stores
        of_a_store = {"store", "url", "--config"}
    common = {"--json", "--verbose"} | of_a_store
    assert common <= {o for p in command.params for o in p.opts}


def test_commands_in_the_documents_are_real() -> None:
    text = README + (ROOT / "scripts" / "quickstart").read_text()
    names = "|".join(COMMANDS)
    lines = re.findall(rf"ocr-precompute ((?:{names})\b[^`\n|]*)", text)
    assert len(lines) > 8
    for line in lines:
        name, *arguments = shlex.split(line.split("  ")[0], comments=True)
        options = {option for param in COMMANDS[name].params for option in param.opts}
        assert {a for a in arguments if a.startswith("--")} - {"--help"} <= options, line


def test_the_python_of_the_readme_runs(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "val").symlink_to(dataset.images)
    (tmp_path / "val.json").symlink_to(dataset.annotations)
    blocks = re.findall(r"```python\n(.*?)```", README.partition("## From Python")[2], re.DOTALL)
    names: dict[str, Any] = {"polygons": [], "ignore": []}
    for block in blocks[:3]:  # the last one trains
        exec(block, names)
    assert names["report"].computed == len(names["split"]) == 24
    assert names["batch"]["thresh"].shape == (3, 640, 640)
    assert names["targets"].prob.shape == (640, 640)


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
        "scripts/docs",
        ".ci/run",
        ".ci/full",
        ".ci/promtool",
    ):
        assert (ROOT / name).stat().st_mode & 0o111
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text().split()
    assert {".ci/run", "scripts/lowest"} <= set((ROOT / ".ci" / "full").read_text().split())


def test_scripts_install_nothing_into_the_system() -> None:
    """But for the browser that checking a change needs, if there is none."""
    tools = r"(?<![\w-])(?:apt|apt-get|apk|yum|dnf|brew|sudo|conda)\s.*"
    for path in [p for p in (ROOT / "scripts").iterdir() if p.is_file()]:
        assert not re.search(tools, path.read_text()), path
    checked = (ROOT / ".ci" / "run").read_text()
    install = "apt-get install -qq --no-install-recommends chromium > /dev/null"
    assert re.findall(tools, checked) == ["apt-get update -qq", install]
    assert re.search(r"if ! command -v chromium [^\n]*\n *apt-get update", checked)


def test_lower_bounds_can_be_pinned() -> None:
    """As scripts/lowest does, with the extras that it tests."""
    command = [sys.executable, ROOT / "scripts" / "lowest.py", "requirements"]
    shown = subprocess.run(
        [*command, "monitor", "parquet", "plot", "remote", "sample"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    names = {line.split("==")[0] for line in shown}
    assert names >= {"numpy", "joblib", "typer", "obstore", "pyarrow"}
    command[-1:] = ["extras", "train", "export", "dask", "ray"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    names = {line.split("==")[0] for line in shown}
    assert names >= {"jsonargparse", "transformers", "onnxscript", "distributed", "ray"}
    assert "numpy" not in names


def anchors(document: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.strip().lower()).replace(" ", "-") for t in titles}


TOP_DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS = [*TOP_DOCUMENTS, *sorted((ROOT / "docs").glob("*.md"))]
RATE = (
    r"\b(?:ms|µs|kB|MB|GB|bytes|samples|requests?|lines?|rows?|once) "
    r"an? (?:second|minute|sample|shard|request|row|page|image|batch|epoch|step|million|process)\b"
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_rates_are_said_with_per(document: Path) -> None:
    assert re.findall(RATE, document.read_text().replace("\n", " ")) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_within_the_documents_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
