"""Readers of folders of text files beside `icdar`: Total-Text, MSRA-TD500 and DOTA."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from forms import BOX, MADE, QUAD, messages, words
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ocr_precompute.annotations import Reading, read_annotations
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.formats import FORMATS
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.reading import Entry, Words
from ocr_precompute.errors import InputError
from ocr_precompute.settings import Rules

ROOT = Path(__file__).resolve().parents[1]
TOTALTEXT = "x: [[10 90 90 10]], y: [[10 12 32 30]], ornt: [u'h'], transcriptions: [u'Ada']"
TD500 = "0 0 110 50 70 20 0.0"
DOTA = "10 10 90 12 90 32 10 30 text 0"
LINES = {"totaltext": TOTALTEXT, "td500": TD500, "dota": DOTA}
NAMES = {"totaltext": "poly_gt_a.txt", "td500": "a.gt", "dota": "a.txt"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of annotations beside `images`, which holds a.png and b.png."""
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((100, 200, 3), np.uint8))
    (tmp_path / "labels").mkdir()
    return tmp_path / "labels"


def read(folder: Path, content: str | bytes, form: str, name: str = "", **rules: Any) -> Reading:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / (name or NAMES[form])).write_bytes(data)
    return read_annotations(folder, folder.parent / "images", form, Rules(**rules))


def entry(folder: Path, content: str, form: str) -> Entry:
    """What a format itself makes of one file."""
    (folder / NAMES[form]).write_text(content)
    known = {each.name: each for each in FORMATS}
    found = known[form].read(folder, ImageNames(folder.parent / "images"), "", Rules())
    (only,) = found.entries
    assert isinstance(only, Entry)
    return only


def columns(found: Entry) -> Words:
    assert isinstance(found.words, Words)
    return found.words


# ------------------------------------------------------------------------------- which format it is


def candidates() -> list[Path]:
    """What may be given as annotations of every example: the file, and the folder it lies in."""
    files = [path for path in sorted(MADE.rglob("*")) if path.is_file()]
    texts = {".txt", ".gt", ".json", ".jsonl", ".xml", ".hocr"}
    found = [path for path in files if path.suffix in texts and path.name != "expected.json"]
    return sorted({*found, *(path.parent for path in found)})


