"""What a training leaves for its report: the same losses, the right counts, the worst images."""

from __future__ import annotations

import json
import re
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import lightning
import numpy as np
import pytest
import torch
from conftest import Dataset
from lightning.pytorch.loggers import CSVLogger
from lightning_noise import NOISE
from test_report import part, points, said, shown
from train_once import BACKBONE, Record, train

from ocr import train as command
from ocr.inference.postprocess import Detections, PostProcess
from ocr.lightning_modules import TextDetector
from ocr.lightning_modules.callbacks import RunReport, ValidationRecord
from ocr.lightning_modules.callbacks import report as reporting
from ocr.metrics.groups import grouped
from ocr.metrics.icdar import match_polygons
from ocr.metrics.outcomes import Judged, Outcomes
from ocr.reports.metrics import read_curves
from ocr.reports.report import write_report
from ocr.reports.validation import (
    MOST_IMAGES,
    MOST_POLYGONS,
    MOST_VERTICES,
    Counts,
    Validated,
    file_name,
    merged,
    read_validations,
)

ROOT = Path(__file__).resolve().parents[1]

pytestmark = NOISE


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """12 pages as splits train and val, at 64 px; one has don't-care."""
    made = Dataset(tmp_path_factory.mktemp("data"), count=12)
    made.document["images"]["page_003.jpg"]["words"]["0001"]["ignore"] = True
    made.save()
    return made.built(tmp_path_factory.mktemp("store") / "s")


def drawn(module: TextDetector, batch: dict[str, Any]) -> torch.Tensor:
    """Maps as of a network that has learnt: of each image but the first word, with other scores."""
    found = np.zeros(batch["image"].shape[:3], np.float32)
    for number, polygons in enumerate(batch["polygons"]):
        for place, polygon in enumerate(polygons[1:]):
            middle = polygon.mean(0)
            shrunk = middle + (polygon - middle) * [0.7, 0.5]
            score = 0.4 + 0.1 * place + 0.03 * number
            cv2.fillPoly(found[number], [np.rint(shrunk).astype(np.int32)], score)
    return torch.from_numpy(found)


@pytest.fixture
def learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextDetector, "_probabilities", drawn)


def once(
    out: Path,
    store: str,
    more: list[lightning.Callback],
    stop_after: int | None = None,
    **loop: Any,
) -> Record:
    data = {"store": store, "batch_size": 4, "threads": 2, "augmentation": {"crop": 48}}
    loops = {"logger": CSVLogger(str(out), "run"), "log_every_n_steps": 1, **loop}
    # A low threshold, so that so small a network finds something, right or wrong.
    model = {"postprocess": PostProcess(threshold=0.1, min_score=0.1)}
    return train(str(out), data, model, loops, stop_after, more=more)


def test_losses_are_the_same_bit_for_bit(store: str, tmp_path: Path) -> None:
    off = once(tmp_path / "off", store, [], max_epochs=3)
    on = once(tmp_path / "on", store, [ValidationRecord(), RunReport()], max_epochs=3)
    assert len(on.losses) == 9
    assert on.losses == off.losses
    assert on.metrics["val/hmean"] == off.metrics["val/hmean"]
    assert not list((tmp_path / "off").rglob("validation*"))
    assert list((tmp_path / "on").rglob("report.html"))


