"""Bad input: one line a problem, all of them at once, nothing published."""

from __future__ import annotations

import json
import os
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Dataset, published, run, run_apart
from local import read_manifest, shard_keys

from ocr_precompute.annotations import format_names, read_annotations
from ocr_precompute.checking.verify import verify
from ocr_precompute.errors import InputError, StoreError
from ocr_precompute.format.manifest import Manifest
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.store import open_store
from ocr_precompute.settings import Settings, Source, load_settings

BAD = "page_003.jpg"


def words(dataset: Dataset) -> dict:
    return dataset.document["images"][BAD]["words"]


def as_points(value: object) -> Callable[[Dataset], None]:
    return lambda dataset: words(dataset)["0002"].update(points=value)


def as_bytes(change: Callable[[bytes], bytes]) -> Callable[[Dataset], None]:
    def apply(dataset: Dataset) -> None:
        path = dataset.images / BAD
        path.write_bytes(change(path.read_bytes()))

    return apply


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG of that many grey pixels, or one that claims so."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    chunks += [(b"IDAT", data or zlib.compress(bytes((width + 1) * height))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def damaged_png(_: bytes) -> bytes:
    """Complete to look at; the pixels do not decompress."""
    return png(40, 40, b"not deflate at all")


POLYGONS = {
    "nan": ([[float("nan"), 1], [9, 9], [1, 9]], "has a coordinate that is not finite"),
    "infinity": ([[float("inf"), 1], [9, 9], [1, 9]], "has a coordinate that is not finite"),
    "two points": ([[1, 1], [9, 9]], "has 2 points; a polygon needs at least 3"),
    "no pairs": ([[1, 1, 1], [9, 9, 9], [1, 9, 9]], r"points are not a list of \[x, y\] pairs"),
    "ragged": ([[1, 1], [9]], r"points are not a list of \[x, y\] pairs"),
    "empty": ([], r"points are not a list of \[x, y\] pairs"),
    "strings": ([["1", "1"], ["9", "9"], ["1", "9"]], "points are not all numbers"),
    "booleans": ([[True, False]] * 3, "points are not all numbers"),
    "an object": ({"x": 1}, "points are not all numbers"),
    "a huge integer": ([[10**400, 1], [9, 9], [1, 9]], "has a coordinate that is not finite"),
    "far away": ([[1e7, 1], [9, 9], [1, 9]], "has a coordinate beyond 1000000 pixels"),
    "none": (None, "has no points; add or remove it"),
}

IMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda data: data[:300], "is a truncated JPEG .it ends before its pixels begin"),
    "text": (lambda _: b"dear diary", "is not a JPEG, PNG, BMP, WebP or TIFF image"),
    "empty": (lambda _: b"", "is not a JPEG, PNG, BMP, WebP or TIFF image"),
    "damaged header": (
        lambda data: data.replace(b"\xff\xc0", b"\xff\xc8"),
        "has a damaged image head",
    ),
    "truncated png": (lambda _: png(40, 40)[:-20], "is a truncated PNG"),
    "damaged png": (damaged_png, "is a damaged PNG .incorrect header check.; copy it"),
    "bomb": (lambda _: png(60000, 60000, b"x"), "has 60000 x 60000 pixels, more than the limit of"),
}

NAMES = {
    "../page.jpg": "leaves the image folder",
    "a/../../page.jpg": "leaves the image folder",
    "/etc/hostname": "leaves the image folder",
    "..\\page.jpg": "leaves the image folder",
    "C:/page.jpg": "leaves the image folder",
    "": "is not a usable file name",
    "nul\0.jpg": "is not a usable file name",
    "red\x1b[31m.jpg": "is not a usable file name",
    "half\ud800.jpg": "is not a usable file name",
    "folder": "is not a regular file",
    "pipe": "is not a regular file",
    "absent.jpg": "is missing; add it, or remove it from the annotations",
}


def refused(dataset: Dataset, settings: Settings, message: str) -> InputError:
    """The build is refused with one problem of that message, and nothing changes."""
    before = published(settings.store) if settings.store.exists() else {}
    with pytest.raises(InputError, match=message) as caught:
        build("val", dataset.source, settings)
    assert len(caught.value.problems) == 1
    after = published(settings.store)
    assert after.get("splits/val.json") == before.get("splits/val.json")
    return caught.value


