"""Formats of annotations: recognised by content, from this package and from others."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COMMAND, run
from forms import MADE, read, words

from ocr_precompute.annotations import format_names, read_annotations
from ocr_precompute.annotations.formats import FORMATS
from ocr_precompute.annotations.looking import Fit, Look, begun
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Found
from ocr_precompute.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
# --------------------------------------------------------------------- the examples, recognised

# file: its format, what is looked at, and the names where they are not those of the table.
EXAMPLES = {
    "alto/a.xml": ("alto", "alto/a.xml", "alto"),
    "art/train_labels.json": ("art", "art/train_labels.json", "art"),
    "coco/instances.json": ("coco", "coco/instances.json", "coco"),
    "cocotext/cocotext.v2.json": ("cocotext", "cocotext/cocotext.v2.json", "cocotext"),
    "cord/json/receipt_00000.json": ("cord", "cord/json", "cord/image"),
    "ctw_old/gt/0001.txt": ("ctw1500", "ctw_old/gt", "ctw_old"),
    "ctw_test/gt/0001001.txt": ("ctw1500", "ctw_test/gt", "ctw_test"),
    "ctw_xml/gt/0001.xml": ("ctw1500", "ctw_xml/gt", "ctw_xml"),
    "cvat/annotations.xml": ("cvat", "cvat/annotations.xml", "cvat"),
    "doctr/labels.json": ("doctr", "doctr/labels.json", "doctr/images"),
    "doctr_classes/labels.json": ("doctr", "doctr_classes/labels.json", "doctr_classes/images"),
    "dota/labelTxt/a.txt": ("dota", "dota/labelTxt", "dota"),
    "funsd/annotations/0001.json": ("funsd", "funsd/annotations", "funsd/images"),
    "hiertext/train.jsonl": ("hiertext", "hiertext/train.jsonl", "hiertext"),
    "hocr/a.hocr": ("hocr", "hocr/a.hocr", "hocr"),
    "iam/xml/a01-000u.xml": ("iam", "iam/xml", "iam/forms"),
    "ic13_test/gt/gt_img_1.txt": ("icdar", "ic13_test/gt", "ic13_test"),
    "kaist/a.xml": ("kaist", "kaist/a.xml", "kaist"),
    "label_studio/export.json": ("label_studio", "label_studio/export.json", "label_studio"),
    "labelme/a.json": ("labelme", "labelme", "labelme"),
    "mlt17/gt/gt_img_1.txt": ("icdar", "mlt17/gt", "mlt17"),
    "mmocr1/textdet_train.json": ("mmocr", "mmocr1/textdet_train.json", "mmocr1"),
    "page/a.xml": ("page", "page/a.xml", "page"),
    "paddle/Label.txt": ("paddle", "paddle/Label.txt", "paddle"),
    "rects/gt/train_000001.json": ("rects", "rects/gt", "rects"),
    "supervisely/ds/ann/a.jpg.json": ("supervisely", "supervisely/ds/ann", "supervisely/ds/img"),
    "svt/train.xml": ("svt", "svt/train.xml", "svt"),
    "td500/IMG_0001.gt": ("td500", "td500", "td500"),
    "totaltext/gt/poly_gt_img1.txt": ("totaltext", "totaltext/gt", "totaltext"),
    "ufo/train.json": ("words", "ufo/train.json", "ufo"),
    "via/via_region_data.json": ("via", "via/via_region_data.json", "via"),
    "words_lines/train.jsonl": ("words_lines", "words_lines/train.jsonl", "words_lines"),
    "words_parquet/train.parquet": (
        "words_parquet",
        "words_parquet/train.parquet",
        "words_parquet",
    ),
    "xfund/zh.train.json": ("xfund", "xfund/zh.train.json", "xfund"),
    "yolo_box/labels/a.txt": ("yolo", "yolo_box/labels", "yolo_box/images"),
    "yolo_seg/labels/a.txt": ("yolo", "yolo_seg/labels", "yolo_seg/images"),
}


@pytest.mark.parametrize("file", EXAMPLES)
@pytest.mark.parametrize("form", ["auto", "given"])
def test_examples_of_formats(file: str, form: str) -> None:
    name, path, folder = EXAMPLES[file]
    found = read_annotations(MADE / path, MADE / folder, "auto" if form == "auto" else name)
    assert (found.format, found.problems) == (name, [])
    expected = json.loads((MADE / "expected.json").read_text())[file]
    if name in ("labelme", "kaist"):  # paired by their own names
        expected = [["a.jpg", polygon, ignored] for _, polygon, ignored in expected]
    assert [w[0] for w in words(found)] == [w[0] for w in expected]
    assert [w[2] for w in words(found)] == [w[2] for w in expected]
    for (_, polygon, _), (_, wanted, _) in zip(words(found), expected, strict=True):
        assert np.allclose(polygon, wanted)


def test_content_decides_and_no_suffix(tmp_path: Path, image_folder: Path) -> None:
    for file, (name, path, _) in EXAMPLES.items():
        if (MADE / path).is_file():
            copy = tmp_path / f"{Path(file).parts[0]}.data"
            copy.write_bytes((MADE / path).read_bytes())
            assert read_annotations(copy, image_folder).format == name


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_each_example_that_is_shown_is_of_its_format(
    form: AnnotationFormat, tmp_path: Path
) -> None:
    path = tmp_path / "labels"
    text = form.example
    if form.name in ("icdar", "yolo"):
        path.mkdir()
        (path / "gt_a.txt").write_text(text)
    elif form.name == "words_parquet":  # its columns are shown
        path.write_bytes((MADE / "words_parquet" / "train.parquet").read_bytes())
    elif form.name == "paddle":
        path.write_text(text.replace("\n", "").partition("   (")[0])
    else:
        path.write_text(text.replace(", ...", ""))
    fits = {each.name: each.recognise(Look(path)) for each in FORMATS}
    assert [name for name, fit in fits.items() if fit == Fit.YES] == [form.name]


def test_two_formats_that_fit_are_both_named(tmp_path: Path, image_folder: Path) -> None:
    both = {"images": [{"id": 1, "file_name": "a.png"}], "shapes": [], "annotations": []}
    with pytest.raises(InputError) as error:
        read(tmp_path / "both.json", image_folder, both)
    assert "fits the formats coco and labelme; say which is meant with --format coco or " in str(
        error.value
    )
    assert read(tmp_path / "both.json", image_folder, both, "coco").problems == []


def test_what_fits_no_format(tmp_path: Path, image_folder: Path) -> None:
    with pytest.raises(InputError, match="is in no known annotation format") as error:
        read(tmp_path / "labels.data", image_folder, {"something": 1})
    assert f"--format ({', '.join(format_names())})" in str(error.value)
    assert "`ocr-precompute formats` shows how each looks" in str(error.value)


@pytest.mark.parametrize("packing", ["gzip", "zip"])
def test_what_is_packed_is_to_be_unpacked(tmp_path: Path, image_folder: Path, packing: str) -> None:
    path, whole = tmp_path / "train.jsonl.gz", (MADE / "hiertext" / "train.jsonl").read_bytes()
    if packing == "gzip":
        path.write_bytes(gzip.compress(whole))
    else:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("train.jsonl", whole)
    with pytest.raises(InputError, match=f"is packed by {packing}; unpack it, and name what was"):
        read_annotations(path, image_folder)


def test_recognition_reads_the_beginning_alone(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.write(b'{"images": [' + b'{"id": 1, "file_name": "a.jpg"}, ' * 9000)
        file.truncate(1 << 40)  # a terabyte that is not there
    look = Look(path)
    assert len(look.text) == 1 << 16
    assert [form.name for form in FORMATS if form.recognise(look) == Fit.YES] == ["coco"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2], "b": {"c": "x', {"a": [1, 2], "b": {}}),
        ('{"a": [1, 23', {"a": [1]}),
        (
            '{"a": {"b": true, "c": [{"d": "e\\"}"}, {"f"',
            {"a": {"b": True, "c": [{"d": 'e"}'}, {}]}},
        ),
        ('{"a": 1} trailing', {"a": 1}),
        ('[{"id": 1}, {"id"', [{"id": 1}, {}]),
        ('{"a": nul', {}),
        ("", None),
        ("12", None),
        ('{"a" 1}', None),
        ("[" * 70_000, [[[]]]),
    ],
)
def test_the_value_that_a_text_begins(text: str, value: Any) -> None:
    found = begun(text)
    if text.startswith("[["):
        assert isinstance(found, list)
    else:
        assert found == value


def test_xml_roots(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(
        '\ufeff<?xml version="1.0"?>\n<!-- <a> -->\n<!DOCTYPE x [<!ENTITY y "z">]>\n<p:Pc a="1">'
    )
    assert Look(path).root == "Pc"
    path.write_text("PcGts")
    assert Look(path).root == ""


# ------------------------------------------------------------------------------ other packages

PLUG_IN = """
from ocr_precompute.annotations.looking import Fit
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found, Words

