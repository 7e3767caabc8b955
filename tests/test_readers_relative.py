"""Readers of forms whose points may be shares of the image's size: YOLO, and services' answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from forms import BOX, MADE, QUAD, messages, read, words

from ocr_precompute.annotations import Reading, read_annotations
from ocr_precompute.annotations.class_names import class_names
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.formats import FORMATS, azure, google_vision, textract, yolo
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Words
from ocr_precompute.errors import InputError
from ocr_precompute.images import files as image_files
from ocr_precompute.settings import Rules

PAGE = np.full((100, 200, 3), 255, np.uint8)
SHARES = [[x / 200, y / 100] for x, y in QUAD]
BOX_LINE = "0 0.725 0.6 0.35 0.2"
QUAD_LINE = "0 0.05 0.10 0.45 0.12 0.45 0.32 0.05 0.30"


def save(path: Path, pixels: np.ndarray = PAGE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def columns(form: AnnotationFormat, path: Path, images: Path) -> tuple[list[Any], list[Any]]:
    """What the words of the only image say, and what they are."""
    (entry,) = form.read(path, ImageNames(images), "", Rules()).entries
    assert isinstance(entry, Entry)
    assert isinstance(entry.words, Words)
    return list(entry.words.texts), list(entry.words.classes)


# ----------------------------------------------------------------------------- sizes of images


def turned_by_exif(data: bytes) -> bytes:
    """A JPEG with EXIF that turns it by a quarter."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


def test_sizes_are_those_of_the_image_as_displayed(tmp_path: Path) -> None:
    upright, turned = save(tmp_path / "a.jpg"), save(tmp_path / "sub" / "b.jpg")
    turned.write_bytes(turned_by_exif(turned.read_bytes()))
    save(tmp_path / "c.png")
    (tmp_path / "cut.jpg").write_bytes(upright.read_bytes()[:100])
    (tmp_path / "not.png").write_text("text")
    names = ImageNames(tmp_path)
    assert [names.size(name) for name in ("a.jpg", "sub/b.jpg", "c.png")] == [
        (100, 200),
        (200, 100),
        (100, 200),
    ]
    for name, message in [
        ("d.jpg", "there is no such image, and its size is needed, since points are shares of it"),
        ("../a.jpg", "there is no such image"),
        ("cut.jpg", "the image is a truncated JPEG .*; its size is needed, since"),
        ("not.png", "the image is not a JPEG, PNG"),
    ]:
        with pytest.raises(ValueError, match=message):
            names.size(name)
    assert names.names
    upright.unlink()
    with pytest.raises(ValueError, match="the image cannot be read: No such file"):
        names.size("a.jpg")


def test_of_a_jpeg_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.jpg")
    data = path.read_bytes()
    with path.open("ab") as file:
        file.truncate(1 << 30)  # a gigabyte that is not there
    assert ImageNames(tmp_path).size("a.jpg") == (100, 200)
    path.write_bytes(data)
    monkeypatch.setattr(image_files, "_BEGINNING", 30)  # where the size is not yet told
    assert ImageNames(tmp_path).size("a.jpg") == (100, 200)


# ---------------------------------------------------------------------------------------- YOLO