def skipping(dataset: Dataset, settings: Settings) -> Manifest:
    """Build with --skip-bad, see that a second run has nothing to do, and that all verifies."""
    first = build("val", dataset.source, settings, skip_bad=True)
    second = build("val", dataset.source, settings, skip_bad=True)
    assert second.up_to_date
    assert second.built == 0
    assert second.data_hash == first.data_hash
    assert verify(settings.store, sources={"val": dataset.source}, recompute=1).problems == ()
    manifest = read_manifest(settings.store, "val")
    assert manifest is not None
    return manifest


@pytest.mark.parametrize("case", POLYGONS)
def test_bad_polygons(dataset: Dataset, settings: Settings, case: str) -> None:
    points, message = POLYGONS[case]
    build("val", dataset.source, settings)
    as_points(points)(dataset)
    dataset.save()
    error = refused(dataset, settings, message)
    assert str(error).startswith(f"{dataset.annotations}: {BAD}: word 0002: ")
    (skipped,) = skipping(dataset, settings).skipped
    assert (skipped.kind, skipped.sample, skipped.entry) == ("polygon", BAD, "word 0002")
    split = open_store(settings.store).split("val")
    assert len(split) == 24
    assert len(split[3].polygons) == 2


@pytest.mark.parametrize("case", IMAGES)
def test_bad_images(dataset: Dataset, settings: Settings, case: str) -> None:
    change, message = IMAGES[case]
    build("val", dataset.source, settings)
    good = (dataset.images / BAD).read_bytes()
    as_bytes(change)(dataset)
    error = refused(dataset, settings, message)
    assert str(error).startswith(f"{dataset.images / BAD}: ")
    (skipped,) = skipping(dataset, settings).skipped
    assert (skipped.kind, skipped.sample) == ("image", BAD)
    assert len(open_store(settings.store).split("val")) == 23
    refused(dataset, settings, message)  # without --skip-bad it is still an error
    (dataset.images / BAD).write_bytes(good)
    assert build("val", dataset.source, settings, skip_bad=True).samples == 24
    assert build("val", dataset.source, settings).skipped == 0


@pytest.mark.parametrize(("first", "length"), [(2, 2), (1, 8), (2, 8)])
def test_counts_where_bad_images_are_found_in_the_middle_of_a_build(
    dataset: Dataset, settings: Settings, first: int, length: int
) -> None:
    """Shards that are built by then are cut anew: the split has fewer than were written."""
    names = sorted(dataset.document["images"])
    for name in names[first::3] + names[4:18:2]:
        (dataset.images / name).write_bytes(damaged_png(b""))
    settings = settings.model_copy(update={"shard_length": length})
    report = build("val", dataset.source, settings, skip_bad=True)
    assert len(shard_keys(settings.store)) > report.shards  # or it would not be that case
    assert (report.built, report.reused) == (report.shards, 0)
    assert report.computed + report.copied == report.samples
    assert report.computed > 0


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_bad_names(dataset: Dataset, settings: Settings, name: str) -> None:
    (dataset.images / "folder").mkdir()
    os.mkfifo(dataset.images / "pipe")
    dataset.document["images"][name] = {}
    dataset.save()
    error = refused(dataset, settings, NAMES[name])
    assert str(error).isprintable()
    (skipped,) = skipping(dataset, settings).skipped
    assert skipped.sample == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": {\n "a.jpg": }}', "line 2 column 11: is not valid JSON: Expecting value"),
        ('{"images": {}', r"line 1 column 14: is not valid JSON: Expecting ','"),
        ("", "line 1 column 1: is not valid JSON"),
        ("[]", 'has no "images" object'),
        ('{"images": []}', 'has no "images" object'),
        ("[" * 100_000, "is nested too deeply"),
        ("\xff\xfe", "line 1 column 1: is not valid JSON"),
        ('{"images": {"a.jpg": 3}}', 'a.jpg: must be an object, and its "words" too'),
        ('{"images": {"a.jpg": {"words": 3}}}', 'a.jpg: must be an object, and its "words" too'),
        ('{"images": {}}', "holds no usable annotated image; nothing to build"),
    ],
)
def test_bad_json(dataset: Dataset, settings: Settings, text: str, message: str) -> None:
    dataset.annotations.write_text(text)
    refused(dataset, settings, message)