def form(name, entries=lambda path: (), fit=lambda look: Fit(2 * (look.text == "mine"))):
    return AnnotationFormat(
        name, "a format of mine", "nothing", "mine", fit, lambda path, *_: Found(entries(path))
    )

def entries(path):
    yield Entry(str(path), "a.png", Words(["word 1"], [[[1.0, 1], [9, 1], [9, 9]]], [True]))

def wrong(path):
    yield from entries(path)
    raise KeyError("oops")

MINE = form("mine", entries)
TAKEN = form("coco")
FAILS = form("fails", wrong, lambda look: 1 / 0)
OTHER = form("other", lambda path: [3], lambda look: Fit.NO)
NONE = 3
"""
SHOW = """
import sys
from pathlib import Path
from ocr_precompute.annotations import format_names, read_annotations
from ocr_precompute.errors import InputError
print(*format_names())
for form in sys.argv[3:]:
    try:
        found = read_annotations(Path(sys.argv[1]), Path(sys.argv[2]), form)
        print(found.format, len(found.annotations), *found.problems)
    except InputError as error:
        print(error)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a process in which a package with formats is installed."""
    site = tmp_path / "site"
    (site / "plug-1.0.dist-info").mkdir(parents=True)
    (site / "plug.py").write_text(PLUG_IN)
    (site / "plug-1.0.dist-info" / "METADATA").write_text("Name: plug\nVersion: 1.0\n")
    points = ("MINE", "TAKEN", "FAILS", "OTHER", "NONE", "ABSENT")
    lines = "".join(f"{name.lower()} = plug:{name}\n" for name in points)
    (site / "plug-1.0.dist-info" / "entry_points.txt").write_text(
        f"[ocr_precompute.formats]\nbroken = nowhere_at_all:FORMAT\n{lines}"
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}


def test_formats_of_other_packages(
    tmp_path: Path, image_folder: Path, environment: dict[str, str]
) -> None:
    path = tmp_path / "labels.json"
    path.write_text("mine")
    arguments = [path, image_folder, "auto", "mine", "fails", "other"]
    shown = subprocess.run(
        [sys.executable, "-c", SHOW, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    names, *lines = shown.stdout.splitlines()
    assert names.split() == sorted([*(form.name for form in FORMATS), "fails", "mine", "other"])
    assert lines[:2] == ["mine 1", "mine 1"]
    fails = "the format 'fails' of plug fails: KeyError: 'oops'; update that package, or tell"
    assert lines[2].startswith(f"fails 1 {path}: {fails}")
    assert "the format 'other' of plug fails: TypeError: it gives int, not Entry" in lines[3]
    said = shown.stderr.splitlines()
    assert [
        line.partition("left out: ")[2].partition(";")[0] for line in said if "left" in line
    ] == [
        "it cannot be loaded: AttributeError: module 'plug' has no attribute 'ABSENT'",
        "it cannot be loaded: ModuleNotFoundError: No module named 'nowhere_at_all'",
        "plug:NONE is no AnnotationFormat",
        "the name 'coco' is taken",
    ]
    assert any("'fails' of plug cannot look at" in line for line in said)
    assert len(said) == 5


def test_a_built_in_name_needs_no_other_package(
    tmp_path: Path, image_folder: Path, environment: dict[str, str]
) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"images": {"a.png": {}}}')
    code = SHOW.replace("print(*format_names())", "")
    shown = subprocess.run(
        [sys.executable, "-c", code, str(path), str(image_folder), "words"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert (shown.stdout, shown.stderr) == ("words 1\n", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "auto"}, "'auto' cannot name a format"),
        ({"name": "A b"}, "'A b' cannot name a format"),
        ({"aliases": ("x:y",)}, "'x:y' cannot name a format"),
        ({"summary": " "}, "needs one line each"),
        ({"dont_care": "a\nb"}, "needs one line each"),
    ],
)
def test_a_format_says_what_it_is(change: dict[str, Any], message: str) -> None:
    fields = {
        "name": "mine",
        "summary": "a",
        "dont_care": "b",
        "example": "c",
        "recognise": lambda look: Fit.NO,
        "read": lambda *_: Found([]),
    }
    with pytest.raises(ValueError, match=message):
        AnnotationFormat(**(fields | change))


# ----------------------------------------------------------------------- command and documents


def test_the_command_lists_formats(tmp_path: Path, environment: dict[str, str]) -> None:
    shown = run("formats", "--json", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    listed = json.loads(shown.stdout)["formats"]
    assert [each["name"] for each in listed] == format_names()
    assert {each["package"] for each in listed} == {"ocr-precompute"}
    icdar = next(each for each in listed if each["name"] == "icdar")
    assert icdar["dialects"]["ltrb"] == "left,top,right,bottom,text"
    people = run("formats", cwd=tmp_path)
    for form in FORMATS:
        assert form.dont_care.split()[0] in people.stderr
        assert form.example.splitlines()[0].replace("\t", "\\t") in people.stderr
    others = subprocess.run(
        [*COMMAND, "formats", "mine"], capture_output=True, text=True, env=environment
    )
    assert "mine (of the package plug)" in others.stderr
    wrong = run("formats", "yaml", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "format 'yaml': is unknown; one of alto, " in wrong.stderr


def test_a_format_is_added_in_under_forty_lines() -> None:
    """The smallest one is shown in the document, and is what it is in the package."""
    module = ROOT / "ocr_precompute" / "annotations" / "formats" / "doctr.py"
    code = module.read_text()
    assert sum(bool(line.strip()) for line in code.splitlines()) < 40
    block = (
        (ROOT / "docs" / "formats.md").read_text().partition("```python\n")[2].partition("```")[0]
    )
    assert code.endswith("\n\n" + block)
    assert len(code.splitlines()) == min(
        len(path.read_text().splitlines()) for path in module.parent.glob("[a-z]*.py")
    )