@pytest.mark.parametrize("path", candidates(), ids=lambda path: str(path.relative_to(MADE)))
def test_examples_of_other_formats_are_not_taken(path: Path) -> None:
    mine = {"totaltext", "td500", "dota"}
    fits = {form.name: form.recognise(Look(path)) for form in FORMATS}
    taken = {name for name in mine if fits[name] != Fit.NO}
    own = {name for name in mine if path.relative_to(MADE).parts[0] == name and path != MADE / name}
    if path == MADE / "td500":  # its files lie beside its image
        own = {"td500"}
    assert taken == own
    if taken:
        assert [name for name, fit in fits.items() if fit == Fit.YES] == sorted(taken)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "0 0.05 0.10 0.45 0.12 0.45 0.32 0.05 0.30"),  # a YOLO segment
        ("a.txt", "0 0.05 0.10 0.45 0.12 0.45 0.32"),
        ("a.gt", "0 0 0.10 0.45 0.12 0.45 0.32"),
        ("a.txt", "0 0.25 0.2 0.4 0.2 0.9"),
        ("a.txt", "10,10,90,12,90,32,10,30,text 0"),  # ICDAR
        ("a.txt", "10 10 90 12 90 32 10 30 7 0"),  # numbers alone
        ("a.txt", '10 10 90 30 "text"'),
        ("a.txt", 'a.png\t[{"points": []}]'),
        ("a.gt", ""),
        ("a.txt", "imagesource:GoogleEarth\ngsd:0.1"),
    ],
)
def test_what_only_looks_similar_is_not_taken(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    for form in FORMATS:
        if form.name in LINES:
            assert form.recognise(Look(folder)) == Fit.NO
            assert form.recognise(Look(folder / name)) == Fit.NO


@pytest.mark.parametrize("form", LINES)
def test_one_file_and_files_in_folders(folder: Path, form: str) -> None:
    images = folder.parent / "images"
    (images / "c").mkdir()
    (images / "b.png").rename(images / "c" / "b.png")
    (folder / NAMES[form]).write_text(LINES[form])
    one = read_annotations(folder / NAMES[form], images)
    assert (one.format, one.problems, len(words(one))) == (form, [], 1)
    (folder / "c").mkdir()
    (folder / "c" / NAMES[form].replace("a.", "b.")).write_text(LINES[form])
    (folder / "notes.md").write_text("mine")
    both = read_annotations(folder, images)
    assert (both.format, both.problems) == (form, [])
    assert [a.name for a in both.annotations] == ["a.png", "c/b.png"]
    assert [path for path, _ in both.left_out] == ["notes.md"]


# ------------------------------------------------------------------------ what goes wrong in all


@pytest.mark.parametrize("form", LINES)
def test_pairing_and_files_that_cannot_be_read(folder: Path, form: str) -> None:
    (folder / NAMES[form].replace("a.", "absent.")).write_text(LINES[form])
    (folder / NAMES[form].replace("a.", "b.")).mkdir()
    (folder.parent / "images" / "a.jpg").write_bytes(b"")
    found = read(folder, LINES[form], form)
    said = {problem.sample: problem.message for problem in found.problems}
    assert said["absent"] == (
        "there is no image absent.jpg, .png or the like; add it or remove this file"
    )
    assert said["a"] == "fits several images: a.jpg, a.png; keep one of them"
    assert said["b.png"].endswith("remove it") or "regular file" in said["b.png"]
    assert {problem.kind for problem in found.problems} == {"image"}
    assert all(problem.file.startswith(str(folder)) for problem in found.problems)


@pytest.mark.parametrize("form", LINES)
def test_encodings_and_blank_files(folder: Path, form: str) -> None:
    for data in (
        b"\xef\xbb\xbf" + LINES[form].encode(),
        LINES[form].encode("utf-16"),
        LINES[form].replace("\n", "\r\n").encode() + b"\r\n\r\n",
    ):
        found = read(folder, data, form)
        assert (found.problems, len(words(found))) == ([], 1)
    blank = read(folder, "\n \n", form)
    assert (blank.problems, len(blank.annotations), words(blank)) == ([], 1, [])
    nul = read(folder, LINES[form].encode("utf-16-le"), form)
    assert "holds NUL bytes" in nul.problems[0].message


@pytest.mark.parametrize("form", LINES)
def test_limits(folder: Path, form: str) -> None:
    many = "\n".join([LINES[form]] * 3)
    (problem,) = read(folder, many, form, max_polygons=2).problems
    assert problem.message.startswith("has 3 polygons, more than the limit of 2")
    if form == "totaltext":
        found = read(folder, many, form, max_vertices=3)
        assert "has 4 points, more than the limit of 3" in found.problems[0].message


@pytest.mark.parametrize(
    ("form", "line", "message"),
    [
        ("td500", "0 0 10 10 80 20", "line 2: has 6 fields, not 7; a line is `index difficult x y"),
        ("td500", "0 0 10 10 80 20 left", "line 2: 'left' is no number; a line is"),
        ("td500", "0 0 10 10 80 20 nan", "line 2: 'nan' is no number"),
        ("td500", "0 0 10 10 80 20 inf", "line 2: 'inf' is no number"),
        ("td500", "0 2 10 10 80 20 0", "line 2: has '2' where 0 or 1 says if it is difficult"),
        ("td500", "0 0 10 10 -80 20 0", "line 2: has a negative width or height; a line is"),
        ("dota", "10 10 90 12 90 32 10 30", "line 2: has 8 fields, not 9 or 10; a line is `x1 y1"),
        ("dota", "1 2 3 4 5 6 7 8 text 0 9", "line 2: has 11 fields, not 9 or 10"),
        ("dota", "1 2 3 4 5 6 7 x text 0", "line 2: 'x' is no number; a line is"),
        ("dota", "1 2 3 4 5 1_0 7 8 text 0", "line 2: '1_0' is no number"),
        ("dota", "1 2 3 4 5 6 7 8 text 3", "line 2: has '3' where 0, 1 or 2 says how difficult"),
        ("totaltext", "something else", "line 1: is no record of a word; a record is `x: [[...]]"),
        ("totaltext", "x: [[1 2 3]], y: [[1 2]], ornt: [], transcriptions: []", "has 3 x and 2 y"),
        ("totaltext", "x: [[1 a 3]], y: [[1 2 3]], ornt: [], transcriptions: []", "is no number"),
        ("totaltext", "x: [[1 2 3]], y: [[1 2 3]], ornt: [u'c]", "is no record of a word"),
        ("totaltext", "x: [[1 2]], y: [[1 2]], ornt: [], transcriptions: []", "has 2 points"),
    ],
)
def test_bad_words(folder: Path, form: str, line: str, message: str) -> None:
    after = form != "totaltext" or line.startswith("x:")  # what has no beginning ends with a word
    content = f"{LINES[form]}\n{line}\n" if after else f"{line}\n{LINES[form]}\n"
    found = read(folder, content, form)
    (problem,) = found.problems
    assert problem.kind == "polygon"
    assert (problem.file, problem.sample) == (str(folder / NAMES[form]), "a.png")
    assert message in f"{problem.entry}: {problem.message}"
    if form == "totaltext" and after:
        assert problem.entry == "line 2"
    skipped = read(folder, content, form, skip_bad="polygon")
    assert len([w for w in words(skipped) if not w[2]]) == 1


@pytest.mark.parametrize("form", LINES)
@given(data=st.data())
@hypothesis_settings(max_examples=80, deadline=None)
def test_damaged_files_are_told_and_never_raise(
    tmp_path_factory: pytest.TempPathFactory, form: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "labels"
    folder.mkdir()
    (folder.parent / "images").mkdir()
    (folder.parent / "images" / "a.png").write_bytes(b"")
    line = LINES[form]
    place = data.draw(st.integers(0, len(line)))
    spoilt = data.draw(
        st.sampled_from(["", "]", "'", "[[", "\\", "\n", "-", "e9", "\0", "u'", "é"])
    )
    cut = data.draw(st.integers(0, 3))
    content = f"{line}\n{line[:place]}{spoilt}{line[place + cut :]}\n{line}\n"
    found = read(folder, content, form)
    assert len(words(found)) + len(found.problems) >= 1
    assert all(problem.message and problem.file for problem in found.problems)


# ------------------------------------------------------------------------------------- Total-Text


def test_records_of_total_text(folder: Path) -> None:
    content = """\
x: [[ 10  90  90
   10]], y: [[10 12
 32 30]], ornt: [u'h'], transcriptions: [u"Joe's"]

 x: [[1 9 9]], y: [[-1  2 9]], ornt: [], transcriptions: []
x: [[1 9 9]], y: [[1 2 9]], ornt: [u'm'], transcriptions: [u',']
x: [[1 9 9]], y: [[1 2 9]], ornt: ['c'], transcriptions: ['[x: [[2]]']
x: [[1.5 9 9]], y: [[1 2 9]], ornt: [u'c'], transcriptions: [u'caf\\xe9 \\' "]']
x: [[1 9 9]], y: [[1 2 9]], ornt: [u'#'], transcriptions: [u'A']
x: [[1 9 9]], y: [[1 2 9]], ornt: [u'c'], transcriptions: [u'#']
x: [[1 9 9]], y: [[1 2 9]], ornt: [u'c'], transcriptions: [u'#1']
x: [[1 9 9]], y: [[1 2 9]], ornt: [u'c'], transcriptions: [u'two' u'parts']
x: [[1 9 9]], y: [[1 2 9]], ornt: [u'c'], transcriptions: [u'\\ud800']
"""
    found = columns(entry(folder, content, "totaltext"))
    assert found.texts == [
        "Joe's",
        None,
        ",",
        "[x: [[2]]",
        "café ' \"]",
        "A",
        "#",
        "#1",
        "two parts",
        "\\ud800",
    ]
    assert [n for n, ignored in enumerate(found.ignore) if ignored] == [5, 6]
    assert found.points[:2] == [QUAD, [[1, -1], [9, 2], [9, 9]]]
    assert found.points[4][0] == [1.5, 1]
    assert list(found.labels[:3]) == ["line 1", "line 5", "line 6"]
    assert found.classes == ()


def test_names_of_total_text(folder: Path) -> None:
    for name in ("poly_gt_a.txt", "gt_b.txt"):
        (folder / name).write_text(TOTALTEXT)
    found = read_annotations(folder, folder.parent / "images")
    assert [a.name for a in found.annotations] == ["a.png", "b.png"]


# ------------------------------------------------------------------------------ TD500 and DOTA


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2, math.pi / 2])
def test_boxes_of_td500_are_turned_around_their_middle(folder: Path, angle: float) -> None:
    found = columns(entry(folder, f"7 1 110 50 70 20 {angle!r}", "td500"))
    (points,) = found.points
    centre = np.array([145, 60])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert np.allclose(points, (np.array(BOX) - centre) @ turn.T + centre)
    assert (found.ignore, found.texts, found.classes) == ([True], (), ())