def test_json_that_is_not_utf8(dataset: Dataset, settings: Settings) -> None:
    dataset.annotations.write_bytes(b"\xff\xfe\x00")
    refused(dataset, settings, "cannot be read as JSON: 'utf-16-le' codec can't decode byte")


@pytest.fixture
def text_files(dataset: Dataset, tmp_path: Path) -> Path:
    """The dataset with text files beside the JSON."""
    folder = tmp_path / "data" / "gt"
    folder.mkdir()
    for name, page in dataset.document["images"].items():
        lines = [
            ",".join(str(n) for point in word["points"] for n in point) + ",3,50 EUR"
            for word in page["words"].values()
        ]
        (folder / f"gt_{Path(name).stem}.txt").write_text("\n".join(lines), "utf-8-sig")
    dataset.annotations = folder
    return folder


def test_text_files_and_json_say_the_same(dataset: Dataset, tmp_path: Path) -> None:
    json_file = dataset.annotations
    folder = tmp_path / "gt"
    folder.mkdir()
    for name, page in dataset.document["images"].items():
        rows = [
            ",".join(str(n) for point in word["points"] for n in point) + ",a, b"
            for word in page["words"].values()
        ]
        (folder / f"{Path(name).stem}.csv").write_text("\r\n".join(rows) + "\r\n\r\n")
    reading = read_annotations(json_file, dataset.images)
    a, no_problems = reading.annotations, reading.problems
    reading = read_annotations(folder, dataset.images)
    b, none_here = reading.annotations, reading.problems
    assert no_problems == none_here == []
    assert [x.name for x in a] == [x.name for x in b]
    for one, other in zip(a, b, strict=True):
        assert np.array_equal(one.polygons.points, other.polygons.points)


@pytest.mark.parametrize(
    ("line", "message", "kept"),
    [
        ("1,2,3,4,text", "line 2: 'text' is not a number; a line is x1,y1,", 0),
        ("1,2,3,4", "line 2: has 4 numbers, not 8; a line is x1,y1,", 0),
        ("1,2,3,4,5,6,seven,8,text", "line 2: 'seven' is not a number", 1),
        ("1,2,3,4,5,6,nan,8,text", "line 2: has a coordinate that is not finite", 1),
        ("1,2,3,4,5,6,inf,8,text", "line 2: has a coordinate that is not finite", 1),
        ("1,2,3,4,5,6,7e9,8,text", "line 2: has a coordinate beyond", 1),
        ("hello", "line 2: 'hello' is not a number", 0),
        (f"1,2,3,4,5,6,7{'x' * 90},8,text", r"line 2: '7x{39}' is not a number", 1),
    ],
)
def test_bad_text_lines(
    dataset: Dataset, settings: Settings, text_files: Path, line: str, message: str, kept: int
) -> None:
    """What is left of a bad polygon is don't-care, if it is three points or more."""
    file = text_files / "gt_page_003.txt"
    lines = file.read_text("utf-8-sig").splitlines()
    file.write_text("\n".join([lines[0], line, lines[2]]))
    error = refused(dataset, settings, message)
    assert str(error).startswith(f"{file}: line 2: ")
    (skipped,) = skipping(dataset, settings).skipped
    assert (skipped.kind, skipped.sample, skipped.entry) == ("polygon", BAD, "line 2")
    assert open_store(settings.store).split("val")[3].ignore.sum() == kept


def test_text_files_without_their_image(
    dataset: Dataset, settings: Settings, text_files: Path
) -> None:
    (text_files / "gt_lost.txt").write_text("")
    refused(dataset, settings, r"there is no image lost\.jpg, \.png or the like; add it or remove")
    (text_files / "gt_lost.txt").unlink()
    dataset.add("page_003.png")
    refused(dataset, settings, r"fits several images: page_003\.jpg, page_003\.png; keep one")


def test_a_transcription_may_hold_any_character(dataset: Dataset, text_files: Path) -> None:
    """Only line ends end a line, not what else Unicode calls a line boundary."""
    text = "0,0,9,0,9,9,0,9,a\x0cb\x1c\x85\u2028c"
    (text_files / "gt_page_003.txt").write_bytes(f"{text}\r\n{text}\n".encode())
    reading = read_annotations(text_files, dataset.images)
    found, problems = reading.annotations, reading.problems
    assert problems == []
    assert len(found[3].polygons.lengths) == 2


