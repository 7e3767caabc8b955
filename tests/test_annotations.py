"""Reading annotations: dialects, don't-care marks, odd entries of folders, crossing outlines."""

from __future__ import annotations

import json
import os
import re
import socket
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Dataset, run
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ocr_precompute.annotations import Reading, read_annotations
from ocr_precompute.annotations.crossing import self_crossing
from ocr_precompute.annotations.dialects import (
    DIALECTS,
    count_shapes,
    fits,
    ranked,
    readable,
    shape,
)
from ocr_precompute.errors import InputError
from ocr_precompute.settings import Rules, Settings, load_settings

QUAD = "60,60,300,60,300,100,60,100"
KEEP, IMAGE = Rules(skip_bad="polygon"), Rules(skip_bad="image")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An annotation folder beside an image folder with three pages of 640 x 480."""
    (tmp_path / "gt").mkdir()
    (tmp_path / "img").mkdir()
    page = cv2.imencode(".png", np.full((480, 640, 3), 255, np.uint8))[1].tobytes()
    for number in (1, 2, 3):
        (tmp_path / "img" / f"img_{number}.png").write_bytes(page)
    return tmp_path / "gt"


def read(folder: Path, *files: str, form: str = "auto", rules: Rules | None = None) -> Reading:
    """What is read of text files with those contents."""
    for number, text in enumerate(files, 1):
        (folder / f"gt_img_{number}.txt").write_text(text)
    return read_annotations(folder, folder.parent / "img", form, rules)


def polygons(reading: Reading) -> list[tuple[list, bool]]:
    return [
        (polygon.tolist(), bool(ignored))
        for annotation in reading.annotations
        for polygon, ignored in zip(
            annotation.polygons.as_list(), annotation.polygons.ignore, strict=True
        )
    ]


def flags(reading: Reading) -> list[bool]:
    return [ignored for _, ignored in polygons(reading)]


# --------------------------------------------------------------------------------------- dialects


@pytest.mark.parametrize(
    ("dialect", "lines", "ignored"),
    [
        ("quad", [f"{QUAD},TOTAL", f"{QUAD},###", f'{QUAD},"###"', f"{QUAD},*"], [0, 1, 1, 0]),
        ("quad", [f"{QUAD},1,007.50", f"{QUAD},a, b", f"{QUAD},1", f"{QUAD}"], [0, 0, 0, 0]),
        ("quad", [f"{QUAD},None, thanks", f"{QUAD},#1"], [0, 0]),
        ("quad", [f"{QUAD}, ### ", f"{QUAD},"], [1, 0]),
        ("mlt", [f"{QUAD},Latin,a, b", f"{QUAD},None,###", f'{QUAD},Arabic,"###"'], [0, 1, 1]),
        ("rctw", [f'{QUAD},0,"a, b"', f'{QUAD},1,"word"', f'{QUAD},0,"###"'], [0, 1, 1]),
        ("polygon", [f'{QUAD},"a, b"', '1,1,9,1,9,9,"###"', f'{QUAD},20,40,"b"'], [0, 1, 0]),
        ("ltrb", ["38, 43, 620, 215, Tiredness", '1, 1, 639, 479, "kills, a"'], [0, 0]),
        ("ltrb", ['38 43 620 215 "two words"', '400 300 500 400 "###"'], [0, 1]),
        ("xywh", ["38, 43, 20, 15, a", "100, 100, 40, 20, b"], [0, 0]),
    ],
)
def test_a_dialect_fits_all_lines(
    folder: Path, dialect: str, lines: list[str], ignored: list[int]
) -> None:
    found = read(folder, *lines[:1], "\n".join(lines[1:]))
    assert found.problems == []
    assert (found.dialect, found.warnings) == (dialect, ())
    assert flags(found) == [bool(i) for i in ignored]


def test_rectangles_become_corners(folder: Path) -> None:
    found = read(folder, "x, y, w, h, text\n38, 43, 20, 15, a\n", form="icdar:xywh")
    corners = [[38, 43], [58, 43], [58, 58], [38, 58]]
    assert polygons(found) == [(corners, False)]
    found = read(folder, "38 43 58 58 a\n", form="icdar:ltrb")
    assert polygons(found) == [(corners, False)]


def test_a_header_names_the_dialect(folder: Path) -> None:
    """Both readings lie inside the image; the columns' names decide, and the line is no word."""
    lines = "100, 100, 200, 200, a\n"
    named = read(folder, "x, y, w, h, text\n" + lines)
    assert (named.dialect, named.warnings, len(flags(named))) == ("xywh", (), 1)
    other = read(folder, "left, top, right, bottom, text\n" + lines)
    assert (other.dialect, other.warnings, len(flags(other))) == ("ltrb", (), 1)