def label(tmp_path: Path, text: str, form: str = "yolo", **rules: Any) -> Reading:
    """What is read of a label file of that text, for an image of 100 x 200."""
    save(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels" / "a.txt").write_text(text)
    return read_annotations(tmp_path / "labels", tmp_path / "images", form, Rules(**rules))


@pytest.mark.parametrize(
    ("text", "dialect", "polygons"),
    [
        (BOX_LINE, "box", [BOX]),
        (f"{BOX_LINE}\n\n{BOX_LINE}\n", "box", [BOX, BOX]),
        (f"{BOX_LINE} 0.9", "box", [BOX]),
        (f"{BOX_LINE} 0.9\r\n{BOX_LINE}", "box", [BOX, BOX]),
        (QUAD_LINE, "obb", [QUAD]),
        (f"{QUAD_LINE} 0.9", "obb", [QUAD]),
        ("0.0 0.05 0.1 0.45 0.1 0.45 0.3", "segment", [[[10, 10], [90, 10], [90, 30]]]),
        (
            "0 0.05 0.1 0.45 0.1 0.45 0.3 0.88",
            "segment",
            [[[10, 10], [90, 10], [90, 30]]],
        ),
        (f"{QUAD_LINE}\n0 .05 .1 .45 .1 .45 .3", "segment", [QUAD, [[10, 10], [90, 10], [90, 30]]]),
        ("0 -0.01 0 1.01 0 1.01 1.01", "segment", [[[-2, 0], [202, 0], [202, 101]]]),
        ("7\t5e-1 0.5 1 1", "box", [[[0, 0], [200, 0], [200, 100], [0, 100]]]),
        ("", "box", []),
    ],
)
def test_lines_of_yolo(tmp_path: Path, text: str, dialect: str, polygons: list[Any]) -> None:
    for form in ("yolo", f"yolo:{dialect}", *(["auto"] if text else [])):
        found = label(tmp_path, text, form)
        assert (found.format, found.dialect) == ("yolo", dialect)
        assert (messages(found), found.warnings) == ([], ())
        assert [a.name for a in found.annotations] == ["a.png"]
        assert len(words(found)) == len(polygons)
        for (_, polygon, ignored), wanted in zip(words(found), polygons, strict=True):
            assert not ignored
            assert np.allclose(polygon, wanted)


def test_boxes_among_polygons_of_yolo(tmp_path: Path) -> None:
    found = label(tmp_path, f"{BOX_LINE}\n{BOX_LINE}\n{QUAD_LINE}")
    assert (found.dialect, found.problems) == ("segment", [])
    assert np.allclose([w[1] for w in words(found)], [BOX, BOX, QUAD])
    (warning,) = found.warnings
    assert warning.endswith(
        "labels: read as polygons; 2 of 3 lines are boxes (class x y width height)"
    )


@pytest.mark.parametrize(
    ("line", "form", "message"),
    [
        ("0 0.5 0.5 0.1", "yolo", "has 3 numbers after its class; a line is class x y width"),
        (QUAD_LINE, "yolo:box", "has 8 numbers after its class; a line is class x y width height"),
        (BOX_LINE, "yolo:obb", "has 4 numbers after its class; a line is class x1 y1 x2"),
        (f"{BOX_LINE} {BOX_LINE}", "yolo", "has 9 numbers after its class; a line is class x1 y1"),
        (
            "0 0.5 0.5 40 0.1",
            "yolo",
            "has 40, which is no share of the image's size (0 to 1); corr",
        ),
        ("0 0.5 -0.02 0.1 0.1", "yolo", "has -0.02, which is no share"),
        ("0 0.5 nan 0.1 0.1", "yolo", "has nan, which is no share"),
        ("0 0.5 x 0.1 0.1", "yolo", "'x' is not a number; a line is class x y width height"),
        ("text 0.5 0.5 0.1 0.1", "yolo", "'text' is no number of a class; a line is class x y"),
        ("-1 0.5 0.5 0.1 0.1", "yolo", "'-1' is no number of a class"),
        ("0 " + "0.5 0.5 " * 11, "yolo:segment", "has more points than the limit of 10; correct"),
    ],
)
def test_bad_lines_of_yolo(tmp_path: Path, line: str, form: str, message: str) -> None:
    good = QUAD_LINE if form == "yolo:obb" else BOX_LINE
    found = label(tmp_path, f"{good}\n{good}\n{line}\n", form, max_vertices=10)
    (said,) = messages(found)
    assert said.startswith(f"line 3: {message}")
    assert len(words(found)) == 2
    assert found.problems[0].sample == "a.png"


def test_classes_of_yolo(tmp_path: Path) -> None:
    root, warnings = tmp_path / "set", list[str]()
    save(root / "images" / "a.jpg")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text(f"{BOX_LINE}\n1{BOX_LINE[1:]}\n2{BOX_LINE[1:]}")

    def classes() -> list[Any]:
        return columns(yolo.FORMAT, root / "labels", root / "images")[1]

    assert classes() == ["0", "1", "2"]
    (root / "classes.txt").write_text("word\n stamp \n")
    assert classes() == ["word", "stamp", "2"]
    (root / "data.yaml").write_text("names: [a, 'b', c]\nnc: 3\ntrain: images")
    assert classes() == ["a", "b", "c"]
    (root / "data.yaml").write_text("path: .\nnames:\n  0: x\n  1: 5\n  2: ###\n")
    assert classes() == ["x", "5", ""]
    for text, reason in [
        ("names: 3", 'has no list of names under "names"'),
        ("names: {a: 1}", 'has no list of names under "names"'),
        ("names: [", "is no YAML that can be read"),
        ("names: " + "[" * 90_000, "is no YAML that can be read"),
        ("names: []" + " " * (1 << 17), "cannot be read (is larger than 131072 bytes)"),
    ]:
        (root / "data.yaml").write_text(text)
        found = read_annotations(root / "labels", root / "images", "yolo")
        assert found.problems == []
        (warning,) = found.warnings
        assert warning.startswith(f"{root / 'data.yaml'}: {reason}")
        assert warning.endswith("; classes are called by their numbers")
    bomb = "a: &a {x: 1}\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [*{chr(97 + n)}, *{chr(97 + n)}]}}\n"
        for n in range(24)
    )
    (root / "data.yaml").write_text(f"{bomb}names: [a]\n")
    assert class_names(root / "labels", "labels", None, warnings) == ("a",)
    assert warnings == []


