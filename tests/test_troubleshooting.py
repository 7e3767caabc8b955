"""The page of messages quotes what the code says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
ROWS = re.findall(r"^\| (?!message|---)(.*?) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
GAP = "…"  # in a quoted message, what differs from time to time


def texts(path: Path) -> set[str]:
    """All texts in a module, with a gap for each value that is put into them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else GAP for v in node.values)
            found.add("".join(map(str, parts)))
    return found


@pytest.fixture(scope="module")
def said() -> str:
    """All texts of both packages, a line each."""
    paths = [path for top in ("ocr", "ocr_precompute") for path in (ROOT / top).rglob("*.py")]
    found = set().union(*map(texts, paths))
    return "\n".join(text.replace("\n", " ") for text in found if " " in text)


def test_every_message_is_one_that_the_code_has(said: str) -> None:
    quoted = [re.fullmatch(r"`([^`]+)`", message) for message, _, _ in ROWS]
    assert len(quoted) > 70
    assert None not in quoted
    missing = []
    for match in quoted:
        parts = [re.escape(part.strip()) for part in match[1].split(GAP)]
        assert sum(map(len, parts)) > 10, match[1]
        if not re.search(".*".join(parts), said):
            missing.append(match[1])
    assert missing == []


def test_every_message_has_a_cause_and_a_remedy() -> None:
    assert [row for row in ROWS if len(row[1]) < 9 or len(row[2]) < 9] == []
    lines = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(lines) == len(ROWS)


def test_training_without_its_packages_is_one_error() -> None:
    code = (
        "import sys; sys.modules['lightning'] = None; sys.argv = ['ocr-train', 'fit']; "
        "from ocr.command import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 2
    assert re.fullmatch(
        r"error: lightning is not installed, which ocr-train needs; "
        r"pip install 'ocr-precompute\[train\]'\n",
        ended.stderr,
    )
