"""What of an annotation counts, by labels, texts and names that a user gives."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Dataset, run
from forms import BOX, QUAD, words
from local import recorded_source
from test_readers import coco, labelme

from ocr_precompute.annotations import read_annotations
from ocr_precompute.settings import Marks, Source

OTHER = [[10.0, 60.0], [90.0, 60.0], [90.0, 80.0], [10.0, 80.0]]
SHAPES = (
    {"label": "text", "points": QUAD, "description": "Ada"},
    {"label": "stamp", "points": BOX, "description": "PAID"},
    {"label": "logo", "points": OTHER},
)
UFO = {
    "images": {
        "a.png": {
            "words": {
                "1": {"points": QUAD, "transcription": "Ada"},
                "2": {"points": BOX, "transcription": " PAID "},
                "3": {"points": OTHER},
            }
        }
    }
}


def read(folder: Path, images: Path, content: Any, **marks: Any) -> Any:
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return read_annotations(path, images, marks=Marks(**marks))


def kept(reading: Any) -> list[tuple[Any, bool]]:
    return [(polygon, ignored) for _, polygon, ignored in words(reading)]


FORMS = {
    "labelme": labelme(*SHAPES),
    "coco": coco(
        *(
            {"bbox": [10, 60, 80, 20], "segmentation": [list(itertools.chain(*shape["points"]))]}
            | {"category_id": number, "id": number, "text": shape.get("description")}
            for number, shape in enumerate(SHAPES)
        ),
        categories=[{"id": n, "name": shape["label"]} for n, shape in enumerate(SHAPES)],
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ({}, [(QUAD, False), (BOX, False), (OTHER, False)]),
        ({"ignore_labels": ("stamp",)}, [(QUAD, False), (BOX, True), (OTHER, False)]),
        ({"ignore_labels": "stamp"}, [(QUAD, False), (BOX, True), (OTHER, False)]),
        ({"ignore_labels": ("stamp", "logo")}, [(QUAD, False), (BOX, True), (OTHER, True)]),
        ({"keep_labels": ("text",)}, [(QUAD, False)]),
        ({"keep_labels": ("text",), "ignore_labels": ("logo",)}, [(QUAD, False), (OTHER, True)]),
        ({"ignore_texts": ("PAID",)}, [(QUAD, False), (BOX, True), (OTHER, False)]),
        ({"ignore_texts": ("PAI",)}, [(QUAD, False), (BOX, False), (OTHER, False)]),
    ],
)
def test_labels_and_texts(
    tmp_path: Path, image_folder: Path, form: str, marks: dict[str, Any], expected: list[Any]
) -> None:
    found = read(tmp_path, image_folder, FORMS[form], **marks)
    assert (found.format, found.problems) == (form, [])
    assert kept(found) == expected


def test_texts_of_words(tmp_path: Path, image_folder: Path) -> None:
    found = read(tmp_path, image_folder, UFO, ignore_texts=("PAID",))
    assert kept(found) == [(QUAD, False), (BOX, True), (OTHER, False)]
    assert found.warnings == ()


def test_what_is_not_kept_may_be_bad(tmp_path: Path, image_folder: Path) -> None:
    """A label that does not matter says nothing about its shape."""
    point = {"label": "logo", "points": [[1, 2]], "shape_type": "point"}
    assert len(read(tmp_path, image_folder, labelme(*SHAPES, point)).problems) == 1
    found = read(tmp_path, image_folder, labelme(*SHAPES, point), keep_labels=("text",))
    assert (found.problems, kept(found)) == ([], [(QUAD, False)])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (
            "labels.json",
            coco(
                {"id": 1, "bbox": [10, 10, 9, 9], "category_id": 7},
                {"id": 2, "segmentation": "none", "category_id": 8},
                categories=[{"id": 7, "name": "text"}, {"id": 8, "name": "logo"}],
            ),
        ),
        (
            "annotations.xml",
            "<annotations><version>1.1</version>"
            '<image id="0" name="a.png" width="200" height="100">'
            '<box label="text" xtl="10" ytl="10" xbr="19" ybr="19"/>'
            '<polygon label="logo" points="1,2;x"/></image></annotations>',
        ),
        (
            "via.json",
            {
                "a.png1": {
                    "filename": "a.png",
                    "size": 1,
                    "file_attributes": {},
                    "regions": [
                        {
                            "shape_attributes": {
                                "name": "rect",
                                **{"x": 10, "y": 10, "width": 9, "height": 9},
                            },
                            "region_attributes": {"type": "text"},
                        },
                        {
                            "shape_attributes": {"name": "rect", "x": "none"},
                            "region_attributes": {"type": "logo"},
                        },
                    ],
                }
            },
        ),
    ],
)
def test_of_every_form_a_bad_shape_that_is_not_kept_is_none(
    tmp_path: Path, image_folder: Path, file: str, content: Any
) -> None:
    path = tmp_path / file
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert len(read_annotations(path, image_folder).problems) == 1
    found = read_annotations(path, image_folder, marks=Marks(keep_labels=("text",)))
    box = [[10, 10], [19, 10], [19, 19], [10, 19]]
    assert (found.problems, kept(found)) == ([], [(box, False)])


@pytest.mark.parametrize(
    ("content", "marks", "line"),
    [
        (
            FORMS["labelme"],
            {"ignore_labels": ("stmp",)},
            "no word has the label 'stmp'; labels are 'text', 'stamp', 'logo'",
        ),
        (FORMS["labelme"], {"ignore_texts": ("VOID",)}, "no word says 'VOID'"),
        (UFO, {"keep_labels": ("a",)}, "labels 'a' fit nothing: this format gives words no label"),
    ],
)
def test_what_fits_nothing_is_said(
    tmp_path: Path, image_folder: Path, content: Any, marks: dict[str, Any], line: str
) -> None:
    found = read(tmp_path, image_folder, content, **marks)
    assert found.warnings == (f"{tmp_path / 'labels.json'}: {line}",)


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("train/", "train/a.png"),
        ("train", "train/a.png"),
        ("C:\\data\\", "C:\\data\\a.png"),
        ("https://example.org/img/", "https://example.org/img/a.png"),
        ("/home/ada/img", "/home/ada/img/a.png"),
        ("other/", "a.png"),
        ("a", "a.png"),
    ],
)
def test_names_without_their_prefix(
    tmp_path: Path, image_folder: Path, prefix: str, name: str
) -> None:
    document = {"images": {name: UFO["images"]["a.png"]}}
    found = read(tmp_path, image_folder, document, strip_prefix=prefix)
    assert found.problems == []
    assert [annotation.name for annotation in found.annotations] == ["a.png"]


def test_no_prefix_leads_out_of_the_folder(tmp_path: Path, image_folder: Path) -> None:
    document = {"images": {"train/../../a.png": UFO["images"]["a.png"]}}
    (problem,) = read(tmp_path, image_folder, document, strip_prefix="train/").problems
    assert "leaves the image folder" in problem.message


def test_what_words_say_is_kept_where_it_is_asked_for(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "labels.json"
    for content, texts, classes in (
        (FORMS["labelme"], ["Ada", "PAID", None], ["text", "stamp", "logo"]),
        (FORMS["coco"], ["Ada", "PAID", None], ["text", "stamp", "logo"]),
        (UFO, ["Ada", " PAID ", None], []),
    ):
        path.write_text(json.dumps(content))
        (told,) = read_annotations(path, image_folder, told=True).annotations
        assert (list(told.texts), list(told.classes)) == (texts, classes)
        (silent,) = read_annotations(path, image_folder).annotations
        assert (silent.texts, silent.classes) == ((), ())


def test_a_build_takes_marks_and_verify_remembers_them(dataset: Dataset, tmp_path: Path) -> None:
    word = next(iter(dataset.document["images"]["page_000.jpg"]["words"].values()))
    word["transcription"] = "VOID"
    dataset.save()
    store = tmp_path / "store"
    command = ["build", "--split", "val", "--store", str(store), "--size", "64"]
    command += ["--images", str(dataset.source.images)]
    command += ["--annotations", str(dataset.source.annotations)]
    plain = json.loads(run(*command, "--json").stdout)
    marked = json.loads(run(*command, "--ignore-text", "VOID", "--json").stdout)
    assert plain["data_hash"] != marked["data_hash"]
    assert (plain["copied"], marked["computed"]) == (0, 1)
    source = recorded_source(store, "val")
    assert source is not None
    assert source.ignore_texts == ("VOID",)
    assert run("verify", "--store", str(store), "--split", "val").returncode == 0
    assert Source.model_validate(source.model_dump()) == source