def test_lines_of_dota(folder: Path) -> None:
    content = "imagesource:GoogleEarth\nGSD:null\n" + "\n".join(
        [
            DOTA,
            "110.0 50.0 180.0 50.0 180.0 70.0 110.0 70.0 sign 1",
            "110 50 180 50 180 70 110 70 sign 2",
            "-1 50 1e2 50 180 70 110 70 large-vehicle",
            "110 50 180 50 180 70 110 70 ### 0",
        ]
    )
    found = columns(entry(folder, content, "dota"))
    assert found.points[:2] == [QUAD, BOX]
    assert found.points[3][:2] == [[-1, 50], [100, 50]]
    assert found.ignore == [False, True, True, False, True]
    assert found.classes == ["text", "sign", "sign", "large-vehicle", "###"]
    assert list(found.labels) == [f"line {number}" for number in range(3, 8)]


def test_a_real_file_of_dota(shared: Path) -> None:
    folder = shared.parent / "formats" / "samples" / "dota"
    found = read_annotations(folder, folder)
    assert (found.format, found.problems) == ("dota", [])
    assert [[name, ignored] for name, _, ignored in words(found)] == [["val_001.jpg", False]] * 2
    assert words(found)[1][1] == [[1, 2], [1, 5], [10, 5], [10, 2]]


