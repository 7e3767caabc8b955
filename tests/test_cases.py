"""Inputs that users bring, and what comes of each: tests/cases/README.md has the table."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from ocr_precompute.annotations import Reading, read_annotations
from ocr_precompute.checking.verify import verify
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.store import open_store
from ocr_precompute.settings import Rules, Settings, Source

CASES = Path(__file__).parent / "cases"
MADE = Path(__file__).parent / "formats" / "made"


def source(case: str) -> Source:
    annotations = CASES / case / "gt"
    return Source(
        images=CASES / case / "img",
        annotations=annotations if annotations.is_dir() else CASES / case / "gt.json",
    )


def reading(case: str, rules: Rules | None = None) -> Reading:
    return read_annotations(source(case).annotations, source(case).images, "auto", rules)


# case: the dialect, and the vertices and don't-care flags of each image's polygons.
UNDERSTOOD = {
    "all_dontcare": ("", {"a.jpg": ([4, 4, 4], [1, 1, 1])}),
    "bowtie_all": ("", {"a.jpg": ([4, 4, 4], [0, 0, 0])}),
    "bowtie_tilted": ("", {"a.jpg": ([4, 4], [0, 0])}),
    "curved14": ("polygon", {"img_1.jpg": ([14, 4], [0, 0])}),
    "exif_raw_coords": ("", {"phone.jpg": ([4], [0])}),
    "mlt_script": ("mlt", {"img_1.jpg": ([4, 4, 4], [0, 1, 1])}),
    "names_with_ext": ("quad", {"img_1.jpg": ([4], [0])}),
    "nested_txt": ("quad", {"img_1.jpg": ([4], [0]), "sub/img_2.jpg": ([4], [0])}),
    "no_anno_images": ("quad", {"img_1.jpg": ([4], [0])}),
    "outside_all": ("", {"a.jpg": ([4, 4, 4], [0, 0, 0])}),
    "quoted_dontcare": ("quad", {"img_1.jpg": ([4, 4, 4], [1, 0, 0])}),
    "small_text_big_page": ("", {"a.png": ([4] * 48, [0] * 48)}),
    "utf16": ("quad", {"img_1.jpg": ([4, 4], [0, 0])}),
    "utf16_json": ("", {"a.jpg": ([], [])}),
    "windows_path": ("", {"sub/a.jpg": ([4], [0])}),
}

REFUSED = {
    "dup_keys": ["a.jpg: the key stands twice; keep one of the two"],
    "dup_words": ["a.jpg: word 1: the key stands twice; keep one of the two"],
    "ignore_kinds": ['a.jpg: word 0002: "ignore" is "true"; it must be true, false, 1 or 0'],
    "normalised": [
        "all coordinates lie between 0 and 1, so they are relative to the image's size; "
        "multiply x by its width and y by its height: points are pixels"
    ],
    "skipbad_live": ["p1.jpg: word 0002: has 2 points; a polygon needs at least 3"],
}


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_understood(case: str) -> None:
    dialect, images = UNDERSTOOD[case]
    found = reading(case)
    assert found.problems == []
    assert found.dialect == dialect
    assert found.warnings == ()
    assert {
        each.name: (each.polygons.lengths.tolist(), each.polygons.ignore.astype(int).tolist())
        for each in found.annotations
    } == images


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case: str) -> None:
    file = source(case).annotations
    assert [str(problem) for problem in reading(case).problems] == [
        f"{file}: {line}" for line in REFUSED[case]
    ]


def test_nfd_names_are_paired(tmp_path: Path) -> None:
    """The disk's name counts, whatever form version control gave the files of the case."""
    folder = tmp_path / "img"
    folder.mkdir()
    decomposed = "rec\u0327u_e\u0301.jpg"
    image = next((CASES / "nfd" / "img").iterdir())
    (folder / decomposed).write_bytes(image.read_bytes())
    on_disk = os.listdir(folder)
    assert [a.name for a in read_annotations(CASES / "nfd" / "gt", folder).annotations] == on_disk
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"images": {"re\u00e7u_\u00e9.jpg": {}}}))
    assert [a.name for a in read_annotations(labels, folder).annotations] == on_disk


