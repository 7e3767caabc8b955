"""`ocr-train tune`: settings of post-processing that are found on a split, by maps made by hand."""

from __future__ import annotations

import errno
import json
import re
import sys
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np
import pytest
import torch
import yaml
from conftest import Dataset
from lightning_noise import NOISE
from train_once import train

from ocr import command
from ocr.inference.postprocess import PostProcess
from ocr.lightning_modules import TextDetector
from ocr.metrics.icdar import MatchCounts, match_polygons
from ocr.tuning.maps import Annotated, KeptMaps
from ocr.tuning.result import summary, tuned
from ocr.tuning.search import Settled, judged, search
from ocr_precompute.errors import PrecomputeError
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = PostProcess()

pytestmark = NOISE


def box(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


class Drawing:
    """A map of 200 x 300, and what is annotated in it."""

    def __init__(self) -> None:
        self.prob = np.zeros((200, 300), np.float32)
        self.polygons: list[np.ndarray] = []
        self.ignored: list[bool] = []

    def region(self, x: int, y: int, width: int, height: int, prob: float) -> None:
        """What the network takes for text."""
        self.prob[y : y + height, x : x + width] = prob

    def text(self, x: int, y: int, prob: float, ignored: bool = False) -> None:
        """A text of 60 x 20, and its region, shrunk as labels are."""
        self.polygons.append(box(x, y, 60, 20))
        self.ignored.append(ignored)
        self.region(x + 6, y + 6, 48, 8, prob)

    def search(self, base: PostProcess = DEFAULT) -> Settled:
        """The best settings by this map alone."""
        with self.maps() as maps:
            return search(maps, base)

    def maps(self) -> KeptMaps:
        """With this map alone."""
        maps = KeptMaps()
        ignored = np.array(self.ignored, bool)
        maps.add(self.prob, Annotated("a", self.prob.shape, self.polygons, ignored))  # type: ignore[arg-type]
        return maps


def hmean(counts: MatchCounts) -> float:
    return counts.tally.hmean


# -------------------------------------------------------------------------------- what is found


def test_a_min_score_between_what_is_right_and_what_is_wrong() -> None:
    """Texts score 0.425, which the default of 0.5 drops, and what is none scores 0.355."""
    drawing = Drawing()
    for row in range(3):
        drawing.text(10, 10 + 50 * row, 0.425)
        drawing.region(150, 10 + 50 * row, 48, 8, 0.355)
    found = drawing.search()
    assert found.counts == (3, 3, 3)
    # of all values from 0.36 to 0.42 the nearest to the default, and nothing else is changed
    assert found.settings == replace(DEFAULT, min_score=0.42)


def test_a_threshold_at_which_neighbours_part() -> None:
    """Two pairs of texts, each joined by a bridge of 0.53."""
    drawing = Drawing()
    for row in (10, 100):
        drawing.text(10, row, 0.9)
        drawing.text(80, row, 0.9)
        drawing.region(60, row + 6, 30, 8, 0.53)
    assert PostProcess(threshold=0.52)(drawing.prob).scores.shape == (2,)
    found = drawing.search()
    assert found.counts == (4, 4, 4)
    assert found.settings == replace(DEFAULT, threshold=0.53)


def test_a_ratio_that_undoes_another_shrinking() -> None:
    """Regions of 72 x 10 for texts of 100 x 40, of which a ratio of 1.5 makes less than half."""
    drawing = Drawing()
    for row in (10, 100):
        drawing.polygons.append(box(20, row, 100, 40))
        drawing.ignored.append(False)
        drawing.region(34, row + 15, 72, 10, 0.9)
    found = drawing.search()
    assert found.counts == (2, 2, 2)
    ratio = found.settings.unclip_ratio
    assert ratio is not None
    assert 1.5 < ratio < 1.9
    assert found.settings == replace(DEFAULT, unclip_ratio=ratio)
    assert drawing.search(replace(DEFAULT, unclip_ratio=ratio)).settings.unclip_ratio == ratio


def test_a_min_size_between_specks_and_texts() -> None:
    drawing = Drawing()
    drawing.text(10, 10, 0.9)
    for column in range(4):
        drawing.region(20 + 60 * column, 100, 5, 5, 0.9)  # 4 pixels from border to border
    found = drawing.search()
    assert found.counts == (1, 1, 1)
    assert found.settings == replace(DEFAULT, min_size=5.0)


def test_two_settings_at_once() -> None:
    """Both texts score too little and are shrunk too far; what is none scores less."""
    drawing = Drawing()
    for row in (10, 100):
        drawing.polygons.append(box(20, row, 100, 40))
        drawing.ignored.append(False)
        drawing.region(34, row + 15, 72, 10, 0.425)
        drawing.region(180, row + 15, 72, 10, 0.355)
    found = drawing.search()
    assert found.counts == (2, 2, 2)
    ratio = found.settings.unclip_ratio
    assert found.settings == replace(DEFAULT, unclip_ratio=ratio, min_score=0.42)


def test_where_all_is_found_the_settings_stay() -> None:
    drawing = Drawing()
    drawing.text(10, 10, 0.9)
    drawing.text(10, 100, 0.4, ignored=True)
    for base in (DEFAULT, PostProcess(threshold=0.345, min_score=0.613, min_size=3.7)):
        found = drawing.search(base)
        assert found.counts == (1, 1, 1)
        assert found.settings == base


def test_where_nothing_can_be_found_the_settings_stay() -> None:
    drawing = Drawing()
    drawing.polygons, drawing.ignored = [box(10, 10, 60, 20)], [False]
    base = PostProcess(mode="polygon", unclip_ratio=1.7)
    found = drawing.search(base)
    assert found.settings == base
    assert found.counts == (0, 1, 0)


# ------------------------------------------------------------------------ against one by one


def noisy(maps: KeptMaps, seed: int) -> None:
    """A page on which regions touch and texts lie on each other, so that a filter changes pairs."""
    random = np.random.default_rng(seed)
    size = (int(random.integers(60, 120)), int(random.integers(60, 120)))
    prob = cv2.GaussianBlur(random.random(size).astype(np.float32), (0, 0), 1.2)
    prob = np.clip((prob - 0.5) * 3, 0, 1)
    polygons = []
    for _ in range(12):
        x, y = random.integers(0, size[1] - 30), random.integers(0, size[0] - 14)
        polygons.append(box(x, y, 24, 12) + random.normal(0, 1, (4, 2)).astype(np.float32))
        prob[y + 3 : y + 9, x + 3 : x + 21] = random.uniform(0.3, 1)
    polygons += [each + 1 for each in polygons[:4]]
    maps.add(prob, Annotated(str(seed), size, polygons, random.random(16) < 0.2))


def one_by_one(maps: KeptMaps, read: PostProcess) -> MatchCounts:
    """As a validation counts."""
    totals = np.zeros(3, int)
    for number, page in enumerate(maps.pages):
        found = read(maps.read(number)).polygons
        totals += match_polygons(found, page.polygons, page.ignored.tolist()).counts
    return MatchCounts(*totals.tolist())


@pytest.mark.parametrize("base", [DEFAULT, PostProcess(mode="polygon", score="box", min_score=0.3)])
def test_counts_are_those_of_the_settings_and_never_fewer(base: PostProcess) -> None:
    with KeptMaps() as maps:
        for seed in range(4):
            noisy(maps, seed)
        found = search(maps, base)
        assert found.counts == one_by_one(maps, found.settings)
        assert hmean(found.counts) > hmean(one_by_one(maps, base)) > 0
        for score, size, ratio in product((0.05, 0.4, 0.77), (2.0, 6.0), (1.0, 1.8)):
            other = replace(found.settings, min_score=score, min_size=size)
            assert hmean(one_by_one(maps, other)) <= hmean(found.counts)
            coarse = replace(other, threshold=0.4, unclip_ratio=ratio)
            assert hmean(one_by_one(maps, coarse)) <= hmean(found.counts)


def test_it_is_the_same_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocr.tuning.search._SHARE", 1)
    with KeptMaps() as maps:
        for seed in range(2):
            noisy(maps, seed)
        monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
        several = [search(maps, DEFAULT) for _ in range(2)]
        monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
        alone = search(maps, DEFAULT)
        assert several == [alone, alone]
        assert judged(maps, DEFAULT).counts.annotated == alone.counts.annotated


# -------------------------------------------------------------------------------- what is kept


def test_maps_are_the_same_from_memory_and_from_a_file() -> None:
    random = np.random.default_rng(0)
    probs = [random.random((64, 96), np.float32) for _ in range(4)]
    sizes = [(64, 96), (40, 50), (1, 1), (64, 33)]
    with KeptMaps() as kept, KeptMaps(memory=20_000) as spilt:
        for prob, size in zip(probs, sizes, strict=True):
            for maps in (kept, spilt):
                maps.add(prob, Annotated("a", size, [], np.zeros(0, bool)))
        for number in (3, 0, 2, 1):
            height, width = sizes[number]
            expected = probs[number][:height, :width]
            for maps in (kept, spilt):
                assert np.array_equal(maps.read(number), expected)
                assert maps.read(number).dtype == np.float32


def test_maps_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Annotated("a", (10, 10), [], np.zeros(0, bool))
    with KeptMaps(most=1000) as maps:
        for _ in range(2):
            maps.add(np.zeros((10, 10), np.float32), page)
        with pytest.raises(PrecomputeError, match=r"maps of more than 2 images.*limit_val_batches"):
            maps.add(np.zeros((10, 10), np.float32), page)
        assert len(maps.pages) == 2

    def full(_: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with KeptMaps() as maps:
        monkeypatch.setattr(maps, "_file", type("File", (), {"seek": id, "write": full}))
        monkeypatch.setattr(maps, "__exit__", id)
        with pytest.raises(PrecomputeError, match="No space left on device; tune on fewer"):
            maps.add(np.zeros((10, 10), np.float32), page)
        monkeypatch.undo()


def test_a_split_without_text_is_an_error() -> None:
    drawing = Drawing()
    drawing.text(10, 10, 0.9, ignored=True)
    with drawing.maps() as maps, pytest.raises(PrecomputeError, match="holds no text to find"):
        tuned(maps, DEFAULT, "data/store: split 'val'")


def test_what_is_said_of_settings_that_stay_and_of_looser_polygons() -> None:
    drawing = Drawing()
    drawing.text(10, 10, 0.9)
    with drawing.maps() as maps:
        found = tuned(maps, DEFAULT, "data/store: split 'val'")
    assert "settings: no others find more; the default ones stay" in summary(found)
    assert len(found.warnings) == 1
    assert found.default == found.tuned
    assert 0.5 < found.default.iou < 1
    assert found.default.figures["mean_iou"] == found.default.iou
    looser = replace(found, tuned=replace(found.tuned, iou=found.default.iou - 0.1))
    assert "fit less well" in looser.warnings[1]


# -------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """12 pages as split val and train, at 64 px; all is don't-care in split blind."""
    made = Dataset(tmp_path_factory.mktemp("data"), count=12)
    settings = Settings(
        store=tmp_path_factory.mktemp("store") / "s", size=64, backend="sequential", monitor=False
    )
    for split in ("train", "val"):
        build(split, made.source, settings)
    for image in made.document["images"].values():
        for word in image["words"].values():
            word["ignore"] = True
    made.save()
    build("blind", made.source, settings)
    return str(settings.store)


@pytest.fixture(scope="module")
def checkpoint(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a training of one epoch."""
    out = tmp_path_factory.mktemp("run")
    train(str(out), {"store": store, "batch_size": 4, "threads": 1}, last=True)
    return out / "last.ckpt"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the network was shown each time; it finds texts, but hardly believes it."""
    shown: list[int] = []

    def drawn(module: TextDetector, batch: dict[str, Any]) -> torch.Tensor:
        prob = np.zeros(batch["image"].shape[:3], np.float32)
        shown.append(len(prob))
        for number, polygons in enumerate(batch["polygons"]):
            for place, polygon in enumerate(polygons):
                middle = polygon.mean(0)
                shrunk = np.rint(middle + (polygon - middle) * [0.7, 0.5]).astype(np.int32)
                cv2.fillPoly(prob[number], [shrunk], 0.36 + 0.1 * place)
            prob[number, 2:8, 50:60] = 0.34
        return torch.from_numpy(prob)

    monkeypatch.setattr(TextDetector, "_probabilities", drawn)
    return shown


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of `ocr-train` in this process."""
    monkeypatch.setattr(sys, "argv", ["ocr-train", *map(str, arguments)])
    try:
        command.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def quick(store: str, checkpoint: Path) -> list[object]:
    return [
        *("--config", ROOT / "configs" / "train.yaml", "--ckpt_path", checkpoint),
        *("--data.store", store, "--data.batch_size", 4, "--data.threads", 1),
        *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
        # of the checkpoint, in place of the configuration's
        *("--model.backbone", Path(__file__).with_name("backbone"), "--model.channels", 16),
    ]


def test_one_pass_and_what_comes_of_it(
    store: str,
    checkpoint: Path,
    passes: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = quick(store, checkpoint)
    files = ("--out", tmp_path / "tuned.json", "--yaml", tmp_path / "tuned.yaml")
    assert called(monkeypatch, "tune", *given, *files) == 0
    assert passes == [4, 4, 4]  # every image once
    assert {path.name for path in tmp_path.iterdir()} == {"tuned.json", "tuned.yaml"}
    told = capsys.readouterr()
    assert "only 12 images" in told.err
    assert "take figures that you report from a split" in told.err
    document = json.loads((tmp_path / "tuned.json").read_text())
    before, after = document["default"], document["tuned"]
    assert before["hmean"] < after["hmean"]
    assert before["settings"] == asdict(DEFAULT)
    assert document["images"] == 12
    assert document["checkpoint"] == str(checkpoint)
    assert f"{before['hmean']:.4f}   {after['hmean']:.4f}" in told.out
    assert len(after["curve"]) == 100
    assert after["average_precision"] > after["curve"][50]["recall"] * 0.9
    for groups in (after["by_shorter_side"], after["by_aspect"]):
        assert sum(groups["annotated"]) == after["counts"]["annotated"]
        assert sum(groups["detected"]) == after["counts"]["detected"]
        assert sum(groups["matched"]) == after["counts"]["matched"]
    # what is to be pasted, and the file, are the settings that were measured
    (flags,) = re.findall(r"settings: (.*)", told.out)
    text = (tmp_path / "tuned.yaml").read_text()
    assert yaml.safe_load(text) == {"model": {"postprocess": after["settings"]}}
    measured = {}
    for name, more in (
        ("default", []),
        ("flags", flags.split()),
        ("file", ["--config", tmp_path / "tuned.yaml"]),
    ):
        quiet = ("--trainer.logger", "false", "--report", "false", "--monitor", "false")
        assert called(monkeypatch, "validate", *given, *more, *quiet) == 0
        (figure,) = re.findall(r"val/hmean\W+([\d.]+)", capsys.readouterr().out)
        measured[name] = float(figure)
    assert measured["default"] == pytest.approx(before["hmean"], abs=1e-6)
    assert measured["flags"] == measured["file"] == pytest.approx(after["hmean"], abs=1e-6)


@pytest.mark.usefixtures("passes")
def test_it_says_the_same_twice_and_writes_nothing_unasked(
    store: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    # settings of a monitored training are no hindrance
    more = ["--fail_on_alert", "true", "--metrics_port", 0]
    said = []
    for _ in range(2):
        assert called(monkeypatch, "tune", *quick(store, checkpoint), *more) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data.val", "blind"], "split 'blind' holds no text to find"),
        (["--data.val", "none"], "none"),
        (["--ckpt_path", "gone.ckpt"], r"error: gone\.ckpt: cannot be read: No such file"),
        (["--trainer.devices", 2], "tune has all maps in one process, not 2"),
        (["--yaml", "mine.yaml"], r"error: mine\.yaml: is not what tune wrote"),
        (["--out", "s3://bucket/a.json"], "--out"),
        (["--model.postprocess.threshold", 2], "threshold is 2.0; it must be from 0 to 1"),
        (["--model.postprocess.depth", 2], "depth"),
    ],
)
def test_bad_input_is_one_error(
    more: list[object],
    message: str,
    store: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("model: {}\n")
    assert called(monkeypatch, "tune", *quick(store, checkpoint), *more) == 2
    told = capsys.readouterr()
    assert re.search(message, told.err), told.err
    assert "Traceback" not in told.err
    assert told.out == ""
    assert (tmp_path / "mine.yaml").read_text() == "model: {}\n"


def test_it_needs_a_trained_model(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "tune", "--data.store", store) == 2
    told = capsys.readouterr().err
    assert told == "error: tune needs a trained model; name one with --ckpt_path\n"


def test_the_command_has_help_and_is_in_the_documents(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "tune", "--help") == 0
    shown = capsys.readouterr().out
    for option in ("--ckpt_path", "--out", "--yaml", "--data.val"):
        assert option in shown
    for path in ("README.md", "docs/training.md", "docs/using.md"):
        assert re.search(r"ocr-train tune --ckpt_path", (ROOT / path).read_text()), path