def test_no_thread_touches_the_filters_of_warnings(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the process's own: two threads that put them back in turn leave all ignored."""
    entered: list[str] = []
    enter = warnings.catch_warnings.__enter__

    def watched(self: Any) -> Any:
        entered.append(threading.current_thread().name)
        return enter(self)

    monkeypatch.setattr(warnings.catch_warnings, "__enter__", watched)
    once(tmp_path, store, [ValidationRecord()], max_epochs=1)
    assert set(entered) <= {threading.main_thread().name}


@pytest.mark.usefixtures("learnt")
def test_what_is_written_is_what_was_measured(store: str, tmp_path: Path) -> None:
    record = once(tmp_path, store, [ValidationRecord()], max_epochs=2)
    (path,) = tmp_path.rglob("validation.json")
    validated, notes = read_validations(path.parent)
    assert notes == []
    assert validated is not None
    assert (validated.epoch, validated.step, validated.images) == (1, 6, 12)
    measured = [record.metrics[f"val/{name}"] for name in ("precision", "recall", "hmean")]
    assert 0.3 < measured[2] < 0.9
    assert validated.counts.at(0) == pytest.approx(measured, abs=1e-6)
    assert sum(count > 0 for count in validated.counts.detected) > 4
    assert validated.counts.annotated == 35  # 36, and one is don't-care
    assert validated.best is not None
    assert validated.best[2] == pytest.approx(max(measured[2], validated.best[2]))
    assert 0 < len(validated.worst) <= 12
    orders = [each.order for each in validated.worst]
    assert orders == sorted(orders)
    assert sum(each.matched for each in validated.worst) <= sum(validated.counts.matched)
    for each in validated.worst:
        picture = cv2.imread(str(path.parent / "validation" / each.picture))
        assert picture.shape[:2] == each.size
        kinds = [shape.kind for shape in each.shapes]
        assert kinds.count("missed") == each.missed
        assert kinds.count("wrong") == each.wrong
        assert kinds.count("found") == each.matched
    # pictures of the first validation are gone, unless the second has them too
    left = {found.name for found in (path.parent / "validation").iterdir()}
    assert left == {each.picture for each in validated.worst}


def test_a_check_before_the_training_is_no_validation(store: str, tmp_path: Path) -> None:
    seen: list[bool] = []

    class Look(lightning.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            seen.append(bool(list(tmp_path.rglob("validation.json"))))

    once(tmp_path, store, [ValidationRecord(), Look()], num_sanity_val_steps=2)
    assert seen == [False]
    assert list(tmp_path.rglob("validation.json"))


def test_an_interrupted_training_has_a_report_that_says_so(store: str, tmp_path: Path) -> None:
    once(tmp_path, store, [ValidationRecord(), RunReport()], stop_after=5, max_epochs=3)
    (page,) = tmp_path.rglob("report.html")
    data = shown(page)
    assert data["facts"][0] == "interrupted"
    assert len(points(part(data, "learning", "Loss"), "loss")) == 5


def refuse(*_: object) -> None:
    raise RuntimeError("no page today")


def test_a_failure_ends_no_training(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "write_report", refuse)
    with pytest.warns(UserWarning, match=r"the report cannot be written \(no page today\)"):
        record = once(tmp_path, store, [RunReport()])
    assert len(record.losses) == 3


def test_a_folder_that_cannot_be_written_is_one_warning(store: str, tmp_path: Path) -> None:
    class Block(lightning.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            Path(trainer.log_dir).mkdir(parents=True, exist_ok=True)
            (Path(trainer.log_dir) / "validation").write_text("no folder")

    with pytest.warns(UserWarning, match="validation.json: cannot be written") as caught:
        record = once(tmp_path, store, [ValidationRecord(), Block()], max_epochs=3)
    assert len(record.losses) == 9
    assert sum("cannot be written" in str(each.message) for each in caught) == 1


# ------------------------------------------------------------------------------ gathering it


def box(x: float, y: float) -> np.ndarray:
    return np.array([[x, y], [x + 8, y], [x + 8, y + 8], [x, y + 8]], np.float32)


def judged(name: str, missed: int, wrong: int, matched: int = 0) -> Judged:
    """An image of 64 px with so many mistakes; scores are 0.9 of what is right, or 0.25."""
    places = [box(10 * n, 0) for n in range(matched)]
    false = [box(10 * n, 20) for n in range(wrong)]
    wanted = places + [box(10 * n, 40) for n in range(missed)]
    found = Detections(places + false, np.array([0.9] * matched + [0.25] * wrong, np.float32))
    matching = match_polygons(found.polygons, wanted, [False] * len(wanted))
    return Judged(name, (48, 64), found, wanted, matching).pictured(
        np.full((64, 64, 3), 128, np.uint8)
    )


def gathered(images: list[Judged]) -> Outcomes:
    made = Outcomes()
    for each in images:
        made.add(each)
    return made


def written(outcomes: Outcomes, process: int = 0, step: int = 7) -> Validated:
    worst = tuple(each.outcome(process) for each in outcomes.worst)
    groups = outcomes.sides, outcomes.aspects
    return Validated(0, step, outcomes.images, 0.2, outcomes.counts, None, worst, *groups)


def test_the_worst_are_kept_whatever_their_order() -> None:
    images = [judged(f"{n:02d}", n % 7, n % 3, 1) for n in range(60)]
    expected = sorted(images, key=lambda each: each.order)[:MOST_IMAGES]
    shuffled = np.random.default_rng(0).permutation(60)
    outcomes = gathered([images[n] for n in shuffled])
    assert [each.name for each in outcomes.worst] == [each.name for each in expected]
    assert not outcomes.wants(judged("a", 1, 0))
    assert outcomes.wants(judged("a", 9, 9))
    assert not Outcomes().wants(judged("perfect", 0, 0, 3))


def test_counts_by_score() -> None:
    counts = gathered([judged("a", 1, 2, 3), judged("b", 0, 0, 1)]).counts
    assert (counts.annotated, sum(counts.detected), sum(counts.matched)) == (5, 6, 4)
    assert counts.at(0) == pytest.approx((4 / 6, 4 / 5, 8 / 11))
    assert counts.at(25) == counts.at(0)  # what has just that score is in
    assert counts.at(26) == pytest.approx((1, 4 / 5, 8 / 9))
    assert counts.at(91) == (0, 0, 0)


def test_average_precision_by_hand() -> None:
    """Of four texts: one found at 0.9, a wrong detection at 0.8, another text at 0.7, wrong at 0.2.

    Recall rises to 1/4 at precision 1, and to 2/4 at 2/3, which is also the best precision at 1/2.
    """
    detected, matched = [0] * 100, [0] * 100
    for place in (90, 80, 70, 20):
        detected[place] = 1
    for place in (90, 70):
        matched[place] = 1
    counts = Counts(4, tuple(detected), tuple(matched))
    assert counts.average_precision == pytest.approx(1 / 4 + 1 / 4 * 2 / 3)
    assert Counts().average_precision == 0
    assert Counts(3).average_precision == 0
    assert gathered([judged("a", 0, 0, 3)]).counts.average_precision == 1
    # a wrong detection that scores higher than all costs at every recall
    detected[95] = 1
    lower = Counts(4, tuple(detected), tuple(matched))
    assert lower.average_precision == pytest.approx(1 / 2 * 2 / 4)
    points = counts.rising(0)
    assert points[0] == pytest.approx((2 / 4, 2 / 4, 1 / 2))
    assert points[80] == pytest.approx((1 / 2, 1 / 4, 1 / 3))
    assert len(points) == 100


def rectangle(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


def test_groups_by_hand() -> None:
    """Texts of 6 x 30 and 10 x 10 that are found, of 20 x 200 that is not; another is don't-care.

    The first is found as 9 x 30, which is in another group by itself. What is wrong is 40 x 100.
    """
    annotated = [
        *(rectangle(0, 0, 30, 6), rectangle(50, 0, 10, 10)),
        *(rectangle(0, 50, 200, 20), rectangle(0, 90, 300, 30)),
    ]
    found = [rectangle(0, 0, 30, 9), rectangle(50, 0, 10, 10), rectangle(0, 200, 100, 40)]
    found.append(rectangle(0, 92, 200, 20))  # in don't-care
    matching = match_polygons(found, annotated, [False, False, False, True])
    assert matching.counts == (2, 3, 3)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]], np.float32)  # which changes no side
    for turned in (np.eye(2, dtype=np.float32), turn):
        sides, aspects = grouped(
            matching, [each @ turned for each in annotated], [each @ turned for each in found]
        )
        assert sides.bounds == (8, 12, 16, 24, 32, 64)
        assert sides.annotated == (1, 1, 0, 1, 0, 0, 0)
        assert sides.matched == (1, 1, 0, 0, 0, 0, 0)
        assert sides.detected == (1, 1, 0, 0, 0, 1, 0)
        assert aspects.bounds == (2, 4, 8, 16)
        assert aspects.annotated == (1, 0, 1, 1, 0)
        assert aspects.matched == (1, 0, 1, 0, 0)
        assert aspects.detected == (1, 1, 1, 0, 0)
    assert sides.rows() == [
        ("under 8", "1", "1", "1.0000", "1.0000", "1.0000"),
        ("8 to 12", "1", "1", "1.0000", "1.0000", "1.0000"),
        ("16 to 24", "1", "0", "0.0000", "0.0000", "0.0000"),
        ("32 to 64", "0", "1", "0.0000", "0.0000", "0.0000"),
    ]
    assert (sides + sides).annotated == (2, 2, 0, 2, 0, 0, 0)


def test_what_has_no_side_is_in_a_group_too() -> None:
    line = np.array([[0, 0], [50, 0], [50, 0], [0, 0]], np.float32)
    matching = match_polygons([line], [], [])
    sides, aspects = grouped(matching, [], [line])
    assert sides.detected[0] == aspects.detected[-1] == 1
    assert sides.annotated == (0,) * 7


def test_groups_of_a_record() -> None:
    """Processes' are added up; older records have none, and damaged ones are none."""
    record = written(gathered([judged("a", 1, 2, 3)]))
    assert record.sides is not None
    shares = [replace(record), replace(record, images=5)]
    assert merged(shares).sides == record.sides + record.sides
    assert merged([record, replace(record, sides=None)]).sides is None
    said = json.loads(json.dumps(record.as_dict()))
    for groups in (
        None,
        7,
        {},
        {**said["sides"], "bounds": [8, 12]},
        {**said["sides"], "matched": [1]},
    ):
        changed = record.as_dict() | {"sides": groups}
        assert read_back(changed).sides is None
        assert read_back(changed).aspects == record.aspects


def read_back(document: dict[str, Any]) -> Validated:
    """A record as a report reads it."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "validation.json").write_text(json.dumps(document))
        validated, notes = read_validations(Path(folder))
    assert notes == []
    assert validated is not None
    return validated


def test_very_many_polygons_and_vertices_are_bounded() -> None:
    turn = np.linspace(0, 6, 300)
    circle = 4 * np.stack([np.cos(turn), np.sin(turn)], 1)
    found = Detections([circle] * 1500, np.full(1500, 0.5, np.float32))
    matching = match_polygons(found.polygons, [box(40, 40)], [False])
    outcome = Judged("a", (64, 64), found, [box(40, 40)], matching).outcome(0)
    assert len(outcome.shapes) == MOST_POLYGONS
    assert outcome.left == 501
    assert outcome.shapes[0].kind == "missed"
    assert max(len(shape.points) for shape in outcome.shapes) <= MOST_VERTICES


def test_a_picture_is_small_and_without_padding() -> None:
    page = np.zeros((1400, 1400, 3), np.uint8)
    page[:1300, :650] = (255, 0, 0)
    nothing = Detections([], np.zeros(0, np.float32))
    matching = match_polygons([], [box(0, 0)], [False])
    data = Judged("a", (1300, 650), nothing, [box(0, 0)], matching).pictured(page).picture
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (640, 320, 3)
    assert picture[600, 300].tolist() == pytest.approx([0, 0, 255], abs=4)  # BGR


def keep(folder: Path, validated: Validated, process: int, outcomes: Outcomes) -> None:
    """As the callback writes it."""
    (folder / "validation").mkdir(parents=True, exist_ok=True)
    for each, image in zip(validated.worst, outcomes.worst, strict=True):
        (folder / "validation" / each.picture).write_bytes(image.picture)
    (folder / file_name(process)).write_text(json.dumps(validated.as_dict()))


def test_two_processes_are_one_validation(tmp_path: Path) -> None:
    images = [judged(f"{n:02d}", n % 7, n % 3, 1) for n in range(60)]
    whole = written(gathered(images))
    for process in range(2):
        outcomes = gathered(images[process::2])
        keep(tmp_path, written(outcomes, process), process, outcomes)
    both, notes = read_validations(tmp_path)
    assert notes == []
    assert both is not None
    assert both.counts == whole.counts
    assert both.images == 60
    assert [each.name for each in both.worst] == [each.name for each in whole.worst]
    assert {each.picture[0] for each in both.worst} == {"0", "1"}
    data = shown(write_report(tmp_path))
    images_shown = worst(data)
    assert len(images_shown) == MOST_IMAGES
    assert all(each["picture"].startswith("data:image/jpeg;base64,") for each in images_shown)


def worst(data: dict[str, Any]) -> list[dict[str, Any]]:
    (parts,) = (each["parts"] for each in data["sections"] if each["id"] == "worst")
    (found,) = (each["images"] for each in parts if each["kind"] == "worst")
    return found


def test_a_share_of_an_earlier_validation_is_left_out(tmp_path: Path) -> None:
    new, old = gathered([judged("a", 1, 1)]), gathered([judged("b", 5, 5)])
    keep(tmp_path, written(new, 0, step=9), 0, new)
    keep(tmp_path, written(old, 1, step=4), 1, old)
    found, notes = read_validations(tmp_path)
    assert found is not None
    assert [each.name for each in found.worst] == ["a"]
    assert notes == ["validation.1.json: is of an earlier validation, of step 4; left out"]


def test_the_best_of_all_processes() -> None:
    counts = gathered([judged("a", 1, 0, 2)]).counts
    shares = [
        Validated(3, 40, 1, 0.5, counts, (1, 20, 0.8, counts)),
        Validated(3, 40, 1, 0.5, counts, (1, 20, 0.8, counts)),
    ]
    best = merged(shares).best
    assert best is not None
    assert best[:3] == (1, 20, 0.8)
    assert best[3] == counts + counts


def test_precision_against_recall(tmp_path: Path) -> None:
    outcomes = gathered([judged("a", 1, 2, 3), judged("b", 0, 0, 1)])
    keep(tmp_path, written(outcomes), 0, outcomes)
    chart = part(shown(write_report(tmp_path)), "scores", "Precision against recall")
    assert chart["rows"][0] == ["0.2", "0.6667", "0.8000", "0.7273"]
    assert [row for row in chart["rows"] if row[0] == "0.26"] == [
        ["0.26", "1.0000", "0.8000", "0.8889"]
    ]
    assert [mark["text"] for mark in chart["marks"]] == ["0.2", "0.26"]
    assert chart["curves"][0]["points"][0] == [0.8, 0.666667]
    assert "min_score of post-processing" in chart["about"]
    said = "At min_score 0.2: H-mean 0.7273. Best here at 0.26: 0.8889."
    assert chart["said"] == f"{said} Average precision, the area under the curve: 0.8000."


def test_where_nothing_matches_there_is_no_curve(tmp_path: Path) -> None:
    outcomes = gathered([judged("a", 1, 2)])
    keep(tmp_path, written(outcomes), 0, outcomes)
    data = shown(write_report(tmp_path))
    assert "matches a text, whatever min_score asks for" in said(data)
    nothing = gathered([])
    keep(tmp_path, written(nothing), 0, nothing)
    again = shown(write_report(tmp_path))
    assert "had no text, and none was found" in said(again)
    assert "No mistake in any of 0 images." in said(again)


def test_the_best_validation_is_drawn_beside_the_last(tmp_path: Path) -> None:
    outcomes, better = gathered([judged("a", 1, 2, 3)]), gathered([judged("a", 0, 0, 4)])
    best = (0, 4, 1.0, better.counts)
    keep(tmp_path, replace(written(outcomes), best=best), 0, outcomes)
    chart = part(shown(write_report(tmp_path)), "scores", "Precision against recall")
    assert [curve["name"] for curve in chart["curves"]] == ["last validation", "best, epoch 1"]
    assert chart["curves"][1]["points"][0] == [1, 1]


BROKEN: dict[str, Any] = {
    "name of another folder": {"picture": "../../etc/passwd"},
    "absolute name": {"picture": "/etc/passwd"},
    "no name": {"picture": 7},
    "gone": {"picture": "0-0123456789abcdef.jpg"},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_picture_that_is_not_there_is_left_out(name: str, tmp_path: Path) -> None:
    outcomes = gathered([judged("a", 1, 1)])
    document = written(outcomes).as_dict()
    document["worst"][0] |= BROKEN[name]
    (tmp_path / "validation.json").write_text(json.dumps(document))
    (image,) = worst(shown(write_report(tmp_path)))
    assert (image["picture"], image["missed"]) == ("", 1)


@pytest.mark.parametrize("content", [b"\xff\xd8\xff", b"GIF89a", b"\xff\xd8\xff" * 400_000])
def test_a_file_that_is_no_small_jpeg_is_left_out(content: bytes, tmp_path: Path) -> None:
    outcomes = gathered([judged("a", 1, 1)])
    keep(tmp_path, written(outcomes), 0, outcomes)
    (path,) = (tmp_path / "validation").iterdir()
    path.write_bytes(content)
    (image,) = worst(shown(write_report(tmp_path)))
    assert image["picture"] == ""
    huge = cv2.imencode(".jpg", np.zeros((5000, 5000), np.uint8))[1].tobytes()
    path.write_bytes(huge)
    assert worst(shown(write_report(tmp_path)))[0]["picture"] == ""


WRONG: dict[str, Any] = {
    "counts": {"annotated": 1, "detected": [1], "matched": [1]},
    "counts of strings": {
        "counts": {"annotated": 1, "detected": ["1"] * 100, "matched": [0] * 100}
    },
    "epoch": -1,
    "step": 10**400,
    "min_score": "high",
    "images": None,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_record_of_other_types_is_left_out(name: str, tmp_path: Path) -> None:
    outcomes = gathered([judged("a", 1, 1)])
    value = WRONG[name]
    change = value if name == "counts of strings" else {name: value}
    text = json.dumps(written(outcomes).as_dict() | change)
    (tmp_path / "validation.json").write_text(text)
    data = shown(write_report(tmp_path))
    assert data["notes"] == ["validation.json: is damaged, or no record of a validation; left out"]
    assert "No validation has left its worst images" in said(data)


def test_shapes_of_other_types_are_left_out(tmp_path: Path) -> None:
    document = written(gathered([judged("a", 1, 0)])).as_dict()
    good = document["worst"][0]["shapes"][0]
    bad: list[Any] = [
        *(7, None, {}, {**good, "kind": ["found"]}, {**good, "kind": "other"}),
        *({**good, "points": "abc"}, {**good, "points": [[0, 1], [2, 3]]}),
        *({**good, "points": [[0, float("nan")]] * 4}, {**good, "points": [[0], [1], [2]]}),
    ]
    document["worst"][0]["shapes"] = [*bad, good]
    document["worst"] += [7, {"name": "b"}, {**document["worst"][0], "size": [0, 5]}]
    (tmp_path / "validation.json").write_text(json.dumps(document))
    (image,) = worst(shown(write_report(tmp_path)))
    assert [shape[0] for shape in image["shapes"]] == ["missed"]


# -------------------------------------------------------------------------------- the command


def fit(store: str, out: Path, *more: object) -> list[str]:
    return [
        *("ocr-train", "fit", "--config", str(ROOT / "configs" / "train.yaml")),
        *("--data.store", store, "--data.batch_size", "4", "--data.augmentation.crop", "48"),
        *("--model.backbone", str(BACKBONE), "--model.channels", "16"),
        *("--model.postprocess.threshold", "0.1", "--model.postprocess.min_score", "0.1"),
        *("--trainer.default_root_dir", str(out), "--trainer.logger.init_args.save_dir", str(out)),
        *("--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"),
        *("--trainer.max_epochs", "2", "--trainer.check_val_every_n_epoch", "1"),
        *("--trainer.log_every_n_steps", "1", *map(str, more)),
    ]


def run(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    command.main()


@pytest.mark.usefixtures("learnt")
def test_a_training_ends_with_a_report_of_the_right_numbers(
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(monkeypatch, fit(store, tmp_path))
    (page,) = tmp_path.rglob("report.html")
    assert f"report: {page}" in caplog.text
    data = shown(page)
    assert data["notes"] == []
    assert data["facts"][:3] == ["finished", "2 whole epochs", "6 steps"]
    curves = read_curves(page.with_name("metrics.csv"))
    losses = [[round(step / 3, 4), y] for step, y in curves.points["train/loss"]]
    assert len(losses) == 6
    shown_losses = points(part(data, "learning", "Loss"), "loss")
    assert [x for x, _ in shown_losses] == [x for x, _ in losses]
    assert [y for _, y in shown_losses] == pytest.approx([y for _, y in losses], rel=1e-5)
    for name, label in (("hmean", "H-mean"), ("precision", "precision"), ("recall", "recall")):
        logged = [y for _, y in curves.points[f"val/{name}"]]
        plotted = points(part(data, "scores", "H-mean, precision, recall"), label)
        assert [x for x, _ in plotted] == [1, 2]
        assert [y for _, y in plotted] == pytest.approx(logged, rel=1e-5)
        assert min(logged) > 0.3
    first = part(data, "scores", "Precision against recall")["rows"][0]
    assert float(first[1]) == pytest.approx(curves.points["val/precision"][-1][1], abs=1e-4)
    assert float(first[3]) == pytest.approx(curves.points["val/hmean"][-1][1], abs=1e-4)
    shown_words = part(data, "scores", "Precision against recall")["said"]
    assert re.search(r"Average precision, the area under the curve: 0\.\d{4}\.", shown_words)
    (parts,) = (each["parts"] for each in data["sections"] if each["id"] == "scores")
    tables = [each for each in parts if each["kind"] == "table"]
    assert [table["head"][0] for table in tables] == ["shorter side, px", "longer / shorter side"]
    for table in tables:
        assert sum(int(row[1]) for row in table["rows"]) == 35
    lines = page.with_name("performance.jsonl").read_text().splitlines()
    rates = [json.loads(line)["figures"]["samples_per_second"] for line in lines]
    plotted = part(data, "speed", "Samples per second")["curves"][0]["points"]
    assert [y for _, y in plotted] == pytest.approx(rates, rel=1e-4)
    names = {row[0] for row in part(data, "speed", "Stages")["rows"]}
    assert {"forward", "backward", "postprocess", "record"} <= names
    versions = dict(part(data, "setup", "Versions when it ran")["rows"])
    assert versions["lightning"] == lightning.__version__
    assert len(worst(data)) > 0
    # made again from the same files, it is the same
    again = shown(write_report(page.parent, tmp_path / "again.html"))
    assert again == data


@pytest.mark.usefixtures("learnt")
def test_a_validation_alone_leaves_its_worst_images_too(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, fit(store, tmp_path, "--trainer.max_epochs", 1, "--report", "false"))
    (checkpoint,) = tmp_path.rglob("best.ckpt")
    arguments = fit(store, tmp_path, "--ckpt_path", checkpoint)
    run(monkeypatch, [arguments[0], "validate", *arguments[2:]])
    (record,) = tmp_path.rglob("validation.json")
    data = shown(write_report(record.parent))
    assert len(worst(data)) == 12
    assert "(12 images)" in part(data, "scores", "Precision against recall")["about"]


def test_report_false_is_off(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, fit(store, tmp_path, "--report", "false", "--trainer.max_epochs", 1))
    assert list(tmp_path.rglob("metrics.csv"))
    for name in ("report.html", "run.json", "validation.json", "validation"):
        assert not list(tmp_path.rglob(name))
