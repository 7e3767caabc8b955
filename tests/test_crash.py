"""Real kills, real concurrency: nothing is lost, nothing half-published."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from conftest import COMMAND, Dataset, published, run_apart
from joblib.externals import loky
from local import shard_keys

from ocr_precompute.checking.verify import verify
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.progress import Progress
from ocr_precompute.reading.store import open_store
from ocr_precompute.settings import Settings, Source

KILLS = int(os.environ.get("OCR_KILLS", "2"))


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def runs_longer_than(process: subprocess.Popen[str], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def collected(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def config(folder: Path, **values: object) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.time
def test_killed_at_random_moments(shared: Path, tmp_path: Path) -> None:
    """The old split stays until the new one is there; finished shards are kept and reused."""
    receipts = shared / "sroie" / "train"
    source = Source(images=receipts / "img", annotations=receipts / "box")
    old = Settings(
        store=tmp_path / "old", size=96, recipe="seed", shard_length=4, backend="threading"
    )
    old_hash = build("train", source, old).data_hash
    flags = ["build", "--split", "train", "--images", source.images, "--json"]
    flags += ["--annotations", source.annotations, "--jobs", 2]
    flags += ["--config", config(tmp_path, shard_length=4)]
    whole = tmp_path / "whole"
    began = time.perf_counter()
    assert run_apart(*flags, "--store", whole, cwd=tmp_path).returncode == 0
    longest = time.perf_counter() - began
    expected = published(whole)
    new_hash = json.loads(expected["splits/train.json"])["data_hash"]
    moments = random.Random(7)
    kills = reused = 0
    while kills < KILLS:
        store = tmp_path / "store"
        shutil.copytree(old.store, store)
        finished = False
        while not finished:
            before = shard_keys(store)
            backend = moments.choice(["loky", "threading", "sequential"])
            process = start(*flags, "--store", store, "--backend", backend, cwd=tmp_path)
            if kills < KILLS and runs_longer_than(process, moments.uniform(0.3, 1) * longest):
                only_parent = moments.random() < 0.5
                (os.kill if only_parent else os.killpg)(process.pid, signal.SIGKILL)
                collected(process)
                kills += 1
                split = open_store(store).split("train")
                assert split.manifest.data_hash in (old_hash, new_hash)
                assert len(split) == 38
                assert verify(store, sources={"train": source}, recompute=0.05).ok
                assert before <= shard_keys(store)
            else:
                code, out, err = collected(process)
                assert code == 0, err
                report = json.loads(out)
                kept = before & {Path(name).stem for name in expected if "shards/" in name}
                assert report["reused"] >= len(kept)
                reused += len(kept)
                finished = True
        after = published(store)
        assert {name: after[name] for name in expected} == expected
        assert run_apart("gc", "--store", store, "--older-than", 0).returncode == 0
        assert published(store) == expected
        assert list((store / "tmp").iterdir()) == []
        shutil.rmtree(store)
    assert reused > 0


@pytest.fixture
def larger(tmp_path: Path) -> Dataset:
    """Enough work for a build to be caught at it."""
    dataset = Dataset(tmp_path / "data", count=0)
    for number in range(160):
        dataset.add(f"page_{number:03d}.jpg", size=(640, 480), words=20)
    dataset.save()
    return dataset


@pytest.mark.time
def test_two_builds_at_once(larger: Dataset, tmp_path: Path) -> None:
    flags = ["build", *larger.flags(), "--store", tmp_path / "store", "--jobs", 2, "--json"]
    processes = [start(*flags, cwd=tmp_path) for _ in range(2)]
    results = [collected(process) for process in processes]
    assert [code for code, _, _ in results] == [0, 0], results
    first, second = (json.loads(out)["data_hash"] for _, out, _ in results)
    assert first == second
    report = verify(tmp_path / "store", sources={"val": larger.source}, recompute=0.1)
    assert report.problems == ()
    assert report.samples == 160


@pytest.mark.time
def test_gc_during_a_build_takes_nothing_it_needs(larger: Dataset, tmp_path: Path) -> None:
    store = tmp_path / "store"
    flags = ["build", *larger.flags(), "--store", store, "--json"]
    assert run_apart(*flags, cwd=tmp_path).returncode == 0
    wanted = shard_keys(store)
    assert run_apart(*flags, "--recipe", "seed", cwd=tmp_path).returncode == 0
    assert not wanted & {s.key for s in open_store(store).split("val").manifest.shards}
    larger.points("page_000.jpg")[0][0] += 1
    larger.save()
    process = start(*flags, "--size", 608, cwd=tmp_path)  # all new, while the old may be collected
    refused = 0
    while process.poll() is None:
        result = run_apart("gc", "--store", store, "--older-than", 0)
        if result.returncode:
            assert result.returncode == 2
            assert "a build is running; nothing was deleted" in result.stderr
            refused += 1
    code, _, err = collected(process)
    assert code == 0, err
    assert refused > 0
    assert run_apart("gc", "--store", store, "--older-than", 0).returncode == 0
    report = verify(store, sources={"val": larger.source}, recompute=0.1)
    assert report.problems == ()
    assert shard_keys(store) == {s.key for s in open_store(store).split("val").manifest.shards}


def worker_of(process: subprocess.Popen[str]) -> int | None:
    """A worker of a running build that has begun on a shard."""
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == process.pid and b"loky" in command and b"resource_tracker" not in command:
            return int(entry.name)
    return None


@pytest.mark.time
@pytest.mark.proc
def test_a_lost_worker_is_replaced(larger: Dataset, tmp_path: Path) -> None:
    store = tmp_path / "store"
    flags = ["build", *larger.flags(), "--store", store, "--jobs", 2, "--backend", "loky"]
    process = start(*flags, cwd=tmp_path)
    worker = None
    while worker is None or not any((store / "tmp").iterdir()):
        assert process.poll() is None
        worker = worker_of(process)
    os.kill(worker, signal.SIGKILL)
    code, _, err = collected(process)
    assert code == 0, err
    assert err.count("a worker was lost (killed, or out of memory)") == 1
    assert "Traceback" not in err
    report = verify(store, sources={"val": larger.source}, recompute=0.1)
    assert report.problems == ()
    assert report.samples == 160


def test_interrupted_from_the_keyboard(larger: Dataset, tmp_path: Path) -> None:
    store = tmp_path / "store"
    flags = ["build", *larger.flags(), "--store", store, "--backend", "sequential"]
    process = start(*flags, cwd=tmp_path)
    while not (store / "tmp").exists() or not any((store / "tmp").iterdir()):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, _, err = collected(process)
    assert code == 130
    assert "interrupted; nothing was published, finished shards are kept" in err
    assert "Traceback" not in err
    assert list((store / "tmp").iterdir()) == []


class Listener(Progress):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, message: str) -> None:
        self.notices.append(message)


def test_workers_that_cannot_be_started(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(loky, "ProcessPoolExecutor", refuse)
    monkeypatch.setattr("ocr_precompute.pipeline.engines.local._idle", [])  # of builds before
    listener = Listener()
    many = settings.model_copy(update={"backend": "loky", "jobs": 2})
    report = build("val", dataset.source, many, progress=listener)
    assert report.computed == 24
    assert listener.notices == [
        "workers cannot be started (no more processes); working in this process instead"
    ]


def test_an_image_that_changes_during_the_build(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scanned as one file and read as another: never stored under the first one's key."""
    path = dataset.images / "page_003.jpg"

    class Meddler(Progress):
        def planned(self, plan: object) -> None:
            path.write_bytes((dataset.images / "page_004.jpg").read_bytes())

    with pytest.raises(Exception, match=r"page_003\.jpg: changed while the build was running"):
        build("val", dataset.source, settings, progress=Meddler())
    assert not (settings.store / "splits" / "val.json").exists()
    assert build("val", dataset.source, settings).samples == 24
    assert verify(settings.store, sources={"val": dataset.source}, recompute=1).ok
