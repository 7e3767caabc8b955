"""The process that uses the package: what it may write, and what it has set, is respected."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread

import cv2
import pytest
from conftest import Dataset, published

import ocr_precompute
from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.opencv import single_thread
from ocr_precompute.settings import Settings, Source

NOTICE = "compiled code cannot be kept on disk"


def unwritable(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the package that cannot be written, and an environment without a home.

    A file in the place of each folder does not stop reading, and stops the superuser too.
    """
    root = tmp_path / "installed"
    package = root / "ocr_precompute"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(ocr_precompute.__file__).parent, package, ignore=ignored)
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__pycache__").touch()
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    return package, {**kept, "PYTHONPATH": str(root), "HOME": "/dev/null", "COLUMNS": "200"}


@pytest.mark.time
def test_neither_package_nor_home_can_be_written(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    build("val", dataset.source, settings)
    package, environment = unwritable(tmp_path)
    store = tmp_path / "other"
    config = tmp_path / "config.yaml"
    config.write_text(f"store: {store}\nsize: 64\nshard_length: 8\njobs: 2\n")
    for command in (["build", *dataset.flags()], ["verify", "--recompute", "1"]):
        done = subprocess.run(
            [sys.executable, "-m", "ocr_precompute", *command, "--config", str(config)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(NOTICE) == 1, done.stderr
        assert "NUMBA_CACHE_DIR" in done.stderr
    assert published(store) == published(settings.store)
    code = (
        "import ocr_precompute as p\n"
        f"split = p.open_store({str(store)!r}).split('val')\n"
        "for _ in range(12):\n"
        "    split.read(range(len(split)), ('image', 'thresh'))\n"
        "print(p.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.stdout == f"{package / '__init__.py'}\n", done.stderr
    assert done.stderr.count(NOTICE) == 1, done.stderr


def test_paths_are_relative_to_where_the_process_is_now(
    dataset: Dataset, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("val", dataset.source, settings)
    source = Source(images="images", annotations="labels.json")
    for name in ("here", "there"):  # the second build finds the workers of the first
        (tmp_path / name).mkdir()
        for path in (dataset.images, dataset.annotations):
            (tmp_path / name / path.name).symlink_to(path)
        monkeypatch.chdir(tmp_path / name)
        relative = {"store": Path("store"), "backend": "loky", "jobs": 2}
        build("val", source, settings.model_copy(update=relative))
        assert published(tmp_path / name / "store") == published(settings.store)


SETTINGS = """
import gc, json, locale, os, resource, signal, sys, warnings
import cv2, numcodecs.blosc, numpy, torch, logging, threading

cv2.setNumThreads(3)
numcodecs.blosc.use_threads = None
torch.set_num_threads(2)
gc.disable()

def settings():
    return {
        "opencv": cv2.getNumThreads(),
        "opencv optimised": cv2.useOptimized(),
        "blosc": [numcodecs.blosc.use_threads, numcodecs.blosc.get_nthreads()],
        "torch": [torch.get_num_threads(), torch.is_grad_enabled(), str(torch.get_default_dtype())],
        "numpy": [numpy.geterr(), numpy.random.get_state()[1].tolist()],
        "collector": [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
        "environment": dict(os.environ),
        "limits": [resource.getrlimit(limit) for limit in limits],
        "signals": [str(signal.getsignal(s)) for s in signal.valid_signals()],
        "locale": locale.setlocale(locale.LC_ALL),
        "recursion": sys.getrecursionlimit(),
        "logging": [logging.root.level, str(logging.root.handlers)],
        "hooks": [str(sys.excepthook), str(threading.excepthook), str(sys.unraisablehook)],
        "folder": os.getcwd(),
        "umask": [os.umask(0o022), os.umask(0o022)][1],
    }

limits = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT")]
before = settings()
seen = {}

def compare(step):
    now = settings()
    seen[step] = {key: [before[key], now[key]] for key in before if now[key] != before[key]}

images, annotations, store = sys.argv[1:]
import ocr_precompute
from ocr.datasets import BatchLoader, LiveDataset, StoreDataset
from ocr.datasets.transforms import AugmentedDataset, Augmentation
from ocr_precompute import open_store
from ocr_precompute.annotations import read_annotations
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings, Source
from ocr_precompute.checking.verify import verify
compare("import")
source = Source(images=images, annotations=annotations)
for backend in ("sequential", "threading", "loky"):
    options = Settings(store=f"{store}-{backend}", size=64, shard_length=8, backend=backend, jobs=2)
    build("val", source, options)
    compare(f"build with {backend}")
store = options.store
verify(store, sources={"val": source}, recompute=1.0)
compare("verify")
split = open_store(store).split("val")
split[0], split.names, split.read(range(24))
compare("read")
fields = ("image", "prob", "polygons", "ignore")
live = LiveDataset(images, annotations, fields, size=64)
for dataset in (StoreDataset(store, "val", fields), live, AugmentedDataset(live, Augmentation(32))):
    for batch in BatchLoader(dataset, 4, threads=2):
        pass
    compare(f"load {type(dataset).__name__}")
print(json.dumps(seen))
"""


def test_settings_of_the_process_are_put_back(dataset: Dataset, tmp_path: Path) -> None:
    arguments = [str(dataset.images), str(dataset.annotations), str(tmp_path / "store")]
    done = subprocess.run(
        [sys.executable, "-c", SETTINGS, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    changed = {step: keys for step, keys in json.loads(done.stdout).items() if keys}
    assert changed == {}


def test_overlapping_scopes_put_opencvs_threads_back_once() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    both_in, one_out = Barrier(2), Barrier(2)
    seen = []

    def first() -> None:
        with single_thread():
            both_in.wait(60)
        one_out.wait(60)

    def second() -> None:
        with single_thread():
            both_in.wait(60)
            one_out.wait(60)
            seen.append(cv2.getNumThreads())

    threads = [Thread(target=first), Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = cv2.getNumThreads()
    cv2.setNumThreads(before)
    assert (seen, after) == ([1], 4)