def test_boxes_that_leave_the_image_decide(folder: Path) -> None:
    assert read(folder, "400,300,500,400,a").dialect == "ltrb"
    assert read(folder, "600,440,630,470,a", "10,10,20,20,b").dialect == "ltrb"
    over = read(folder, "600,40,605,70,a", "500,400,700,460,b")
    assert (over.dialect, over.warnings) == ("ltrb", ())
    (warning,) = read(folder, "600,40,700,70,a", "10,10,20,20,b").warnings
    assert "read as left,top,right,bottom,text, though x,y,width,height,text" in warning


def test_the_preferred_dialect_comes_with_a_warning(folder: Path) -> None:
    found = read(folder, f"{QUAD},20,40\n{QUAD},a")
    assert found.dialect == "quad"
    (warning,) = found.warnings
    assert f"gt_img_1.txt line 1 '{QUAD},20,40'" in warning
    assert "say --format icdar:polygon if that is meant" in warning
    assert read(folder, f"{QUAD},20,40\n{QUAD},a", form="icdar:quad").warnings == ()
    (warning,) = read(folder, "10,10,90,90,a").warnings
    assert "read as left,top,right,bottom,text, though x,y,width,height,text fits too" in warning


def test_no_dialect_is_preferred_where_polygons_would_differ(folder: Path) -> None:
    (problem,) = read(folder, "10,10,90,90,50,60,a\n10,10,90,90,20,30,b\n").problems
    assert problem.kind == "annotations"
    assert "lines may be x1,y1,...,xn,yn,text or left,top,right,bottom,text" in problem.message
    assert "--format icdar:polygon or icdar:ltrb" in problem.message


def test_a_folder_that_fits_nothing_is_one_problem(folder: Path) -> None:
    (problem,) = read(folder, "0 50 50 20 10\n" * 50).problems
    assert "is in no known dialect: gt_img_1.txt line 1 '0 50 50 20 10'" in problem.message
    assert "icdar:xywh (x,y,width,height,text)" in problem.message


def test_a_line_unlike_the_others_is_a_problem(folder: Path) -> None:
    good = f"{QUAD},a, b\n" * 5
    curved = ",".join(str(n) for n in range(28))
    (problem,) = read(folder, good + f"{curved},text").problems
    assert problem.entry == "line 6"
    assert "has 28 numbers where most lines have 8 and a text" in problem.message
    (problem,) = read(folder, good + f"{QUAD},None,###").problems
    assert "does not fit the dialect of most lines" in problem.message
    assert read(folder, good + f"{QUAD},None,###", form="icdar:quad").problems == []
    read_as_mlt = read(folder, f"{QUAD},Hebrew,###", form="icdar:mlt")
    assert (read_as_mlt.problems, flags(read_as_mlt)) == ([], [True])


def test_few_odd_polygons_among_quads_are_said(folder: Path) -> None:
    found = read(folder, f"{QUAD},a\n" * 200 + "60,60,300,60,300,100,a\n")
    assert found.dialect == "polygon"
    (warning,) = found.warnings
    assert "1 of 201 lines have not 4 points: gt_img_1.txt line 201" in warning


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("icdar:yolo", "format 'icdar:yolo' is unknown; one of icdar:mlt, icdar:rctw, icdar:quad"),
        ("icdar:", "format 'icdar:' is unknown; one of icdar:mlt"),
        ("words:quad", "format 'words:quad' is unknown; one of words"),
        ("coco9", "format 'coco9' is unknown; one of auto, alto, "),
    ],
)
def test_unknown_dialects(folder: Path, form: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(folder, QUAD, form=form)


def test_ufo_is_words(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"images": {"a.jpg": {}}}')
    assert read_annotations(path, tmp_path, "ufo").format == "words"


numbers = st.one_of(
    st.integers(-9, 2000).map(str),
    st.floats(-9, 2000).map(lambda x: f"{x:.2f}"),
    st.integers(0, 99).map(lambda n: f" {n}"),
)
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=12),
    st.sampled_from(["###", '"###"', "1,007.50", "Latin,a", "None,###", '"a, b"', "1", "", "nan"]),
)
any_line = st.one_of(
    st.tuples(st.lists(numbers, max_size=14), texts).map(lambda t: ",".join([*t[0], t[1]])),
    st.tuples(st.lists(numbers, max_size=6), texts).map(lambda t: " ".join([*t[0], t[1]])),
    texts,
)


