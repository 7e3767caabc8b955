"""Annotations as Parquet: the same samples as in lines of JSON, and what is wrong with a file."""

from __future__ import annotations

import json
import math
import random
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
import pytest
from conftest import Dataset, run
from hypothesis import given
from hypothesis import settings as drawn
from hypothesis import strategies as st
from test_sorted_parts import (
    PARAMETERS,
    QUAD,
    as_parts,
    given_line,
    keys,
    line,
    message,
    names,
    published,
    ranges,
    said,
    scanned,
)

from ocr_precompute import Settings, Source, build, verify
from ocr_precompute.annotations import PartReader, parquet_rows, read_annotations
from ocr_precompute.annotations.formats.words_parquet import FORMAT, PARTS
from ocr_precompute.annotations.parquet_rows import narrowed
from ocr_precompute.annotations.sorted_parts import entries, find_parts
from ocr_precompute.settings import Rules

SCHEMA = pa.schema(
    {
        "name": pa.string(),
        "img_w": pa.int64(),
        "img_h": pa.int64(),
        "digest": pa.string(),
        "words": pa.list_(
            pa.struct(
                {
                    "points": pa.list_(pa.list_(pa.float64())),
                    "transcription": pa.string(),
                    "ignore": pa.bool_(),
                }
            )
        ),
    }
)


def words_type(points: pa.DataType, **more: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct({"points": points, **more}))


def row(name: str | None, **more: Any) -> dict[str, Any]:
    return {"name": name, "words": [{"points": QUAD}], **more}


def write(path: Path, rows: Sequence[Any], group: int = 3, schema: pa.Schema = SCHEMA) -> Path:
    """A file of lines of JSON, or of what they say; so many rows a row group."""
    path.parent.mkdir(exist_ok=True)
    found = [json.loads(each) if isinstance(each, str) else each for each in rows]
    pq.write_table(pa.Table.from_pylist(found, schema), path, row_group_size=group)
    return path


def as_parquet(lines: Source, group: int = 3) -> Source:
    """The same parts as Parquet."""
    folder = lines.annotations.parent / "rows"
    for path in lines.annotations.iterdir():
        rows = [json.loads(each) for each in path.read_text().splitlines()]
        for each in rows:  # an object of words comes from the `words` form
            if isinstance(each["words"], dict):
                each["words"] = list(each["words"].values())
        write(folder / f"{path.stem}.parquet", rows, group)
    return lines.model_copy(update={"annotations": folder})


# ------------------------------------------------------------------------------ the same samples


@drawn(max_examples=40, deadline=None)
@given(
    names.filter(bool),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=8),
    st.integers(2, 12),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_any_parts_of_either_format_have_the_same_keys(
    names: list[str], cuts: list[tuple[int, int]], length: int, block: int, held: int
) -> None:
    """cuts: where parts end, and the rows of the row groups of that part."""
    lines = [given_line(name, 1 + n % 3) for n, name in enumerate(sorted(names))]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("ocr_precompute.pipeline.scan.BLOCK", block)
        patch.setattr(parquet_rows, "_ROWS", held)
        cuts.sort()
        parts = zip(
            ranges(lines, [place for place, _ in cuts]),
            [*(group for _, group in cuts), 7],
            strict=True,
        )
        for number, (part, group) in enumerate(parts):
            write(Path(folder) / "rows" / f"{number:03d}.parquet", part, group)
        (Path(folder) / "lines.jsonl").write_text("".join(f"{each}\n" for each in lines))
        found, expected = (
            scanned(
                Source(images=Path(folder), annotations=Path(folder) / each).ruled(
                    Rules(), PARAMETERS.recipe
                )
            )
            for each in ("rows", "lines.jsonl")
        )
        assert found.reading.format == "words_parquet"
        assert keys(found.samples, length) == keys(expected.samples, length)
        assert said(found) == said(expected)
        start, stop = len(lines) // 3, min(len(lines), len(lines) // 3 + block)
        for some, other in zip(
            found.samples[start:stop], expected.samples[start:stop], strict=True
        ):
            assert some.name == other.name
            assert some.image == other.image
            assert some.polygons.points.tobytes() == other.polygons.points.tobytes()