@pytest.mark.parametrize(
    ("annotations", "images", "text", "image"),
    [
        ("labels", "images", "labels/sub/a.txt", "images/sub/a.jpg"),
        (".", "images", "labels/sub/a.txt", "images/sub/a.jpg"),
        (".", ".", "labels/sub/a.txt", "images/sub/a.jpg"),
        ("labels", ".", "labels/a.txt", "images/a.jpg"),
        ("labels/train", "images/train", "labels/train/a.txt", "images/train/a.jpg"),
        ("train/labels", "train/images", "train/labels/a.txt", "train/images/a.jpg"),
        (".", ".", "train/labels/a.txt", "train/images/a.jpg"),
        ("train", ".", "train/labels/a.txt", "train/images/a.jpg"),
        (".", ".", "train/a.txt", "train/a.jpg"),
        ("gt", "pictures", "gt/a.jpg.txt", "pictures/a.jpg"),
    ],
)
def test_pairs_of_yolo(
    tmp_path: Path, annotations: str, images: str, text: str, image: str
) -> None:
    save(tmp_path / image)
    (tmp_path / text).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / text).write_text(BOX_LINE)
    (tmp_path / "README.txt").write_text("a set\nof images\nand labels\n")
    (tmp_path / "data.yaml").write_text("names: [a]\ntrain: images\n")
    found = read_annotations(tmp_path / annotations, tmp_path / images)
    assert (found.format, found.problems, found.warnings) == ("yolo", [], ())
    (annotation,) = found.annotations
    assert tmp_path / images / annotation.name == tmp_path / image
    if annotations == ".":
        found = read_annotations(tmp_path / "data.yaml", tmp_path / images)
        assert [a.name for a in found.annotations] == [annotation.name]