@given(st.lists(any_line, max_size=8))
@hypothesis_settings(deadline=None)
def test_shapes_of_a_text_are_those_of_its_lines(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    assert count_shapes(text) == Counter(shape(line) for line in lines if line.strip())


@given(any_line)
@hypothesis_settings(deadline=None)
def test_what_fits_can_be_read(line: str) -> None:
    found = shape(line)
    assert all(readable(dialect, found) for dialect in DIALECTS if fits(dialect, found))


@given(
    st.lists(st.lists(st.integers(0, 639), min_size=8, max_size=8), min_size=1, max_size=6),
    st.lists(st.sampled_from(["word", "a, b", "12.50", "###", '"###"', "*"]), min_size=6),
)
@hypothesis_settings(deadline=None)
def test_quads_are_never_another_dialect(points: list[list[int]], words: list[str]) -> None:
    lines = [",".join(map(str, p)) + f",{w}" for p, w in zip(points, words, strict=False)]
    (broken, best), *_ = ranked(count_shapes("".join(f"{line}\n" for line in lines)))
    assert (broken, best) == (0, "quad")


# ------------------------------------------------------------------------------ words and limits


def words_file(tmp_path: Path, word: str) -> Path:
    path = tmp_path / "labels.json"
    path.write_text(f'{{"images": {{"a.jpg": {{"words": {{"1": {word}}}}}}}}}')
    return path


POINTS = '"points": [[60, 60], [300, 60], [300, 100]]'


@pytest.mark.parametrize(
    ("mark", "ignored"),
    [
        ('"ignore": true', True),
        ('"ignore": 1', True),
        ('"ignore": 0', False),
        ('"ignore": false, "illegibility": true', True),
        ('"illegibility": null', False),
        ('"illegibility": 1', True),
        ('"transcription": "###"', True),
        ('"transcription": " \\"###\\" "', True),
        ('"transcription": "*"', False),
        ('"transcription": null', False),
        ('"tags": ["Masked"]', True),
        ('"tags": ["clean"]', False),
        ('"tags": null, "word_tags": ["excluded-region"]', True),
        ('"tags": "stamp"', True),
    ],
)
def test_dont_care_marks_of_words(tmp_path: Path, mark: str, ignored: bool) -> None:
    found = read_annotations(words_file(tmp_path, f"{{{POINTS}, {mark}}}"), tmp_path)
    assert (found.problems, flags(found)) == ([], [ignored])


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ('"ignore": "true"', '"ignore" is "true"; it must be true, false, 1 or 0'),
        ('"ignore": 2', '"ignore" is 2.0; it must be'),
        ('"ignore": null', '"ignore" is null; it must be'),
        ('"illegibility": [1]', r'"illegibility" is \[1.0\]; it must be'),
        ('"tags": {"masked": 1}', '"tags" is not a list of texts'),
        ('"ignore": true, "ignore": false', "the key 'ignore' stands twice; keep one"),
    ],
)
def test_marks_that_are_none(tmp_path: Path, mark: str, message: str) -> None:
    path = words_file(tmp_path, f"{{{POINTS}, {mark}}}")
    (problem,) = read_annotations(path, tmp_path).problems
    assert problem.entry == "a.jpg: word 1"
    assert re.search(message, problem.message)
    kept = read_annotations(path, tmp_path, "auto", KEEP)
    assert flags(kept) == [True]
    assert [note.kind for note in kept.notes] == ["kept-as-ignore"]


def test_keys_that_stand_twice(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"images": {}, "images": {}}')
    (problem,) = read_annotations(path, tmp_path).problems
    assert problem.message == 'the key "images" stands twice; join the two'
    path.write_text('{"images": {"a.jpg": {"words": {}, "words": {}}, "b.jpg": {"x": 1, "x": 2}}}')
    found = read_annotations(path, tmp_path)
    assert [p.message for p in found.problems] == ['the key "words" stands twice; join the two']
    assert [a.name for a in found.annotations] == ["b.jpg"]


