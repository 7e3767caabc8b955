"""The sample data: every kind of image, right polygons, the same bytes every time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import tree_bytes
from PIL import Image

from ocr_precompute.checking.verify import verify
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings, Source

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "make_sample_data.py"


def make(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--out", out, *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "data"
    result = make(out, "--train", 24, "--val", 12)
    assert result.returncode == 0, result.stderr
    return out


def annotations(sample: Path, split: str) -> dict[str, dict]:
    return json.loads((sample / "jsons" / f"{split}.json").read_text())["images"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_kind_of_image(sample: Path, split: str) -> None:
    pages = annotations(sample, split)
    kinds = set()
    for name in pages:
        with Image.open(sample / "images" / split / name) as image:
            turned = image.getexif().get(0x0112, 1) != 1
            kinds.add(f"{image.format} {image.mode}{' turned' if turned else ''}")
            if max(image.size) > 3000:
                kinds.add("large")
    assert kinds == {
        "JPEG RGB",
        "JPEG RGB turned",
        "JPEG L",
        "JPEG CMYK",
        "PNG RGBA",
        "large",
    }
    words = [word for page in pages.values() for word in page.get("words", {}).values()]
    corners = {len(word["points"]) for word in words}
    assert 4 in corners
    assert corners - {4} <= set(range(8, 17))
    assert len(corners) > 1
    assert any(word.get("ignore") for word in words)
    assert any(not page.get("words") for page in pages.values())


def test_both_ways_to_say_that_there_is_no_text(sample: Path) -> None:
    empty = [page for page in annotations(sample, "train").values() if not page.get("words")]
    assert sorted("words" in page for page in empty) == [False, True]


def test_polygons_hold_the_ink(sample: Path) -> None:
    """Text is darker than the paper around it; smudges and pages of other kinds are left out."""
    for name, page in annotations(sample, "val").items():
        pixels = cv2.imread(str(sample / "images" / "val" / name), cv2.IMREAD_GRAYSCALE)
        for word in page.get("words", {}).values():
            if word.get("ignore"):
                continue
            inside = np.zeros_like(pixels)
            cv2.fillPoly(inside, [np.round(word["points"]).astype(np.int32)], 1)
            around = cv2.dilate(inside, np.ones((5, 5), np.uint8)) - inside
            ink = pixels[inside == 1] < 130
            assert 0.05 < ink.mean() < 0.7, (name, word)
            assert (pixels[around == 1] < 110).mean() < 0.08, (name, word)


def test_the_same_bytes_every_time(sample: Path, tmp_path: Path) -> None:
    assert make(tmp_path / "again", "--train", 3, "--val", 12).returncode == 0
    again, first = tree_bytes(tmp_path / "again"), tree_bytes(sample)
    images = [name for name in again if name.startswith("images/")]
    assert len(images) == 15
    assert all(again[name] == first[name] for name in images)
    assert again["jsons/val.json"] == first["jsons/val.json"]
    assert make(tmp_path / "other", "--train", 1, "--val", 0, "--seed", 1).returncode == 0
    other = tree_bytes(tmp_path / "other")
    assert other["images/train/receipt_0000.jpg"] != first["images/train/receipt_0000.jpg"]


def test_made_once_and_never_over_something_else(sample: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sample.rglob("*")}
    assert "already complete" in make(sample, "--train", 24, "--val", 12).stderr
    assert {path: path.stat().st_mtime_ns for path in sample.rglob("*")} == before
    (tmp_path / "mine.txt").write_text("keep")
    refused = make(tmp_path, "--train", 1, "--val", 0)
    assert refused.returncode == 2
    assert "exists and is no sample data" in refused.stderr
    (tmp_path / "sample.json").write_text('{"version": 1, "files": {}}')
    assert make(tmp_path, "--train", 1, "--val", 0, "--force").returncode == 2
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_an_incomplete_sample_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "data"
    make(out, "--train", 2, "--val", 0)
    whole = tree_bytes(out)
    (out / "images" / "train" / "receipt_0001.jpg").unlink()
    assert make(out, "--train", 2, "--val", 0).returncode == 0
    assert tree_bytes(out) == whole


@pytest.mark.parametrize("recipe", ["seed", "dbnet"])
def test_it_builds_and_verifies(sample: Path, tmp_path: Path, recipe: str) -> None:
    source = Source(images=sample / "images/val", annotations=sample / "jsons/val.json")
    settings = Settings(store=tmp_path / "store", recipe=recipe)
    assert build("val", source, settings).samples == 12
    report = verify(settings.store, sources={"val": source}, recompute=1)
    assert report.problems == ()
    assert report.recomputed == 12