def test_text_files_of_no_image(tmp_path: Path) -> None:
    save(tmp_path / "images" / "val" / "a.jpg")
    for name in ("val/a", "val/b", "train/c", "train/d", "train/e", "train/f", "classes"):
        path = tmp_path / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BOX_LINE if name != "classes" else "text")
    found = read_annotations(tmp_path / "labels", tmp_path / "images")
    (problem,) = found.problems
    assert (problem.kind, problem.sample) == ("image", "val/b")
    assert problem.message == (
        "there is no image b.jpg, .png or the like; add it or remove this file"
    )
    (warning,) = found.warnings
    assert "whole" in dict(found.left_out)["classes.txt"]
    assert warning.endswith("are left out: train/c.txt, train/d.txt, train/e.txt and 1 more")
    save(tmp_path / "images" / "val" / "a.png")
    assert any(
        "fits several images: val/a.jpg, val/a.png" in m
        for m in messages(read_annotations(tmp_path / "labels", tmp_path / "images"))
    )


def test_what_yolo_cannot_read(tmp_path: Path, image_folder: Path) -> None:
    found = read(tmp_path / "a.txt", image_folder, BOX_LINE, "yolo")
    assert messages(found) == [": must be a folder of text files, or the data.yaml beside it"]
    found = label(tmp_path, f"{BOX_LINE}\n" * 3, max_polygons=2)
    assert "has 3 polygons, more than the limit of 2" in messages(found)[0]
    (tmp_path / "images" / "a.png").write_bytes(b"")
    (said,) = messages(label_again(tmp_path))
    assert "the image is not a JPEG, PNG" in said
    (tmp_path / "labels" / "a.txt").write_bytes(b"\xff\xfe0")
    (said,) = messages(label_again(tmp_path))
    assert "starts as UTF-16 and is damaged" in said


def label_again(tmp_path: Path) -> Reading:
    return read_annotations(tmp_path / "labels", tmp_path / "images", "yolo")


def test_yolo_and_other_text_files_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "gt"
    path.mkdir()
    for text, name in [
        (BOX_LINE, "yolo"),
        (QUAD_LINE, "yolo"),
        (f"{BOX_LINE} 0.5", "yolo"),
        ("10,10,90,12,90,32,10,30,Ada", "icdar"),
        ('10 10 90 30 "0"', "icdar"),
        ("0, 0, 1, 1, 0.5", "icdar"),
    ]:
        (path / "a.txt").write_text(text)
        fits = {form.name for form in FORMATS if form.recognise(Look(path)) == Fit.YES}
        assert fits == {name}
    for text in ("0 10 20 30 40", "0 0 0 1 1 1 1 0 label_0 0", "", "some words"):
        (path / "a.txt").write_text(text)
        assert yolo.FORMAT.recognise(Look(path)) == Fit.NO


# -------------------------------------------------------------------------- services' answers


@pytest.mark.parametrize("name", ["textract/a", "gvision/a", "azure/a_docintel"])
@pytest.mark.parametrize("asked", ["auto", "given"])
def test_examples_of_answers(tmp_path: Path, name: str, asked: str) -> None:
    """Their images are made here."""
    form = {"gvision": "google_vision"}.get(name.partition("/")[0], name.partition("/")[0])
    save(tmp_path / f"{Path(name).name}.jpg")
    path = MADE / f"{name}.json"
    fits = {each.name: each.recognise(Look(path)) for each in FORMATS}
    assert [each for each in fits if fits[each] == Fit.YES] == [form]
    for given in (path, path.parent):
        found = read_annotations(given, tmp_path, "auto" if asked == "auto" else form)
        assert (found.format, found.problems) == (form, [])
        wanted = json.loads((MADE / "expected.json").read_text())[f"{name}.json"]
        assert [(w[0], w[2]) for w in words(found)] == [(f"{w[0]}.jpg", w[2]) for w in wanted]
        assert np.allclose([w[1] for w in words(found)], [w[1] for w in wanted])
    assert columns(next(f for f in FORMATS if f.name == form), path, tmp_path)[0] == ["Ada"]