def test_an_image_annotated_twice_is_left_out(folder: Path) -> None:
    (folder / "img_1.txt").write_text(f"{QUAD},a")
    found = read(folder, f"{QUAD},a\n{QUAD},b", f"{QUAD},c")
    assert [problem.sample for problem in found.problems] == ["img_1.png"]
    assert [annotation.name for annotation in found.annotations] == ["img_2.png"]


@pytest.mark.parametrize(
    ("size", "declared"),
    [
        ('"img_w": 200, "img_h": 100', (100, 200)),
        ('"width": 20, "height": 10.0', (10, 20)),
        ('"img_w": null, "img_h": 100', None),
        ('"width": -1, "height": "a"', None),
        ('"width": 1e999, "height": 3', None),
    ],
)
def test_declared_sizes(tmp_path: Path, size: str, declared: tuple[int, int] | None) -> None:
    path = tmp_path / "labels.json"
    path.write_text(f'{{"images": {{"a.jpg": {{{size}, "words": {{"1": {{{POINTS}}}}}}}}}}}')
    (annotation,) = read_annotations(path, tmp_path).annotations
    assert annotation.declared_size == declared


def test_limits(folder: Path, tmp_path: Path) -> None:
    rules = Rules(max_polygons=2, max_vertices=4)
    found = read(folder, f"{QUAD},a\n" * 3, f'{QUAD},20,40,20,50,"b"\n{QUAD},"a"', rules=rules)
    assert [problem.kind for problem in found.problems] == ["image", "polygon"]
    assert "has 3 polygons, more than the limit of 2" in found.problems[0].message
    assert "has 6 points, more than the limit of 4" in found.problems[1].message
    kept = read(folder, rules=rules.model_copy(update={"skip_bad": "polygon"}))
    assert [annotation.name for annotation in kept.annotations] == ["img_2.png"]
    box = [[20, 40], [300, 40], [300, 100], [20, 100]]
    assert (box, True) in polygons(kept)
    path = words_file(tmp_path, json.dumps({"points": [[1.5, 2]] * 10_001}))
    (problem,) = read_annotations(path, tmp_path).problems
    assert "has 10001 points, more than the limit of 10000" in problem.message


def test_limits_are_settings(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("max_polygons: 7\nmax_vertices: 9\nrepair: false\nskip_bad: image\n")
    rules = load_settings(config, {}).rules
    assert rules == Rules(max_polygons=7, max_vertices=9, repair=False, skip_bad="image")
    assert Settings(skip_bad=True).rules.skip_bad == "polygon"
    assert Settings(skip_bad=False).rules.skip_bad == "no"


# ------------------------------------------------------------------------------------ bad polygons


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        ([[1, 1], [90, 1], [90, 90], [float("nan"), 1]], [[1, 1], [90, 1], [90, 90]]),
        ([[1, 1], [90, 1], [90, 90], [9e9, 1], "x", [1], [True, 1]], [[1, 1], [90, 1], [90, 90]]),
        ([[1, 1], [9, 9]], None),
        ([["1", "1"]] * 4, None),
        (None, None),
        ({"x": 3}, None),
    ],
)
def test_what_is_left_of_a_bad_polygon(tmp_path: Path, points: object, kept: list | None) -> None:
    path = tmp_path / "labels.json"
    good = {"points": [[5.0, 5], [50, 5], [50, 50]]}
    document = {"images": {"a.jpg": {"words": {"1": good, "2": {"points": points}}}}}
    path.write_text(json.dumps(document))
    assert flags(read_annotations(path, tmp_path)) == [False]
    found = read_annotations(path, tmp_path, "auto", KEEP)
    assert [problem.kind for problem in found.problems] == ["polygon"]
    kind = "kept-as-ignore" if kept else "unlabelled"
    assert [(n.kind, n.sample, n.entry) for n in found.notes] == [(kind, "a.jpg", "word 2")]
    assert polygons(found)[1:] == ([(kept, True)] if kept else [])
    left_out = read_annotations(path, tmp_path, "auto", IMAGE)
    assert left_out.annotations == []
    assert [problem.kind for problem in left_out.problems] == ["image"]