def test_what_is_no_format_of_these_is_said(folder: Path) -> None:
    (folder / "a.gt").write_text("nothing of the kind")
    with pytest.raises(InputError, match="is in no known annotation format"):
        read_annotations(folder, folder.parent / "images")
    found = read(folder, "nothing of the kind", "td500")
    assert messages(found)[0].startswith("line 1: has 4 fields, not 7; a line is")


# ------------------------------------------------------------------- MATLAB files, by the script

SCRIPT = ROOT / "scripts" / "matlab_to_words.py"
# What SciPy gives of such files, made from JSON: lists of lists become tables of objects.
SCIPY = """
import json
import numpy as np

class MatReadError(Exception):
    pass

def table(value):
    if isinstance(value, list) and any(isinstance(each, (list, str)) for each in value):
        rows = len(value), len(value[0]) if isinstance(value[0], list) else 1
        found = np.empty(rows, object)
        for i, row in enumerate(value):
            for j, each in enumerate(row if isinstance(row, list) else [row]):
                found[i, j] = np.array(each) if isinstance(each, list) else np.array([each])
        return found
    return np.array(value)

def loadmat(path, variable_names):
    try:
        found = json.loads(open(path).read())
    except ValueError:
        raise MatReadError("no MATLAB file") from None
    return {name: table(found[name]) for name in variable_names if name in found}
"""