def polygon(points: list[list[float]], x: str = "X", y: str = "Y") -> list[dict[str, float]]:
    return [{x: one, y: other} for one, other in points]


def block(level: str, **more: Any) -> dict[str, Any]:
    return {"BlockType": level, "Geometry": {"Polygon": polygon(SHARES)}, "Text": "Ada", **more}


def test_textract(tmp_path: Path, image_folder: Path) -> None:
    side = {"Left": 0.55, "Top": 0.5, "Width": 0.35, "Height": 0.2}
    answer = {
        "Blocks": [
            block("PAGE"),
            block("LINE", Text="###"),
            block("WORD", TextType="HANDWRITING"),
            block("WORD", Geometry={"BoundingBox": side}, Page=1),
            block("CELL"),
        ]
    }
    path = tmp_path / "a.json"
    found = read(path, image_folder, answer)
    assert (found.format, found.dialect, found.problems) == ("textract", "word", [])
    assert np.allclose([w[1] for w in words(found)], [QUAD, BOX])
    assert found.annotations[0].labels == ("block 3", "block 4")
    assert columns(textract.FORMAT, path, image_folder) == (["Ada", "Ada"], ["HANDWRITING", None])
    found = read(path, image_folder, [answer, answer], "textract:line")
    assert [w[2] for w in words(found)] == [True, True]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"blocks": []}, 'has no list "Blocks"; correct or remove it'),
        ([3], 'has no list "Blocks"'),
        ({"Blocks": [], "NextToken": "x"}, 'is not the whole answer ("NextToken"); save a list of'),
        (
            {"Blocks": [block("WORD", Page=1), block("WORD", Page=2)]},
            "holds 2 pages, and an image is one; split it up by pages",
        ),
        ({"Blocks": [3]}, "block 1: must be an object"),
        ({"Blocks": [block("WORD", Geometry=None)]}, "block 1: has no Geometry"),
        ({"Blocks": [block("WORD", Geometry={})]}, "has no Left, Top, Width, Height that are num"),
        (
            {"Blocks": [block("WORD", Geometry={"Polygon": [{"X": 0.5}]})]},
            "has no X, Y that are numbers",
        ),
        ({"Blocks": [block("WORD", Geometry={"Polygon": 3})]}, "its Polygon must be a list"),
        (
            {"Blocks": [block("WORD", Geometry={"Polygon": polygon(QUAD)})]},
            "has 10, which is no share of the image's size (0 to 1); correct it, or divide pixels",
        ),
        ({"Blocks": [block("WORD", Geometry={"Polygon": []})]}, "points are not a list"),
    ],
)
def test_bad_answers_of_textract(
    tmp_path: Path, image_folder: Path, answer: Any, message: str
) -> None:
    found = read(tmp_path / "a.json", image_folder, answer, "textract")
    (said,) = messages(found)
    assert message in said
    assert found.problems[0].sample == "a.png"


def google(word: dict[str, Any], **page: Any) -> dict[str, Any]:
    blocks = [{"paragraphs": [{"words": [word]}]}, {"blockType": "PICTURE"}]
    return {"responses": [{"fullTextAnnotation": {"pages": [{"blocks": blocks, **page}]}}]}


VERTICES = [{"x": 10, "y": 10}, {"x": 90, "y": 12}, {"x": 90, "y": 32}, {"x": 10, "y": 30}]
NORMALISED = [{"x": x, "y": y} for x, y in SHARES]
SYMBOLS = [{"text": "A"}, {"text": "da"}, {}]


