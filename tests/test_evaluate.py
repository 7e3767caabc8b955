"""`ocr-train evaluate`: predictions on disk against annotations of any format."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocr.metrics.command import _EPILOG, main
from ocr.metrics.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parents[1]
COMMAND = r"ocr-train evaluate (-(?:[^\n\\`]|\\\n)*)"
LEFT = [[0, 0], [40, 0], [40, 10], [0, 10]]  # "Four", characters at x = 5, 15, 25, 35
RIGHT = [[50, 0], [70, 0], [70, 10], [50, 10]]  # "Ab", at x = 55, 65
BOTH = [[0, 0], [70, 0], [70, 10], [0, 10]]
FAR = [[0, 50], [36, 50], [36, 60], [0, 60]]


def words(*polygons: list, **of_all: Any) -> dict[str, Any]:
    return {"words": {str(n): {"points": p, **of_all} for n, p in enumerate(polygons)}}


class Case:
    """Annotations and predictions in files."""

    def __init__(self, folder: Path) -> None:
        (folder / "img").mkdir()
        self.folder = folder
        left = {"points": LEFT, "transcription": "Four"}
        right = {"points": RIGHT, "transcription": " Ab "}
        far = {"points": FAR, "transcription": "###"}
        self.annotated: dict[str, Any] = {
            "a.jpg": {"words": {"1": left, "2": right, "3": far}},
            "b.jpg": {"words": {"1": left}},
        }
        self.predicted: dict[str, Any] = {"a.jpg": words(BOTH, FAR), "b.jpg": words(LEFT)}

    def arguments(self, *more: str) -> list[str]:
        for name in ("annotated", "predicted"):
            document = {"images": getattr(self, name)}
            (self.folder / f"{name}.json").write_text(json.dumps(document))
        places = {"predictions": "predicted.json", "annotations": "annotated.json", "images": "img"}
        given = [part for k, v in places.items() for part in (f"--{k}", str(self.folder / v))]
        return [*given, *more]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def evaluated(case: Case, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert main(case.arguments("--json", *more)) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(case: Case, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(case.arguments(*more)) == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert all(line.startswith("error: ") for line in shown.err.splitlines())
    return shown.err


def test_every_protocol_from_files(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """One of three texts has its detection, the other two have one together; don't-care has one."""
    names = [part for name in PROTOCOLS for part in ("--metric", name)]
    found = evaluated(case, capsys, *names)
    assert found["images"] == 2
    assert found["warnings"] == found["unpredicted"] == []
    counts = {
        name: [values[key] for key in ("recalled", "annotated", "precise", "detected")]
        for name, values in found["metrics"].items()
    }
    # What covers both texts is 700 square pixels, of which they are 400 and 200: an IoU of 0.571
    # with the first.
    assert counts == {
        "icdar": [2, 3, 2, 2],
        "ctw1500": [2, 3, 2, 2],
        # 600 / 700 are enough area precision for both.
        "totaltext": pytest.approx([2.6, 3, 1.8, 2]),
        "deteval": [3, 3, 2, 2],
        "cleval": [10, 10, 9, 10],
    }
    icdar = found["metrics"]["icdar"]
    assert icdar["precision"] == 1
    assert icdar["recall"] == pytest.approx(2 / 3)
    assert icdar["hmean"] == pytest.approx(0.8)


