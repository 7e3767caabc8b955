"""Annotations written in other forms: identities where both can say all, losses listed else."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import run
from forms import BOX, QUAD
from hypothesis import given, settings
from hypothesis import strategies as st

from ocr_precompute.annotations import Annotation, read_annotations
from ocr_precompute.annotations.writers import WRITERS, Page
from ocr_precompute.errors import InputError, StoreError
from ocr_precompute.pipeline.convert import convert
from ocr_precompute.samples import Polygons
from ocr_precompute.settings import Rules, Source

SIZE = (100, 200)
TRIANGLE = [[10, 60], [90, 60.5], [50, 80.25]]
READ_AS = {"icdar": "icdar:quad"}
FORMS = sorted(WRITERS)

NO_DONT_CARE, NO_TEXT = {"doctr"}, {"doctr"}
QUADS = {"doctr", "icdar"}
CLASSES = {"coco", "paddle", "doctr"}
EMPTY = set(FORMS) - {"doctr"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images a.png to c.png and one in a folder."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "in side").mkdir()
    for name in ("a.png", "b.png", "in side/c.png"):
        cv2.imwrite(str(folder / name), np.zeros((*SIZE, 3), np.uint8))
    return folder


coordinates = st.one_of(
    st.integers(0, 99), st.floats(0, 99).map(lambda x: round(x, 3)), st.floats(0, 99)
)
one_line = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters='#*"'),
    min_size=1,
    max_size=8,
)


@st.composite
def pages(draw: Any, forms: tuple[str, ...]) -> list[Page]:
    """Pages of which every one of the forms can say everything."""
    said = set(forms)
    found = []
    for name in draw(st.permutations(["a.png", "b.png", "in side/c.png"]))[:2]:
        count = draw(st.integers(0 if said <= EMPTY else 1, 4))
        polygons = []
        for _ in range(count):
            sides = 4 if said & QUADS else draw(st.integers(3, 7))
            angles = np.sort(np.random.default_rng(draw(st.integers(0, 999))).uniform(0, 6, sides))
            x, y = draw(coordinates), draw(coordinates)
            around = np.stack([x + 30 * np.cos(angles), y + 20 * np.sin(angles)], axis=1)
            # docTR's quads are put in order, for which rounded ones may have none.
            is_whole = "doctr" not in said and draw(st.booleans())
            polygons.append(np.round(around) if is_whole else around)
        ignore = [not said & NO_DONT_CARE and draw(st.booleans()) for _ in range(count)]
        texts: list[str | None] = [None] * count
        if not said & NO_TEXT:
            texts = ["###" if ignored else draw(one_line) for ignored in ignore]
        classes: list[str | None] = [None] * count
        if said <= CLASSES:
            classes = [draw(st.sampled_from(["text", "title", "été"])) for _ in range(count)]
        labels = [f"word {number}" for number in range(count)]
        shapes = Polygons.from_list(polygons, ignore)
        found.append(Page(name, SIZE, shapes, labels, texts, classes))
    return sorted(found, key=lambda page: page.name)


def turned(polygon: list[list[float]]) -> list[list[float]]:
    """The same polygon from its first corner on, whichever that is."""
    first = polygon.index(min(polygon))
    return polygon[first:] + polygon[:first]


def told(annotations: list[Page] | list[Annotation], in_any_order: bool) -> list[Any]:
    """What is said, with no class where a word is nothing but a word.

    in_any_order: of words, and of where in a polygon its corners begin.
    """
    found = []
    for each in annotations:
        count = len(each.polygons.lengths)
        words = list(
            zip(
                [
                    turned(polygon.tolist()) if in_any_order else polygon.tolist()
                    for polygon in each.polygons.as_list()
                ],
                each.polygons.ignore.tolist(),
                each.texts or [None] * count,
                [None if name == "text" else name for name in each.classes or [None] * count],
                strict=True,
            )
        )
        found.append((each.name, sorted(words, key=repr) if in_any_order else words))
    return found


def reread(path: Path, form: str, images: Path) -> list[Annotation]:
    rules = Rules(repair=False)
    reading = read_annotations(path, images, READ_AS.get(form, form), rules, told=True)
    assert reading.problems == []
    return reading.annotations


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_there_and_back_again(first: str, second: str, pictures: Path) -> None:
    """What is written in one form, read, written in another and read there, is the same."""

    @settings(max_examples=10)
    @given(pages((first, second)))
    def back(written: list[Page]) -> None:
        # docTR has its words by class, and takes quads in any order of corners.
        in_any_order = "doctr" in (first, second)
        with tempfile.TemporaryDirectory() as folder:
            for number, form in enumerate((first, second, first)):
                path = Path(folder) / str(number)
                assert [loss for page in written for loss in WRITERS[form].losses(page)] == []
                WRITERS[form].write(path, written)
                found = reread(path, form, pictures)
                assert told(found, in_any_order) == told(written, in_any_order)
                written = [
                    Page(each.name, SIZE, each.polygons, each.labels, each.texts, each.classes)
                    for each in found
                ]

    back()


def page(
    *words: tuple[Any, bool, str | None, str | None], name: str = "a.png", turned: bool = False
) -> Page:
    polygons = Polygons.from_list(
        [np.array(points, np.float64) for points, *_ in words],
        [ignored for _, ignored, *_ in words],
    )
    labels = [f"word {number}" for number in range(1, len(words) + 1)]
    texts, classes = [text for *_, text, _ in words], [name for *_, name in words]
    return Page(name, SIZE, polygons, labels, texts, classes, turned)


ALL = page(
    (QUAD, False, "Ada", None),
    (BOX, True, "PAID", "stamp"),
    (TRIANGLE, False, "two\nlines", None),
    (QUAD, False, "*", None),
)


@pytest.mark.parametrize(
    ("form", "losses"),
    [
        ("words", [("label", "word 2")]),
        ("coco", []),
        ("paddle", [("text", "word 2"), ("text", "word 4")]),
        (
            "doctr",
            [
                *(("text", "word 1"), ("don't-care", "word 2")),
                *(("polygon", "word 3"), ("text", "word 4")),
            ],
        ),
        ("mmocr", [("label", "word 2")]),
        ("icdar", [("label", "word 2"), ("text", "word 2"), ("polygon", "word 3")]),
        ("icdar:polygon", [("label", "word 2"), ("text", "word 2"), ("text", "word 3")]),
    ],
)
def test_what_a_form_cannot_say_is_listed(form: str, losses: list[tuple[str, str]]) -> None:
    found = list(WRITERS[form].losses(ALL))
    assert [(loss.what, loss.entry) for loss in found] == losses
    assert {loss.image for loss in found} <= {"a.png"}
    assert all(loss.detail for loss in found)


def test_what_is_lost_is_lost_as_it_is_said(tmp_path: Path, pictures: Path) -> None:
    WRITERS["paddle"].write(tmp_path / "Label.txt", [ALL])
    (found,) = reread(tmp_path / "Label.txt", "paddle", pictures)
    assert found.texts == ["Ada", "###", "two\nlines", None]
    assert found.polygons.ignore.tolist() == [False, True, False, False]
    WRITERS["icdar"].write(tmp_path / "gt", [ALL])
    (found,) = reread(tmp_path / "gt", "icdar", pictures)
    assert (list(found.texts), len(found.polygons.lengths)) == (["Ada", "###", "*"], 3)


def test_turned_images_are_said_where_they_are_read_as_stored() -> None:
    (loss,) = WRITERS["mmocr"].losses(page(turned=True))
    assert "MMOCR" in loss.detail
    assert list(WRITERS["words"].losses(page(turned=True))) == []


def test_images_without_words(tmp_path: Path, pictures: Path) -> None:
    for form in sorted(EMPTY - {"mmocr"}):
        WRITERS[form].write(tmp_path / form, [page((BOX, False, "a", None)), page(name="b.png")])
        names = [each.name for each in reread(tmp_path / form, form, pictures)]
        assert names == ["a.png", "b.png"]
    (loss,) = WRITERS["doctr"].losses(page())
    assert (loss.what, loss.entry) == ("image", "")


def test_text_files_of_images_that_are_called_alike(tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "a.jpg", "gt_a.png", "b.png")):
        cv2.imwrite(str(tmp_path / name), np.zeros((*SIZE, 3), np.uint8))
        WRITERS["icdar"].write(
            tmp_path / f"gt{number}", [page((BOX, False, name, None), name=name)]
        )
    names = ["a.png", "a.jpg", "gt_a.png", "b.png"]
    written = [page((BOX, False, name, None), name=name) for name in names]
    WRITERS["icdar"].write(tmp_path / "gt", written)
    found = reread(tmp_path / "gt", "icdar", tmp_path)
    assert {each.name: list(each.texts) for each in found} == {name: [name] for name in names}


# --------------------------------------------------------------------------------- the whole way


def ufo(folder: Path, **images: Any) -> Path:
    path = folder / "labels.json"
    words = {"1": {"points": QUAD, "transcription": "Ada"}, "2": {"points": BOX, "ignore": True}}
    listed = {"a.png": {"words": words}, "b.png": {}} | images
    path.write_text(json.dumps({"images": listed}))
    return path


def test_the_command(tmp_path: Path, pictures: Path) -> None:
    path, out, report = ufo(tmp_path), tmp_path / "made" / "gt.json", tmp_path / "losses.json"
    command = ("convert", "--images", pictures, "--annotations", path, "--out", out)
    done = run(*command, "--to", "doctr", "--report", report)
    assert (done.returncode, done.stdout) == (0, "")
    assert "words to doctr: 2 images, 2 words, 1 of them don't care" in done.stderr
    assert "doctr cannot say 1 x don't-care:" in done.stderr
    assert "  a.png: word 2: is left out: docTR knows none" in done.stderr
    found = json.loads(report.read_text())
    assert found["lost"] == {"text": 1, "don't-care": 1, "image": 1}
    assert [loss["entry"] for loss in found["losses"]] == ["word 1", "word 2", ""]
    assert json.loads(out.read_text())["a.png"]["img_dimensions"] == [100, 200]
    again = run(*command, "--to", "coco")
    assert again.returncode == 2
    assert "is there already" in again.stderr
    as_json = json.loads(run(*command[:-1], tmp_path / "c.json", "--to", "coco", "--json").stdout)
    assert (as_json["format"], as_json["words"], as_json["lost"]) == ("words", 2, {})


def test_forms_that_are_not_written(tmp_path: Path, pictures: Path) -> None:
    command = ("convert", "--images", pictures, "--annotations", ufo(tmp_path))
    done = run(*command, "--out", tmp_path / "x", "--to", "yolo")
    assert done.returncode == 2
    assert "one of words, coco, paddle, doctr, mmocr, icdar, icdar:polygon" in done.stderr


def test_bad_input_writes_nothing(tmp_path: Path, pictures: Path) -> None:
    other = {"words": {"1": {"points": BOX}}, "img_w": 100, "img_h": 200}
    bad = {"words": {"1": {"points": [[1, 2]]}}}
    path = ufo(tmp_path, **{"in side/c.png": other, "none.png": {}, "a.png": bad})
    source = Source(images=pictures, annotations=path)
    with pytest.raises(InputError) as error:
        convert(source, WRITERS["coco"], tmp_path / "out.json", 10**6)
    said = str(error.value)
    assert "a.png: word 1: has 1 points" in said
    assert "is 200 x 100 pixels and was annotated at 100 x 200: its EXIF turns it" in said
    assert "none.png: cannot be read" in said
    assert [each.name for each in tmp_path.iterdir()] == ["labels.json"]
    done = convert(source.skipping("polygon"), WRITERS["coco"], tmp_path / "out.json", 10**6)
    assert (done.images, done.words) == (2, 0)
    with pytest.raises(StoreError, match="is there already"):
        convert(source, WRITERS["coco"], tmp_path / "out.json", 10**6)


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, pictures: Path) -> None:
    source = Source(images=pictures, annotations=ufo(tmp_path))
    closed = tmp_path / "closed"
    closed.write_text("no folder")
    with pytest.raises(StoreError, match="cannot be written"):
        convert(source, WRITERS["icdar"], closed / "gt", 10**6)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["closed", "labels.json"]
