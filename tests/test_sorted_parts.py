"""Annotations in sorted parts: read range by range, with the same shards as in one piece."""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Dataset, run
from hypothesis import example, given
from hypothesis import settings as drawn
from hypothesis import strategies as st

from ocr_precompute import Settings, Source, build, open_store, verify
from ocr_precompute import annotations as reading
from ocr_precompute.annotations import PartReader, read_annotations
from ocr_precompute.annotations.formats.words_lines import PARTS
from ocr_precompute.annotations.json_lines import narrowed
from ocr_precompute.annotations.sorted_parts import entries, find_parts
from ocr_precompute.errors import InputError
from ocr_precompute.format.boundaries import bounds_of_ranges, shard_bounds
from ocr_precompute.format.manifest import Manifest
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline import tables
from ocr_precompute.pipeline.plan import cut_shards
from ocr_precompute.pipeline.remembered import PartMemory
from ocr_precompute.pipeline.scan import Scan, read_source, scan
from ocr_precompute.pipeline.tables import Samples
from ocr_precompute.pipeline.understand import understand
from ocr_precompute.settings import Rules, parse_skip_bad
from ocr_precompute.storage.digests import DigestCache
from ocr_precompute.storage.garbage import remove_split
from ocr_precompute.understood import Understood

QUAD = [[10, 10], [90, 12], [90, 32], [10, 30]]
PARAMETERS = Parameters(size=(64, 64))
WORDS = [{"points": QUAD}]


def line(name: str, **more: Any) -> str:
    return json.dumps({"name": name, "words": WORDS, **more})


def given_line(name: str, side: int = 1) -> str:
    """A line that tells all that is to be known of the image."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    quad = (np.array(QUAD) * side).tolist()
    words = [{"points": quad}, {"points": QUAD, "ignore": True}]
    return line(name, digest=digest, img_w=200, img_h=100 + side, words=words)


def write(folder: Path, *parts: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, lines in enumerate(parts):
        (folder / f"{number:03d}.jsonl").write_text("".join(f"{each}\n" for each in lines))
    return folder


def message(path: Path, **more: Any) -> str:
    """What is wrong with annotations that cannot be read, or not all of which can."""
    try:
        found = read_annotations(path, path.parent, **more).problems
    except InputError as error:
        found = error.problems
    return "\n".join(map(str, found))


def scanned(source: Source, memory: PartMemory | None = None) -> Scan:
    with DigestCache(source.annotations.parent / "none") as cache:
        return scan(source, PARAMETERS, 2**20, cache, memory=memory)


def said(found: Scan) -> Understood:
    """What is understood of a scan, whatever the annotations were read from."""
    understood = understand(found.samples, found.reading, PARAMETERS, "0" * 64)
    return replace(understood, key="", format="")


def published(store: Path) -> Manifest:
    return open_store(store)["val"].manifest


def keys(samples: Samples, length: int) -> list[str]:
    return [shard.key for shard in cut_shards(samples, PARAMETERS, length)]


def as_parts(dataset: Dataset, *cuts: int, told: bool = True) -> Source:
    """The dataset's annotations as parts, cut at these places. told: with digests and sizes."""
    lines = []
    for name, entry in sorted(dataset.document["images"].items()):
        digest = hashlib.sha256((dataset.images / name).read_bytes()).hexdigest()
        more = {"digest": digest, "img_w": 80, "img_h": 96} if told else {}
        lines.append(line(name, **entry, **more))
    ends = [0, *cuts, len(lines)]
    parts = [lines[a:b] for a, b in itertools.pairwise(ends)]
    folder = write(dataset.images.parent / "parts", *parts)
    return Source(images=dataset.images, annotations=folder)


# ------------------------------------------------------------------------------- what is read


def test_parts_are_read_in_order_of_names_not_of_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "parts", [line("c.jpg"), "", line("d.jpg")], [], [line("a/b.jpg")])
    (folder / "notes.txt").write_text("of somebody")
    found = read_annotations(folder, tmp_path)
    assert (found.format, found.problems) == ("words_lines", [])
    assert [each.name for each in found.annotations] == ["a/b.jpg", "c.jpg", "d.jpg"]
    assert found.left_out == (("notes.txt", "does not end in .jsonl"),)
    alone = read_annotations(folder / "000.jsonl", tmp_path)
    assert [each.name for each in alone.annotations] == ["c.jpg", "d.jpg"]


