"""Small real datasets on disk, and the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from needs import (  # noqa: F401
    SHARED,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_itemcollected,
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from typer.testing import CliRunner

from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings, Source

if TYPE_CHECKING:
    from faulty import FaultyService


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real receipts, photographs and golden labels; marks a test as one that needs data."""
    return SHARED


class Dataset:
    """A folder of images and a words JSON, editable."""

    def __init__(self, root: Path, count: int = 24, seed: int = 0) -> None:
        self.images, self.annotations = root / "images", root / "labels.json"
        self.images.mkdir(parents=True)
        self.document: dict = {"images": {}}
        self._random = np.random.default_rng(seed)
        for number in range(count):
            self.add(f"page_{number:03d}.jpg")
        self.save()

    def add(self, name: str, size: tuple[int, int] = (96, 80), words: int = 3) -> None:
        """A noisy page with some quads on it."""
        noise = self._random.integers(0, 255, (size[0] // 8, size[1] // 8, 3), np.uint8)
        pixels = cv2.resize(noise, (size[1], size[0]))
        path = self.images / name
        path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
        self.document["images"][name] = {
            "words": {f"{i + 1:04d}": {"points": self._quad(size)} for i in range(words)}
        }

    def _quad(self, size: tuple[int, int]) -> list[list[float]]:
        x, y = self._random.uniform(0, size[1] - 30), self._random.uniform(0, size[0] - 14)
        box = np.array([[x, y], [x + 28, y], [x + 28, y + 12], [x, y + 12]])
        return (box + self._random.uniform(-1, 1, box.shape)).round(2).tolist()

    def points(self, name: str, word: str = "0001") -> list:
        """The points of one word, to be edited in place (then `save`)."""
        return self.document["images"][name]["words"][word]["points"]

    def rename(self, old: str, new: str) -> None:
        """Rename an image and its annotation."""
        (self.images / old).rename(self.images / new)
        self.document["images"][new] = self.document["images"].pop(old)

    def remove(self, name: str) -> None:
        """Remove an image and its annotation."""
        (self.images / name).unlink()
        del self.document["images"][name]

    def save(self) -> None:
        """Write the annotation file."""
        self.annotations.write_text(json.dumps(self.document))

    @property
    def source(self) -> Source:
        """The dataset as a split's source."""
        return Source(images=self.images, annotations=self.annotations)

    def flags(self, split: str = "val") -> list[str]:
        """The dataset as flags of `build`."""
        return [
            *("--split", split),
            *("--images", str(self.images)),
            *("--annotations", str(self.annotations)),
        ]

    def built(self, store: Path) -> str:
        """The dataset as splits train and val of a store, at 64 px."""
        settings = Settings(store=store, size=64, backend="sequential", monitor=False)
        for split in ("train", "val"):
            build(split, self.source, settings)
        return str(store)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path / "data")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Small and in this process: 64 px samples, about 8 a shard."""
    return Settings(store=tmp_path / "store", size=64, shard_length=8, backend="sequential")


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Three images of 100 x 200, one of them in a folder."""
    folder = tmp_path / "images"
    (folder / "train").mkdir(parents=True)
    page = cv2.imencode(".png", np.full((100, 200, 3), 255, np.uint8))[1].tobytes()
    for name in ("a.png", "b.png", "train/c.png"):
        (folder / name).write_bytes(page)
    return folder


COMMAND = [sys.executable, "-m", "ocr_precompute"]


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command, called in this process; `cwd` should hold no configuration.

    As quick as what it does: a process of its own takes a second to begin.
    """
    from ocr_precompute.cli.app import app

    words = [*map(str, arguments)]
    with chdir(cwd or Path.cwd()):
        done = CliRunner().invoke(app, words, env={"COLUMNS": "200"}, prog_name="ocr-precompute")
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def run_apart(
    *arguments: object, cwd: Path | None = None, **kwargs
) -> subprocess.CompletedProcess[str]:
    """The real command in a real process; `cwd` should hold no configuration."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "200"},
        **kwargs,
    )


def same(a: object, b: object) -> bool:
    """Equal to the last bit: arrays with their dtypes and shapes, and lists of them."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def published(store: Path) -> dict[str, bytes]:
    """All of a store that its inputs decide."""
    return {
        f"{part}/{name}": data
        for part in ("shards", "splits")
        for name, data in tree_bytes(store / part).items()
    }


@pytest.fixture(scope="module")
def service() -> Iterator[FaultyService]:
    """An S3 service on loopback that can be made to fail."""
    from faulty import FaultyService

    with FaultyService() as service:
        yield service


@pytest.fixture
def bucket(
    service: FaultyService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, str]:
    """An empty bucket, and what has to be said to find it."""
    service.reset()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name-that-may-be-seen")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "word-that-nobody-sees")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return {"endpoint": service.address, "region": "us-east-1"}