def test_dont_care_and_byte_order_mark(dataset: Dataset, text_files: Path) -> None:
    (text_files / "gt_page_003.txt").write_text(
        "0,0,9,0,9,9,0,9,###\n0,0,9,0,9,9,0,9,a###\n0,0,9,0,9,9,0,9\n", "utf-8-sig"
    )
    reading = read_annotations(text_files, dataset.images)
    found, problems = reading.annotations, reading.problems
    assert problems == []
    assert found[3].polygons.ignore.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": "nowhere.json"}, "nowhere.json: there is no such annotation file"),
        ({"images": "nowhere"}, "nowhere: there is no such image folder"),
        ({"format": "zip"}, "format 'zip' is unknown; one of auto, alto, "),
        ({"annotations": __file__}, "is in no known annotation format; say which with --format"),
        ({"format": "icdar"}, "must be a folder of text files"),
    ],
)
def test_bad_sources(
    dataset: Dataset, settings: Settings, change: dict[str, str], message: str
) -> None:
    source = dataset.source.model_copy(
        update={k: v if k == "format" else Path(v) for k, v in change.items()}
    )
    with pytest.raises(InputError, match=message):
        build("val", source, settings)
    assert {"coco", "doctr", "icdar", "labelme", "paddle", "words"} <= set(format_names())


def test_an_image_above_a_lower_limit(dataset: Dataset, settings: Settings) -> None:
    strict = settings.model_copy(update={"max_pixels": 96 * 80 - 1})
    with pytest.raises(InputError, match="has 80 x 96 pixels, more than the limit of 7679") as all_:
        build("val", dataset.source, strict)
    assert len(all_.value.problems) == 24