def test_skip_bad_from_the_command(dataset: Dataset, tmp_path: Path) -> None:
    dataset.points("page_003.jpg")[:] = [[1, 1], [2, 2]]
    dataset.save()
    flags = [*dataset.flags(), "--size", 64, "--json", "--jobs", 1, "--backend", "sequential"]
    for arguments, samples in (
        (["--skip-bad", "--dry-run"], 24),
        (["--skip-bad=image"], 23),
        (["--dry-run", "--skip-bad"], 24),
    ):
        store = tmp_path / "store"
        result = run("build", *flags, "--store", store, *arguments, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["samples"] == samples
    assert run("verify", "--store", store, cwd=tmp_path).returncode == 0
    wrong = run("build", *flags, "--skip-bad=all", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


# ----------------------------------------------------------------------------------------- folders


def test_odd_entries_are_named(folder: Path) -> None:
    for name, image in (("dangling", 1), ("pipe", 2), ("folder", 3)):
        (folder.parent / "img" / f"img_{image}.png").rename(folder.parent / "img" / f"{name}.png")
    (folder / "dangling.txt").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.txt")
    (folder / "folder.txt").mkdir()
    found = read_annotations(folder, folder.parent / "img")
    assert {Path(p.file).name: p.message for p in found.problems} == {
        "dangling.txt": "cannot be read: No such file or directory; correct or remove it",
        "pipe.txt": "is not a regular file; replace or remove it",
        "folder.txt": "is not a regular file; replace or remove it",
    }


def test_a_socket_and_a_loop_of_links(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("img_1.txt")
        (folder / "img_2.txt").symlink_to("img_2.txt")
        (folder / "again").symlink_to(folder)
        found = read(folder)
    assert [Path(p.file).name for p in found.problems] == ["img_1.txt", "img_2.txt"]


def test_what_is_no_annotation_is_listed(folder: Path) -> None:
    (folder / "._gt_img_1.txt").write_bytes(b"\0\5\26\7")
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "readme.md").write_text("hello")
    (folder / "img_1.png").write_bytes(b"")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.txt").write_text("hello")
    (folder / "old").mkdir()
    (folder / "old" / "gt_img_1.txt").write_text("hello")
    found = read(folder, f"{QUAD},a")
    assert found.problems == []
    assert dict(found.left_out) == {
        "._gt_img_1.txt": "holds what macOS keeps beside another file",
        ".DS_Store": "is hidden",
        ".git": "is hidden",
        "readme.md": "does not end in .csv or .txt",
        "old/gt_img_1.txt": "there is no image old/img_1.jpg, .png or the like; "
        "add it or remove this file",
    }
    (warning,) = found.warnings
    assert "text files in sub-folders are left out" in warning
    assert warning.endswith("old/gt_img_1.txt")
    assert found.unannotated == ("img_2.png", "img_3.png")


@pytest.mark.parametrize(
    ("file", "image"),
    [
        ("gt_img_9.txt", "img_9.JPG"),
        ("img_9.jpg.txt", "img_9.jpg"),
        ("gt_img_9.jpg.csv", "img_9.jpg"),
        ("7_gt_ocr.txt", "7_in.jpg"),
        ("gt_7.txt", "im0007.jpg"),
    ],
)
def test_names_that_belong_together(folder: Path, file: str, image: str) -> None:
    (folder / file).write_text(f"{QUAD},a")
    (folder.parent / "img" / image).write_bytes(b"")
    assert [a.name for a in read(folder).annotations] == [image]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (f"{QUAD},a".encode("utf-16-le"), "as UTF-16 without a byte-order mark does; save it"),
        (b"\xff\xfe\x31", "starts as UTF-16 and is damaged; save it as UTF-8"),
    ],
)
def test_encodings_that_cannot_be_read(folder: Path, data: bytes, message: str) -> None:
    (folder / "img_1.txt").write_bytes(data)
    (problem,) = read(folder).problems
    assert message in problem.message


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings(folder: Path, encoding: str) -> None:
    (folder / "img_1.txt").write_bytes(f"{QUAD},caf\u00e9\r\n{QUAD},###\r\n".encode(encoding))
    found = read(folder)
    assert (found.problems, flags(found)) == ([], [False, True])


def test_files_are_read_within_bounds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocr_precompute.annotations.formats.icdar._LARGEST_FILE", 1 << 20)
    monkeypatch.setattr("ocr_precompute.annotations.formats.words._LARGEST_FILE", 1 << 20)
    (folder / "img_1.txt").write_bytes(b"1," * (1 << 20))
    (problem,) = read(folder).problems
    assert problem.message == "is larger than 1 MB; split it up or remove it"
    path = folder / "big.json"
    path.write_bytes(b" " * (1 << 21))
    (problem,) = read_annotations(path, folder).problems
    assert problem.message == "is larger than 1 MB; split it up or remove it"
    os.mkfifo(folder / "pipe.json")
    (problem,) = read_annotations(folder / "pipe.json", folder, "words").problems
    assert problem.message == "is not a regular file; replace or remove it"


