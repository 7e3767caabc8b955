"""`init` writes configurations that the commands read, so that nobody needs the repository."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from conftest import Dataset
from typer.testing import CliRunner, Result

from ocr import command
from ocr.init import configurations
from ocr_precompute.cli import app
from ocr_precompute.cli.init import configuration
from ocr_precompute.settings import DEFAULT_CONFIG, Packing, Settings, Source, load_settings

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that is no clone."""
    monkeypatch.chdir(tmp_path)


def init(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def train_init(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from ocr.command import main; sys.argv[0] = 'ocr-train'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "init", *arguments], capture_output=True, text=True
    )


def test_it_is_written_where_it_is_looked_for_and_holds_the_defaults() -> None:
    result = init()
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert str(DEFAULT_CONFIG) in result.stderr
    settings = load_settings(None, {})
    assert settings.model_copy(update={"splits": {}}) == Settings()
    assert settings.source("train") == Source(
        images=Path("photos/train"), annotations=Path("train.json")
    )
    assert set(settings.splits) == {"train", "val"}


@pytest.mark.parametrize("model", [Settings, Packing, Source])
def test_it_names_every_setting(model: type) -> None:
    text = configuration({"val": {"images": "a", "annotations": "b"}})
    unsaid = {"name", "rules", "others"}  # of a list of sources; set by the other settings
    fields = set(model.model_fields) - (unsaid if model is Source else set())
    assert {name for name in fields if not re.search(rf"^ *(# )?{name}:", text, re.M)} == set()


def test_every_example_in_it_can_be_taken() -> None:
    """What is commented out is a setting, too: each of them is one that is understood."""
    lines = configuration({"val": {"images": "a", "annotations": "b"}}).splitlines()
    examples = [number for number, line in enumerate(lines) if re.match(r" *# [a-z_]+: ", line)]
    assert len(examples) > 10
    for number in examples:
        taken = [*lines]
        taken[number] = taken[number].replace("# ", "", 1)
        text = "\n".join(taken)
        if "# scheduler" in lines[number]:
            text = text.replace("backend: loky", "backend: ray")
        Path("taken.yaml").write_text(text)
        load_settings(Path("taken.yaml"), {})


def test_the_splits_of_the_command_line_are_built(dataset: Dataset) -> None:
    place = dataset.images.with_name("im: ages #1 \N{GREEK SMALL LETTER ALPHA}")
    dataset.images.rename(place)
    flags = ["--images", place, "--annotations", dataset.annotations, "--split", "small"]
    result = init("mine.yaml", *flags, "--store", "s t o r e")
    assert result.exit_code == 0, result.output
    assert "`ocr-precompute build --split small --config mine.yaml`" in result.stderr
    settings = load_settings(Path("mine.yaml"), {})
    assert settings.store == Path("s t o r e")
    assert settings.splits == {"small": Source(images=place, annotations=dataset.annotations)}
    build = ["build", "--config", "mine.yaml", "--split", "small", "--dry-run", "--json"]
    built = CliRunner().invoke(app, build)
    assert built.exit_code == 0, built.output
    assert json.loads(built.stdout)["samples"] == 24


def test_to_stdout_and_as_json() -> None:
    text = init("-").stdout
    assert yaml.safe_load(text)["size"] == 640
    assert not Path("-").exists()
    assert json.loads(init("-", "--json").stdout) == {"path": None, "text": text}
    assert json.loads(init("--json").stdout) == {"path": str(DEFAULT_CONFIG), "text": text}


def test_what_is_there_is_replaced_when_that_is_asked_for() -> None:
    Path("mine.yaml").write_text("size: 320\n")
    refused = init("mine.yaml")
    assert refused.exit_code == 2
    assert "mine.yaml: exists; name another place, or replace it with --force" in refused.stderr
    assert Path("mine.yaml").read_text() == "size: 320\n"
    assert init("mine.yaml", "--force").exit_code == 0
    assert load_settings(Path("mine.yaml"), {}).size == (640, 640)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--images", "a"], "split 'val': give both --images and --annotations"),
        (["--split", "a"], "split 'a': give both --images and --annotations"),
        (["--split", "../a", "--images", "a", "--annotations", "b"], "split '../a': use letters"),
        (["--images", "ftp://a/b", "--annotations", "b"], "looks like a URL"),
        (["--store", "ftp://a"], "'ftp://a' looks like a URL; stores lie in folders"),
        (["s3://a/b.yaml"], "PATH: 's3://a/b.yaml' looks like a URL"),
        (["file/below.yaml"], "cannot be written: File exists; name another place"),
    ],
)
def test_what_cannot_be_written_is_one_error(arguments: list[str], said: str) -> None:
    Path("file").touch()
    result = init(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not DEFAULT_CONFIG.exists()


def test_the_configuration_of_the_clone_is_the_same() -> None:
    sample = {
        split: {
            "images": f"data/sample/images/{split}",
            "annotations": f"data/sample/jsons/{split}.json",
        }
        for split in ("train", "val")
    }
    assert configuration(sample) == (ROOT / "configs" / "precompute.yaml").read_text()


def test_configurations_of_trainings_are_those_of_the_clone() -> None:
    written = train_init()
    assert written.returncode == 0, written.stderr
    names = ["train.yaml", *sorted(f"experiment/{each.name}" for each in experiments())]
    assert written.stdout.splitlines() == [f"configs/{name}" for name in names]
    for name in names:
        assert (Path("configs") / name).read_bytes() == (ROOT / "configs" / name).read_bytes()


def experiments() -> list[Path]:
    found = list((ROOT / "configs" / "experiment").iterdir())
    assert len(found) > 5
    return found


def test_one_of_them_that_is_there_is_not_replaced() -> None:
    Path("mine/experiment").mkdir(parents=True)
    Path("mine/experiment/bf16.yaml").write_text("mine")
    refused = train_init("mine")
    assert refused.returncode == 2
    path = Path("mine") / "experiment" / "bf16.yaml"
    assert refused.stderr == (
        f"error: {path}: exists; name another place, or replace it with --force\n"
    )
    assert [each.name for each in Path("mine").rglob("*.yaml")] == ["bf16.yaml"]
    assert train_init("mine", "--force").returncode == 0
    assert path.read_text() == configurations()["experiment/bf16.yaml"]


def test_the_training_configuration_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ocr-train", "init", "-"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == (ROOT / "configs" / "train.yaml").read_text()
    assert not Path("configs").exists()


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; from ocr.init import main; main(['-']); "
        "print({'torch', 'lightning'} & set(sys.modules), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == "set()\n"


@pytest.mark.parametrize("package", ["ocr", "ocr_precompute"])
def test_an_installed_package_has_all_its_files(package: str) -> None:
    """All but Python's are named in pyproject.toml, and found as installed ones are."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    named = {p for glob in tables["package-data"][package] for p in (ROOT / package).glob(glob)}
    there = {path for path in (ROOT / package).rglob("*") if path.is_file()}
    assert named == {path for path in there if path.suffix not in {".py", ".pyc", ".nbi", ".nbc"}}
    found = files(package)
    assert all(
        found.joinpath(path.relative_to(ROOT / package).as_posix()).is_file() for path in named
    )
