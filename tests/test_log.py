"""The log says what is done, to whoever asks, and never on stdout."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from pathlib import Path

import pytest
from conftest import Dataset, run_apart

from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.store import open_store
from ocr_precompute.settings import Settings


def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(f"store: {tmp_path / 'store'}\nsize: 64\nshard_length: 8\njobs: 2\n")
    return path


@pytest.mark.parametrize("backend", ["loky", "threading", "sequential"])
def test_a_build_logs_what_it_does(dataset: Dataset, tmp_path: Path, backend: str) -> None:
    flags = [*dataset.flags(), "--config", config(tmp_path), "--backend", backend, "--json"]
    done = run_apart("build", *flags, "-vv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert f"{dataset.annotations}: read as words, 24 images, 0 problems" in done.stderr
    assert "24 images read, all others are known" in done.stderr
    assert "locked for a build" in done.stderr
    assert done.stderr.count("samples computed and 0 copied in ") == document["built"] > 1
    for name in dataset.document["images"]:  # logged where the work is done
        assert f"ocr_precompute.pipeline.encode: {name}: computed\n" in done.stderr


def test_how_much_is_logged(dataset: Dataset, tmp_path: Path) -> None:
    flags = [*dataset.flags(), "--config", config(tmp_path), "--backend", "sequential", "--json"]
    silent = run_apart("build", *flags, cwd=tmp_path)
    assert len(silent.stderr.splitlines()) < 8
    assert "ocr_precompute." not in silent.stderr
    document = json.loads(silent.stdout)
    again = run_apart("build", *flags, "-v", cwd=tmp_path)
    assert "0 to build, 0 rows to copy" in again.stderr
    assert f"data hash {document['data_hash']}, up to date" in again.stderr
    assert "locked for a build" not in again.stderr  # that is of the second level


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["verify"], "checked, 0 findings"),
        (["inspect"], "val.json: read, 24 samples"),
        (["preview", "--split", "val", "--count", "1"], "val.json: read, 24 samples"),
        (["bench", "--split", "val", "--seconds", "0", "--samples", "2"], "read as words"),
        (["remove", "--split", "val"], "val.json: read, 24 samples"),
        (["gc", "--older-than", "0"], "deleted"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_every_command_logs(
    dataset: Dataset, settings: Settings, tmp_path: Path, command: list[str], line: str
) -> None:
    build("val", dataset.source, settings)
    if command[0] == "gc":
        (settings.store / "splits" / "val.json").unlink()
    done = run_apart(*command, "--store", settings.store, "-vv", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert line in "".join(x for x in done.stderr.splitlines() if " ocr_precompute." in x)
    json.loads(done.stdout)


def test_what_worker_processes_log_is_handled_here(
    dataset: Dataset, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ocr_precompute")
    build("val", dataset.source, settings.model_copy(update={"backend": "loky", "jobs": 2}))
    computed = [r for r in caplog.records if r.getMessage().endswith(": computed")]
    assert len(computed) == 24
    assert os.getpid() not in {record.process for record in computed}


def test_a_name_in_the_log_cannot_drive_a_terminal(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "evil\x1b[2J\n", count=2)
    done = run_apart("build", *dataset.flags(), "--config", config(tmp_path), "-v", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "evil\\x1b[2J\\n/labels.json: read as words" in done.stderr
    assert "\x1b" not in done.stderr


class Awaited(logging.Handler):
    """Tells when a line with these words is logged."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words, self.seen = words, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.words in record.getMessage():
            self.seen.set()


def test_a_lock_that_is_waited_for(dataset: Dataset, settings: Settings) -> None:
    build("val", dataset.source, settings)
    log = logging.getLogger("ocr_precompute.storage.locks")
    handler = Awaited("waiting until gc is done")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    building = threading.Thread(target=build, args=("val", dataset.source, settings))
    try:
        with (settings.store / "lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            building.start()
            assert handler.seen.wait(60)
            assert building.is_alive()
        building.join(60)
        assert not building.is_alive()
    finally:
        log.setLevel(logging.NOTSET)
        log.removeHandler(handler)


def test_reading_logs_what_it_opens(
    dataset: Dataset, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    build("val", dataset.source, settings)
    caplog.set_level(logging.DEBUG, "ocr_precompute.reading")
    split = open_store(settings.store)["val"]
    for index in (0, len(split) - 1, 0):
        split.read([index])
    first, last = split.manifest.shards[0], split.manifest.shards[-1]
    assert caplog.messages == [
        f"shard {entry.key[:16]}: opened, {entry.samples} samples" for entry in (first, last)
    ]
    caplog.clear()
    assert len(split.names) == 24
    assert caplog.messages == [f"{split!r}: names and sizes of all samples read"]
