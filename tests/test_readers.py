"""Readers of annotations: JSON member by member, and what each format makes of odd entries."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from forms import BOX, QUAD, messages, read, words
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ocr_precompute.annotations import json_files, read_annotations
from ocr_precompute.annotations.folders import ImageNames, text_lines
from ocr_precompute.annotations.formats import coco as coco_format
from ocr_precompute.annotations.json_files import Repeated, members
from ocr_precompute.annotations.masks import BadMask, mask_outlines
from ocr_precompute.annotations.outlines import around, box, circle, turned
from ocr_precompute.errors import InputError

# -------------------------------------------------------------------------- member by member

scalars = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=6)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)
documents = st.dictionaries(st.sampled_from(["images", "a", "b"]), values) | values


def gathered(path: Path, sections: tuple[str, ...], **options: Any) -> Any:
    """The document put together again."""
    found: Any = None
    for section, key, value in members(path, sections, **options):
        if section == "" and found is None:
            return value
        if found is None:
            found = [] if section == 0 else {}
        if key is None and isinstance(found, list):
            found.append(value)
        elif key is None:
            found[section] = value
        elif isinstance(found[section], list):
            found[section].append(value)
        else:
            found[section][key] = value
    return found


@given(documents, st.integers(1, 9), st.sampled_from([None, 1, "\t"]), st.booleans())
@hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)
def test_members_are_those_of_the_document(
    tmp_path: Path, document: Any, chunk: int, indent: Any, is_ascii: bool
) -> None:
    """However few bytes are read at once."""
    path = tmp_path / "a.json"
    text = json.dumps(document, indent=indent, ensure_ascii=is_ascii)
    path.write_text(text, "utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_files, "_CHUNK", chunk)
        try:
            text.encode()
        except UnicodeEncodeError:
            with pytest.raises(InputError, match="cannot be read as JSON: 'utf-8' codec"):
                gathered(path, ("images",))
            return
        if document not in ({}, []) and not (isinstance(document, dict) and "" in document):
            assert gathered(path, ("images", "a")) == json.loads(text)


@given(documents, st.integers(1, 9), st.integers(0, 40), st.sampled_from(["", "}", ",", '"', "x"]))
@hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)
def test_errors_stand_where_the_standard_library_finds_them(
    tmp_path: Path, document: Any, chunk: int, place: int, spoilt: str
) -> None:
    path = tmp_path / "a.json"
    text = json.dumps(document, indent=1)
    text = text[:place] + spoilt + (text[place + 1 :] if spoilt else "")
    path.write_text(text)
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        expected = f"line {error.lineno} column {error.colno}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_files, "_CHUNK", chunk)
            with pytest.raises(InputError) as found:
                list(members(path, ("images", "a")))
        (problem,) = found.value.problems
        assert "is not valid JSON" in problem.message
        if "property name" not in error.msg and "trailing comma" not in error.msg:
            assert problem.entry == expected


small = st.dictionaries(
    st.text('{}[],":\\ ', max_size=3), st.text('{}[],":\\ ', max_size=6) | values, max_size=3
)
many = st.lists(small, min_size=3, max_size=12) | st.dictionaries(
    st.text('{}",: a', max_size=3), small, min_size=3, max_size=12
)


@given(many, st.integers(1, 400), st.integers(2, 300), st.sampled_from([(",", ":"), (", ", ": ")]))
@hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)
def test_members_that_are_decoded_together(
    tmp_path: Path, section: Any, chunk: int, several: int, separators: tuple[str, str]
) -> None:
    """Wherever the text is cut, also within texts that look like the end of a member."""
    path = tmp_path / "a.json"
    document = {"images": section, "a": section}
    path.write_text(json.dumps(document, separators=separators))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_files, "_CHUNK", chunk)
        patch.setattr(json_files, "_SEVERAL", several)
        keys = [key for _, key, _ in members(path, ("images", "a")) if key is not None]
        assert gathered(path, ("images", "a")) == document
        assert keys == 2 * list(section if isinstance(section, dict) else range(len(section)))
        assert gathered(path, ("images", "a"), repeats=True) == document
        exact = gathered(path, ("images", "a"), exact=True)
        assert repr(exact) == repr(json.loads(path.read_text()))  # numbers of the same kinds, too


def test_most_members_are_decoded_together(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [{"b": [1, 2]}] * 9000, "c": {}, "d": [{"e": {}}] * 9000}))
    calls: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        value = json_files._Text.value
        patch.setattr(json_files._Text, "value", lambda self: calls.append(1) or value(self))
        assert sum(1 for _ in members(path, ("a", "c", "d"))) == 18003
    assert len(calls) < 60


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_encodings_of_json(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('{"images": {"\u00e9\U0001f600.jpg": 1}}'.encode(encoding))
    assert gathered(path, ("images",)) == {"images": {"\u00e9\U0001f600.jpg": 1}}


def test_repeated_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"images": {"a.jpg": {"x": 1, "x": 2}}}')
    with pytest.raises(InputError, match="the key 'x' stands twice in an object"):
        gathered(path, ("images",))
    found = gathered(path, ("images",), repeats=True)["images"]["a.jpg"]
    assert isinstance(found, Repeated)
    assert found.repeated() == {"x": [1, 2]}


@pytest.mark.parametrize("twice", ['{"x": 1, "x": 2}', '{"y": [{"x": 1, "x" : 2}]}'])
@pytest.mark.parametrize("text", ["w", "a:b", ":", "{", '\\": '])
@pytest.mark.parametrize("exact", [False, True])
def test_repeated_keys_among_members_that_are_decoded_together(
    tmp_path: Path, twice: str, text: str, exact: bool
) -> None:
    path = tmp_path / "a.json"
    plain = f'{{"text": "{text}", "v": 1}}'
    path.write_text(f'{{"a": [{", ".join([plain] * 9 + [twice] + [plain] * 9)}]}}')
    found = members(path, ("a",), exact=exact)
    assert [next(found).key for _ in range(2)] == [None, 0]
    with pytest.raises(InputError, match="the key 'x' stands twice in an object"):
        list(found)


def test_numbers_among_members_that_are_decoded_together(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    numbers = [
        "9007199254740993",
        f"{2**70 + 1}",
        "-0",
        "-0.0",
        "1e999",
        "NaN",
        "0.1234567890123456789",
    ]
    path.write_text(f'{{"a": [{", ".join(f"""{{"v": {n}}}""" for n in numbers * 3)}]}}')
    values = [value["v"] for _, key, value in members(path, ("a",), exact=True) if key is not None]
    assert list(map(repr, values)) == [repr(json.loads(number)) for number in numbers * 3]


def test_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 9007199254740993, "b": %s}' % ("1" * 5000))
    with pytest.raises(InputError, match="a number of thousands of digits"):
        list(members(path, exact=True))
    first, second = members(path)
    assert (first.value, second.value) == (9007199254740992.0, float("inf"))
    assert next(members(path, exact=True)).value == 9007199254740993


def test_a_document_is_not_held(tmp_path: Path) -> None:
    """Neither its text nor its members, beyond what is looked at."""
    import tracemalloc

    path = tmp_path / "a.json"
    image = '"%06d.jpg": {"words": {"1": {"points": [[1.5, 2], [3, 4], [5, 6]], "x": "%s"}}}'
    text = ", ".join(image % (number, "y" * 900) for number in range(20_000))
    path.write_text(f'{{"images": {{{text}}}}}')
    size = len(text)
    del text
    tracemalloc.start()
    try:
        assert sum(1 for _ in members(path, ("images",))) == 20_001
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 18_000_000
    assert peak < size / 3


def test_lines_of_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes("caf\u00e9\r\n\n b\x0c\u2028c\rd".encode(encoding))
        assert list(text_lines(path)) == [(1, "caf\u00e9"), (3, " b\x0c\u2028c"), (4, "d")]
    path.write_bytes(b"\xff\xfe\x31")
    with pytest.raises(InputError, match="starts as UTF-16 and is damaged"):
        list(text_lines(path))
    with pytest.raises(InputError, match="is larger than 0 MB"):
        list(text_lines(path, 2))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        list(text_lines(tmp_path / "none.txt"))


# ------------------------------------------------------------------------------------- outlines


def test_boxes_and_circles() -> None:
    assert box(180, 70, 110, 50) == BOX
    corners = turned(box(40, 20, 80, 40), 90, (60, 30))
    assert np.allclose(corners, [[70, 10], [70, 50], [50, 50], [50, 10]])
    assert np.allclose(
        turned(box(40, 40, 80, 60), 90, (40, 40)), [[40, 40], [40, 80], [20, 80], [20, 40]]
    )
    assert np.allclose(np.linalg.norm(np.array(circle([5, 5], [5, 9])) - 5, axis=1), 4)
    assert around([[1, 2], [1, 3], [2, 1], [2, 3]]) == [[1, 2], [2, 1], [2, 3], [1, 3]]
    assert around([[1, 2], [3]]) == [[1, 2], [3]]
    assert around("x") == "x"


def runs_of(mask: np.ndarray) -> list[int]:
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    changes = np.flatnonzero(np.diff(flat))
    runs = np.diff(np.concatenate([[0], changes])).tolist()
    return runs if mask.T.ravel()[0] == 0 else [0, *runs[1:]]


def packed(runs: list[int]) -> str:
    """As COCO packs them: differences from the run before the last, five bits a character."""
    text = ""
    for number, run in enumerate(runs):
        value = run - (runs[number - 2] if number > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            last = value == (-1 if bits & 16 else 0)
            text += chr(48 + (bits if last else bits | 32))
            if last:
                break
    return text


@given(st.integers(0, 2**32 - 1), st.booleans())
@hypothesis_settings(deadline=None, max_examples=50)
def test_outlines_of_masks(seed: int, is_packed: bool) -> None:
    random = np.random.default_rng(seed)
    mask = np.zeros((40, 60), np.uint8)
    for _ in range(3):
        x, y = random.integers(0, 50), random.integers(0, 30)
        mask[y : y + random.integers(1, 10), x : x + random.integers(1, 10)] = 1
    runs = runs_of(mask)
    assert sum(runs) == mask.size
    counts = packed(runs) if is_packed else runs
    outlines = mask_outlines({"size": [40, 60], "counts": counts})
    drawn = np.zeros((400, 600), np.uint8)
    for outline in outlines:
        cv2.fillPoly(drawn, [np.round(outline * 10 - 0.5).astype(np.int32)], 1)
    filled = drawn[5::10, 5::10]  # holes are filled, so what is more is within
    assert not (cv2.erode(mask, np.ones((3, 3), np.uint8)) & ~filled).any()  # but for the edge
    count, _ = cv2.connectedComponents(mask, connectivity=8)
    assert len(outlines) == count - 1


def test_a_rectangle_is_its_edges() -> None:
    mask = np.zeros((100, 200), np.uint8)
    mask[50:70, 110:180] = 1
    (outline,) = mask_outlines({"size": [100, 200], "counts": packed(runs_of(mask))})
    assert outline.tolist() == BOX


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"size": [2, 2], "counts": [1, 2]}, "its mask has 3 pixels where 2 x 2 are declared"),
        ({"size": [2, 2], "counts": []}, "its mask has 0 pixels"),
        ({"size": [2, 2], "counts": [4]}, "its mask is empty"),
        ({"size": [2, 2], "counts": [1, -1, 4]}, "counts are no lengths"),
        ({"size": [2, 2], "counts": None}, "counts are no lengths"),
        ({"size": [2, 2], "counts": "\u00e9"}, "no text that COCO writes"),
        ({"size": [2, 2], "counts": "o" * 90}, "no text that COCO writes"),
        ({"size": [2, 2], "counts": "o"}, "counts are cut off"),
        ({"size": [1e9, 1e9], "counts": [1]}, "is not of 1 to"),
        ({"size": [60000, 60000], "counts": [1]}, "is not of 1 to"),
        ({"size": [2.5], "counts": [1]}, "has no size"),
        ({"counts": [1]}, "has no size"),
    ],
)
def test_bad_masks(mask: dict[str, Any], message: str) -> None:
    with pytest.raises(BadMask, match=message):
        mask_outlines(mask)


# ------------------------------------------------------------------------------- names of images


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.png", "a.png"),
        ("data/set/images/train/c.png", "train/c.png"),
        ("/home/me/b.png", "b.png"),
        ("C:\\pictures\\train\\c.png", "train/c.png"),
        ("../up/a.png", "a.png"),
        ("/data/upload/1/0a1b2c3d-b.png", "b.png"),
        ("/data/x.png", "/data/x.png"),
        ("c.png", "c.png"),
        ("set/a.jpeg", "a.png"),
        ("train/c.tif", "train/c.png"),
        ("/data/upload/1/0a1b2c3d-b.webp", "b.png"),
        ("x.jpeg", "x.jpeg"),
        ("/" * 5000 + "a.png", "a.png"),
        ("", ""),
    ],
)
def test_names_of_other_folders(image_folder: Path, name: str, found: str) -> None:
    assert ImageNames(image_folder).resolved(name) == found


# ------------------------------------------------------------------------------------------ COCO


def coco(*annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    named = [{"id": 1, "file_name": "a.png", "width": 200, "height": 100}]
    return {"images": named, "annotations": [{"image_id": 1, **a} for a in annotations], **more}


FLAT = [number for point in QUAD for number in point]


@pytest.mark.parametrize(
    ("annotation", "polygons", "ignored"),
    [
        ({"segmentation": [FLAT]}, [QUAD], False),
        ({"segmentation": FLAT}, [QUAD], False),
        ({"segmentation": [FLAT, [1, 1, 9, 1, 9, 9]]}, [QUAD, [[1, 1], [9, 1], [9, 9]]], False),
        ({"bbox": [110, 50, 70, 20]}, [BOX], False),
        ({"bbox": [110, 50, 70, 20], "segmentation": []}, [BOX], False),
        ({"bbox": [110, 50, 70, 20], "iscrowd": 1}, [BOX], True),
        ({"bbox": [110, 50, 70, 20], "iscrowd": 0, "ignore": 1}, [BOX], True),
        ({"bbox": [110, 50, 70, 20], "attributes": {"ignore": True}}, [BOX], True),
        ({"bbox": [110, 50, 70, 20], "text": "###"}, [BOX], True),
        ({"bbox": [110, 50, 70, 20], "attributes": {"text": '"###"'}}, [BOX], True),
        (
            {"bbox": [40, 20, 40, 20], "attributes": {"rotation": 90.0}},
            [[[70, 10], [70, 50], [50, 50], [50, 10]]],
            False,
        ),
    ],
)
def test_annotations_of_coco(
    tmp_path: Path,
    image_folder: Path,
    annotation: dict[str, Any],
    polygons: list[Any],
    ignored: bool,
) -> None:
    found = read(tmp_path / "a.json", image_folder, coco(annotation))
    assert (found.format, found.problems, found.warnings) == ("coco", [], ())
    assert len(words(found)) == len(polygons)
    for (name, polygon, flag), wanted in zip(words(found), polygons, strict=True):
        assert (name, flag) == ("a.png", ignored)
        assert np.allclose(polygon, wanted)
    assert found.annotations[0].declared_size == (100, 200)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (
            {"id": 7, "segmentation": [[1, 1, 9, 1, 9]]},
            "a.png: annotation 7: its segmentation has 5 nu",
        ),
        (
            {"segmentation": [[1, "1", 9, 1, 9, 9]]},
            "a.png: annotation [0]: its segmentation is no li",
        ),
        ({"segmentation": [[1, 1, 9, 1, 9, 9], 3]}, "its segmentation is no list of numbers"),
        ({"segmentation": [[1, 1, 9, 1]]}, "has 2 points; a polygon needs at least 3"),
        ({"segmentation": [[1, 1, True, 1, 9, 9]]}, "its segmentation is no list of numbers"),
        ({"segmentation": "x"}, "its segmentation is neither polygons nor a mask"),
        ({"segmentation": {"size": [2, 2], "counts": [1]}}, "its mask has 1 pixels where 2 x 2"),
        ({"segmentation": [[1, 1, 9, 1, 9, 10**400]]}, "too large"),
        ({"bbox": [1, 2, 3]}, "its bbox has 3 numbers, not 4"),
        ({}, "its bbox is no list of numbers"),
        ({"bbox": [1, 2, 3, 4], "iscrowd": "yes"}, "iscrowd and ignore must be 0 or 1"),
        ({"bbox": [1, 2, 3, 4], "image_id": None}, "has no image_id"),
        ({"bbox": [1, 2, 3, 4], "image_id": 9}, 'has 1 annotations and is not in "images"; add it'),
    ],
)
def test_bad_annotations_of_coco(
    tmp_path: Path,
    image_folder: Path,
    annotation: dict[str, Any],
    message: str,
) -> None:
    found = read(
        tmp_path / "a.json", image_folder, coco({"bbox": [1, 2, 30, 40]}, annotation), "coco"
    )
    (said,) = messages(found)
    assert message in said.replace("annotation [1]", "annotation [0]")
    assert [w[1] for w in words(found)] == [[[1, 2], [31, 2], [31, 42], [1, 42]]]


odd: dict[str, list[Any]] = {
    "id": [None, "a", 1.5, 2**70, []],
    "image_id": [None, 9, 1.0, "1", [], True],
    "category_id": [None, 2, "x", True, [], {}],
    "segmentation": [
        *(None, [], [[]], FLAT, [FLAT, FLAT], [[1, 2, 3]], "x", [["1", 2]], [[True] * 6]),
        *([[10**400] * 6], {"size": [2, 2], "counts": [1]}, {"size": [4, 4], "counts": [5, 2, 9]}),
    ],
    "bbox": [None, [1, 2, -3, -4], [-0.0, 0, 0, 0], [1, 2, 3], "x", [float("nan")] * 4],
    "iscrowd": [None, 1, True, False, 2, "true", "false", [], {}],
    "ignore": [0, 1, None, "1"],
    "text": ["###", "w", None, 5, ' "###" '],
    "caption": ["a:b", "###", '": '],
    "attributes": [{}, 5, {"ignore": 1}, {"ignore": "x"}, {"text": "###"}, {"rotation": 90}],
}


@given(
    st.lists(
        st.dictionaries(st.sampled_from(sorted(odd)), st.integers(0, 11), max_size=2),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
)
@hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)
def test_annotations_of_coco_column_by_column_are_as_one_by_one(
    tmp_path: Path, image_folder: Path, oddities: list[dict[str, int]], boxes: bool
) -> None:
    """Whatever stands beside what is plain."""
    annotations = []
    for number, changes in enumerate(oddities):
        outline = {"bbox": [110, 50, 70, 20]} if boxes else {"segmentation": [FLAT]}
        changed = {key: odd[key][which % len(odd[key])] for key, which in changes.items()}
        annotations.append({"id": number, "category_id": 1, "iscrowd": 0, **outline, **changed})
    document = coco(*annotations, categories=[{"id": 1, "name": "a"}, {"id": "x", "name": "b"}])
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))

    def told() -> str:
        found = read_annotations(path, image_folder, "coco", told=True)
        columns = [
            (a.polygons.points.tolist(), a.polygons.lengths.tolist(), a.polygons.ignore.tolist())
            for a in found.annotations
        ]
        more = [(a.labels, list(a.texts), list(a.classes)) for a in found.annotations]
        return repr((columns, more, found.problems, found.notes, found.warnings))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco_format, "plain_instances", lambda annotations, numbers: None)
        one_by_one = told()
    assert told() == one_by_one


def test_most_annotations_of_coco_are_taken_up_together(tmp_path: Path, image_folder: Path) -> None:
    plain, strange = {"segmentation": [FLAT]}, {"segmentation": [FLAT, FLAT]}
    document = coco(*[strange if number % 100 == 50 else plain for number in range(1000)])
    calls: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        gather_one = coco_format._gather_one
        patch.setattr(coco_format, "_gather_one", lambda *a: calls.append(1) or gather_one(*a))
        assert len(words(read(tmp_path / "a.json", image_folder, document))) == 1010
    assert 10 <= len(calls) <= 50


def test_lists_of_coco_in_any_order(tmp_path: Path, image_folder: Path) -> None:
    many = [
        {"id": n, "image_id": image, "bbox": [n, 0, 5, 5]} for n, image in enumerate("xyzxyzxx")
    ]
    named = [
        {"id": i, "file_name": f"up/{name}"}
        for i, name in (("z", "a.png"), ("x", "b.png"), ("y", "train/c.png"))
    ]
    found = read(tmp_path / "a.json", image_folder, {"annotations": many, "images": named, "x": {}})
    assert found.problems == []
    lefts = {a.name: a.polygons.points[::4, 0].tolist() for a in found.annotations}
    assert lefts == {"a.png": [2, 5], "b.png": [0, 3, 6, 7], "train/c.png": [1, 4]}
    assert found.annotations[1].labels == tuple(f"annotation {n}" for n in (0, 3, 6, 7))


def test_images_of_coco(tmp_path: Path, image_folder: Path) -> None:
    large = 9007199254740993
    named = [
        {"id": large, "file_name": "a.png"},
        {"id": large - 1, "file_name": "b.png"},
        {"id": large, "file_name": "train/c.png"},
        {"id": 3},
        {"file_name": "x.png"},
        3,
    ]
    found = read(tmp_path / "a.json", image_folder, {"images": named, "annotations": []})
    assert messages(found) == [
        "train/c.png: has the id of a.png; give each image its own",
        "images[3]: has no file_name; correct or remove it",
        "x.png: has no id; correct or remove it",
        "images[5]: has no file_name; correct or remove it",
    ]
    assert [(a.name, len(a.polygons.lengths)) for a in found.annotations] == [
        ("a.png", 0),
        ("b.png", 0),
    ]
    found = read(tmp_path / "a.json", image_folder, {"images": named[:1]})
    assert messages(found) == [': has no list "annotations"; it is not of this format']
    twice = coco({"bbox": [1, 2, 3, 4]})
    twice["images"] += [{"id": 2, "file_name": "other/a.png"}]
    assert "is annotated twice" in messages(read(tmp_path / "a.json", image_folder, twice))[0]


def test_masks_that_do_not_add_up_are_their_boxes(tmp_path: Path, image_folder: Path) -> None:
    mask = {"size": [100, 200], "counts": [5, 5]}
    found = read(
        tmp_path / "a.json", image_folder, coco({"segmentation": mask, "bbox": [110, 50, 70, 20]})
    )
    assert words(found) == [["a.png", BOX, False]]
    (warning,) = found.warnings
    assert "1 masks cannot be decoded, their boxes are taken; correct them" in warning


# --------------------------------------------------------------------------------------- LabelMe


def labelme(*shapes: Any, **more: Any) -> dict[str, Any]:
    return {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": "a.png", **more}


@pytest.mark.parametrize(
    ("shape", "polygon", "ignored"),
    [
        ({"label": "text", "points": QUAD}, QUAD, False),
        ({"label": "text", "points": QUAD, "shape_type": "oriented_rectangle"}, QUAD, False),
        ({"label": "a", "points": [[180, 50], [110, 70]], "shape_type": "rectangle"}, BOX, False),
        ({"label": "a", "points": BOX, "shape_type": "rectangle"}, BOX, False),
        ({"label": "###", "points": QUAD}, QUAD, True),
        ({"label": "Ignore", "points": QUAD, "shape_type": "polygon"}, QUAD, True),
        ({"label": "a", "points": QUAD, "flags": {"ignore": True}}, QUAD, True),
        ({"label": "a", "points": QUAD, "flags": {"ignore": False}}, QUAD, False),
        ({"label": "a", "points": QUAD, "description": "###"}, QUAD, True),
    ],
)
def test_shapes_of_labelme(
    tmp_path: Path,
    image_folder: Path,
    shape: dict[str, Any],
    polygon: list[Any],
    ignored: bool,
) -> None:
    document = labelme(shape, imageData=None, imageHeight=100, imageWidth=200)
    found = read(tmp_path / "a.json", image_folder, document)
    assert (found.format, found.problems) == ("labelme", [])
    assert words(found) == [["a.png", polygon, ignored]]
    assert found.annotations[0].declared_size == (100, 200)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            {"label": "a", "points": [[1, 2]], "shape_type": "point"},
            "is of type 'point', which is no",
        ),
        ({"label": "a", "points": [[1, 2]], "shape_type": "rectangle"}, "has not 2 points"),
        (
            {"label": "a", "points": [[1, "2"], [3, 4]], "shape_type": "circle"},
            "a point is no list",
        ),
        ({"label": "a", "points": [[1, 2], [3, 4]]}, "has 2 points; a polygon needs at least 3"),
        (3, "is no object"),
    ],
)
def test_bad_shapes_of_labelme(
    tmp_path: Path,
    image_folder: Path,
    shape: Any,
    message: str,
) -> None:
    found = read(tmp_path / "a.json", image_folder, labelme({"label": "a", "points": QUAD}, shape))
    (said,) = messages(found)
    assert said.startswith("shape 2: ")
    assert message in said


def test_a_folder_of_labelme(tmp_path: Path, image_folder: Path) -> None:
    """Files are paired by their own name, then by what they say; others are said."""
    folder = tmp_path / "gt"
    (folder / "train").mkdir(parents=True)
    shape = {"label": "a", "points": QUAD}
    contents = {
        "a.json": labelme(shape, imagePath="..\\imgs\\b.png"),
        "other.json": labelme(shape, imagePath="..\\imgs\\b.png", imageData="x" * 100_000),
        "train/c.json": labelme(shape, shape),
        "lost.json": labelme(shape, imagePath="lost.png"),
        "broken.json": '{"shapes": [',
        "strange.json": {"x": []},
        "notes.txt": "hello",
    }
    for name, content in contents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    found = read_annotations(folder, image_folder)
    assert found.format == "labelme"
    assert [(a.name, len(a.polygons.lengths)) for a in found.annotations] == [
        ("a.png", 1),
        ("b.png", 1),
        ("train/c.png", 2),
    ]
    assert {p.sample: (p.kind, p.message) for p in found.problems} == {
        "broken": ("image", "is not valid JSON: Expecting value; correct it"),
        "lost": (
            "image",
            "there is no image lost.jpg, .png or the like, nor the image 'lost.png' that it names; "
            "add it or remove this file",
        ),
        "strange": ("image", 'has no list "shapes"; correct or remove it'),
    }
    assert dict(found.left_out) == {"notes.txt": "does not end in .json"}


# ---------------------------------------------------------------------------------- PaddleOCR

PLAIN = json.dumps([{"transcription": "Ada", "points": QUAD}])


@pytest.mark.parametrize(
    ("word", "ignored"),
    [
        ({"transcription": "###"}, True),
        ({"transcription": "*"}, True),
        ({"transcription": "a*"}, False),
        ({"transcription": "Ada", "difficult": False}, False),
        ({"transcription": None}, False),
    ],
)
def test_words_of_paddle(tmp_path: Path, image_folder: Path, word: Any, ignored: bool) -> None:
    line = f"images/train/c.png\t{json.dumps([{'points': QUAD, **word}])}\n"
    found = read(tmp_path / "Label.txt", image_folder, line + "a.png\t[]\n")
    assert (found.format, found.problems) == ("paddle", [])
    assert words(found) == [["train/c.png", QUAD, ignored]]
    assert [a.name for a in found.annotations] == ["a.png", "train/c.png"]
    assert read_annotations(tmp_path, image_folder).format == "paddle"


def test_lines_of_paddle(tmp_path: Path, image_folder: Path) -> None:
    lines = [
        f"/home/me/a.png\t{PLAIN}",
        f"other/a.png\t{PLAIN} ",
        "b.png\t[{'transcription': 'it\\'s', 'points': [(1, 1), (9, 1), (9, 9)]}]",
        f"train/c.png\t{PLAIN}",
        "train/c.png\t[]",
        "x.png\t[{",
        "y.png\t[3]",
        'z.png\t[{"points": 1, "points": 2}]',
        "",
        "v.png\t[__import__('os')]",
        "no tab",
    ]
    found = read(tmp_path / "any.txt", image_folder, "\n".join(lines), "paddle")
    form = "must be an image's name, a tab and a list of words; correct or remove it"
    assert messages(found) == [
        "line 5: train/c.png: is annotated twice, and not the same; keep one of the lines",
        f"line 6: x.png: {form}",
        "line 8: z.png: the key 'points' stands twice in an object; keep one of the two",
        f"line 10: v.png: {form}",
        f"line 11: {form}",
        "y.png: line 7 word 1: must be an object; correct or remove it",
    ]
    assert words(found)[:2] == [["a.png", QUAD, False], ["b.png", [[1, 1], [9, 1], [9, 9]], False]]
    assert [a.name for a in found.annotations] == ["a.png", "b.png", "y.png"]


# ---------------------------------------------------------------------------------------- docTR


def test_docs_of_doctr(tmp_path: Path, image_folder: Path) -> None:
    bow = [QUAD[0], QUAD[2], QUAD[1], QUAD[3]]
    document = {
        "a.png": {"img_dimensions": [100, 200], "img_hash": "0", "polygons": [bow]},
        "b.png": {"img_dimensions": [100, 200], "polygons": {"x": [QUAD], "y": [], "z": [BOX]}},
        "train/c.png": {"img_dimensions": [1], "polygons": []},
        "d.png": {"polygons": 3},
        "e.png": {"polygons": [[[1, 1], [2]]]},
    }
    found = read(tmp_path / "labels.json", image_folder, document)
    assert found.format == "doctr"
    assert found.notes == ()
    assert words(found) == [["a.png", QUAD, False], ["b.png", QUAD, False], ["b.png", BOX, False]]
    assert [a.declared_size for a in found.annotations][:2] == [(100, 200), (100, 200)]
    reason = 'must have "polygons" and "img_dimensions"; correct or remove it'
    assert [m for m in messages(found) if reason in m] == [
        f"train/c.png: {reason}",
        f"d.png: {reason}",
    ]
    assert "e.png: word 1: points are not a list of [x, y] pairs; correct or remove it" in messages(
        found
    )


def test_nothing_waits_on_a_pipe(tmp_path: Path, image_folder: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for form in ("coco", "doctr", "paddle", "words"):
        found = read_annotations(tmp_path / "pipe.json", image_folder, form)
        assert messages(found) == [": is not a regular file; replace or remove it"]
    found = read_annotations(tmp_path / "pipe.json", image_folder, "labelme")
    assert messages(found) == [": is not a regular file; replace or remove it"]