def test_all_problems_at_once_from_the_command(dataset: Dataset, tmp_path: Path) -> None:
    store = tmp_path / "store"
    flags = [*dataset.flags(), "--store", store, "--size", 64, "--json"]
    assert run("build", *flags, cwd=tmp_path).returncode == 0
    before = published(store)
    as_bytes(lambda data: data[:300])(dataset)
    (dataset.images / "page_004.jpg").unlink()
    dataset.points("page_005.jpg")[0][0] = float("nan")
    dataset.points("page_006.jpg")[:] = [[1, 1], [2, 2]]
    dataset.points("page_007.jpg")[:] = [[1, 1], [40, 1], [60, 1]]
    dataset.document["images"]["../\x1b[2Jout.jpg"] = {}
    dataset.save()
    result = run("build", *flags, cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 5
    assert "\x1b" not in result.stderr
    assert "5 problems; nothing was published" in result.stderr
    document = json.loads(result.stdout)
    assert len(document["problems"]) == 5
    assert {p["kind"] for p in document["problems"]} == {"image", "polygon"}
    assert published(store) == before
    skipped = run("build", *flags, "--skip-bad", cwd=tmp_path)
    assert skipped.returncode == 0, skipped.stderr
    report = json.loads(skipped.stdout)
    assert (report["samples"], report["skipped"]) == (22, 5)
    assert "1 (1.5%) of no area (page_007.jpg: 1)" in skipped.stderr
    shown = run("inspect", "--store", store, cwd=tmp_path).stderr
    assert "val: skipped image: page_004.jpg: is missing" in shown
    assert "val: skipped polygon: page_006.jpg: word 0001: has 2 points" in shown


def test_damaged_only_inside_from_the_command(dataset: Dataset, tmp_path: Path) -> None:
    """Found when the image is decoded, in a worker; the others in the run are still listed."""
    for name in (BAD, "page_020.jpg"):
        (dataset.images / name).write_bytes(damaged_png(b""))
    store = tmp_path / "store"
    result = run("build", *dataset.flags(), "--store", store, "--size", 64, cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert f"error: {dataset.images / BAD}: is a damaged PNG" in result.stderr
    assert f"error: {dataset.images / 'page_020.jpg'}: is a damaged PNG" in result.stderr
    assert not (store / "splits" / "val.json").exists()


# --------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shard_lenght: 3", "shard_lenght: unknown key; did you mean 'shard_length'"),
        ("nonsense: 3", "nonsense: unknown key; remove it"),
        ("compression: {level: 3}", "compression.level: unknown key; did you mean 'clevel'"),
        ("splits: {val: {images: a, annotation: b}}", "annotation: unknown key; did you mean"),
        ("splits: {val: {images: a}}", "splits.val.annotations: field required"),
        ("splits: {../val: {images: a, annotations: b}}", "split name '../val': use letters"),
        ("size: big", "size 'big' is neither N nor HxW, as in 640 or 480x640"),
        ("size: 4", "size 4x4 is outside 16 to 8192 pixels a side"),
        ("size: [1, 2, 3]", "size"),
        ("recipe: paper", "recipe: input should be 'seed', 'dbnet', 'paddleocr' or 'mmocr'"),
        ("decode: fast", "decode: input should be 'exact' or 'reduced'"),
        ("shrink_ratio: 1.5", "shrink_ratio"),
        ("thresh_min: 0.8", "thresh_min must be below thresh_max"),
        ("shard_length: 0", "shard_length: input should be greater than or equal to 2"),
        ("jobs: many", "jobs: input should be a valid integer"),
        ("size: 3\n: : :", "line 2 column"),
        ("just text", "must hold settings"),
        ("a: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("a: 2020-99-99", "is not valid YAML: month must be in 1..12; correct it"),
        ("[" * 5000, "is not valid YAML: nested too deeply; correct it"),
        ("a: 1\nb: \x07", "line 2: is not valid YAML: special characters are not allowed"),
        ('store: "a\\0b"', "store: no path may hold a NUL character"),
        ("store: 3", "store: must be a path or a URL"),
        ("splits: 3", "splits: must hold settings, one `key: value` a line"),
        ("size: 99999999999999999999", "size 99999999999999999999 is neither N nor HxW"),
    ],
)
def test_bad_config_files(tmp_path: Path, dataset: Dataset, text: str, message: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_settings(config, {})
    assert all(problem.file == str(config) for problem in caught.value.problems)


def test_a_config_file_that_is_not_utf8(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_bytes(b"jobs: 2\nstore: caf\xe9\n")
    with pytest.raises(InputError, match="line 2: is not valid YAML: it is not UTF-8 text; save"):
        load_settings(config, {})


def test_several_config_problems_at_once_from_the_command(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("sized: 3\njobs: 0\n")
    result = run("build", "--split", "val", "--config", config, "--size", "x", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert f"error: {config}: sized: unknown key; did you mean 'size'?" in result.stderr
    assert f"error: {config}: jobs: " in result.stderr
    assert "error: command line: size: size 'x' is neither N nor HxW" in result.stderr


def test_wrong_splits_from_the_command(tmp_path: Path, dataset: Dataset) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("splits: {train: {images: a, annotations: b}}")
    unknown = run("build", "--split", "trian", "--config", config, cwd=tmp_path)
    assert unknown.returncode == 2
    assert "error: split 'trian': unknown; configured splits: train." in unknown.stderr
    missing = run("build", "--split", "val", "--config", tmp_path / "no.yaml", cwd=tmp_path)
    assert missing.returncode == 2
    assert "no.yaml: cannot be read: No such file or directory" in missing.stderr
    unsafe = run("build", *dataset.flags("../val"), cwd=tmp_path)
    assert unsafe.returncode == 2
    assert "error: command line: split '../val': use letters, digits" in unsafe.stderr


# ------------------------------------------------------------------------------------- the store


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        (99, "install the version"),
        (2, "build it again into another store"),
        (1, "build it again into another store"),
    ],
)
def test_a_store_of_another_version(
    version: int, remedy: str, dataset: Dataset, settings: Settings
) -> None:
    build("val", dataset.source, settings)
    for path, key in (
        (settings.store / "splits" / "val.json", "format_version"),
        (settings.store / "zarr.json", "attributes.ocr_precompute.format_version"),
    ):
        document = json.loads(path.read_bytes())
        *parents, leaf = key.split(".")
        inner = document
        for parent in parents:
            inner = inner[parent]
        inner[leaf] = version
        path.write_text(json.dumps(document))
        before = published(settings.store)
        message = f"has format version {version}, this ocr-precompute reads version 4; {remedy}"
        with pytest.raises(StoreError, match=message):
            build("val", dataset.source, settings)
        if path.name == "val.json":  # other splits are checked all the same
            (finding,) = verify(settings.store).problems
            assert message in finding.detail
        else:
            with pytest.raises(StoreError, match=message):
                verify(settings.store)
        with pytest.raises(StoreError, match=message):
            open_store(settings.store).split("val")
        assert published(settings.store) == before
    for command in ("verify", "inspect", "gc"):
        result = run(command, "--store", settings.store)
        assert result.returncode == 2
        assert "error: " in result.stderr
        assert f"has format version {version}" in result.stderr


def test_not_a_store(tmp_path: Path) -> None:
    for command in ("verify", "inspect", "gc"):
        result = run(command, "--store", tmp_path)
        assert result.returncode == 2
        assert "there is no store here; `ocr-precompute build` makes one" in result.stderr
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match="does not describe an ocr-precompute store"):
        verify(tmp_path)


def test_inspect_shows_hostile_texts_as_they_are(dataset: Dataset, settings: Settings) -> None:
    """A store from elsewhere: neither escapes nor markup reach the terminal."""
    (dataset.images / BAD).write_bytes(b"no image")
    build("val", dataset.source, settings, skip_bad=True)
    path = settings.store / "splits" / "val.json"
    document = json.loads(path.read_bytes())
    document["skipped"][0]["reason"] = "[red]\x1b[2J"
    document["parameters"]["libraries"] = {"[blink]": "\x1b]0;owned\x07"}
    path.write_text(json.dumps(document))
    result = run("inspect", "--store", settings.store)
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stderr
    assert "\x07" not in result.stderr
    assert "[red]\\x1b[2J" in result.stderr
    assert "[blink]" in result.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data_hash", 3),
        ("split", None),
        ("skipped", [{"kind": "image", "sample": 3}]),
        ("skipped", 3),
        ("parts", {"key": "a" * 64}),
        *(
            ("parts", [{"key": "a" * 64, "shards": 1, "samples": n}])
            for n in (2.5, True, "3", 10**300, 0)
        ),
        ("parts", [{"key": "A" * 64, "shards": 1, "samples": 3}]),
        ("parts", [["key", "shards", "samples"]]),
        ("parameters", []),
    ],
)
def test_a_manifest_of_wrong_types(
    dataset: Dataset, settings: Settings, key: str, value: object
) -> None:
    build("val", dataset.source, settings)
    path = settings.store / "splits" / "val.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), key: value}))
    with pytest.raises(StoreError, match=r"val\.json: is damaged .*; build the split again"):
        open_store(settings.store).split("val")