@pytest.mark.parametrize(
    ("answer", "polygons", "texts"),
    [
        (google({"boundingBox": {"vertices": VERTICES}, "symbols": SYMBOLS}), [QUAD], ["Ada"]),
        (google({"boundingBox": {"normalizedVertices": NORMALISED}}), [QUAD], []),
        (google({"boundingBox": {"vertices": [], "normalizedVertices": NORMALISED}}), [QUAD], []),
        (
            google({"boundingBox": {"vertices": [{"y": 5}, {"x": 9}, {"x": 9, "y": None}]}}),
            [[[0, 5], [9, 0], [9, 0]]],
            [],
        ),
        (
            {
                "text_annotations": [
                    {"description": "Ada", "bounding_poly": {"vertices": VERTICES}},
                    {"description": "Ada", "bounding_poly": {"normalized_vertices": NORMALISED}},
                ]
            },
            [QUAD],
            ["Ada"],
        ),
        (
            {"full_text_annotation": {"pages": [{"blocks": [{"paragraphs": [{"words": []}]}]}]}},
            [],
            [],
        ),
        ({"responses": [{}]}, [], []),
    ],
)
def test_google_vision(
    tmp_path: Path, image_folder: Path, answer: Any, polygons: list[Any], texts: list[Any]
) -> None:
    path = tmp_path / "a.json"
    found = read(path, image_folder, answer)
    assert (found.format, found.problems) == ("google_vision", [])
    assert len(words(found)) == len(polygons)
    for (name, points, _), wanted in zip(words(found), polygons, strict=True):
        assert name == "a.png"
        assert np.allclose(points, wanted)
    assert columns(google_vision.FORMAT, path, image_folder)[0] == texts


def test_the_size_that_google_vision_gives(tmp_path: Path, image_folder: Path) -> None:
    answer = google({"boundingBox": {"vertices": VERTICES}}, width=100, height=200)
    (annotation,) = read(tmp_path / "a.json", image_folder, answer).annotations
    assert annotation.declared_size == (200, 100)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"responses": [{}, {}]}, "holds 2 responses where one image has one; save each in a file"),
        ({"responses": []}, "holds 0 responses"),
        ({"responses": 3}, "its responses must be a list"),
        ({"responses": [3]}, "its response is no object"),
        ({"responses": [{"error": {"code": 3}}]}, "is an error of the service ({'code': 3.0}); as"),
        ({"text": []}, 'has neither "responses" nor "textAnnotations"'),
        ({"fullTextAnnotation": {"pages": [{}, {}]}}, "holds 2 pages, and an image is one"),
        ({"fullTextAnnotation": {"pages": [{"blocks": 3}]}}, "its blocks must be a list"),
        (
            {"fullTextAnnotation": {"pages": [{"blocks": [3]}]}},
            "has something that is no object and should hold paragraphs; correct it",
        ),
        ({"textAnnotations": [{"description": "Ada"}]}, "has the whole text and no word of its"),
        (google({}), "word 1: has no vertices"),
        (google({"boundingBox": {"vertices": 3}}), "word 1: its vertices must be a list"),
        (google({"boundingBox": {"vertices": [3]}}), "word 1: has a vertex that is no object"),
        (google({"boundingBox": {"vertices": [{"x": "1"}]}}), "a vertex is no list of numbers"),
        (google({"boundingBox": {"vertices": VERTICES[:2]}}), "has 2 points; a polygon needs"),
        (google({"boundingBox": {"normalizedVertices": VERTICES}}), "has 10, which is no share"),
    ],
)
def test_bad_answers_of_google_vision(
    tmp_path: Path, image_folder: Path, answer: Any, message: str
) -> None:
    (said,) = messages(read(tmp_path / "a.json", image_folder, answer, "google_vision"))
    assert message in said


FLAT = [number for point in QUAD for number in point]
DOCUMENT = {"pages": [{"words": [{"content": "Ada", "polygon": FLAT}], "lines": []}]}
READ = {"text": "Ada", "boundingBox": FLAT, "words": [{"text": "Ada", "boundingBox": FLAT}] * 2}
POINTS = polygon(QUAD, "x", "y")
ANALYSIS = {"text": "A da", "boundingPolygon": POINTS, "words": [{"boundingPolygon": POINTS}] * 2}