@drawn(max_examples=100, deadline=None)
@given(
    st.sets(st.text("ab/é€", min_size=1, max_size=5), min_size=1),
    st.text("ab/é€", max_size=3),
    st.text("ab/é€", max_size=3),
    st.integers(1, 9),
    st.booleans(),
)
def test_any_range_of_names_is_found(
    names: set[str], first: str, last: str, group: int, empty: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        with pq.ParquetWriter(path, SCHEMA) as file:
            ordered = sorted(names)
            for start in range(0, len(ordered), group):
                some = ordered[start : start + group]
                file.write_table(pa.Table.from_pylist([row(name) for name in some], SCHEMA))
                if empty:
                    file.write_table(SCHEMA.empty_table())
        (part,) = find_parts(path, PARTS).parts
        assert pq.read_metadata(path).num_row_groups == -(-len(names) // group) * (1 + empty)
        found = [e.name for e in entries(narrowed(part, first, last), PARTS)]
    assert found == [name for name in sorted(names) if first <= name <= last]


@pytest.mark.parametrize("told", [False, True])
def test_it_builds_what_lines_build(told: bool, dataset: Dataset, settings: Settings) -> None:
    lines, found = as_parts(dataset, 1, 1, 10, 17, told=told), []
    for source in (lines, as_parquet(lines)):
        store = settings.model_copy(update={"store": settings.store.parent / str(len(found))})
        build("val", source, store)
        found.append(published(store.store))
        again = build("val", source, store)
        assert (again.up_to_date, again.built) == (True, 0)
        assert verify(store.store, recompute=2).ok
    expected, made = found
    assert made.understood.format == "words_parquet"
    assert (made.data_hash, made.shards) == (expected.data_hash, expected.shards)
    understood = replace(made.understood, key="", format="")
    assert understood == replace(expected.understood, key="", format="")


def test_parts_that_did_not_change_are_not_read(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, read_truly, read = as_parquet(as_parts(dataset, 8, 16)), PartReader.read, []
    build("val", source, settings)

    def counted(self: PartReader, part: Any, most: int) -> Any:
        read.append(part.path.name)
        return read_truly(self, part, most)

    monkeypatch.setattr(PartReader, "read", counted)
    assert build("val", source, settings).up_to_date
    assert read == []
    path = source.annotations / "001.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[0]["words"] = [{"points": QUAD}]
    write(path, rows)
    report = build("val", source, settings)
    assert (report.built, report.computed, read) == (1, 1, ["001.parquet"])


def test_the_command_builds_it(dataset: Dataset, tmp_path: Path) -> None:
    source = as_parquet(as_parts(dataset, 12))
    done = run(
        "build",
        *("--split", "val", "--images", source.images, "--annotations", source.annotations),
        *("--store", tmp_path / "store", "--size", "64", "--jobs", "2", "--json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["understood"]["format"] == "words_parquet"


def test_the_columns_that_are_shown() -> None:
    shown = [re.sub(r"\b(item|element): ", "", f"{field.name}: {field.type}") for field in SCHEMA]
    assert FORMAT.example.splitlines() == shown


def test_lines_become_it_as_the_documents_say(tmp_path: Path) -> None:
    words = [
        {"points": [[1, 2], [9.5, 2], [9, 9]], "ignore": True, "tags": ["masked"]},
        {"points": QUAD, "transcription": "###"},
        {"points": QUAD, "illegibility": True},
        {"points": QUAD, "tags": []},
    ]
    lines = [line("a.jpg", words=words), json.dumps({"name": "b.jpg"}), given_line("c.jpg")]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    document = (Path(__file__).resolve().parents[1] / "docs" / "scale.md").read_text()
    code = re.search(r"```python\n(import pyarrow.*?)```", document, re.DOTALL)
    exec(code[1].replace('"train.', f'"{tmp_path}/a.'))
    found, expected = (
        read_annotations(tmp_path / each, tmp_path) for each in ("a.parquet", "a.jsonl")
    )
    assert (found.format, found.problems, expected.problems) == ("words_parquet", [], [])
    assert [each.digest for each in found.annotations] == [
        each.digest for each in expected.annotations
    ]
    for some, other in zip(found.annotations, expected.annotations, strict=True):
        assert some.name == other.name
        assert some.declared_size == other.declared_size
        assert some.polygons.points.tolist() == other.polygons.points.tolist()
        assert some.polygons.ignore.tolist() == other.polygons.ignore.tolist()
    assert found.annotations[0].polygons.ignore.tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    "points",
    [
        pa.list_(pa.list_(pa.float32())),
        pa.list_(pa.list_(pa.int16())),
        pa.large_list(pa.list_(pa.float64(), 2)),
    ],
    ids=str,
)
def test_types_that_hold_the_same(points: pa.DataType, tmp_path: Path) -> None:
    text = pa.dictionary(pa.int32(), pa.string())
    words = words_type(points, transcription=pa.large_string(), ignore=pa.int8())
    types = {"name": text, "width": pa.float32(), "height": pa.uint8(), "digest": pa.null()}
    schema = pa.schema({**types, "words": words, "more": pa.binary()})
    said = [
        {"points": QUAD, "ignore": 1},
        {"points": QUAD, "transcription": "###"},
        {"points": QUAD},
    ]
    rows = [row(name, width=200, height=100, words=said, more=b"x") for name in "abc"]
    found = read_annotations(write(tmp_path / "a.parquet", rows, schema=schema), tmp_path)
    assert found.problems == []
    for each in found.annotations:
        assert each.polygons.points.reshape(3, 4, 2).tolist() == [QUAD] * 3
        assert each.polygons.ignore.tolist() == [True, True, False]
        assert each.declared_size == (100, 200)


# ----------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            ["b", "a"],
            "a.parquet: is not in order: it begins with 'b' and ends with 'a'; sort its rows",
        ),
        (["a", "c", "b", "d"], "a.parquet: row 3: 'b' stands behind 'c'; sort the rows by name"),
        (["a", "b", "b", "d"], "row 3: 'b' is annotated twice; keep one of the rows"),
        (["a", None, "c"], 'row 2: has no "name"; give it one, or remove it'),
        ([None, "c"], 'first row: has no "name"; give it one, or remove it'),
        (["a", ""], 'last row: has no "name"; give it one, or remove it'),
    ],
)
def test_names_that_are_wrong(rows: list[str | None], expected: str, tmp_path: Path) -> None:
    assert expected in message(write(tmp_path / "a.parquet", list(map(row, rows))))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"digest": "12"}, 'a.parquet: b: "digest" must be the SHA-256 of the image file'),
        ({"words": [{"points": [[1, 2]]}]}, "b: row 2 word 0001: has 1 points"),
        ({"words": [None]}, "b: row 2 word 0001: has no points; add or remove it"),
        ({"words": [{"transcription": "Ada"}]}, "b: row 2 word 0001: has no points"),
        ({"words": [{"points": [None] * 3}]}, "row 2 word 0001: points are not a"),
        ({"words": [{"points": [[1, 2, 3]] * 3}]}, "row 2 word 0001: points are not a list of [x"),
        ({"words": [{"points": [[1, None]] * 3}]}, "row 2 word 0001: points are not all numbers"),
        ({"words": [{"points": [[1, math.nan]] * 3}]}, "row 2 word 0001: has a coordinate that is"),
        ({"words": [{"points": [[1, math.inf]] * 3}]}, "word 0001: has a coordinate that is not f"),
        ({"words": [{"points": [[1, 2e7]] * 3}]}, "has a coordinate beyond 1000000 pixels"),
    ],
)
def test_what_is_wrong_with_a_row(more: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [row("a"), row("b", **more), row("c")])
    assert expected in message(path)