def convert(*arguments: Any, scipy: Path | None) -> subprocess.CompletedProcess[str]:
    code = "import runpy, sys; sys.argv = sys.argv[1:]; "
    code += f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    before = f"import sys; sys.path.insert(0, {str(scipy)!r}); " if scipy else ""
    return subprocess.run(
        [sys.executable, "-c", before + code, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture
def scipy(tmp_path: Path) -> Path:
    """A folder with what stands for SciPy."""
    for name, text in (("", ""), ("io", SCIPY), ("io/matlab", "from scipy.io import MatReadError")):
        package = tmp_path / "packages" / "scipy" / name
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(text)
    return tmp_path / "packages"


def test_matlab_files_of_total_text(folder: Path, scipy: Path) -> None:
    rows = [
        ["x:", [[10, 90, 90, 10]], "y:", [[10, 12, 32, 30]], "Ada", "h"],
        ["x:", [[110], [180], [180], [110]], "y:", [[50], [50], [70], [70]], "#", "#"],
        ["x:", [[1, 9, 9]], "y:", [[1, 2, 9]], "#", []],
    ]
    (folder / "poly_gt_a.mat").write_text(json.dumps({"polygt": rows}))
    (folder / "gt_b.mat").write_text(json.dumps({"gt": [row[:5] for row in rows[:1]]}))
    images, out = folder.parent / "images", folder.parent / "words.json"
    done = convert("totaltext", folder, "--images", images, "--out", out, scipy=scipy)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == f"{out}: 2 images, 4 words, 2 don't care\n"
    found = read_annotations(out, images)
    assert (found.format, found.problems) == ("words", [])
    assert [w[0] for w in words(found)] == ["a.png"] * 3 + ["b.png"]
    assert [w[1:] for w in words(found)[:2]] == [[QUAD, False], [BOX, True]]
    assert words(found)[2][2]


def test_matlab_files_of_synthtext(folder: Path, scipy: Path) -> None:
    one = np.array(QUAD).T.tolist()
    two = np.stack([np.array(QUAD).T, np.array(BOX).T], axis=2).tolist()
    script = {"one": np.array(one), "two": np.array(two)}
    module = importlib.util.spec_from_file_location("matlab_to_words", SCRIPT)
    assert module is not None
    assert module.loader is not None
    made = importlib.util.module_from_spec(module)
    module.loader.exec_module(made)
    assert made.synthtext_words(script["one"], np.array(["Ada "])) == [
        {"transcription": "Ada", "points": QUAD}
    ]
    both = made.synthtext_words(script["two"], np.array(["Ada\n Bob  "]))
    assert [each["points"] for each in both] == [QUAD, BOX]
    assert [each["transcription"] for each in both] == ["Ada", "Bob"]
    with pytest.raises(ValueError, match="has 2 boxes and 3 words"):
        made.synthtext_words(script["two"], np.array(["a b", "c"]))
    with pytest.raises(ValueError, match=r"has boxes of shape \(3, 4, 1\), not \(2, 4, n\)"):
        made.synthtext_words(np.zeros((3, 4)), np.array(["a"]))
    (folder / "gt.mat").write_text(json.dumps({"imnames": ["8/a.jpg"], "txt": ["Ada"]}))
    out = folder / "words.json"
    done = convert("synthtext", folder / "gt.mat", "--out", out, scipy=scipy)
    assert done.returncode == 2
    assert "has no variable wordBB; give SynthText's gt.mat" in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("no JSON", "poly_gt_a.mat", "cannot be read as a MATLAB file: no MATLAB file; replace it"),
        ('{"other": 1}', "poly_gt_a.mat", "has no variable polygt or gt; replace or remove it"),
        ('{"polygt": [["x:", [[1, 2]]]]}', "poly_gt_a.mat", "has a table of shape (1, 2), not of"),
        (
            '{"polygt": [["x:", [[1, 2]], "y:", [[1]], "a", "c"]]}',
            "poly_gt_a.mat",
            "word 1: x and y are not as many numbers; replace or remove it",
        ),
        ("{}", "poly_gt_absent.mat", "there is no image absent in "),
    ],
)
def test_bad_matlab_files(folder: Path, scipy: Path, content: str, name: str, message: str) -> None:
    (folder / name).write_text(content)
    out = folder / "words.json"
    images = folder.parent / "images"
    done = convert("totaltext", folder, "--images", images, "--out", out, scipy=scipy)
    assert done.returncode == 2
    assert done.stderr.startswith(f"matlab_to_words: {folder / name}: ")
    assert message in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [name]