def test_names_with_dots_and_backslashes(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"images": {"./a.jpg": {}, "sub//b.jpg": {}, ".\\\\sub\\\\c.jpg": {}}}')
    found = read_annotations(path, tmp_path)
    assert [a.name for a in found.annotations] == ["a.jpg", "sub/b.jpg", "sub/c.jpg"]


# --------------------------------------------------------------------------------------- crossing

coordinate = st.integers(0, 40).map(float)
corner = st.tuples(coordinate, coordinate).map(list)


def crosses(points: list[list[float]]) -> bool:
    """Whether two edges pass through each other; whole numbers, so that it is exact."""

    def side(a: list[float], b: list[float], p: list[float]) -> float:
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    edges = list(zip(points, points[1:] + points[:1], strict=True))
    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for i, (a, b) in enumerate(edges)
        for c, d in edges[:i]
    )


def area(points: list[list[float]]) -> float:
    x, y = np.array(points).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


@given(st.lists(st.lists(corner, min_size=4, max_size=4), min_size=1, max_size=5))
@hypothesis_settings(deadline=None)
def test_repair_gives_the_hull_and_touches_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, quads: list[list[list[float]]]
) -> None:
    path = tmp_path_factory.mktemp("repair") / "labels.json"
    quads = [[[x + 2, y + 2] for x, y in quad] for quad in quads]  # not all within one pixel
    document = {str(i): {"words": {"1": {"points": q}}} for i, q in enumerate(quads)}
    path.write_text(json.dumps({"images": document}))
    found = read_annotations(path, path.parent)
    repaired = {note.sample for note in found.notes if note.kind == "repaired"}
    assert repaired == {str(i) for i, quad in enumerate(quads) if crosses(quad)}
    for annotation, before in zip(found.annotations, quads, strict=True):
        after = annotation.polygons.points.tolist()
        assert not crosses(after)
        if annotation.name not in repaired:
            assert after == before
        else:
            hull = cv2.convexHull(np.array(before, np.float32))
            assert sorted(after) == sorted(before)
            assert area(after) == pytest.approx(cv2.contourArea(hull))
    unchanged = read_annotations(path, path.parent, "auto", Rules(repair=False))
    assert [a.polygons.points.tolist() for a in unchanged.annotations] == quads
    assert {n.sample for n in unchanged.notes if n.kind == "self-crossing"} == repaired


@given(st.integers(3, 9).flatmap(lambda n: st.lists(corner, min_size=n, max_size=n)))
@hypothesis_settings(deadline=None)
def test_crossing_outlines_are_found(points: list[list[float]]) -> None:
    assert self_crossing(np.array([points])).tolist() == [crosses(points)]


@given(st.integers(0, 2**32 - 1), st.booleans())
@hypothesis_settings(deadline=None, max_examples=30)
def test_crossing_outlines_of_many_vertices_are_found(seed: int, spoilt: bool) -> None:
    random = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 101)[:-1]
    radius = random.integers(200, 1000, 100)
    star = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
    points = star.round()
    if spoilt:
        points[[10, 60]] = points[[60, 10]]
    assert self_crossing(points[None]).tolist() == [crosses(points.tolist())]


def test_curved_lines_that_cross_are_said_and_left(tmp_path: Path) -> None:
    points = [[10, 10], [90, 10], [50, 50], [90, 90], [60, -20], [10, 90]]
    path = words_file(tmp_path, json.dumps({"points": points}))
    found = read_annotations(path, tmp_path)
    assert [(n.kind, n.entry) for n in found.notes] == [("self-crossing", "word 1")]
    assert found.annotations[0].polygons.points.tolist() == points


def test_an_image_of_tiny_polygons_is_suspected(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    tiny = {"points": [[0.2, 0.2], [0.8, 0.2], [0.8, 0.9]]}
    large = {"points": [[20, 20], [80, 20], [80, 90]]}
    path.write_text(
        json.dumps(
            {"images": {"a": {"words": {"1": tiny}}, "b": {"words": {"1": tiny, "2": large}}}}
        )
    )
    found = read_annotations(path, tmp_path)
    assert found.problems == []
    assert [(note.kind, note.sample) for note in found.notes] == [("tiny", "a")]
