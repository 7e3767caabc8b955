"""Readers of the forms that single data sets and one tool come in, in pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from forms import BOX, MADE, QUAD, messages, read, words

from ocr_precompute.annotations import read_annotations
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.formats import FORMATS
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.reading import Entry, Words
from ocr_precompute.settings import Rules

FLAT = [number for point in QUAD for number in point]
LTRB = [110, 50, 180, 70]
CORNERS = dict(zip(("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4"), FLAT, strict=True))


def columns(form: str, path: Path, images: Path) -> tuple[list[Any], list[Any]]:
    """What the words of the only image say, and what they are."""
    chosen = next(each for each in FORMATS if each.name == form)
    (entry,) = chosen.read(path, ImageNames(images), "", Rules()).entries
    assert isinstance(entry, Entry)
    assert isinstance(entry.words, Words)
    return list(entry.words.texts), list(entry.words.classes)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("art/train_labels.json", "art"),
        ("rects/gt", "rects"),
        ("rects/gt/train_000001.json", "rects"),
        ("funsd/annotations", "funsd"),
        ("funsd", "funsd"),
        ("xfund/zh.train.json", "xfund"),
        ("cord", "cord"),
        ("cord/json/receipt_00000.json", "cord"),
        ("supervisely/ds", "supervisely"),
        ("supervisely/ds/ann/a.jpg.json", "supervisely"),
    ],
)
def test_no_other_format_fits(path: str, form: str) -> None:
    fits = {each.name: each.recognise(Look(MADE / path)) for each in FORMATS}
    assert [name for name, fit in fits.items() if fit == Fit.YES] == [form]
    found = read_annotations(MADE / path, MADE / path.partition("/")[0])
    assert (found.format, found.problems) == (form, [])
    assert len(words(found)) > 0


def art(*listed: Any) -> dict[str, Any]:
    return {"b": [], "a": [{"points": QUAD, "transcription": "Ada", **each} for each in listed]}


def rects(*lines: Any) -> dict[str, Any]:
    kept = [{"points": FLAT, "transcription": "Ada", "ignore": 0, **line} for line in lines]
    return {"chars": [{"points": FLAT}], "lines": kept}


def funsd(*listed: Any) -> dict[str, Any]:
    inside = [{"box": LTRB, "text": "Ada", **word} for word in listed]
    return {"form": [{"box": [0, 0, 9, 9], "text": "x", "label": "answer", "words": inside}]}


def xfund(*listed: Any) -> dict[str, Any]:
    image = {"fname": "pages/a.png", "width": 200, "height": 100}
    return {"lang": "zh", "documents": [{"img": image, "document": funsd(*listed)["form"]}]}


def cord(*listed: Any, **more: Any) -> dict[str, Any]:
    inside = [{"quad": CORNERS, "text": "Ada", **word} for word in listed]
    return {"valid_line": [{"words": inside, "category": "menu.nm"}], "roi": {}, **more}


def supervisely(*objects: Any) -> dict[str, Any]:
    plain = {"geometryType": "polygon", "classTitle": "word", "tags": []}
    points = {"points": {"exterior": QUAD, "interior": []}}
    return {"size": {"height": 100, "width": 200}, "objects": [plain | points | o for o in objects]}


MAKE = {
    "art": art,
    "rects": rects,
    "funsd": funsd,
    "xfund": xfund,
    "cord": cord,
    "supervisely": supervisely,
}


@pytest.mark.parametrize(
    ("form", "word", "points", "ignored", "text", "kind"),
    [
        ("art", {}, QUAD, False, "Ada", None),
        ("art", {"illegibility": False, "language": "Latin"}, QUAD, False, "Ada", "Latin"),
        ("art", {"illegibility": True}, QUAD, True, "Ada", None),
        ("art", {"illegibility": 1}, QUAD, True, "Ada", None),
        ("art", {"illegibility": False, "transcription": "###"}, QUAD, True, "###", None),
        (
            "art",
            {"points": [[-3, 1], [9, 1], [9, 9]]},
            [[-3, 1], [9, 1], [9, 9]],
            False,
            "Ada",
            None,
        ),
        ("rects", {}, QUAD, False, "Ada", None),
        ("rects", {"ignore": 1}, QUAD, True, "Ada", None),
        ("rects", {"transcription": "###"}, QUAD, True, "###", None),
        ("funsd", {}, BOX, False, "Ada", "answer"),
        ("funsd", {"text": " "}, BOX, True, " ", "answer"),
        ("funsd", {"box": [180, 70, 110, 50]}, BOX, False, "Ada", "answer"),
        ("xfund", {}, BOX, False, "Ada", "answer"),
        ("xfund", {"box": FLAT}, QUAD, False, "Ada", "answer"),
        ("xfund", {"text": ""}, BOX, True, "", "answer"),
        ("cord", {}, QUAD, False, "Ada", "menu.nm"),
        ("cord", {"text": "###"}, QUAD, True, "###", "menu.nm"),
        ("supervisely", {}, QUAD, False, None, "word"),
        ("supervisely", {"classTitle": "Ignore"}, QUAD, True, None, "Ignore"),
        ("supervisely", {"tags": [{"name": "ignore", "value": None}]}, QUAD, True, None, "word"),
        ("supervisely", {"tags": [{"name": "text", "value": "Ada"}]}, QUAD, False, "Ada", "word"),
        ("supervisely", {"tags": [{"name": "text", "value": "###"}]}, QUAD, True, "###", "word"),
        (
            "supervisely",
            {"geometryType": "rectangle", "points": {"exterior": [[180, 50], [110, 70]]}},
            BOX,
            False,
            None,
            "word",
        ),
    ],
)
def test_words(
    tmp_path: Path,
    image_folder: Path,
    form: str,
    word: dict[str, Any],
    points: Any,
    ignored: bool,
    text: Any,
    kind: Any,
) -> None:
    path = tmp_path / "a.json"
    content = MAKE[form](word)
    content.pop("b", None)
    found = read(path, image_folder, content)
    assert (found.format, found.problems, found.warnings) == (form, [], ())
    assert words(found) == [["a.png", points, ignored]]
    texts, kinds = columns(form, path, image_folder)
    assert texts == ([] if text is None else [text])
    assert kinds == ([] if kind is None else [kind])


@pytest.mark.parametrize("form", ["auto", "lsvt"])
def test_weak_labels_of_lsvt_are_one_error(tmp_path: Path, image_folder: Path, form: str) -> None:
    weak = [{"transcription": "Ada"}, {"transcription": "###", "illegibility": False}]
    path = tmp_path / "train_weak_labels.json"
    found = read(path, image_folder, {f"gt_{number}": weak for number in range(300)}, form)
    assert messages(found) == [
        ": 300 images have weak labels, texts without points; take the full labels, or remove them"
    ]
    assert (found.format, found.annotations) == ("art", [])
    beside = read(path, image_folder, {**art({}), "x": weak}, form)
    assert [name for name, _, _ in words(beside)] == ["a.png"]
    assert "1 image has weak labels" in messages(beside)[0]


@pytest.mark.parametrize(
    ("form", "word", "message"),
    [
        ("art", {"points": None}, "a.png: word 1: has no points; add or remove it"),
        ("art", {"illegibility": "no"}, 'word 1: "illegibility" is "no"; it must be true, false,'),
        ("art", {"points": "x"}, "word 1: points are not all numbers"),
        ("rects", {"points": FLAT[:7]}, "line 1: its points has 7 numbers, which are no pairs"),
        ("rects", {"points": None}, "line 1: its points is no list of numbers"),
        ("rects", {"points": QUAD}, "line 1: its points is no list of numbers"),
        ("rects", {"ignore": 2}, 'line 1: "ignore" is 2.0; it must be true, false, 1 or 0'),
        ("funsd", {"box": [1, 2, 3]}, "entity 1 word 1: its box has 3 numbers, not 4"),
        ("funsd", {"box": None}, "entity 1 word 1: its box is no list of numbers"),
        ("xfund", {"box": "x"}, "a.png: entity 1 word 1: its box is no list of numbers"),
        ("cord", {"quad": {}}, "line 1 word 1: its quad is no list of numbers"),
        ("cord", {"quad": None}, "line 1 word 1: has no quad"),
        ("supervisely", {"geometryType": "bitmap"}, "object 1: is of the type 'bitmap', which is "),
        ("supervisely", {"geometryType": None}, "object 1: is of the type 'None'"),
        ("supervisely", {"points": None}, "object 1: has no points"),
        ("supervisely", {"tags": 3}, "object 1: its tags must be a list"),
        ("supervisely", {"geometryType": "rectangle"}, "is a rectangle that has not 2 points"),
        (
            "supervisely",
            {"geometryType": "rectangle", "points": {"exterior": [1, 2]}},
            "a point is no list of numbers",
        ),
    ],
)
def test_bad_words(
    tmp_path: Path, image_folder: Path, form: str, word: dict[str, Any], message: str
) -> None:
    content = MAKE[form](word, {})
    found = read(tmp_path / "a.json", image_folder, content, form)
    (said,) = messages(found)
    assert message in said
    assert found.problems[0].sample == "a.png"
    assert len(words(found)) == 1


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        ("art", {"a": 3}, "a: must be an image's name and a list of its words"),
        ("art", [[]], "0: must be an image's name and a list of its words"),
        ("art", 3, ": must be an image's name and a list of its words"),
        ("art", {"x": []}, "x: there is no image x.jpg, .png or the like; add it or remove the en"),
        ("art", {"a": [3]}, "a.png: word 1: must be an object"),
        ("rects", {"chars": []}, 'has no list "lines"'),
        ("rects", {"lines": 3}, 'its "lines" must be a list'),
        ("rects", [], 'has no list "lines"'),
        ("rects", "{", "is not valid JSON"),
        ("funsd", {"forms": []}, 'has no list "form"'),
        ("funsd", {"form": {}}, '"form" must be a list'),
        ("funsd", {"form": [3]}, "entity 1: must be an object"),
        ("funsd", {"form": [{"words": 3}]}, "the words of entity 1 must be a list"),
        ("funsd", {"form": [{"words": [3]}]}, "entity 1 word 1: must be an object"),
        ("xfund", {"document": []}, 'has no list "documents"; it is not of this format'),
        ("xfund", {"documents": {}}, 'has no list "documents"'),
        ("xfund", {"documents": [3]}, "documents[0]: has no image's name (img, fname)"),
        ("xfund", {"documents": [{"img": {"fname": 3}}]}, "documents[0]: has no image's name"),
        (
            "xfund",
            {"documents": [{"img": {"fname": "a.png"}, "document": 3}]},
            'a.png: its "document" must be a list',
        ),
        ("cord", {"lines": []}, 'has no list "valid_line"'),
        ("cord", {"valid_line": 3}, 'its "valid_line" must be a list'),
        ("cord", {"valid_line": [3]}, "line 1: must be an object"),
        ("cord", {"valid_line": [{"words": [3]}]}, "line 1 word 1: must be an object"),
        ("cord", {"valid_line": [{"words": 3}]}, "the words of line 1 must be a list"),
        ("cord", {"valid_line": [], "dontcare": 3}, 'its "dontcare" must be a list'),
        ("cord", {"valid_line": [], "dontcare": [[3]]}, "dontcare 1: must be an object"),
        ("supervisely", {"size": {}}, 'has no list "objects"'),
        ("supervisely", {"objects": 3}, 'its "objects" must be a list'),
        ("supervisely", {"objects": [3]}, "object 1: must be an object"),
    ],
)
def test_bad_files(
    tmp_path: Path, image_folder: Path, form: str, content: Any, message: str
) -> None:
    found = read(tmp_path / "a.json", image_folder, content, form)
    (said,) = messages(found)
    assert message in said
    assert words(found) == []


def test_an_image_without_words(tmp_path: Path, image_folder: Path) -> None:
    for form, content in [
        ("art", art({})),
        ("rects", rects()),
        ("funsd", {"form": []}),
        ("cord", {"valid_line": []}),
        ("supervisely", supervisely()),
    ]:
        found = read(tmp_path / "b.json", image_folder, content)
        assert (found.format, found.problems) == (form, [])
        last = found.annotations[-1]
        assert (last.name, len(last.polygons.lengths)) == ("b.png", 0)


@pytest.mark.parametrize("form", ["rects", "funsd", "cord", "supervisely"])
def test_a_file_of_no_image(tmp_path: Path, image_folder: Path, form: str) -> None:
    found = read(tmp_path / "x.json", image_folder, MAKE[form]({}))
    (problem,) = found.problems
    assert (problem.kind, problem.sample) == ("image", "x")
    assert problem.message.startswith("there is no image x.jpg, .png or the like; add it or remove")


def test_names_that_fit_several_images(tmp_path: Path, image_folder: Path) -> None:
    (image_folder / "a.jpg").write_bytes(b"")
    for form in ("art", "rects"):
        found = read(tmp_path / "a.json", image_folder, MAKE[form]({}), form)
        assert "fits several images: a.jpg, a.png; keep one of them" in messages(found)[0]


def test_levels_of_forms(tmp_path: Path, image_folder: Path) -> None:
    for form in ("funsd", "xfund"):
        content = MAKE[form]({}, {})
        found = read(tmp_path / "a.json", image_folder, content)
        assert (found.dialect, len(words(found))) == ("word", 2)
        found = read(tmp_path / "a.json", image_folder, content, f"{form}:entity")
        assert found.dialect == "entity"
        assert words(found) == [["a.png", [[0, 0], [9, 0], [9, 9], [0, 9]], False]]
        found = read(tmp_path / "a.json", image_folder, MAKE[form]())  # an entity without words
        assert found.annotations[0].labels == ("entity 1",)


def test_what_is_dont_care_on_receipts(tmp_path: Path, image_folder: Path) -> None:
    size = {"image_size": {"width": 200, "height": 100}}
    for listed in ([CORNERS], [[CORNERS]], [{"quad": CORNERS, "text": "x"}]):
        content = cord({"ignored": True}, dontcare=listed, meta=size, repeating_symbol=[listed])
        found = read(tmp_path / "a.json", image_folder, content)
        assert words(found) == [["a.png", QUAD, False], ["a.png", QUAD, True]]
        (annotation,) = found.annotations
        assert annotation.labels == ("line 1 word 1", "dontcare 1")
        assert annotation.declared_size == (100, 200)


def test_sizes_that_are_declared(tmp_path: Path, image_folder: Path) -> None:
    for form in ("xfund", "supervisely"):
        (annotation,) = read(tmp_path / "a.json", image_folder, MAKE[form]({})).annotations
        assert annotation.declared_size == (100, 200)


def test_a_project_of_supervisely(tmp_path: Path, image_folder: Path) -> None:
    """Its description of classes is no annotation; images lie beside annotations."""
    folder = tmp_path / "project"
    for name in ("a", "b"):
        ann, img = folder / "ds" / "ann", folder / "ds" / "img"
        for each in (ann, img):
            each.mkdir(parents=True, exist_ok=True)
        (img / f"{name}.png").write_bytes((image_folder / "a.png").read_bytes())
        (ann / f"{name}.png.json").write_text(json.dumps(supervisely({})))
    (folder / "meta.json").write_text(json.dumps({"classes": [], "tags": []}))
    for images, names in [
        (folder, ["ds/img/a.png", "ds/img/b.png"]),
        (folder / "ds" / "img", ["a.png", "b.png"]),
    ]:
        found = read_annotations(folder, images)
        assert (found.format, found.problems) == ("supervisely", [])
        assert [a.name for a in found.annotations] == names
        assert found.left_out == (("meta.json", "is about the whole, and no image's"),)


OURS = {
    *("art", "rects", "funsd", "xfund", "cord", "supervisely"),
    *("yolo", "textract", "google_vision", "azure"),
}
FOLDERS = {
    *("art", "rects", "funsd", "xfund", "cord", "supervisely"),
    *("yolo_box", "yolo_seg", "textract", "gvision", "azure"),
}
OTHERS = sorted(path for path in MADE.iterdir() if path.is_dir() and path.name not in FOLDERS)


@pytest.mark.parametrize("folder", OTHERS, ids=lambda path: path.name)
def test_examples_of_other_forms_are_not_taken_for_these(folder: Path) -> None:
    """Neither the folder, nor a folder or file in it."""
    looks = [Look(path) for path in (folder, *folder.rglob("*"))]
    assert len(looks) > 1
    taken = [
        (look.path.name, form.name)
        for look in looks
        for form in FORMATS
        if form.name in OURS and form.recognise(look) != Fit.NO
    ]
    assert taken == []
