"""Readers of Label Studio, MMOCR, COCO-Text, TextOCR, HierText and VIA."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forms import BOX, MADE, QUAD, messages, read, words

from ocr_precompute.annotations import Reading, read_annotations
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.formats import FORMATS
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.pairing import image_at
from ocr_precompute.annotations.reading import Entry
from ocr_precompute.errors import InputError
from ocr_precompute.settings import Rules

FLAT = [number for point in QUAD for number in point]
FLAT_BOX = [number for point in BOX for number in point]
OURS = ("cocotext", "hiertext", "label_studio", "mmocr", "via")


def told(path: Path, images: Path, form: str) -> list[tuple[str | None, str | None]]:
    """What each word of a file says, and what it is."""
    (format_,) = (each for each in FORMATS if each.name == form)
    found = format_.read(path, ImageNames(images), "", Rules())
    entries = [entry for entry in found.entries if isinstance(entry, Entry)]
    assert all(len(e.words.texts) == len(e.words.labels) for e in entries)
    return [pair for e in entries for pair in zip(e.words.texts, e.words.classes, strict=True)]


def fitting(path: Path) -> list[str]:
    return [form.name for form in FORMATS if form.recognise(Look(path)) == Fit.YES]


# ------------------------------------------------------------------------- recognised, one by one


def test_no_example_fits_two_formats() -> None:
    looked = [path for path in MADE.rglob("*") if path.suffix != ".jpg" and path.parent != MADE]
    assert len(looked) > 40
    assert [path for path in looked if len(fitting(path)) > 1] == []


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('[{"id": 1, "data": {"image": "a.png"}, "annotations": []}]', "label_studio"),
        ('[{"id": 1, "completions": [{"result": []}], "data": {}}]', "label_studio"),
        ('[{"image": "a.png", "id": 1, "annotator": 1, "annotation_id": 2}]', "label_studio"),
        ('[{"id": 1, "data": {"image": "a.png"}}]', ""),
        ('{"data_list": [], "metainfo": {}}', "mmocr"),
        ('{"metainfo": {}, "data_list": [{"instances": [{"polygon": [', "mmocr"),
        ('{"file_name": "a.png", "annotations": []}\n{"file_name"', "mmocr"),
        ('{"file_name": "a.png", "annotations": [{"box": [1, 2', "mmocr"),
        ('{\n "file_name": "a.png",\n "annotations": []}', ""),
        ('{"anns": {"1": {"image_id": 1, "bbox": []}}}', "cocotext"),
        ('{"info": {}, "imgs": {"1": {"file_name": "a.png"', "cocotext"),
        ('{"imgs": [], "anns": []}', ""),
        ('{"annotations": [{"image_id": "a", "paragraphs": [{', "hiertext"),
        ('{"annotations": [{"image_id": "a"}]}', ""),
        ('{"_via_settings": {"ui": {}}, "_via_img_metadata": {', "via"),
        (
            '{"a.png1": {"fileref": "", "size": 1, "filename": "a.png", "base64_img_data": "xx',
            "via",
        ),
        ('{"a.png1": {"filename": "a.png", "size": 1, "regions": {', "via"),
        ('{"project": {"pid": "x"}, "config": {}, "attribute": {}, "file": {', "via"),
        ("filename,file_size,region_shape_attributes,region_attributes\n", "via"),
        ("filename,size\n", ""),
    ],
)
def test_what_shows_a_format(tmp_path: Path, text: str, form: str) -> None:
    path = tmp_path / "any.data"
    path.write_text(text)
    assert fitting(path) == ([form] if form else [])


def test_nothing_waits_on_a_pipe_nor_reads_a_folder(tmp_path: Path, image_folder: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for form in OURS:
        for path in (tmp_path / "pipe", image_folder):
            found = read_annotations(path, image_folder, form)
            (said,) = messages(found)
            assert said.startswith((": is not a regular file", ": cannot be read: "))
        (tmp_path / "empty").write_text("")
        (said,) = messages(read_annotations(tmp_path / "empty", image_folder, form))
        assert "is not valid JSON" in said or "has not the columns" in said


@pytest.mark.parametrize("form", OURS)
@pytest.mark.parametrize("text", ['{"x": 1}', "[1, 2]", "3", '{"x": {}, "y": [{}]}', "nonsense"])
def test_what_is_of_another_form_is_said(
    tmp_path: Path, image_folder: Path, form: str, text: str
) -> None:
    found = read(tmp_path / "a.json", image_folder, text, form)
    assert found.annotations == []
    assert found.problems
    assert all(problem.file == str(tmp_path / "a.json") for problem in found.problems)


# --------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/1/0a1b2c3d-a.png", "a.png"),
        ("/data/local-files/?d=train/c.png", "train/c.png"),
        ("/data/local-files/?d=my%20set%5Ctrain%5Cc.png", "train/c.png"),
        ("s3://bucket/set/train/c.png", "train/c.png"),
        ("https://host:80/x/b.png?X-Signature=1&Expires=2#top", "b.png"),
        ("http://host/%61.png", "a.png"),
        ("./a.png", "a.png"),
        ("odd%20#?.png", "odd%20#?.png"),
        ("C:\\set\\train\\c.png", "train/c.png"),
        ("C:\\set\\train\\x.png", "x.png"),
        ("/data/upload/1/0a1b2c3d-x.png", "0a1b2c3d-x.png"),
        ("https://host/sub/x%20y.png?z=1", "x y.png"),
        ("./sub/x.png", "sub/x.png"),
        ("http://[half/a.png", "a.png"),
        ("http://[half/x.png", "x.png"),
        ("", ""),
    ],
)
def test_images_named_by_an_address(image_folder: Path, address: str, name: str) -> None:
    (image_folder / "odd%20#?.png").write_bytes(b"")
    assert image_at(address, ImageNames(image_folder)) == name


def test_an_endless_address_is_no_image(image_folder: Path) -> None:
    address = f"http://a/{'b/' * 1_000_000}a.png"  # each of its ends would be looked for
    assert image_at(address, ImageNames(image_folder)) == "a.png"


# ------------------------------------------------------------------------------------ Label Studio


def region(kind: str = "rectangle", name: str = "r", **value: Any) -> dict[str, Any]:
    size = {"original_width": 200, "original_height": 100, "image_rotation": 0}
    return {"id": name, "type": kind, "value": value, **size}


def task(*results: Any, image: Any = "/data/upload/1/0a1b2c3d-a.png") -> dict[str, Any]:
    return {"id": 5, "data": {"ocr": image}, "annotations": [{"result": list(results)}]}


PERCENT = {"points": [[x / 2, y] for x, y in QUAD]}
TURNED = {"x": 20, "y": 40, "width": 20, "height": 10, "rotation": 90}
SQUARE = {"x": 55, "y": 50, "width": 35, "height": 20, "rotation": 0}


@pytest.mark.parametrize(
    ("results", "polygon", "ignored", "said"),
    [
        ([region(**TURNED)], [[40, 40], [40, 80], [30, 80], [30, 40]], False, (None, None)),
        ([region(**SQUARE)], BOX, False, (None, None)),
        ([region("polygon", **PERCENT)], QUAD, False, (None, None)),
        (
            [region("polygonlabels", **PERCENT, polygonlabels=["Text"])],
            QUAD,
            False,
            (None, "Text"),
        ),
        (
            [
                region("labels", **SQUARE, labels=["Text"]),
                region("textarea", **SQUARE, text=["Ada", "L"]),
                region(**SQUARE),
            ],
            BOX,
            False,
            ("Ada L", "Text"),
        ),
        ([region(**SQUARE), region("textarea", text="###")], BOX, True, ("###", None)),
        ([region("rectanglelabels", **SQUARE, rectanglelabels=["Ignore"])], BOX, True, ()),
        ([region("labels", **SQUARE, labels=["###"])], BOX, True, (None, "###")),
        ([region(**SQUARE), region("choices", "whole", choices=["x"])], BOX, False, ()),
    ],
)
def test_regions_of_label_studio(
    tmp_path: Path,
    image_folder: Path,
    results: list[Any],
    polygon: list[Any],
    ignored: bool,
    said: tuple[str | None, str | None] | tuple[()],
) -> None:
    found = read(tmp_path / "a.json", image_folder, [task(*results)])
    assert (found.format, found.problems, found.warnings) == ("label_studio", [], ())
    ((name, points, flag),) = words(found)
    assert (name, flag) == ("a.png", ignored)
    assert np.allclose(points, polygon)
    assert found.annotations[0].declared_size == (100, 200)
    if said:
        assert told(tmp_path / "a.json", image_folder, "label_studio") == [said]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (region(**SQUARE | {"x": None}), "x, y, width, height is no list of numbers"),
        (region(**SQUARE | {"rotation": "x"}), "rotation is no list of numbers"),
        (region("polygon", points=[[1, 2], [3, 4]]), "has 2 points; a polygon needs at least 3"),
        (region("polygon", points=[[1, 2], [3, 4], [5]]), "a point has 1 numbers, not 2"),
        (region("polygon", points={}), "points are not a list of [x, y] pairs"),
        (region(**SQUARE) | {"original_width": 0}, "has no value, original_width and original_"),
        (region(**SQUARE) | {"value": []}, "has no value, original_width and original_height"),
        (3, "must be an object"),
    ],
)
def test_bad_regions_of_label_studio(
    tmp_path: Path, image_folder: Path, result: Any, message: str
) -> None:
    results = [region(name="good", **SQUARE), result]
    found = read(tmp_path / "a.json", image_folder, [task(*results)])
    (said,) = messages(found)
    assert said.startswith("a.png: task 5 re")
    assert message in said
    assert [word[1] for word in words(found)] == [BOX]


def test_what_label_studio_has_and_a_polygon_is_not(tmp_path: Path, image_folder: Path) -> None:
    results = [
        region(**SQUARE),
        region("brush", "b", rle=[1]),
        region("labels", "b", labels=["x"]),
        region("ellipselabels", "e", x=1, y=1, radiusX=2, radiusY=3),
        region("keypointlabels", "k", x=1, y=1, width=0.1),
        region("keypointlabels", "l", x=1, y=1, width=0.1),
        {"type": "relation", "from_id": "b", "to_id": "e"},
    ]
    found = read(tmp_path / "a.json", image_folder, [task(*results)])
    assert [word[1] for word in words(found)] == [BOX]
    (warning,) = found.warnings
    assert warning.endswith(
        "a.json: 4 regions are neither rectangles nor polygons and are left out: 1 of type brush, "
        "1 of type ellipselabels, 2 of type keypointlabels"
    )


def test_annotations_of_a_task(tmp_path: Path, image_folder: Path) -> None:
    several = task(region(**TURNED), image="train/c.png")
    several["annotations"] += [
        {"result": [region(**SQUARE)]},
        {"result": [], "was_cancelled": True},
        {"result": [], "skipped": True},
    ]
    old = {"id": 7, "data": {"image": "b.png"}, "completions": [{"result": [region(**SQUARE)]}]}
    nothing = {"id": 8, "data": {"image": "x.png"}, "annotations": []}
    blank = task(image="a.png")
    found = read(tmp_path / "a.json", image_folder, [several, old, nothing, blank])
    assert words(found) == [["b.png", BOX, False], ["train/c.png", BOX, False]]
    assert [a.name for a in found.annotations] == ["a.png", "b.png", "train/c.png"]
    assert found.problems == []
    assert [warning.partition(": ")[2] for warning in found.warnings] == [
        "1 tasks are annotated several times, the last annotation of each is taken",
        "1 tasks have no finished annotation and are left out",
    ]


def test_tasks_that_cannot_be_read(tmp_path: Path, image_folder: Path) -> None:
    upright = task(region(**SQUARE), image="b.png")
    turned = task(region(**SQUARE) | {"image_rotation": 90})
    listless = {"id": "x", "data": {"ocr": "train/c.png"}, "annotations": [{"result": None}]}
    tasks = [turned, upright, listless, task(image=3)]
    found = read(tmp_path / "a.json", image_folder, tasks)
    assert [a.name for a in found.annotations] == ["b.png"]
    assert messages(found) == [
        "task 5: a.png: was annotated while it was turned, and coordinates are of the turned "
        "image; turn it back in Label Studio, correct the regions, and export again",
        'task x: train/c.png: its annotation has no list "result"; correct or remove it',
        'task 5: has no image in its "data"; correct or remove it',
    ]
    minimal = [{"ocr": "a.png", "id": 1, "annotator": 1, "annotation_id": 2, "bbox": []}] * 3
    assert messages(read(tmp_path / "a.json", image_folder, minimal)) == [
        'task 1: has no list "annotations"; export as JSON, not as JSON-MIN'
    ]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"note": "b", "url": "http://host/b.png"}, "b.png"),
        ({"id": "x", "image": "gone.png"}, "gone.png"),
        ({"image": "/gone"}, "gone"),
        (
            {"image": "/data/upload/1/0a1b2c3d-train%20.png", "meta": {"a": 1}},
            "0a1b2c3d-train .png",
        ),
    ],
)
def test_images_of_tasks(tmp_path: Path, image_folder: Path, data: Any, name: str) -> None:
    document = [{"id": 1, "data": data, "annotations": [{"result": []}]}]
    found = read(tmp_path / "a.json", image_folder, document)
    assert [a.name for a in found.annotations] == [name]


# ------------------------------------------------------------------------------------------- MMOCR


def mmocr(*instances: Any, **more: Any) -> dict[str, Any]:
    category = [{"id": 0, "name": "text"}, {"id": 3, "name": "stamp"}]
    page = {"img_path": "set/a.png", "height": 100, "width": 200, "instances": list(instances)}
    return {"metainfo": {"category": category}, "data_list": [page | more]}


def line(*annotations: Any, **more: Any) -> str:
    page = {"file_name": "set/a.png", "height": 100, "width": 200}
    return json.dumps(page | {"annotations": list(annotations)} | more) + "\n"


@pytest.mark.parametrize(
    ("content", "polygon", "ignored", "said"),
    [
        (mmocr({"polygon": FLAT, "bbox": [0, 0, 1, 1], "ignore": False}), QUAD, False, None),
        (mmocr({"bbox": [110, 50, 180, 70], "ignore": True}), BOX, True, None),
        (mmocr({"polygon": [], "bbox": [110, 50, 180, 70], "ignore": 1}), BOX, True, None),
        (mmocr({"polygon": FLAT, "bbox_label": 3, "text": "x"}), QUAD, False, ("x", "stamp")),
        (mmocr({"polygon": FLAT, "bbox_label": 9, "text": "###"}), QUAD, True, ("###", "9")),
        (line({"iscrowd": 1, "segmentation": [FLAT], "category_id": 1}), QUAD, True, (None, "1")),
        (line({"iscrowd": 0, "segmentation": [], "bbox": [110, 50, 70, 20]}), BOX, False, None),
        (line({"bbox": [110, 50, 70, 20]}), BOX, False, None),
        (line({"box": FLAT, "text": "Ada", "label": 25}), QUAD, False, ("Ada", "25")),
        (line({"box": FLAT, "text": "Ada", "label": 0}), QUAD, True, ("Ada", "0")),
    ],
)
def test_words_of_mmocr(
    tmp_path: Path,
    image_folder: Path,
    content: Any,
    polygon: list[Any],
    ignored: bool,
    said: tuple[str | None, str | None] | None,
) -> None:
    found = read(tmp_path / "a.json", image_folder, content)
    assert (found.format, found.problems) == ("mmocr", [])
    assert found.dialect == ("lines" if isinstance(content, str) else "json")
    assert words(found) == [["a.png", polygon, ignored]]
    assert found.annotations[0].declared_size == (100, 200)
    if said:
        assert told(tmp_path / "a.json", image_folder, "mmocr") == [said]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (mmocr({"polygon": [1, 2, 3]}), "data_list[0] word 1: its polygon has 3 numbers"),
        (mmocr({"polygon": QUAD}), "its polygon is no list of numbers"),
        (mmocr({"bbox": [1, 2, 3]}), "its bbox has 3 numbers, not 4"),
        (mmocr({"text": "x"}), 'has neither a "polygon" nor a "bbox"'),
        (mmocr({"polygon": FLAT, "ignore": "no"}), "ignore and iscrowd must be true, false"),
        (mmocr(3), "must be an object"),
        (mmocr(img_path=""), 'data_list[0]: must have "img_path" and a list "instances"'),
        (mmocr(instances={}), 'data_list[0]: must have "img_path" and a list "instances"'),
        ({"data_list": [3]}, 'data_list[0]: must have "img_path" and a list "instances"'),
        (line({"box": [1, 2, 3, 4]}), "line 1 word 1: its box has 4 numbers, not 8"),
        (line({"segmentation": "x"}), "its segmentation is no list of numbers"),
        (line({"segmentation": [FLAT, 1]}), "its segmentation is no list of numbers"),
        (line({"iscrowd": 0}), 'has no "segmentation", "box" or "bbox"'),
        (line(annotations=3), 'line 2: must have "file_name" and a list "annotations"'),
        (line() + "{\n", "line 2: is not valid JSON: Expecting property name"),
        (line() + '{"a": 1, "a": 2}', "line 2: is not valid JSON: the key 'a' stands twice"),
        (line() + "[" * 99_999, "line 2: is not valid JSON: is nested too deeply"),
        (line() + line(), "is annotated twice"),
    ],
)
def test_bad_words_of_mmocr(tmp_path: Path, image_folder: Path, content: Any, message: str) -> None:
    if message.startswith("line 2: must"):
        content = line(file_name="b.png") + content
    (said,) = messages(read(tmp_path / "a.json", image_folder, content, "mmocr"))
    assert message in said


def test_parts_and_dialects_of_mmocr(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "a.txt"
    found = read(path, image_folder, line({"segmentation": [FLAT, FLAT_BOX]}))
    assert words(found) == [["a.png", QUAD, False], ["a.png", BOX, False]]
    assert found.annotations[0].labels == ("word 1 part 1", "word 1 part 2")
    found = read(path, image_folder, line(), "mmocr:json")
    assert messages(found) == [': has no list "data_list"; it is not of this format']


# ------------------------------------------------------------------------------ COCO-Text, TextOCR


def cocotext(*annotations: Any, images: Any = None, **more: Any) -> dict[str, Any]:
    named = {"id": 1, "file_name": "set/a.png", "width": 200, "height": 100, "set": "train"}
    listed = {str(7 + number): each for number, each in enumerate(annotations)}
    found = {key: {"image_id": 1} | each for key, each in listed.items()}
    return {"cats": {}, "anns": found, "imgs": images or {"1": named}, "imgToAnns": {}, **more}


@pytest.mark.parametrize(
    ("annotation", "polygon", "ignored"),
    [
        ({"mask": FLAT, "utf8_string": "Ada", "legibility": "legible"}, QUAD, False),
        ({"polygon": FLAT, "utf8_string": ".", "legibility": "legible"}, QUAD, False),
        ({"mask": FLAT, "legibility": "illegible"}, QUAD, True),
        ({"mask": FLAT, "legibility": "legible", "utf8_string": "###"}, QUAD, True),
        ({"points": FLAT, "utf8_string": "."}, QUAD, True),
        ({"points": FLAT, "utf8_string": "..", "image_id": "1"}, QUAD, False),
        ({"bbox": [110, 50, 70, 20], "utf8_string": "a"}, BOX, False),
    ],
)
def test_annotations_of_cocotext(
    tmp_path: Path, image_folder: Path, annotation: Any, polygon: list[Any], ignored: bool
) -> None:
    document = cocotext({"bbox": [0, 0, 1, 1], "class": "handwritten"} | annotation)
    found = read(tmp_path / "a.json", image_folder, document)
    assert (found.format, found.problems, found.warnings) == ("cocotext", [], ())
    assert words(found) == [["a.png", polygon, ignored]]
    assert found.annotations[0].declared_size == (100, 200)
    assert found.annotations[0].labels == ("annotation 7",)
    said = annotation.get("utf8_string")
    assert told(tmp_path / "a.json", image_folder, "cocotext") == [(said, "handwritten")]


@pytest.mark.parametrize("mask", [[], FLAT[:6], FLAT[:7], [*FLAT, 1], "x", [QUAD], [None] * 8])
def test_masks_of_cocotext_that_are_none(tmp_path: Path, image_folder: Path, mask: Any) -> None:
    document = cocotext({"mask": mask, "bbox": [110, 50, 70, 20]})
    found = read(tmp_path / "a.json", image_folder, document)
    assert words(found) == [["a.png", BOX, False]]
    (warning,) = found.warnings
    assert warning.endswith(
        "1 outlines are no polygons of 4 or more points, their boxes are taken; correct them"
    )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (cocotext({"bbox": [1, 2, 3]}), "a.png: annotation 7: its bbox has 3 numbers, not 4"),
        (cocotext({"mask": [1, 2]}), "its bbox is no list of numbers"),
        (cocotext({"mask": [10**400] * 8}), "its bbox is no list of numbers"),
        (cocotext({"image_id": None}), "annotation 7: has no image_id"),
        (cocotext({"image_id": 5}), 'image 5: has 1 annotations and is not in "imgs"; add it'),
        (cocotext(images={"1": 3}), "image 1: has no file_name; correct or remove it"),
        (cocotext(images=[]), ""),
        (
            '{"imgs": {"1": {"file_name": "a.png"}, "1": {"file_name": "b.png"}}, "anns": {}}',
            "imgs: 1: the key stands twice; keep one of the two",
        ),
        (
            '{"imgs": {"1": {"file_name": "a.png"}}, "anns": {'
            '"3": {"image_id": 1, "bbox": [1, 1, 5, 5]}, "3": {"image_id": 1}}}',
            "anns: 3: the key stands twice; keep one of the two",
        ),
        ({"imgs": {"1": {"file_name": "a.png"}}}, 'has no object "anns"; it is not of this form'),
        ({"imgs": [{"file_name": "a.png"}], "anns": {}}, 'has no object "imgs"'),
    ],
)
def test_bad_annotations_of_cocotext(
    tmp_path: Path, image_folder: Path, document: Any, message: str
) -> None:
    found = read(tmp_path / "a.json", image_folder, document, "cocotext")
    assert [message in said for said in messages(found)] == ([True] if message else [])


def test_sets_of_cocotext(tmp_path: Path, image_folder: Path) -> None:
    images = {
        "1": {"file_name": "COCO/a.png", "set": "train"},
        "2": {"file_name": "b.png", "set": "val"},
        "3": {"file_name": "c.png", "set": "val"},
    }
    document = cocotext(
        *({"image_id": image, "bbox": [image, 0, 5, 5]} for image in (2, 1, 2)), images=images
    )
    path = tmp_path / "a.json"
    found = read(path, image_folder, document)
    lefts = {a.name: a.polygons.points[::4, 0].tolist() for a in found.annotations}
    assert lefts == {"a.png": [1], "b.png": [2, 2], "c.png": []}
    assert found.warnings == (
        f"{path}: all sets are read, train (1 images), val (2 images); say --format cocotext:SET "
        "for one",
    )
    found = read_annotations(path, image_folder, "cocotext:val")
    assert [a.name for a in found.annotations] == ["b.png", "c.png"]
    assert (found.dialect, found.warnings, found.problems) == ("val", (), [])
    found = read_annotations(path, image_folder, "textocr:test")
    assert messages(found) == [
        ": has no image of the set 'test'; sets are train (1 images), val (2 images)"
    ]


# ---------------------------------------------------------------------------------------- HierText


def part(vertices: Any, text: str | None = None, legible: bool = True, **more: Any) -> Any:
    said = {} if text is None else {"text": text}
    return {"vertices": vertices, "legible": legible} | said | more


def hiertext(*paragraphs: Any, image: Any = "a", **more: Any) -> dict[str, Any]:
    page = {"image_id": image, "image_width": 200, "image_height": 100}
    return {"info": {}, "annotations": [page | {"paragraphs": list(paragraphs)} | more]}


LINE = part(
    QUAD,
    "Ada L",
    words=[
        part(QUAD, "Ada", handwritten=True),
        part(BOX, "L", legible=False),
        part(BOX, ""),
    ],
)
PAGE = (part(QUAD, lines=[LINE, part(BOX, "x", False, words=[])]), part(BOX, lines=[]))


@pytest.mark.parametrize(
    ("level", "found"),
    [
        ("", [(QUAD, False), (BOX, True), (BOX, True), (BOX, True), (BOX, True)]),
        ("word", [(QUAD, False), (BOX, True), (BOX, True), (BOX, True), (BOX, True)]),
        ("line", [(QUAD, False), (BOX, True), (BOX, True)]),
        ("paragraph", [(QUAD, False), (BOX, False)]),
    ],
)
def test_levels_of_hiertext(tmp_path: Path, image_folder: Path, level: str, found: Any) -> None:
    path = tmp_path / "train.jsonl"
    form = f"hiertext:{level}" if level else "auto"
    reading = read(path, image_folder, hiertext(*PAGE), form)
    assert (reading.format, reading.dialect) == ("hiertext", level or "word")
    assert reading.problems == []
    assert words(reading) == [["a.png", *word] for word in found]
    assert reading.annotations[0].declared_size == (100, 200)
    if not level:
        assert reading.annotations[0].labels[:2] == (
            "paragraph 1 line 1 word 1",
            "paragraph 1 line 1 word 2",
        )
        assert reading.annotations[0].labels[3:] == ("paragraph 1 line 2", "paragraph 2")
        assert told(path, image_folder, "hiertext")[:3] == [
            ("Ada", "handwritten"),
            ("L", None),
            ("", None),
        ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (hiertext(3), "a.png: paragraph 1: must be an object; correct or remove it"),
        (hiertext(part(None)), "paragraph 1: has no points; add or remove it"),
        (hiertext(part([[1, 2], [3]])), "paragraph 1: points are not a list of [x, y] pairs"),
        (hiertext(part(QUAD, lines=[part(QUAD, words=[3])])), "paragraph 1 line 1 word 1: must"),
        (hiertext(image=3), 'annotations[0]: must have an "image_id" and a list "paragraphs"'),
        (hiertext(paragraphs={}), 'annotations[0]: must have an "image_id" and a list'),
        ({"annotations": [3]}, 'annotations[0]: must have an "image_id" and a list'),
        ({"annotations": {"a": 1}}, 'has no list "annotations"; it is not of this format'),
        (hiertext(image="b"), "annotations[0]: fits several images: b.jpg, b.png; keep one"),
        ('{"annotations": []}\n{}', "is not valid JSON: Extra data"),
    ],
)
def test_bad_parts_of_hiertext(
    tmp_path: Path, image_folder: Path, document: Any, message: str
) -> None:
    (image_folder / "b.jpg").write_bytes(b"")
    (said,) = messages(read(tmp_path / "a.jsonl", image_folder, document, "hiertext"))
    assert message in said


def test_images_of_hiertext(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert read(path, image_folder, hiertext(image="c")).annotations[0].name == "c.jpg"
    assert read(path, image_folder, hiertext(image="train/c")).annotations[0].name == "train/c.png"


def test_a_document_of_hiertext_is_not_held(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "train.jsonl"
    line_of_words = part(QUAD, "x" * 200, words=[part(QUAD, "y" * 100) for _ in range(10)])
    page = json.dumps(hiertext(part(QUAD, lines=[line_of_words] * 4))["annotations"][0])
    pages = ", ".join(page.replace('"a"', f'"{number}"', 1) for number in range(2_000))
    path.write_text(f'{{"annotations": [{pages}]}}')
    size = len(pages)
    del pages
    tracemalloc.start()
    try:
        found = read_annotations(path, image_folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(len(a.polygons.lengths) for a in found.annotations) == 80_000
    assert size > 16_000_000
    assert peak < size * 0.9


# --------------------------------------------------------------------------------------------- VIA

POLYGON = {
    "name": "polygon",
    "all_points_x": [x for x, _ in QUAD],
    "all_points_y": [y for _, y in QUAD],
}
RECT = {"name": "rect", "x": 110, "y": 50, "width": 70, "height": 20}


def via(*shapes: Any, attributes: Any = None, as_object: bool = False) -> dict[str, Any]:
    """The document of one image."""
    regions: Any = [
        {"shape_attributes": shape, "region_attributes": attributes or {}} for shape in shapes
    ]
    if as_object:
        regions = {str(number): each for number, each in enumerate(regions)}
    return {"a.png9": {"filename": "x/a.png", "size": 9, "regions": regions}}


def as_project(document: dict[str, Any]) -> dict[str, Any]:
    return {"_via_settings": {}, "_via_img_metadata": document, "_via_attributes": {}}


def as_table(document: dict[str, Any], mark: str = "") -> str:
    table = io.StringIO()
    rows = csv.writer(table)
    columns = ("file_size", "file_attributes", "region_count", "region_id")
    rows.writerow([f"{mark}filename", *columns, "region_shape_attributes", "region_attributes"])
    for image in document.values():
        for number, each in enumerate(image["regions"] or [{}]):
            shape, more = each.get("shape_attributes", {}), each.get("region_attributes", {})
            texts = json.dumps(shape), json.dumps(more)
            rows.writerow([image["filename"], 9, "{}", len(image["regions"]), number, *texts])
    return table.getvalue()


FORMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "json": lambda document: document,
    "project": as_project,
    "table": as_table,
    "marked table": lambda document: as_table(document, "#"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("shape", "attributes", "polygon", "ignored"),
    [
        (POLYGON, {"text": "Ada"}, QUAD, False),
        (POLYGON | {"name": "polyline"}, {}, QUAD, False),
        (RECT, {"text": "###"}, BOX, True),
        (RECT, {"any": '"###"'}, BOX, True),
        (RECT, {"ignore": "true"}, BOX, True),
        (RECT, {"ignore": ""}, BOX, False),
        (RECT, {"ignore": {"yes": True}}, BOX, True),
        (RECT, {"ignore": {"yes": False}}, BOX, False),
        (RECT, {"flags": {"ignore": True}}, BOX, True),
    ],
)
def test_regions_of_via(
    tmp_path: Path,
    image_folder: Path,
    form: str,
    shape: Any,
    attributes: Any,
    polygon: list[Any],
    ignored: bool,
) -> None:
    content = FORMS[form](via(shape, attributes=attributes))
    found = read(tmp_path / "a.data", image_folder, content)
    assert (found.format, found.problems, found.warnings) == ("via", [], ())
    assert words(found) == [["a.png", polygon, ignored]]


def test_round_regions_of_via(tmp_path: Path, image_folder: Path) -> None:
    shapes = [
        {"name": "circle", "cx": 50, "cy": 40, "r": 10},
        {"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 5},
        {"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 5, "theta": np.pi / 2},
    ]
    found = read(tmp_path / "a.json", image_folder, via(*shapes, as_object=True))
    circle, flat, tall = (np.array(word[1]) - (50, 40) for word in words(found))
    assert np.allclose(np.linalg.norm(circle, axis=1), 10)
    assert np.allclose(np.linalg.norm(flat / (20, 5), axis=1), 1)
    assert np.allclose(np.linalg.norm(tall / (5, 20), axis=1), 1)
    assert found.annotations[0].labels == ("region 0", "region 1", "region 2")


def test_what_regions_of_via_say_and_are(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "a.json"
    read(path, image_folder, via(RECT, attributes={"transcription": "Ada", "type": "word"}))
    assert told(path, image_folder, "via") == [("Ada", "word")]
    read(path, image_folder, via(RECT, attributes={"type": {"word": True}}))
    assert told(path, image_folder, "via") == [(None, None)]


def test_points_and_ends_of_via(tmp_path: Path, image_folder: Path) -> None:
    closed = copy.deepcopy(POLYGON)
    for axis in ("all_points_x", "all_points_y"):
        closed[axis] += closed[axis][:1]
    point = {"name": "point", "cx": 1, "cy": 2}
    for content in (via(point, closed, point), as_table(via(point, closed, point))):
        found = read(tmp_path / "a.data", image_folder, content)
        assert words(found) == [["a.png", QUAD, False]]
        (warning,) = found.warnings
        assert warning.endswith("a.data: 2 points are no areas and are left out")


@pytest.mark.parametrize("form", ["json", "table"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (RECT | {"width": None}, "x, y, width, height is no list of numbers"),
        (POLYGON | {"all_points_x": [1, 2]}, "has 2 points; a polygon needs at least 3"),
        (POLYGON | {"all_points_x": [1], "all_points_y": [1, 2]}, "all_points_y has 2 numbers, n"),
        (POLYGON | {"all_points_y": None}, "all_points_y is no list of numbers"),
        ({"name": "ellipse", "cx": 1, "cy": 1, "rx": 1, "ry": 1, "theta": "x"}, "theta is no li"),
        ({"name": "circle", "cx": 1, "cy": 1}, "cx, cy, r is no list of numbers"),
        ({"name": "star"}, "is of shape 'star', not rect, polygon, polyline, circle or ellipse"),
        (3, "is of shape 'None', not rect"),
    ],
)
def test_bad_regions_of_via(
    tmp_path: Path, image_folder: Path, form: str, shape: Any, message: str
) -> None:
    if message.startswith("has 2 points"):
        shape = shape | {"all_points_y": [1, 2]}
    found = read(tmp_path / "a.data", image_folder, FORMS[form](via(RECT, shape)))
    (said,) = messages(found)
    place = "a.png: region 1: " if form == "json" else "a.png: line 3: "
    assert said.startswith(place)
    assert message in said
    assert [word[1] for word in words(found)] == [BOX]


def test_documents_of_via_that_cannot_be_read(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "a.json"
    document = via(RECT) | {
        "b": {"filename": "b.png"},
        "c": 3,
        "d": {"filename": "", "regions": []},
    }
    reason = 'must have a "filename" and "regions"; correct or remove it'
    assert messages(read(path, image_folder, document)) == [
        f"{key}: {reason}" for key in ("b", "c", "d")
    ]
    third = {"project": {"pname": "x"}, "config": {}, "attribute": {}, "file": {}, "metadata": {}}
    (said,) = messages(read(path, image_folder, third))
    assert said.startswith(": is a project of VIA 3, which is another form; annotate with VIA 2")
    twice = via(RECT) | {"a.png8": via(RECT)["a.png9"]}
    assert "is annotated twice" in messages(read(path, image_folder, twice))[0]


def test_rows_of_via(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "a.csv"
    pages = via(RECT, POLYGON) | {"b": {"filename": "b.png", "regions": []}}
    text = as_table(pages)
    found = read(path, image_folder, "\ufeff" + text.replace("\r\n", "\n\n"))
    assert [(a.name, len(a.polygons.lengths)) for a in found.annotations] == [
        ("a.png", 2),
        ("b.png", 0),
    ]
    header, *rows = text.splitlines()
    odd = [header, *rows, rows[0], "c.png,1", f"c.png,{{,{{}}{',' * 4}", f"{',' * 6}"]
    found = read(path, image_folder, "\n".join(odd))
    assert messages(found) == [
        "line 5: x/a.png: has rows in several places; sort them by filename",
        "line 8: : has no filename; correct or remove it",
        "line 6: has not 7 fields as the first line has; correct or remove it",
        "c.png: line 7: its attributes are no JSON: Expecting value: line 1 column 1 (char 0); "
        "correct or remove it",
    ]
    for bad, message in (
        (f'{header}\n"a.png" x,1\n', "line 2: is no row of a table: "),
        (f"{header}\n{'x' * 200_000}\n", "line 2: is no row of a table: field larger than"),
        ("filename,x\n", "line 1: has not the columns filename, region_shape_attributes and"),
    ):
        (said,) = messages(read(path, image_folder, bad, "via"))
        assert said.startswith(message)


# --------------------------------------------------------------------------- files of the tools

COUNTS = {  # images, words and don't-care
    "label_studio/data_coco.json": ("label_studio", 1, 2, 0),
    "label_studio/data_min_source.json": ("label_studio", 1, 1, 0),
    "label_studio/data_obb.json": ("label_studio", 3, 25, 0),
    "label_studio/data_polygons.json": ("label_studio", 1, 1, 0),
    "mmocr0x/instances_test.txt": ("mmocr", 10, 82, 61),
    "mmocr1x/textdet_test.json": ("mmocr", 10, 82, 61),
    "wildreceipt/data.txt": ("mmocr", 2, 86, 4),
    "via/via1_unit_test.csv": ("via", 3, 7, 0),
    "via/via1_unit_test.json": ("via", 3, 7, 0),
    "via/via2_sherlock_head.csv": ("via", 19, 19, 0),
}


def counted(found: Reading) -> tuple[str, int, int, int]:
    ignored = [word[2] for word in words(found)]
    return found.format, len(found.annotations), len(ignored), sum(ignored)


@pytest.mark.parametrize("file", COUNTS)
def test_real_files(shared: Path, file: str) -> None:
    path = shared.parent / "formats" / "samples" / file
    found = read_annotations(path, path.parent)
    assert found.problems == []
    assert counted(found) == COUNTS[file]
    assert fitting(path) == [COUNTS[file][0]]


def test_real_files_of_one_tool_in_two_forms_agree(shared: Path) -> None:
    samples = shared.parent / "formats" / "samples"
    pictures = samples / "images_icdar2015"
    one, other, coco = (
        read_annotations(samples / name, pictures)
        for name in (
            "mmocr0x/instances_test.txt",
            "mmocr1x/textdet_test.json",
            "mmocr0x/instances_test.json",
        )
    )

    def there(reading: Reading) -> list[Any]:
        return [word for word in words(reading) if word[0].startswith("img_")]

    assert len({name for name, _, _ in there(one)}) == 3
    assert there(one) == there(other) == there(coco)
    table, document = (
        words(read_annotations(samples / "via" / f"via1_unit_test.{suffix}", pictures))
        for suffix in ("csv", "json")
    )
    assert table == document


def test_a_real_turned_rectangle(shared: Path) -> None:
    """Its corners keep the lengths that its sides have in percent, and its angle."""
    path = shared.parent / "formats" / "samples" / "label_studio" / "data_obb.json"
    polygons = read_annotations(path, path.parent).annotations[0].polygons.as_list()
    value = json.loads(path.read_text())[0]["annotations"][0]["result"][0]["value"]
    sides = np.diff(polygons[0], axis=0)
    assert np.allclose(polygons[0][0], [value["x"] * 5.97, value["y"] * 7.68])
    assert np.allclose(np.hypot(*sides[0]), value["width"] * 5.97)
    assert np.allclose(np.hypot(*sides[1]), value["height"] * 7.68)
    assert np.allclose(np.degrees(np.arctan2(sides[0][1], sides[0][0])) % 360, value["rotation"])
    assert not np.allclose(sides[0][1], 0)


def test_a_broken_document_is_said_once(tmp_path: Path, image_folder: Path) -> None:
    for form, text in (
        ("label_studio", '[{"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": []}]}'),
        ("mmocr", '{"data_list": [{"img_path": "a.png", "instances": []}'),
        ("cocotext", '{"imgs": {"1": {"file_name": "a.png"}}'),
        ("hiertext", '{"annotations": [{"image_id": "a", "paragraphs": []}'),
        ("via", '{"a": {"filename": "a.png", "regions": []}'),
    ):
        path = tmp_path / "a.json"
        path.write_text(text)
        (said,) = messages(read_annotations(path, image_folder))
        assert fitting(path) == [form]
        assert "is not valid JSON: Expecting ',' delimiter; correct it" in said
    with pytest.raises(InputError, match="there is no such annotation file"):
        read_annotations(tmp_path / "gone.json", image_folder)
