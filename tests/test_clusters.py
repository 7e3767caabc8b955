"""Real clusters: Dask and Ray give the bytes of one process, and lose nothing with a worker."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Dataset, published
from local import manifest_path, read_manifest, shard_keys
from moto.server import ThreadedMotoServer
from test_engines import command, killed_by

from ocr_precompute.errors import InputError, WorkerError
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.encode import ShardResult
from ocr_precompute.pipeline.engines.ray import Ray
from ocr_precompute.pipeline.progress import Progress
from ocr_precompute.settings import Settings, Source, source_with
from ocr_precompute.storage.objects import Objects

pytestmark = [pytest.mark.cluster, pytest.mark.proc]

PATIENCE = 120  # seconds
SCHEDULER = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
WORKER = [sys.executable, "-m", "distributed.cli.dask_worker"]


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Some ten shards, of which workers have at most four at a time."""
    return settings.model_copy(update={"shard_length": 2})


class Dask:
    """A scheduler and two workers of one thread each."""

    def __init__(self, folder: Path, environment: dict[str, str], before: list[str]) -> None:
        """before: a command that starts workers, such as one that changes what they see."""
        self.file = folder / "scheduler.json"
        quiet = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
        self._given = {
            "cwd": folder,
            "env": {**os.environ, **quiet, **environment},
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "start_new_session": True,
        }
        where = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        self.scheduler = self._start([*SCHEDULER, *where, "--scheduler-file", str(self.file)])
        workers = ["--nworkers", "2", "--nthreads", "1", "--no-dashboard"]
        workers += ["--scheduler-file", str(self.file)]
        self.workers = self._start([*before, *WORKER, *workers])
        self.address = self._registered()

    def _start(self, words: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(words, **self._given)  # type: ignore[call-overload, no-any-return]

    def _registered(self) -> str:
        code = (
            "import sys, distributed\n"
            "client = distributed.Client(scheduler_file=sys.argv[1], timeout=60)\n"
            "client.wait_for_workers(2, timeout=60)\n"
            "print(client.scheduler.address)\n"
        )
        asked = [sys.executable, "-c", code, str(self.file)]
        while not self.file.exists():
            assert self.scheduler.poll() is None
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    def worker_processes(self) -> list[int]:
        """The processes that compute: children of the one that sees to them."""
        below = psutil.Process(self.workers.pid).children(recursive=True)
        return [each.pid for each in below if "spawn_main" in "".join(each.cmdline())]

    def stop(self) -> None:
        for process in (self.workers, self.scheduler):
            for signum in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    os.killpg(process.pid, signum)
                    try:
                        process.wait(20)
                    except subprocess.TimeoutExpired:
                        continue


@contextmanager
def dask(
    folder: Path, environment: dict[str, str] | None = None, before: str = ""
) -> Iterator[Dask]:
    folder.mkdir()
    cluster = Dask(folder, environment or {}, shlex.split(before))
    try:
        yield cluster
    finally:
        cluster.stop()


def on(cluster: Dask, settings: Settings, store: str | Path) -> Settings:
    changes = {"store": store, "backend": "dask", "scheduler": cluster.address}
    return settings.model_copy(update=changes)


class AtFirst(Progress):
    """Does something once the first shard is finished, and notes what it is told.

    scanned: also once the first images are digested.
    """

    def __init__(
        self, action: Callable[[], None], scanned: Callable[[], None] = lambda: None
    ) -> None:
        self._action, self.notices, self.shards = action, list[str](), 0
        self._scanned, self._scans = scanned, 0

    def scanning(self, done: int, total: int) -> None:
        self._scans += done > 0
        if self._scans == 1:
            self._scanned()

    def encoded(self, result: ShardResult) -> None:
        self.shards += 1
        if self.shards == 1:
            self._action()

    def notice(self, message: str) -> None:
        self.notices.append(message)


def test_dask_gives_the_same_bytes_whatever_it_loses(
    dataset: Dataset, small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both workers, with some killed on the way, and after the scheduler was killed.

    Workers digest the images, too, of which this process reads the first alone.
    """
    report = build("val", dataset.source, small)
    monkeypatch.setattr("ocr_precompute.pipeline.scan._WORTH_OTHERS", 2)
    monkeypatch.setattr("ocr_precompute.pipeline.scan._SCAN_PART", 2)
    read, read_bytes = set[str](), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.add(path.name) or read_bytes(path))
    with dask(tmp_path / "cluster") as cluster:
        plain = on(cluster, small, tmp_path / "plain")
        assert build("val", dataset.source, plain).built == report.shards
        assert [name for name in read if name.endswith(".jpg")] == ["page_000.jpg"]
        assert published(plain.store) == published(small.store)
        assert list((tmp_path / "plain" / "tmp").iterdir()) == []

        killed = on(cluster, small, tmp_path / "killed")
        victim = AtFirst(*[lambda: os.kill(cluster.worker_processes()[0], signal.SIGKILL)] * 2)
        ended = build("val", dataset.source, killed, progress=victim)
        # what a killed worker had written, and nobody had been told of, is found there
        assert ended.built + ended.reused == report.shards
        assert published(killed.store) == published(small.store)

        lost = on(cluster, small, tmp_path / "lost")
        end = AtFirst(lambda: os.kill(cluster.scheduler.pid, signal.SIGKILL))
        with pytest.raises(WorkerError, match=r"the Dask scheduler tcp://.* is gone; nothing was"):
            build("val", dataset.source, lost, progress=end)
    kept = shard_keys(lost.store)
    assert 0 < len(kept) < report.shards
    assert not manifest_path(lost.store, "val").exists()
    second = build("val", dataset.source, small.model_copy(update={"store": lost.store}))
    assert second.reused >= len(kept)
    assert published(lost.store) == published(small.store)


@pytest.mark.time
def test_an_image_that_kills_workers_of_dask(
    dataset: Dataset, small: Settings, tmp_path: Path
) -> None:
    environment = killed_by(dataset, "page_011.jpg", tmp_path)
    with dask(tmp_path / "cluster", environment) as cluster:
        there = on(cluster, small, tmp_path / "other")
        with pytest.raises(InputError, match=r"page_011\.jpg: kills the worker that computes it"):
            build("val", dataset.source, there)
        watcher = AtFirst(lambda: None)
        report = build("val", dataset.source, there, skip_bad=True, progress=watcher)
    assert report.samples == 23
    manifest = read_manifest(tmp_path / "other", "val")
    assert manifest
    (skipped,) = manifest.skipped
    assert skipped.sample == "page_011.jpg"
    assert "kills the worker that computes it" in skipped.reason
    assert any(each.startswith("a worker was lost") for each in watcher.notices)


UNSHARED = (
    """unshare --user --map-root-user --mount sh -c 'mount -t tmpfs none "$0" && exec "$@"' """
)


@pytest.mark.time
@pytest.mark.namespaces
def test_workers_that_do_not_share_the_disk(
    dataset: Dataset, small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store in a folder is refused; one in a bucket comes out as on one machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    build("val", dataset.source, small)
    near = tmp_path / "near"
    near.mkdir()
    served = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    address = f"http://{host}:{port}"
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "name"),
        ("AWS_SECRET_ACCESS_KEY", "word"),
        ("XDG_CACHE_HOME", str(near / "cache")),
    ):
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{address}/cluster", method="PUT")).close()
    options = {"endpoint": address, "region": "us-east-1"}
    try:
        with dask(tmp_path / "cluster", before=f"{UNSHARED} {near}") as cluster:
            with pytest.raises(
                WorkerError, match=r"worker tcp://127\.0\.0\.1:\d+ does not see the store .*/near/"
            ):
                build("val", dataset.source, on(cluster, small, near / "store"))
            assert shard_keys(near / "store") == set()
            far = on(cluster, small, "s3://cluster/store").model_copy(update={"storage": options})
            build("val", dataset.source, far)
            bucket = Objects("s3://cluster/store", 10, options)
            names = [each.name for kind in ("shards/", "splits/") for each in bucket.list(kind)]
            found = {name: bytes(bucket.fetch(name).data) for name in names}
    finally:
        served.stop()
    assert found == published(small.store)


@pytest.fixture
def photographs(dataset: Dataset, bucket: dict[str, str]) -> Source:
    """The dataset with its images in the bucket."""
    objects = Objects("s3://bucket/photographs", 10, bucket)
    for path in dataset.images.iterdir():
        objects.put(path.name, path.read_bytes())
    return source_with(dataset.source, {"images": str(objects)})


@pytest.mark.time
def test_workers_of_dask_fetch_images_from_a_bucket(
    dataset: Dataset, photographs: Source, small: Settings, tmp_path: Path, bucket: dict[str, str]
) -> None:
    build("val", dataset.source, small)
    with dask(tmp_path / "cluster") as cluster:
        other = on(cluster, small, tmp_path / "other").model_copy(update={"storage": bucket})
        assert build("val", photographs, other).computed == 24
    assert published(tmp_path / "other") == published(small.store)


RAY = """
import os, signal, sys
import psutil, ray
from ocr_precompute import Settings, Source, build
from ocr_precompute.pipeline import scan
from ocr_precompute.pipeline.progress import Progress

scan._WORTH_OTHERS = scan._SCAN_PART = 2  # so workers digest, too

class Killer(Progress):
    shards = 0
    def encoded(self, result):
        self.shards += 1
        if self.shards == 1:
            busy = [p for p in psutil.process_iter() if named(p).startswith("ray::at_work")]
            if busy:
                busy[0].kill()

def named(process):
    try:
        return "".join(process.cmdline())
    except psutil.Error:
        return ""

images, annotations, folder = sys.argv[1:]
source = Source(images=images, annotations=annotations)
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
def built(store, progress, **options):
    settings = Settings(store=f"{folder}/{store}", size=64, shard_length=2, backend="ray")
    return build("val", source, settings, progress=progress, **options)
built("plain", None)
built("killed", Killer())
"""


@pytest.mark.time
def test_ray_gives_the_same_bytes_whatever_it_loses(
    dataset: Dataset, small: Settings, tmp_path: Path
) -> None:
    build("val", dataset.source, small)
    words = [sys.executable, "-c", RAY, dataset.images, dataset.annotations, tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.returncode == 0, done.stderr
    for name in ("plain", "killed"):
        assert published(tmp_path / name) == published(small.store)
    assert list((tmp_path / "plain" / "tmp").iterdir()) == []


def test_a_ray_cluster_that_asks_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray says so in the cause alone of what it raises; older versions ask for none."""
    import ray

    refused = getattr(ray.exceptions, "AuthenticationError", RuntimeError)

    def unauthenticated(**given: Any) -> None:
        token = refused("InvalidAuthToken: Authentication token ...")
        raise ConnectionError(f"Failed to connect to Ray cluster at {given['address']}") from token

    monkeypatch.setattr(ray, "init", unauthenticated)
    with pytest.raises(WorkerError, match=r"10\.0\.0\.1:6379.*RAY_AUTH_MODE=token here and on all"):
        Ray("10.0.0.1:6379")


BUCKET_RAY = """
import sys
import ray
from ocr_precompute import Settings, Source, build

images, annotations, store, endpoint = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
storage = {"endpoint": endpoint, "region": "us-east-1"}
settings = Settings(store=store, storage=storage, size=64, shard_length=2, backend="ray")
build("val", Source(images=images, annotations=annotations), settings)
"""


@pytest.mark.time
def test_workers_of_ray_fetch_images_from_a_bucket(
    dataset: Dataset, photographs: Source, small: Settings, tmp_path: Path, bucket: dict[str, str]
) -> None:
    build("val", dataset.source, small)
    given = [str(photographs.images), dataset.annotations, tmp_path / "other", bucket["endpoint"]]
    words = [sys.executable, "-c", BUCKET_RAY, *map(str, given)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.returncode == 0, done.stderr
    assert published(tmp_path / "other") == published(small.store)


@pytest.mark.time
def test_ray_is_gone(dataset: Dataset, small: Settings, tmp_path: Path) -> None:
    """Ray itself would wait for a minute, and then end the process."""
    store = tmp_path / "other"
    words = [*command(dataset, small, store), "--backend", "ray", "--size", "2048"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while not list(store.glob("shards/*/*.zip")):
            assert process.poll() is None
        below = psutil.Process(process.pid).children()
        (service,) = [each.pid for each in below if "gcs_server" in each.name()]
        os.kill(service, signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 2, err
    assert "error: the Ray cluster is gone; nothing was published" in err
    assert json.loads(out)["problems"] == []
    assert not manifest_path(store, "val").exists()
