"""Where tasks run: what is lost is begun again, what kills workers is found, joblib is heeded."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import joblib
import pytest
from conftest import COMMAND, Dataset, published
from local import read_manifest
from typer.testing import CliRunner

from ocr_precompute.cli.app import app
from ocr_precompute.errors import InputError, WorkerError
from ocr_precompute.pipeline import build as building
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.engines import running
from ocr_precompute.pipeline.engines.proof import proof_for, prove
from ocr_precompute.pipeline.engines.protocol import Halving
from ocr_precompute.settings import Settings
from ocr_precompute.storage.folder import Folder

KILLER = """
import hashlib, os, signal, simplejpeg
decode = simplejpeg.decode_jpeg
def decode_jpeg(data, *arguments, **keywords):
    if hashlib.sha256(data).hexdigest() == os.environ["OCR_KILLER"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(data, *arguments, **keywords)
simplejpeg.decode_jpeg = decode_jpeg
"""


def killed_by(dataset: Dataset, name: str, folder: Path) -> dict[str, str]:
    """An environment in which the decoder crashes at an image, as at a flaw of its own."""
    (folder / "killer").mkdir(exist_ok=True)
    (folder / "killer" / "sitecustomize.py").write_text(KILLER)
    digest = hashlib.sha256((dataset.images / name).read_bytes()).hexdigest()
    paths = [str(folder / "killer"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "OCR_KILLER": digest, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def command(dataset: Dataset, settings: Settings, store: str | Path) -> list[str]:
    """A build by the command as one by these settings."""
    config = dataset.images.parent / "config.yaml"
    options = {"size": settings.size[0], "shard_length": settings.shard_length}
    config.write_text(json.dumps({**options, "storage": settings.storage}))
    flags = [*dataset.flags(), "--config", str(config), "--store", str(store), "--json"]
    return [*COMMAND, "build", *flags]


def lethal(numbers: list[int]) -> list[int]:
    """What a task of numbers comes to; none of them survives 13."""
    if 13 in numbers:
        os.kill(os.getpid(), signal.SIGKILL)
    return numbers


def halves(numbers: list[int]) -> list[list[int]]:
    half = len(numbers) // 2
    return [numbers[:half], numbers[half:]] if half else []


@pytest.mark.proc
def test_what_kills_workers_is_found_by_halves() -> None:
    notices: list[str] = []
    halving = Halving(halves, lambda numbers: [-numbers[0]], lambda numbers: f"task {numbers[0]}")
    tasks = [list(range(start, start + 4)) for start in range(0, 28, 4)]
    done = list(running.run(lethal, tasks, 2, "loky", notices.append, halving=halving))
    assert sorted(done) == [[-13], *(task for task in tasks if 13 not in task)]
    assert "workers are lost to task 12; looking for what it is in it" in notices


def who(_: int) -> int:
    """The process that did it."""
    return os.getpid()


def test_workers_are_kept_for_the_next_build_and_are_not_joblibs() -> None:
    def builders(jobs: int) -> set[int]:
        return {*running.run(who, [*range(8)], jobs, "loky", lambda _: None)}

    first = builders(2)
    others = set(joblib.Parallel(2)(joblib.delayed(who)(number) for number in range(8)))
    assert os.getpid() not in first | others
    assert not first & others
    assert builders(2) & first  # one may do all of it
    assert not builders(3) & first


@pytest.mark.time
@pytest.mark.proc
def test_workers_that_are_lost_to_nothing_in_particular() -> None:
    halving = Halving(halves, lambda numbers: numbers, lambda numbers: f"task {numbers[0]}")
    done = running.run(_too_much, [[1, 2], [3]], 2, "loky", lambda _: None, halving=halving)
    with pytest.raises(WorkerError, match=r"at last to task 1, of which no part does that"):
        list(done)


def _too_much(numbers: list[int]) -> list[int]:
    if len(numbers) > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return numbers


@pytest.mark.time
@pytest.mark.proc
def test_an_image_that_kills_workers(dataset: Dataset, settings: Settings, tmp_path: Path) -> None:
    small = settings.model_copy(update={"shard_length": 2})
    environment = killed_by(dataset, "page_011.jpg", tmp_path)
    store = tmp_path / "other"
    words = [*command(dataset, small, store), "--jobs", "2", "--skip-bad"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"] == 23
    manifest = read_manifest(store, "val")
    assert manifest
    assert [skipped.sample for skipped in manifest.skipped] == ["page_011.jpg"]


def _chosen(monkeypatch: pytest.MonkeyPatch, build: Callable[[], object]) -> tuple[str, int]:
    """The backend and the workers that a build has run on."""
    seen: list[tuple[str, int]] = []
    run = running.run

    def noted(function: Callable, tasks: list, jobs: int, backend: str, *rest: object) -> object:
        seen.append((backend, jobs))
        return run(function, tasks, jobs, backend, *rest)

    monkeypatch.setattr("ocr_precompute.pipeline.encode.run", noted)
    build()
    monkeypatch.undo()
    return seen[0]


def test_an_outer_parallel_config_is_heeded(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Settings(store=tmp_path / "store", size=64, shard_length=4)

    def built() -> object:
        return build("val", dataset.source, plain)

    with joblib.parallel_config("threading", n_jobs=3):
        assert _chosen(monkeypatch, built) == ("threading", 3)
    with joblib.parallel_config(n_jobs=1):
        assert _chosen(monkeypatch, built) == ("loky", 1)
    with joblib.parallel_config("sequential"):
        assert _chosen(monkeypatch, built)[0] == "sequential"
    within = joblib.Parallel(2, backend="threading")(
        joblib.delayed(_chosen)(monkeypatch, built) for _ in range(1)
    )
    assert within == [("threading", 1)]


def test_an_outer_parallel_config_that_cannot_be_heeded(
    dataset: Dataset, settings: Settings
) -> None:
    with (
        joblib.parallel_config("multiprocessing"),
        pytest.raises(InputError, match=r"joblib\.parallel_config: asks for multiprocessing"),
    ):
        build("val", dataset.source, settings)
    with (
        joblib.parallel_config("threading", n_jobs=3),
        pytest.raises(InputError, match="asks for jobs 3, the settings for 2") as caught,
    ):
        build("val", dataset.source, settings.model_copy(update={"jobs": 2}))
    assert "asks for backend threading, the settings for sequential" in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--backend", "dask"], "backend dask needs a scheduler"),
        (["--scheduler", "tcp://127.0.0.1:1"], "scheduler is for the backends dask and ray"),
        (["--backend", "ray", "--profile", "p"], "profile looks at one machine; backend ray"),
    ],
)
def test_what_does_not_go_together(
    dataset: Dataset, tmp_path: Path, flags: list[str], message: str
) -> None:
    words = ["build", *dataset.flags(), "--store", str(tmp_path / "store"), *flags]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "store").exists()


def test_two_builds_at_once_share_the_work(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data", count=0)
    for number in range(96):
        dataset.add(f"page_{number:03d}.jpg", size=(320, 240), words=8)
    dataset.save()
    settings = Settings(store=tmp_path / "serial", size=320, shard_length=2, backend="sequential")
    alone = build("val", dataset.source, settings)
    words = [*command(dataset, settings, tmp_path / "shared"), "--backend", "sequential"]
    both = [subprocess.Popen(words, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    reports = []
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        reports.append(json.loads(out))
    assert published(tmp_path / "shared") == published(settings.store)
    assert alone.built <= sum(report["built"] for report in reports) <= 1.3 * alone.built
    assert [report["built"] + report["reused"] for report in reports] == 2 * [alone.shards]


def test_a_shard_that_came_meanwhile_is_not_computed(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = building.encode

    def overtaken(request: object, planned: object) -> object:
        monkeypatch.setattr(building, "encode", encode)
        assert build("val", dataset.source, settings).computed == 24
        return encode(request, planned)  # type: ignore[arg-type]

    monkeypatch.setattr(building, "encode", overtaken)
    report = build("val", dataset.source, settings)
    assert (report.built, report.computed, report.reused) == (0, 0, report.shards)


@pytest.mark.parametrize("what", ["versions", "another store", "no store", "image", "changed"])
def test_workers_that_prove_nothing(what: str, tmp_path: Path) -> None:
    store, image = Folder(tmp_path / "store"), tmp_path / "a.jpg"
    image.write_bytes(b"pixels")
    with proof_for(store, ((image, "0" * 64),)) as asked:
        changed, message = {
            "versions": (
                {"versions": {**asked.versions, "numpy": "0.9", "Python": "2.7"}},
                r"worker tcp://w:1 has Python 3\.\d+, numpy .* builds has Python 2.7, numpy 0.9",
            ),
            "another store": ({"number": "0" * 32}, "not see the store .*another one is there"),
            "no store": ({"storage": Folder(tmp_path / "no")}, "share under one path, or name a U"),
            "image": ({"images": ((tmp_path / "b.jpg", ""),)}, r"not see the image .*b\.jpg \(No "),
            "changed": ({}, r"does not see the image .*a\.jpg \(it is another file there"),
        }[what]
        with pytest.raises(WorkerError, match=message):
            prove(replace(asked, **changed), "tcp://w:1")


def test_a_worker_whose_writing_does_not_come_back(tmp_path: Path) -> None:
    with proof_for(Folder(tmp_path / "store"), ()) as asked:
        answer = prove(asked, "tcp://w:1")
        asked.answered("tcp://w:1", answer)
        with pytest.raises(WorkerError, match="what it writes does not come here"):
            asked.answered("tcp://w:1", answer)
    assert list((tmp_path / "store" / "tmp").iterdir()) == []