@pytest.mark.parametrize(
    ("answer", "of_words", "of_lines"),
    [
        ({"analyzeResult": DOCUMENT}, 1, 0),
        ({"modelId": "prebuilt-read", **DOCUMENT}, 1, 0),
        (
            {"model_id": "a", "pages": [{"unit": "pixel", "words": [{"polygon": POINTS}]}]},
            1,
            0,
        ),
        ({"analyzeResult": {"readResults": [{"unit": "pixel", "lines": [READ]}]}}, 2, 1),
        ({"readResult": {"blocks": [{"lines": [ANALYSIS]}, {"lines": []}]}, "metadata": 3}, 2, 1),
    ],
)
def test_azure(
    tmp_path: Path, image_folder: Path, answer: Any, of_words: int, of_lines: int
) -> None:
    path = tmp_path / "a.json"
    found = read(path, image_folder, answer)
    assert (found.format, found.dialect, found.problems) == ("azure", "word", [])
    assert np.allclose([w[1] for w in words(found)], [QUAD] * of_words)
    found = read(path, image_folder, answer, "azure:line")
    assert (found.dialect, found.problems, len(words(found))) == ("line", [], of_lines)
    if of_lines:
        assert columns(azure.FORMAT, path, image_folder)[0] in (["Ada", "Ada"], [])


def test_the_size_that_azure_gives(tmp_path: Path, image_folder: Path) -> None:
    size = {"width": 200, "height": 100}
    for answer in (
        {"readResult": {"blocks": [{"lines": [ANALYSIS]}]}, "metadata": size},
        {"analyzeResult": {"pages": [{**DOCUMENT["pages"][0], **size}]}},
    ):
        (annotation,) = read(tmp_path / "a.json", image_folder, answer).annotations
        assert annotation.declared_size == (100, 200)


def azure_word(**word: Any) -> dict[str, Any]:
    return {"analyzeResult": {"pages": [{"words": [word]}]}}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            {"analyzeResult": {"pages": [{"unit": "inch", "words": []}]}},
            "is measured in inch, as of a PDF, and not in pixels; have the service read the image",
        ),
        ({"analyzeResult": {"readResults": [{"unit": "inch"}]}}, "is measured in inch"),
        ({"analyzeResult": {"pages": [{}, {}]}}, "holds 2 pages, and an image is one"),
        ({"analyzeResult": {"pages": [3]}}, "its page must be an object"),
        ({"analyzeResult": {}}, 'has no list of "pages", "readResults" or "blocks"'),
        (
            {"readResult": {"blocks": [3]}},
            "has something that is no object and should hold lines; correct it",
        ),
        ({"readResult": {"blocks": 3}}, "its blocks must be a list"),
        ({"error": {"code": "x"}}, "is an error of the service ({'code': 'x'}); ask it again"),
        ([], "must be an object"),
        ({"analyzeResult": {"pages": [{"words": [3]}]}}, "word 1: must be an object"),
        (azure_word(), "word 1: has no points"),
        (azure_word(polygon=[1, 2, 3]), "word 1: its polygon has 3 numbers, which are no pairs"),
        (azure_word(polygon=["1"]), "word 1: its polygon is no list of numbers"),
        (azure_word(polygon={"x": 1}), "word 1: its polygon must be a list"),
        (azure_word(polygon=[{"x": 1}]), "word 1: a point is no list of numbers"),
    ],
)
def test_bad_answers_of_azure(
    tmp_path: Path, image_folder: Path, answer: Any, message: str
) -> None:
    (said,) = messages(read(tmp_path / "a.json", image_folder, answer, "azure"))
    assert message in said