def test_for_people(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(case.arguments("--metric", "totaltext", "--metric", "cleval")) == 0
    shown = capsys.readouterr()
    assert not shown.err
    assert [" ".join(line.split()) for line in shown.out.splitlines()] == [
        "metric precision recall H-mean",
        "totaltext 0.9000 0.8667 0.8830 2.6 of 3 texts found, 1.8 of 2 detections right",
        "cleval 0.9000 1.0000 0.9474 10 of 10 characters found, 9 of 10 characters right",
    ]
    assert main(case.arguments()) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["metric", "icdar"]


def test_parts_by_hand(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """Of three texts one is found with 0.6, one with 0.9, over which lies a wrong one with 0.8."""
    case.predicted = {"a.jpg": words(BOTH, FAR), "b.jpg": words(LEFT, [[0, 70], [9, 70], [9, 79]])}
    for name, scores in (("a.jpg", (0.6, 0.99)), ("b.jpg", (0.9, 0.8))):
        for number, score in enumerate(scores):
            case.predicted[name]["words"][str(number)]["score"] = score
    found = evaluated(case, capsys, "--parts")
    assert found["metrics"]["icdar"]["detected"] == 3
    parts = found["parts"]
    assert parts["average_precision"] == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert parts["curve"][85] == pytest.approx(
        {"min_score": 0.85, "precision": 1, "recall": 1 / 3, "hmean": 1 / 2}
    )
    sides = parts["by_shorter_side"]
    assert sides["bounds"][:2] == [8, 12]
    assert sides["annotated"] == [0, 3, 0, 0, 0, 0, 0]
    assert sides["matched"] == [0, 2, 0, 0, 0, 0, 0]
    assert sum(sides["detected"]) == 3
    aspects = parts["by_aspect"]  # 20 x 10, which begins the second group, and twice 40 x 10
    assert aspects["annotated"] == [0, 1, 2, 0, 0]
    assert aspects["matched"] == [0, 0, 2, 0, 0]
    assert main(case.arguments("--parts")) == 0
    shown = capsys.readouterr().out
    assert "ICDAR's average precision: 0.5556\n" in shown
    assert re.search(r"\n4 to 8 +2 +2 +1.0000 +1.0000 +1.0000", shown)
    del case.predicted["b.jpg"]["words"]["1"]["score"]
    assert evaluated(case, capsys, "--parts")["parts"]["average_precision"] is None
    assert main(case.arguments("--parts")) == 0
    assert "average precision: unknown: predictions lack scores" in capsys.readouterr().out
    assert "parts" not in evaluated(case, capsys)


def test_images_without_predictions_count(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.predicted = {"b.jpg": words(LEFT), "c.jpg": words(LEFT, RIGHT)}
    found = evaluated(case, capsys)
    assert found["unpredicted"] == ["a.jpg"]
    assert found["metrics"]["icdar"]["annotated"] == 3
    assert found["metrics"]["icdar"]["detected"] == 1
    first, second = found["warnings"]
    assert first.startswith("1 of 2 annotated images have no predictions, a.jpg the first")
    assert second == "1 images have predictions and no annotation: left out"


def test_pages_without_text_can_be_asked_for(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    (case.folder / "img" / "c.jpg").touch()
    case.predicted["c.jpg"] = words(LEFT)
    assert evaluated(case, capsys)["metrics"]["icdar"]["detected"] == 2
    found = evaluated(case, capsys, "--unannotated", "empty")
    assert found["images"] == 3
    assert found["metrics"]["icdar"]["detected"] == 3


def test_marks_of_dont_care(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluated(case, capsys, "--ignore-text", "Ab", "--metric", "cleval")
    assert found["metrics"]["cleval"]["annotated"] == 8
    case.annotated["a.jpg"]["words"]["2"]["points"] = RIGHT[:2]
    assert "has 2 points" in refused(case, capsys)
    found = evaluated(case, capsys, "--skip-bad", "image")
    assert found["images"] == 1
    assert any(line.startswith("skipped: ") for line in found["warnings"])


def test_texts_of_other_formats_are_known(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    folder = case.folder / "gt"
    folder.mkdir()
    for name in ("a", "b"):
        (case.folder / "img" / f"{name}.jpg").touch()
    (folder / "gt_a.txt").write_text("0,0,40,0,40,10,0,10,Four\n50,0,70,0,70,10,50,10,###\n")
    (folder / "gt_b.txt").write_text("0,0,40,0,40,10,0,10,Four\n")
    case.predicted["a.jpg"] = words(LEFT, RIGHT)
    arguments = [*case.arguments("--json", "--metric", "cleval"), "--annotations", str(folder)]
    assert main(arguments) == 0
    values = json.loads(capsys.readouterr().out)["metrics"]["cleval"]
    assert (values["annotated"], values["detected"], values["hmean"]) == (8, 8, 1)


def test_unknown_lengths_are_named(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    del case.annotated["b.jpg"]["words"]["1"]["transcription"]
    error = refused(case, capsys, "--metric", "cleval")
    assert "annotated.json: b.jpg: 1 texts have no transcription, of which cleval counts" in error
    assert "word 1 the first" in error
    assert evaluated(case, capsys, "--metric", "deteval")["images"] == 2
    case.annotated = {"a.jpg": words(LEFT), "b.jpg": words(LEFT, RIGHT)}
    error = refused(case, capsys, "--metric", "cleval")
    assert error.splitlines() == [
        f"error: {case.folder / 'annotated.json'}: holds no transcriptions, of which cleval counts "
        "the characters; choose another metric"
    ]


def test_what_is_wrong_is_one_line(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.predicted = {"photos/a.jpg": words(LEFT)}
    error = refused(case, capsys)
    assert "is about none of the 2 annotated images, such as 'a.jpg'; predict these" in error
    case.predicted = {"a.jpg": words(LEFT[:2])}
    assert "predicted.json: a.jpg: word 0: has 2 points" in refused(case, capsys)
    case.predicted = {"a.jpg": words(LEFT)}
    for option in ("--predictions", "--annotations", "--images"):
        nowhere = str(case.folder / "nowhere")
        assert "nowhere" in refused(case, capsys, option, nowhere)
        assert "looks like a URL" in refused(case, capsys, option, "s3://bucket/a.json")
    case.annotated = {}
    assert "no usable annotated image" in refused(case, capsys)


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--metric", "coco"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert "--predictions" in shown
    assert "coco" in shown


def test_it_needs_no_training_environment(case: Case) -> None:
    code = (
        "import sys; from ocr import command\n"
        "try: command.main()\n"
        "except SystemExit as ended: assert not ended.code, ended.code\n"
        "print(*sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, "evaluate", *case.arguments()],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "icdar" in shown
    loaded = shown.splitlines()[-1].split()
    assert not {"torch", "lightning", "zarr"} & set(loaded)


def test_commands_in_the_documents_are_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [(ROOT / name).read_text() for name in ("README.md", "docs/training.md")]
    lines = [line for text in texts for line in re.findall(COMMAND, text)]
    assert len(lines) >= 3
    for line in [*lines, *re.findall(COMMAND, _EPILOG)]:
        assert main(shlex.split(line.replace("\\\n", " "))) == 2  # not for how it is called
        assert "there is no such annotation file" in capsys.readouterr().err


def test_help_names_every_metric(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert {line.split()[0] for line in shown.splitlines() if line.strip()} >= set(PROTOCOLS)