def test_parts_that_overlap_are_both_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "parts", [line("a.jpg"), line("c.jpg")], [line("b.jpg")])
    assert message(folder) == (
        f"{folder}/001.jsonl: begins with 'b.jpg', but {folder}/000.jsonl goes on to 'c.jpg': "
        "parts may not overlap; sort the lines of both by name, and cut them anew"
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["b", "a"], "000.jsonl: is not in order: it begins with 'b' and ends with 'a'"),
        (["a", "c", "b", "d"], "line 3: 'b' stands behind 'c'; sort the lines by name"),
        (["a", "a", "b"], "line 2: 'a' is annotated twice; keep one of the lines"),
    ],
)
def test_lines_out_of_order(lines: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in message(write(tmp_path / "parts", list(map(line, lines))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": 3}', 'line 2: must be a JSON object with a "name"'),
        ('["b"]', 'line 2: must be a JSON object with a "name"'),
        ('{"name": "b"', "line 2: is not valid JSON"),
        (line("b", words=3), 'b: must be an object, and its "words" too'),
        (line("b", digest="12"), 'b: "digest" must be the SHA-256 of the image file, 64 hex'),
        (line("../b"), "leaves the image folder"),
        (line("b", words=[{"points": [[1, 2]]}]), "b: line 2 word 0001: has 1 points"),
    ],
)
def test_what_is_wrong_with_a_line(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in message(write(tmp_path / "parts", [line("-"), text, line("c")]))


@pytest.mark.parametrize(("place", "which"), [(0, "first"), (2, "last")])
def test_a_first_or_last_line_that_tells_no_name(place: int, which: str, tmp_path: Path) -> None:
    lines = [line("a"), line("b"), line("c")]
    lines[place] = "{}"
    expected = f'000.jsonl: {which} line: must be a JSON object with a "name"'
    assert expected in message(write(tmp_path / "parts", lines), format_name="words_lines")


def test_what_sorted_parts_cannot_do(tmp_path: Path) -> None:
    source = Source(images=tmp_path, annotations=write(tmp_path / "parts", [given_line("a")]))
    with pytest.raises(InputError, match="taken as they are; leave strip_prefix out"):
        scanned(source.model_copy(update={"strip_prefix": "x"}))
    with pytest.raises(InputError, match="set unannotated to skip"):
        scanned(source.model_copy(update={"unannotated": "error"}))
    with pytest.raises(InputError, match="set unannotated to skip"):
        read_source(source.model_copy(update={"unannotated": "empty"}))


@drawn(max_examples=50, deadline=None)
@given(
    st.sets(st.text("ab/é€", min_size=1, max_size=5), min_size=1),
    st.text("ab/é€", max_size=3),
    st.text("ab/é€", max_size=3),
    st.booleans(),
)
def test_any_range_of_names_is_found(names: set[str], first: str, last: str, gaps: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = [each for name in sorted(names) for each in (line(name), *[""] * gaps)]
        (part,) = find_parts(write(Path(folder) / "parts", lines), PARTS).parts
        found = [e.name for e in entries(narrowed(part, first, last), PARTS)]
    assert found == [name for name in sorted(names) if first <= name <= last]


# ------------------------------------------------------------------------------- the same shards


names = st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), unique=True, max_size=300)
cuts = st.lists(st.integers(0, 300), max_size=12)


def ranges(items: list[str], places: list[int]) -> list[list[str]]:
    """The items, cut into ranges at these places; some are empty."""
    ends = [0, *sorted(min(place, len(items)) for place in places), len(items)]
    return [items[a:b] for a, b in itertools.pairwise(ends)]


@drawn(max_examples=200, deadline=None)
@given(names, cuts, st.integers(2, 40))
@example([f"{n}" for n in range(1000, 1300)], list(range(300)), 2)
def test_ranges_have_the_boundaries_of_the_whole(
    names: list[str], places: list[int], length: int
) -> None:
    ordered = sorted(names)
    assert list(bounds_of_ranges(ranges(ordered, places), length)) == shard_bounds(ordered, length)


@drawn(max_examples=40, deadline=None)
@given(names.filter(bool), cuts, st.integers(2, 12), st.integers(1, 50))
def test_parts_have_the_keys_of_one_process(
    names: list[str], places: list[int], length: int, block: int
) -> None:
    """Whatever the parts, and the blocks that are held of them, also within a shard."""
    ordered = sorted(names)
    lines = [given_line(name, 1 + n % 3) for n, name in enumerate(ordered)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("ocr_precompute.pipeline.scan.BLOCK", block)
        source = Source(images=Path(folder), annotations=Path(folder) / "parts")
        write(source.annotations, *ranges(lines, places))
        found = scanned(source.ruled(Rules(), PARAMETERS.recipe))
        samples = list(found.samples)
        assert list(found.samples.names()) == ordered
        whole = Samples.of(samples)
        assert keys(found.samples, length) == keys(whole, length)
        assert said(found) == said(replace(found, samples=whole))
        start, stop = sorted((len(ordered) // 3, places[0] if places else 5))
        some = found.samples[start:stop]
        assert [s.name for s in some] == ordered[start:stop]
        assert some.hashes(PARAMETERS).joined == Samples.of(some).hashes(PARAMETERS).joined


def test_parts_build_what_one_document_builds(dataset: Dataset, settings: Settings) -> None:
    build("val", dataset.source, settings)
    expected = published(settings.store)
    for told in (False, True):
        store = settings.model_copy(update={"store": settings.store.parent / f"store {told}"})
        source = as_parts(dataset, 1, 1, 10, 17, told=told)
        report = build("val", source, store)
        found = published(store.store)
        assert (found.shards, found.parts) == (expected.shards, expected.parts)
        assert (report.built, report.computed) == (len(found.shards), 24)
        said = replace(found.understood, key="", format="")
        assert said == replace(expected.understood, key="", format="")
        again = build("val", source, store)
        assert (again.up_to_date, again.built) == (True, 0)
        assert verify(store.store).ok


def test_sources_of_both_kinds_are_one_split(dataset: Dataset, settings: Settings) -> None:
    dataset.rename("page_003.jpg", "äö.jpg")
    dataset.save()
    whole, parts = dataset.source, as_parts(dataset, 7)
    build("val", listed({"a": whole, "a-b": whole, "b": whole}), settings)
    expected = published(settings.store).shards
    build("val", listed({"a": whole, "a-b": parts, "b": whole}), settings)
    assert published(settings.store).shards == expected
    assert open_store(settings.store)["val"].names[0] == "a-b/page_000.jpg"


def listed(sources: dict[str, Source]) -> Source:
    first, *others = (s.model_copy(update={"name": name}) for name, s in sources.items())
    return first.model_copy(update={"others": tuple(others)})


def test_a_change_builds_its_shard_and_copies_its_other_rows(
    dataset: Dataset, settings: Settings
) -> None:
    build("val", as_parts(dataset, 12), settings)
    dataset.points("page_005.jpg")[0][0] += 1.5
    report = build("val", as_parts(dataset, 12), settings)
    assert (report.built, report.computed) == (1, 1)
    assert report.copied > 0
    assert verify(settings.store).ok


def test_the_command_builds_parts(dataset: Dataset, tmp_path: Path) -> None:
    source = as_parts(dataset, 12)
    done = run(
        "build",
        *("--split", "val", "--images", source.images, "--annotations", source.annotations),
        *("--store", tmp_path / "store", "--size", "64", "--jobs", "2", "--json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["understood"]["format"] == "words_lines"
    assert len(open_store(tmp_path / "store")["val"]) == 24


# -------------------------------------------------------------------- what is given, and is wrong


def change(source: Source, part: int, name: str, **more: Any) -> None:
    """Say something else of an image."""
    path = sorted(source.annotations.iterdir())[part]
    lines = [json.loads(each) for each in path.read_text().splitlines()]
    lines = [each | more if each["name"] == name else each for each in lines]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))


def test_a_digest_that_is_not_the_images(dataset: Dataset, settings: Settings) -> None:
    source = as_parts(dataset, 12)
    change(source, 0, "page_005.jpg", digest="0" * 64)
    with pytest.raises(InputError, match=r"page_005.jpg: changed while the build was running"):
        build("val", source, settings)
    (dataset.images / "page_005.jpg").rename(dataset.images / "elsewhere.jpg")
    with pytest.raises(InputError, match=r"page_005.jpg: is missing; add it, or remove it from"):
        build("val", source, settings)
    (dataset.images / "elsewhere.jpg").rename(dataset.images / "page_005.jpg")
    change(source, 0, "page_005.jpg", img_w=None)  # no size: the file is looked at
    with pytest.raises(InputError, match=r"page_005.jpg: is not the image that was annotated"):
        build("val", source, settings)


def test_a_size_that_is_not_the_images(dataset: Dataset, settings: Settings) -> None:
    source = as_parts(dataset, 12)
    change(source, 1, "page_020.jpg", img_w=81)
    with pytest.raises(InputError, match="has 80 x 96 pixels as displayed, not 81 x 96 as its"):
        build("val", source, settings)


def test_annotations_that_change_while_a_build_runs(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, read_truly = as_parts(dataset, 12), tables.read_again

    def read_other(*of: Any) -> list[Any]:
        found = read_truly(*of)
        moved = replace(found[0].polygons, points=found[0].polygons.points + 1)
        return [replace(found[0], polygons=moved), *found[1:]]

    monkeypatch.setattr(tables, "read_again", read_other)
    with pytest.raises(InputError, match="its annotation changed while the build was running"):
        build("val", source, settings)
    monkeypatch.setattr(tables, "read_again", lambda *of: read_truly(*of)[1:])
    with pytest.raises(InputError, match="its annotation changed while the build was running"):
        build("val", source, settings)


@pytest.mark.parametrize("skip_bad", ["polygon", "image"])
def test_bad_images_and_polygons_are_skipped(
    skip_bad: str, dataset: Dataset, settings: Settings
) -> None:
    (dataset.images / "page_004.jpg").write_bytes(b"no image")
    dataset.points("page_014.jpg").clear()
    source = as_parts(dataset, 12)
    with pytest.raises(InputError):
        build("val", source, settings)
    report = build("val", source, settings, skip_bad=parse_skip_bad(skip_bad))
    found = published(settings.store)
    assert {each.sample for each in found.skipped} == {"page_004.jpg", "page_014.jpg"}
    assert report.samples == (23 if skip_bad == "polygon" else 22)
    again = build("val", source, settings, skip_bad=parse_skip_bad(skip_bad))
    assert (again.up_to_date, again.built) == (True, 0)
    assert published(settings.store) == found


# --------------------------------------------------------------------------------- remembered


def never(*_: Any) -> Any:
    raise AssertionError("read")


def test_parts_that_did_not_change_are_not_read(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = as_parts(dataset, 8, 16)
    build("val", source, settings)
    folder = settings.store / "scans" / "val"
    first = set(folder.iterdir())
    assert len(first) == 3
    read_truly, read = PartReader.read, []

    def counted(self: PartReader, part: Any, most: int) -> Any:
        read.append(part.path.name)
        return read_truly(self, part, most)

    monkeypatch.setattr(PartReader, "read", counted)
    assert build("val", source, settings).up_to_date
    assert read == []
    change(source, 1, "page_010.jpg", words=WORDS)
    report = build("val", source, settings)
    assert (report.built, report.computed, read) == (1, 1, ["001.jsonl"])
    assert len(first & set(folder.iterdir())) == 2  # what is not asked for any more is forgotten
    assert len(set(folder.iterdir())) == 3
    other = settings.model_copy(update={"size": (32, 32)})
    build("val", source, other)
    assert read[1:] == ["000.jsonl", "001.jsonl", "002.jsonl"]
    assert published(settings.store).understood.words == 1 + 23 * 3


@pytest.mark.parametrize("damage", ["cut", "longer", "no JSON", "names", "a folder", "gone"])
def test_what_is_remembered_badly_is_read_again(
    damage: str, dataset: Dataset, settings: Settings
) -> None:
    source = as_parts(dataset)
    build("val", source, settings)
    (path,) = (settings.store / "scans" / "val").iterdir()
    data = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "gone":
        head, _, body = data.partition(b"\n")
        offsets = body.index(b"\0\0\0\0")
        path.write_bytes(
            {
                "cut": data[:-1],
                "longer": data + b"\0",
                "no JSON": b"{" + data,
                "names": head + b"\n" + body[:offsets] + b"\xff" * 8 + body[offsets + 8 :],
            }[damage]
        )
    report = build("val", source, settings)
    assert (report.up_to_date, report.understood.words) == (True, 72)


def test_remembered_or_read_is_the_same(dataset: Dataset, tmp_path: Path) -> None:
    dataset.points("page_003.jpg")[2:] = dataset.points("page_003.jpg")[:1:-1]  # repaired
    source = as_parts(dataset, 5).ruled(Rules(), PARAMETERS.recipe)
    read = scanned(source, PartMemory(tmp_path / "memory", writes=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartReader, "read", never)
        known = scanned(source, PartMemory(tmp_path / "memory", writes=False))
    assert read.reading == known.reading or vars(read.reading) == vars(known.reading)
    assert said(read) == said(known)
    assert said(read).tally("repaired").words == 1
    assert keys(read.samples, 8) == keys(known.samples, 8)
    assert read.samples.sizes().tolist() == known.samples.sizes().tolist()


def test_a_part_is_not_remembered_where_images_are_looked_at(
    dataset: Dataset, settings: Settings
) -> None:
    build("val", as_parts(dataset, told=False), settings)
    assert not (settings.store / "scans").exists()
    marked = as_parts(dataset).model_copy(update={"ignore_texts": ("x",)})
    build("val", marked, settings)
    assert not (settings.store / "scans").exists()
    build("val", as_parts(dataset), settings, dry_run=True)
    assert not (settings.store / "scans").exists()


def test_relative_coordinates_are_seen_over_all_parts(tmp_path: Path) -> None:
    small = [{"points": [[0.1, 0.1], [0.9, 0.1], [0.9, 0.3]]}]
    first = [json.dumps(json.loads(given_line(name)) | {"words": small}) for name in ("a", "b")]
    source = Source(images=tmp_path, annotations=write(tmp_path / "parts", first))
    memory = PartMemory(tmp_path / "memory", writes=True)
    for _ in range(2):
        with pytest.raises(InputError, match="all coordinates lie between 0 and 1"):
            scanned(source, memory)
    write(tmp_path / "parts", first, [given_line("c")])
    assert len(scanned(source, memory).samples) == 3


def test_formats_without_parts_have_no_reader(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="words has no sorted parts"):
        PartReader(dataset.annotations, "auto", Rules(), dataset.source)
    assert not reading.in_sorted_parts(dataset.annotations, "auto")


def test_removing_a_split_forgets_its_parts(dataset: Dataset, settings: Settings) -> None:
    build("val", as_parts(dataset, 8), settings)
    build("test", as_parts(dataset, 8), settings)
    (settings.store / "scans" / "val" / "of somebody").touch()
    remove_split(settings.store, "val")
    assert [path.name for path in (settings.store / "scans" / "val").iterdir()] == ["of somebody"]
    remove_split(settings.store, "test")
    assert not (settings.store / "scans" / "test").exists()


def test_digests_are_looked_up_by_range(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of images whose digests are not given no more is held than what a block needs."""
    monkeypatch.setattr("ocr_precompute.pipeline.scan.BLOCK", 5)
    monkeypatch.setattr(DigestCache, "_SETTLED_NS", -1)
    source, held = as_parts(dataset, 8, told=False), []
    build("val", source, settings)
    load = DigestCache.load

    def counted(self: DigestCache, *ends: str) -> None:
        load(self, *ends)
        held.append(len(self._known or ()))

    monkeypatch.setattr(DigestCache, "load", counted)
    monkeypatch.setattr(Path, "read_bytes", never)
    assert build("val", source, settings).up_to_date
    assert held == [5, 3, 5, 5, 5, 1]
