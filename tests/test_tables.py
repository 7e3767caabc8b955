"""The tables of the documents are those of the formats, and of the results that lie beside them."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "scripts" / "make_tables.py"
    spec = importlib.util.spec_from_file_location("make_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results(script: ModuleType) -> Any:
    """The module that knows what a result is; the script has put it on the path."""
    return importlib.import_module("measuring.results")


def test_the_documents_are_up_to_date(script: ModuleType) -> None:
    for path in script.DOCUMENTS:
        text = path.read_text()
        for kind in ("formats", "results"):
            assert text.count(f"<!-- {kind}: ") == text.count(f"<!-- end of {kind} -->"), path
        assert script.with_tables(text) == text, f"run scripts/make_tables.py, which writes {path}"


def test_every_result_is_of_a_script_and_in_one_document(script: ModuleType, results: Any) -> None:
    texts = [path.read_text() for path in script.DOCUMENTS]
    assert {path.name for path in script.DOCUMENTS} >= {"README.md", "performance.md", "sizes.md"}
    for path in script.RESULTS.glob("*.json"):
        assert sum(text.count(f"<!-- results: {path.stem},") for text in texts) == 1, path
        name = results.read_result(path).name
        assert (ROOT / "scripts" / "bench" / f"{name}.py").exists(), path


def result(results: Any, *rows: tuple[object, ...], **more: Any) -> Any:
    """One of a table of three columns."""
    columns = results.Column("way"), results.Column("", "s", 1), results.Column("memory", "MB")
    where = results.Environment("2026-11-28", "a processor", "", "Linux", {}, "script.py")
    return results.Result("name", "Is it?", where, (results.Table(columns, rows),), **more)


def test_a_result_as_markdown_and_as_json(results: Any, tmp_path: Path) -> None:
    found = result(
        results,
        ("a | b", 1234.56, 0.0741),
        ("c", 2, None),
        ratios={"a / c": 617.28},
        notes=("twice",),
        absent=("d", "e, f"),
    )
    assert list(found.markdown()) == [
        "- 2026-11-28, a processor, Linux",
        "- `script.py`",
        "- twice",
        "- left out, for they are not installed: d; e, f",
        "",
        "| way | s | memory, MB |",
        "|---|---:|---:|",
        "| a \\| b | 1,234.6 | 0.0741 |",
        "| c | 2 |  |",
        "",
        "- a / c: 617.28",
    ]
    (tmp_path / "name.json").write_bytes(found.as_json())
    assert results.read_result(tmp_path / "name.json") == found


def test_a_result_has_a_figure_in_every_cell_of_figures(results: Any) -> None:
    with pytest.raises(ValueError, match="not a cell for each of 3 columns"):
        result(results, ("a", 1.0))
    with pytest.raises(ValueError, match="a figure that is not finite"):
        result(results, ("a", float("nan"), 1))
    with pytest.raises(ValueError, match="a figure that is not finite"):
        result(results, ("a", 1.0, 1), ratios={"b": float("inf")})


def test_what_is_no_result_is_named(results: Any, tmp_path: Path) -> None:
    path = tmp_path / "name.json"
    path.write_text('{"name": "name"}')
    with pytest.raises(ValueError, match=r"^name\.json: .*missing required field `question`"):
        results.read_result(path)
