"""The tutorial's commands, taken from its page, lead to a service that finds text."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PATIENCE = 1200.0  # seconds after which the test fails


def test_it_takes_twelve_commands() -> None:
    assert len(COMMANDS) <= 12
    assert "In twelve commands" in PAGE
    assert len(PROGRAM) == 1
    assert "Save this as `service.py`" in PAGE


def test_what_it_installs_is_there() -> None:
    made, activated = COMMANDS[:2]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    command, *named = made.split()
    assert os.access(ROOT / command, os.X_OK)
    assert {"sample", "train", "export"} == set(named) <= set(extras)
    assert activated == "source .venv/bin/activate"


@pytest.mark.time
@pytest.mark.curl
def test_its_commands_lead_to_a_service(tmp_path: Path) -> None:
    """In a folder that holds the scripts alone, after the environment was made."""
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    folder = tmp_path / "tutorial"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    (folder / "service.py").write_text(PROGRAM[0].replace("8000", port))
    commands = "\n".join(COMMANDS[2:]).replace(":8000", f":{port}")
    beginning = "set -e\ntrap 'kill $(jobs -p)' EXIT\n"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = subprocess.Popen(
        ["bash", "-c", beginning + commands],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": path,
            "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, warned = shell.communicate(timeout=PATIENCE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, said + warned
    answer = json.loads(said.splitlines()[-1])
    found = [np.mean(word["points"], axis=0) for word in answer["words"]]
    assert {word["score"] <= 1 for word in answer["words"]} == {True}
    assert (folder / "val.html").exists()
    assert (folder / "model.md").exists()
    document = json.loads((folder / "receipts" / "jsons" / "val.json").read_text())
    words = document["images"]["receipt_0000.jpg"]["words"].values()
    boxes = [(np.min(w["points"], axis=0), np.max(w["points"], axis=0)) for w in words]
    hit = [
        any((low <= point).all() and (point <= high).all() for point in found)
        for low, high in boxes
    ]
    assert np.mean(hit) > 0.5