def test_a_target_that_cannot_be_written(dataset: Dataset, tmp_path: Path) -> None:
    store = dataset.annotations / "store"  # below a file, so that it fails for root as well
    result = run("build", *dataset.flags(), "--store", store, cwd=tmp_path)
    assert result.returncode == 2
    assert "cannot be written: Not a directory; nothing was published" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("backend", ["sequential", "threading", "loky"])
def test_a_full_disk(dataset: Dataset, tmp_path: Path, backend: str) -> None:
    """A limit on file size stands in for the disk: writing fails half-way through a shard."""
    store = tmp_path / "store"
    flags = [*dataset.flags(), "--store", store, "--json"]
    assert run("build", *flags, "--size", 32, cwd=tmp_path).returncode == 0
    before = published(store)
    full = run_apart(
        *("build", *flags, "--size", 128, "--jobs", 2, "--backend", backend),
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert full.returncode == 2
    assert "cannot be written: File too large; nothing was published" in full.stderr
    assert len(full.stderr.splitlines()) == 1
    after = published(store)
    assert after["splits/val.json"] == before["splits/val.json"]
    assert verify(store, sources={"val": dataset.source}, recompute=1).ok
    assert run("build", *flags, "--size", 128, cwd=tmp_path).returncode == 0
    assert verify(store, sources={"val": dataset.source}, recompute=1).ok


def test_a_real_source_of_text_files(shared: Path) -> None:
    folder = shared / "icdar2015"
    source = Source(images=folder / "img", annotations=folder / "gt")
    reading = read_annotations(source.annotations, source.images)
    found, problems = reading.annotations, reading.problems
    assert problems == []
    assert len(found) == 35
    assert sum(int(a.polygons.ignore.sum()) for a in found) > 35