def test_without_scipy_the_script_says_what_to_install(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "scipy.py").write_text("raise ImportError")
    done = convert("synthtext", "gt.mat", "--out", folder / "w.json", scipy=tmp_path / "none")
    assert done.returncode == 2
    assert "needs SciPy; install it: pip install scipy" in done.stderr


@pytest.mark.scipy
def test_real_matlab_files_of_total_text(shared: Path, tmp_path: Path) -> None:
    samples = shared.parent / "formats" / "samples" / "totaltext_mat"
    images, out = tmp_path / "images", tmp_path / "words.json"
    images.mkdir()
    for number in (1, 2, 3):
        cv2.imwrite(str(images / f"img{number}.jpg"), np.zeros((2000, 2000, 3), np.uint8))
    files = [samples / f"poly_gt_img{number}.mat" for number in (1, 2, 3)]
    done = convert("totaltext", *files, "--images", images, "--out", out, scipy=None)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("3 images, 14 words, 2 don't care\n")
    found = read_annotations(out, images)
    assert found.problems == []
    lengths = [len(polygon) for _, polygon, _ in words(found)]
    assert lengths == [10, 4, 4, 4, 8, 4, 4, 8, 8, 8, 4, 6, 6, 8]
    single = samples / "t3_gt_img3.mat"
    assert (
        convert("totaltext", single, "--images", images, "--out", out, scipy=None).returncode == 0
    )


@pytest.mark.scipy
def test_synthtext_as_matlab_has_it(folder: Path) -> None:
    from scipy.io import savemat

    def cells(*values: Any) -> np.ndarray:
        found = np.empty((1, len(values)), object)
        for number, value in enumerate(values):
            found[0, number] = value
        return found

    both = np.stack([np.array(QUAD).T, np.array(BOX).T], axis=2)
    content = {
        "imnames": cells("8/a.png", "b.png"),
        "wordBB": cells(both, np.array(QUAD).T),
        "txt": cells(np.array(["Ada\nBob   "]), np.array(["one"])),
    }
    savemat(folder / "gt.mat", content)
    out = folder / "words.json"
    done = convert("synthtext", folder / "gt.mat", "--out", out, scipy=None)
    assert done.stderr == f"{out}: 2 images, 3 words, 0 don't care\n"
    images = json.loads(out.read_text())["images"]
    said = {n: [w["transcription"] for w in i["words"].values()] for n, i in images.items()}
    assert said == {
        "8/a.png": ["Ada", "Bob"],
        "b.png": ["one"],
    }
    assert [w["points"] for w in images["8/a.png"]["words"].values()] == [QUAD, BOX]