def test_an_answer_of_no_image(tmp_path: Path, image_folder: Path) -> None:
    folder = tmp_path / "json"
    folder.mkdir()
    for name in ("a", "train/c", "x", "y.jpg"):
        (folder / f"{name}.json").parent.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps({"Blocks": []}))
    (folder / "b.png.json").write_text("{")
    (folder / "notes.txt").write_text("")
    found = read_annotations(folder, image_folder, "textract")
    assert [a.name for a in found.annotations] == ["a.png", "train/c.png"]
    assert [(p.kind, p.sample) for p in found.problems] == [
        ("image", "b.png"),
        ("image", "x"),
        ("image", "y.jpg"),
    ]
    said = messages(found)
    assert "is not valid JSON" in said[0]
    assert said[1] == ": there is no image x.jpg, .png or the like; add it or remove this file"
    assert said[2] == ": there is no image y.jpg; add it or remove this file"
    assert found.left_out == (("notes.txt", "does not end in .json"),)


# ------------------------------------------------------------------------------------ real files


def test_real_files_of_yolo(shared: Path, tmp_path: Path) -> None:
    folder = shared.parent / "formats" / "samples" / "yolo"
    found = read_annotations(folder, folder)
    assert (found.format, found.dialect) == ("yolo", "box")
    assert [(a.name, len(a.polygons.lengths)) for a in found.annotations] == [("img_6.jpeg", 4)]
    assert int(found.annotations[0].polygons.ignore.sum()) == 0
    (problem,) = found.problems
    assert (problem.sample, problem.kind) == ("img_1", "image")
    for name in ("img_1.jpg", "img_6.jpg"):
        save(tmp_path / name)
    found = read_annotations(folder, tmp_path)
    assert found.problems == []
    assert [len(a.polygons.lengths) for a in found.annotations] == [4, 4]
    left, top = found.annotations[1].polygons.points[0]
    assert left == pytest.approx((0.1765625 - 0.209375 / 2) * 200)
    assert top == pytest.approx((0.5354166666666667 - 0.5763888888888888 / 2) * 100)
    names = [
        kind
        for entry in yolo.FORMAT.read(folder, ImageNames(tmp_path), "", Rules()).entries
        if isinstance(entry, Entry) and isinstance(entry.words, Words)
        for kind in entry.words.classes
    ]
    assert names[-4:] == ["closed_door", "opened_door", "bus", "number"]


def test_what_roboflow_calls_obb_is_not_read_as_yolo(shared: Path, tmp_path: Path) -> None:
    """Corners in pixels, the class and its difficulty: DOTA's form."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for path in (shared.parent / "formats" / "samples" / "yolo_obb_roboflow").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    save(tmp_path / "images" / "val_001.jpg")
    assert yolo.FORMAT.recognise(Look(folder)) == Fit.NO
    found = read_annotations(folder, tmp_path / "images", "yolo")
    assert messages(found) == [
        "line 1: 'label_0' is not a number; a line is class x1 y1 x2 y2 x3 y3 x4 y4",
        "line 2: 'label_1' is not a number; a line is class x1 y1 x2 y2 x3 y3 x4 y4",
    ]
    assert words(found) == []


def test_a_real_answer_of_textract(shared: Path, tmp_path: Path) -> None:
    path = shared.parent / "formats" / "samples" / "textract" / "issue_83.json"
    save(tmp_path / "issue_83.jpg")
    for form, count in (("auto", 24), ("textract:word", 24), ("textract:line", 12)):
        found = read_annotations(path, tmp_path, form)
        assert (found.format, found.problems) == ("textract", [])
        (annotation,) = found.annotations
        assert len(annotation.polygons.lengths) == count
        assert not annotation.polygons.ignore.any()
    assert set(columns(textract.FORMAT, path, tmp_path)[1]) == {"PRINTED"}
    first = found.annotations[0].polygons.points[0]
    assert first.tolist() == pytest.approx([149.66661930, 0.06256837])


def test_a_format_that_is_unknown_names_these(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one of yolo:box, yolo:segment, yolo:obb"):
        read_annotations(tmp_path, tmp_path, "yolo:pixels")