def test_nulls_are_what_a_row_does_not_say(tmp_path: Path) -> None:
    rows = [row("a", img_w=3, digest=None), row("b", words=None), row("c", words=[])]
    found = read_annotations(write(tmp_path / "a.parquet", rows), tmp_path)
    assert found.problems == []
    assert [len(each.polygons.lengths) for each in found.annotations] == [1, 0, 0]
    assert {each.declared_size for each in found.annotations} == {None}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"words": SCHEMA.field("words").type}, 'has no column "name"; name its columns as docs/'),
        ({"name": pa.string()}, 'has no column "words"; name its columns as docs/formats.md has'),
        ({"name": pa.int64()}, 'the column "name" holds int64, and must hold text; write it so'),
        ({"digest": pa.binary()}, 'the column "digest" holds binary, and must hold text'),
        ({"img_w": pa.string()}, 'the column "img_w" holds string, and must hold numbers'),
        ({"words": pa.string()}, 'the column "words" holds string, and must hold lists'),
        ({"words": pa.list_(pa.string())}, '"words[]" holds string, and must hold structs'),
        ({"words": words_type(pa.binary())}, '"words[].points" holds binary, and must hold lists'),
        (
            {"words": words_type(pa.list_(pa.list_(pa.string())))},
            'a.parquet: the column "words[].points[][]" holds string, and must hold numbers; write',
        ),
        (
            {"words": words_type(pa.null(), ignore=pa.string())},
            '"words[].ignore" holds string, and must hold true and false',
        ),
    ],
)
def test_columns_that_are_wrong(
    schema: dict[str, pa.DataType], expected: str, tmp_path: Path
) -> None:
    if not {"name", "words"} & schema.keys() or "holds" in expected:
        schema = {field.name: field.type for field in SCHEMA} | schema
    path = tmp_path / "a.parquet"
    pq.write_table(pa.schema(schema).empty_table(), path)
    assert expected in message(path)


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    table = SCHEMA.empty_table()
    twice = table.append_column("name", table.column("name"))
    pq.write_table(twice, tmp_path / "a.parquet")
    assert 'has two columns "name"; keep one' in message(tmp_path / "a.parquet")


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", [row("a")])
    for module in [each for each in sys.modules if each.split(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, module, None)
    assert message(path) == (
        f"{path}: is Parquet, which needs another package; pip install 'ocr-precompute[parquet]'"
    )


def test_files_that_are_no_parquet(tmp_path: Path) -> None:
    good = write(tmp_path / "rows" / "a.parquet", [row("a")]).read_bytes()
    broken = tmp_path / "rows" / "b.parquet"
    for data in (b"", b"PAR1", good[:-1], good[: len(good) // 2], b"PAR1" * 30, b'{"name": "b"}'):
        broken.write_bytes(data)
        (problem,) = message(broken.parent).splitlines()
        assert problem.startswith(f"{broken}: cannot be read as Parquet (")
        assert problem.endswith("); write it anew, or remove it")
    broken.unlink()
    broken.mkdir()
    assert "b.parquet: is not a regular file" in message(broken.parent)


def test_damage_is_one_error_or_none(tmp_path: Path) -> None:
    """Whatever byte is another: an error of ours, or what the file says is read."""
    rows = [row(f"{n:03d}", digest="ab" * 32, img_w=200, img_h=100) for n in range(40)]
    good = write(tmp_path / "a.parquet", rows, 16).read_bytes()
    source, broken, outcomes = random.Random(0), tmp_path / "b.parquet", set()
    for _ in range(300):
        data = bytearray(good)
        for _ in range(source.randint(1, 3)):
            data[source.randrange(len(data))] = source.randrange(256)
        broken.write_bytes(data)
        outcomes.add(bool(message(broken, format_name="words_parquet")))
    assert outcomes == {True, False}


def test_other_columns_are_not_read(tmp_path: Path) -> None:
    marker = b"\x5a" * 64
    schema = SCHEMA.append(pa.field("image", pa.binary()))
    rows = [row(name, image=marker) for name in "ab"]
    table = pa.Table.from_pylist(rows, schema)
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, compression="none", write_page_checksum=True, use_dictionary=False)
    path.write_bytes(path.read_bytes().replace(marker, b"\x5b" * 64))
    with pytest.raises(OSError, match="checksum"):
        pq.ParquetFile(path, page_checksum_verification=True).read()
    found = read_annotations(path, tmp_path)
    assert ([each.name for each in found.annotations], found.problems) == (["a", "b"], [])
    pq.write_table(table, path, compression="none", write_page_checksum=True)
    path.write_bytes(path.read_bytes().replace(b"\0\0\x24\x40", b"\0\0\x34\x40"))  # 10.0
    assert "cannot be read as Parquet (" in message(path)
    assert "checksum" in message(path)


def test_row_groups_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", [row(f"{n:04d}") for n in range(900)], 500)
    monkeypatch.setattr(parquet_rows, "_LARGEST", 1 << 12)
    assert message(path) == (
        f"{path}: row group 1: takes more than 0 MB; write the file anew in smaller row groups, "
        "of some thousand rows"
    )


def test_texts_that_are_held_once_and_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of some kilobytes can say as much as no memory holds."""
    words = [{"points": QUAD, "transcription": "x" * 1000}] * 9
    path = write(tmp_path / "a.parquet", [row(f"{n:04d}", words=words) for n in range(900)], 900)
    assert message(path) == ""
    monkeypatch.setattr(parquet_rows, "_LARGEST", 1 << 20)
    assert message(path) == (
        f"{path}: rows 1 to 900: hold more than 1 MB of text; names and words are short"
    )
    long = write(tmp_path / "b.parquet", [row("x" * 3000)] * 900, 900)
    assert "b.parquet: rows 1 to 900: hold more than 1 MB of text" in message(long)