def test_images_without_annotation_are_named() -> None:
    assert reading("no_anno_images").unannotated == ("img_2.jpg", "img_3.JPG")


ORDERED = np.array([[60, 60], [300, 60], [300, 100], [60, 100]])


def test_bowties_are_repaired_and_said() -> None:
    found = reading("bowtie_all")
    assert [note.kind for note in found.notes] == ["repaired"] * 3
    assert [note.entry for note in found.notes] == ["word 0001", "word 0002", "word 0003"]
    assert np.array_equal(found.annotations[0].polygons.as_list()[0], ORDERED)
    tilted = reading("bowtie_tilted")
    assert [(note.kind, note.entry) for note in tilted.notes] == [("repaired", "word 0001")]


def test_bowties_are_left_and_said_where_repair_is_off() -> None:
    found = reading("bowtie_all", Rules(repair=False))
    assert [note.kind for note in found.notes] == ["self-crossing"] * 3
    assert np.array_equal(found.annotations[0].polygons.as_list()[0], ORDERED[[0, 1, 3, 2]])


def test_relative_points_are_suspected_of_each_image() -> None:
    assert [note.kind for note in reading("normalised").notes] == ["tiny"]


@pytest.mark.parametrize(("recipe", "repaired"), [("dbnet", True), ("seed", False)])
def test_store_and_verify_see_the_same_polygon(
    recipe: str, repaired: bool, settings: Settings
) -> None:
    changed = settings.model_copy(update={"recipe": recipe})
    build("val", source("bowtie_all"), changed)
    stored = open_store(settings.store).split("val")[0].polygons[0]
    right = ORDERED if repaired else ORDERED[[0, 1, 3, 2]]
    assert np.allclose(stored / stored[1, 0] * 300, right, atol=1e-3)
    assert verify(settings.store, sources={"val": source("bowtie_all")}, recompute=1).ok


@pytest.mark.parametrize(
    ("skip_bad", "names"),
    [
        ("polygon", ["p0.jpg", "p1.jpg", "p2.jpg", "p3.jpg"]),  # p3.jpg is damaged, and built
        ("image", ["p0.jpg", "p2.jpg", "p3.jpg"]),
    ],
)
def test_skip_bad(skip_bad: str, names: list[str], settings: Settings) -> None:
    changed = settings.model_copy(update={"skip_bad": skip_bad})
    build("val", source("skipbad_live"), changed)
    assert list(open_store(settings.store).split("val").names) == names
    assert build("val", source("skipbad_live"), changed).up_to_date
    read = source("skipbad_live").ruled(changed.rules, changed.parameters.recipe)
    assert verify(settings.store, sources={"val": read}, recompute=1).ok


# What of the made-up examples of formats each is read as; `None` finds the format by itself.
FORMS = {
    "ic13_test/gt/gt_img_1.txt": "ltrb",
    "ic13_train/gt/gt_100.txt": "ltrb",
    "mlt17/gt/gt_img_1.txt": "mlt",
    "ufo/train.json": "",
}


@pytest.mark.parametrize("file", FORMS)
def test_examples_of_forms(file: str) -> None:
    path = MADE / file
    folder = path.parent if path.suffix == ".txt" else path
    found = read_annotations(folder, MADE / Path(file).parts[0])
    assert found.problems == []
    assert found.warnings == ()
    assert found.dialect == FORMS[file]
    read = [
        [annotation.name, polygon.tolist(), bool(ignored)]
        for annotation in found.annotations
        for polygon, ignored in zip(
            annotation.polygons.as_list(), annotation.polygons.ignore, strict=True
        )
    ]
    assert read == json.loads((MADE / "expected.json").read_text())[file]
