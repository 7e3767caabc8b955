"""What a build says it understood of its sources."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Dataset, run
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from local import read_manifest, recorded_source

from ocr.datasets import LiveDataset, data_module
from ocr_precompute.annotations import Note, Reading, read_annotations
from ocr_precompute.checking.verify import verify
from ocr_precompute.errors import InputError, StoreError
from ocr_precompute.format.manifest import Manifest, PartEntry, ShardEntry
from ocr_precompute.images.decoding import fit_scale
from ocr_precompute.pipeline import scan
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.tables import Samples
from ocr_precompute.pipeline.understand import understand
from ocr_precompute.reading.store import open_store
from ocr_precompute.samples import ImageFile, Polygons, Sample
from ocr_precompute.settings import Settings, Source, Unannotated
from ocr_precompute.targets.collapse import collapsed
from ocr_precompute.targets.offsets import as_drawn, offset_distances, vanishes
from ocr_precompute.understood import (
    DONT_CARE,
    Understood,
    summary_lines,
    tally_lines,
    warning_lines,
)

CASES = Path(__file__).parent / "cases"


def source_of(case: str, **options: str) -> Source:
    folder = CASES / case
    annotations = folder / "gt" if (folder / "gt").is_dir() else folder / "gt.json"
    return Source.model_validate({"images": folder / "img", "annotations": annotations, **options})


# ------------------------------------------------------------------ images without annotation


def test_images_that_nothing_annotates_are_found_at_any_depth(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "._a.png", "in/deep/c.tiff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg" / "d.webp").touch()
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "a.png")
    (tmp_path / "around").symlink_to(tmp_path)
    (tmp_path / "labels.json").write_text('{"images": {"a.png": {}}}')
    reading = read_annotations(tmp_path / "labels.json", tmp_path)
    assert reading.unannotated == ("b.JPG", "folder.jpg/d.webp", "in/deep/c.tiff", "linked.jpg")


@pytest.mark.parametrize("choice", ["skip", "empty"])
def test_store_live_and_verify_agree_on_unannotated_images(
    settings: Settings, choice: Unannotated
) -> None:
    source = source_of("no_anno_images", unannotated=choice)
    names = ["img_1.jpg"] if choice == "skip" else ["img_1.jpg", "img_2.jpg", "img_3.JPG"]
    build("val", source, settings)
    split = open_store(settings.store).split("val")
    assert list(split.names) == names
    assert [len(sample.polygons) for sample in split] == [1, 0, 0][: len(names)]
    live = LiveDataset(source.images, source.annotations, unannotated=choice)
    assert list(live.names) == names
    recorded = recorded_source(settings.store, "val")
    assert recorded is not None
    assert recorded.unannotated == choice
    assert verify(settings.store, sources={"val": recorded}, recompute=1).ok


def test_unannotated_images_can_be_an_error(settings: Settings) -> None:
    source = source_of("no_anno_images", unannotated="error")
    for skip_bad in (False, True):
        with pytest.raises(InputError, match=r"img_2.jpg: has no annotation; annotate") as caught:
            build("val", source, settings, skip_bad=skip_bad)
        assert [p.sample for p in caught.value.problems] == ["img_2.jpg", "img_3.JPG"]
    with pytest.raises(InputError, match="has no annotation"):
        LiveDataset(source.images, source.annotations, unannotated="error")


def test_an_image_whose_annotation_is_bad_is_not_unannotated(
    dataset: Dataset, settings: Settings
) -> None:
    dataset.document["images"]["page_003.jpg"] = "text"
    dataset.save()
    source = dataset.source.model_copy(update={"unannotated": "empty"})
    assert build("val", source, settings, skip_bad=True).samples == 23


def test_an_unannotated_image_of_an_unusable_name_is_refused(
    dataset: Dataset, settings: Settings
) -> None:
    (dataset.images / os.fsdecode(b"caf\xe9.jpg")).write_bytes(
        (dataset.images / "page_000.jpg").read_bytes()
    )
    assert build("val", dataset.source, settings).samples == 24
    source = dataset.source.model_copy(update={"unannotated": "empty"})
    with pytest.raises(InputError, match="is not a usable file name; rename the image"):
        build("val", source, settings)


def test_the_flag_and_the_setting(dataset: Dataset, tmp_path: Path) -> None:
    dataset.document["images"].pop("page_003.jpg")
    dataset.save()
    config = tmp_path / "config.yaml"
    split = {
        "images": str(dataset.images),
        "annotations": str(dataset.annotations),
        "unannotated": "empty",
    }
    config.write_text(json.dumps({"size": 64, "splits": {"val": split}, "backend": "sequential"}))
    flags = ["--split", "val", "--config", config, "--store", tmp_path / "store", "--json"]
    assert json.loads(run("build", *flags).stdout)["samples"] == 24
    refused = run("build", *flags, "--unannotated", "error")
    assert refused.returncode == 2
    assert "page_003.jpg: has no annotation" in refused.stderr
    assert json.loads(run("build", *flags, "--unannotated", "skip").stdout)["samples"] == 23


# ------------------------------------------------------------------------------------- the cases


def understood_of(case: str, settings: Settings, **options: object) -> Understood:
    changed = settings.model_copy(update={"size": (640, 640), **options})
    return build("val", source_of(case), changed).understood


def found(understood: Understood) -> dict[str, tuple[int, int]]:
    return {tally.kind: (tally.words, tally.images) for tally in understood.tallies}


def test_polygons_outside_the_image_are_counted_and_named(settings: Settings) -> None:
    understood = understood_of("outside_all", settings)
    assert (understood.words, understood.trained) == (3, 0)
    assert found(understood) == {"outside": (3, 1), "nothing-trains": (3, 1)}
    assert understood.tally("outside").worst == (("a.jpg", 3),)
    assert "3 words (100.0%) wholly outside their image (a.jpg: 3)" in warnings_of(understood)
    result = run("inspect", "--store", settings.store)
    assert "val: 3 words wholly outside their image, in 1 image: a.jpg: 3" in result.stderr


def test_points_of_the_unrotated_picture_are_suspected(settings: Settings) -> None:
    understood = understood_of("exif_raw_coords", settings)
    assert found(understood) == {"in-padding": (1, 1), "exif": (1, 1)}
    assert "1 image with points outside the image as displayed" in warnings_of(understood)
    assert "EXIF orientation suspected" in warnings_of(understood)


def test_relative_coordinates_of_an_image_are_suspected(
    dataset: Dataset, settings: Settings
) -> None:
    for word in dataset.document["images"]["page_001.jpg"]["words"].values():
        word["points"] = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.2], [0.1, 0.2]]
    dataset.save()
    understood = build("val", dataset.source, settings).understood
    assert understood.tally("tiny").worst == (("page_001.jpg", 0),)
    assert "coordinates of another unit suspected" in warnings_of(understood)


def test_small_text_is_counted_with_the_size_that_keeps_it(settings: Settings) -> None:
    understood = understood_of("small_text_big_page", settings)
    assert found(understood) == {"small": (48, 1), "nothing-trains": (48, 1)}
    assert dict(understood.kept)[640] == dict(understood.kept)[736] == 0
    assert dict(understood.kept)[960] == 1
    assert understood.size_needed == 864
    said = "48 words (100.0%) under 8 px at size 640 (a.png: 48); --size 864 keeps at least 99%"
    assert said in warnings_of(understood)
    larger = understood_of("small_text_big_page", settings, size=(864, 864))
    assert (larger.trained, found(larger)) == (48, {})
    assert understood_of("small_text_big_page", settings, size=(832, 832)).trained == 0


def test_the_size_is_advised_in_the_shape_of_the_canonical_size(settings: Settings) -> None:
    understood = understood_of("small_text_big_page", settings, size=(640, 480))
    parameters = settings.model_copy(update={"size": (640, 480)}).parameters
    assert "--size 864x648 keeps" in "\n".join(warning_lines(understood, parameters))


def test_all_dont_care_is_said(settings: Settings) -> None:
    understood = understood_of("all_dontcare", settings)
    assert found(understood) == {"annotated": (3, 1), "nothing-trains": (3, 1)}
    assert "nothing trains" in warnings_of(understood)


def test_a_training_says_it_before_the_first_step(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("val", dataset.source, settings)
    for name in list(dataset.document["images"]):
        dataset.points(name)[:] = box(1, 1, 30, 2)
    dataset.save()
    build("train", dataset.source, settings)
    said: list[str] = []
    monkeypatch.setattr(data_module, "rank_zero_info", said.append)
    data_module.DetectionData(str(settings.store)).setup("fit")
    where = f"warning: {settings.store}: split 'train': "
    assert any(line.startswith(where) and "under 8 px at size 64" in line for line in said)


def test_images_without_annotation_are_named(settings: Settings) -> None:
    understood = understood_of("no_anno_images", settings)
    assert found(understood) == {"unannotated": (0, 2)}
    assert understood.tally("unannotated").worst == (("img_2.jpg", 0), ("img_3.JPG", 0))
    assert not warnings_of(understood)
    lines = summary_lines(understood, settings.parameters)
    assert "images: 2 without annotation (img_2.jpg, img_3.JPG)" in lines


def warnings_of(understood: Understood) -> str:
    return "\n".join(warning_lines(understood, Settings().parameters))


# ------------------------------------------------------------------------------ words, by cause


def page(name: str, polygons: list, ignore: list[bool], **changes: Any) -> Sample:
    """A page of 640 x 640 with those polygons."""
    arrays = [np.array(polygon, float) for polygon in polygons]
    image = ImageFile(b"d" * 32, changes.pop("size", (640, 640)), changes.pop("turned", False))
    return Sample(name, Path(), image, Polygons.from_list(arrays, ignore), **changes)


def read(*samples: Sample, settings: Settings | None = None, **facts: Any) -> Understood:
    reading = Reading("words", [], [], **facts)
    parameters = (settings or Settings()).parameters
    return understand(Samples.of(samples), reading, parameters, "0" * 64, every_name=True)


def box(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def test_each_word_that_does_not_train_has_one_cause() -> None:
    words = {
        "annotated": box(10, 10, 90, 20),
        "outside": box(-100, 10, 90, 20),
        "no-area": [[10, 10], [60, 60], [110, 110]],
        "small": box(10, 10, 90, 7.9),
        "collapsed": box(10, 10, 1000 / 2, 8.99),
        "trained": box(10, 10, 90, 8),
    }
    sample = page("a.jpg", list(words.values()), [kind == "annotated" for kind in words])
    understood = read(sample)
    counts = {kind: words for kind, (words, _) in found(understood).items()}
    assert counts == dict.fromkeys([*words][:-1], 1)
    assert (understood.words, understood.trained) == (6, 1)
    assert sum(understood.tally(kind).words for kind in DONT_CARE) == 5


@settings_of_hypothesis(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["dbnet", "seed"]), st.sampled_from([(640, 640), (300, 480)]))
def test_counts_are_what_the_labels_show(
    data: st.DataObject, recipe: str, size: tuple[int, int]
) -> None:
    """A word counts as trained if, and only if, its label leaves something of it."""
    settings = Settings.model_validate({"recipe": recipe, "size": size})
    number = st.floats(-60, 700, width=32)
    shape = st.one_of(
        st.lists(st.tuples(number, number), min_size=3, max_size=7),
        st.builds(box, number, number, st.floats(1, 400), st.floats(1, 24)),
        st.builds(tilted, number, number, st.floats(5, 400), st.floats(1, 24), st.floats(0, 3)),
    )
    polygons = data.draw(st.lists(shape, max_size=6))
    sample = page("a.jpg", polygons, [False] * len(polygons), size=(500, 640))
    canonical = sample.polygons.scaled(fit_scale((500, 640), size))
    drawn = as_drawn(canonical, size, settings.parameters.recipe)
    distances = offset_distances(drawn, settings.parameters.recipe)
    pairs = zip(drawn.as_list(), distances.tolist(), strict=True)
    shown = [distance > 0 and not vanishes(polygon, distance) for polygon, distance in pairs]
    understood = read(sample, settings=settings)
    assert understood.trained == sum(shown)
    lost = sum(understood.tally(kind).words for kind in DONT_CARE)
    assert understood.words == len(polygons) == understood.trained + lost


def tilted(x: float, y: float, width: float, height: float, angle: float) -> list[list[float]]:
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners: list[list[float]] = (np.array(box(0, 0, width, height)) @ turn + [x, y]).tolist()
    return corners


def test_collapsing_is_found_among_very_many() -> None:
    """The short way to the answer agrees with an offset for each polygon."""
    random = np.random.default_rng(0)
    recipe = Settings().parameters.recipe
    polygons = [
        np.array(tilted(*random.uniform(0, 300, 2), across, height, angle))
        for across, height, angle in zip(
            np.exp(random.uniform(2, 6, 20_000)),
            random.uniform(2, 20, 20_000),
            random.choice([0, np.pi / 2, 0.02, 0.3], 20_000),
            strict=True,
        )
    ]
    many = Polygons.from_list(polygons, [False] * len(polygons))
    distances = offset_distances(many, recipe)
    many = many.chosen(np.flatnonzero(distances))
    exact = [
        vanishes(polygon, distance)
        for polygon, distance in zip(many.as_list(), distances[distances > 0], strict=True)
    ]
    assert 50 < sum(exact) < len(exact)
    assert (collapsed(many, recipe) == exact).all()


def test_words_that_reach_over_the_edge() -> None:
    words = [box(600, 10, 39, 20), box(600, 10, 41, 20), box(600, 10, 60, 20), box(640, 9, 9, 9)]
    understood = read(page("a.jpg", words, [False] * 4))
    assert found(understood) == {"outside": (1, 1), "partly-outside": (1, 1)}


def test_the_worst_come_first_and_the_manifest_keeps_twenty() -> None:
    small = box(1, 1, 5, 5)
    samples = [
        page(f"{n:02d}.jpg", [small] * (1 + n // 10), [False] * (1 + n // 10)) for n in range(50)
    ]
    understood = read(*samples)
    tally = understood.tally("small")
    assert (tally.words, tally.images, len(tally.worst)) == (150, 50, 50)
    assert tally.worst[:10] == tuple((f"{number}.jpg", 5) for number in range(40, 50))
    assert tally.worst[10] == ("30.jpg", 4)
    short = understood.shortened().tally("small")
    assert (short.words, short.images, short.worst) == (150, 50, tally.worst[:20])
    line = next(tally_lines(understood.shortened(), Settings().parameters))
    assert line.endswith("and 30 more")


def test_notes_of_the_reading_are_counted() -> None:
    notes = (
        Note("repaired", "a.jpg", "word 1", "hull order"),
        Note("repaired", "a.jpg", "word 2", "hull order"),
        Note("self-crossing", "b.jpg", "word 1", "left"),
        Note("kept-as-ignore", "b.jpg", "word 2", "has 2 points"),
        Note("unlabelled", "b.jpg", "", "holds text without a label"),
        Note("tiny", "b.jpg", "", "relative"),
        Note("unlabelled", "gone.jpg", "", "left out"),
    )
    quads = [box(10, 10, 90, 20), box(10, 50, 90, 20)]
    samples = [page("a.jpg", quads, [False, False]), page("b.jpg", quads, [False, True])]
    understood = read(*samples, notes=notes)
    assert found(understood) == {
        "kept-as-ignore": (1, 1),
        "repaired": (2, 1),
        "self-crossing": (1, 1),
        "unlabelled": (0, 1),
        "tiny": (0, 1),
    }
    assert understood.trained == 3


def test_declared_sizes_are_compared() -> None:
    samples = [
        page("a.jpg", [], [], size=(30, 40), declared_size=(30, 40)),
        page("b.jpg", [], [], size=(30, 40), declared_size=(40, 30)),
        page("c.jpg", [], [], size=(30, 40), declared_size=(60, 80)),
        page("d.jpg", [], [], size=(30, 40)),
    ]
    understood = read(*samples)
    assert understood.tally("declared-turned").worst == (("b.jpg", 0),)
    assert understood.tally("declared-size").worst == (("c.jpg", 0),)
    assert understood.tally("without-words").images == 4


def test_what_is_said_does_not_depend_on_the_machine(
    dataset: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_truly = scan.read_annotations

    def read_more(path: Path, *arguments: Any) -> Reading:
        return replace(
            read_truly(path, *arguments),
            left_out=((f"{path}/sub/b.txt", "lies in a sub-folder"),),
            warnings=(f"{path}: read as quad; {path}/d.txt: line 1",),
        )

    monkeypatch.setattr(scan, "read_annotations", read_more)
    understood = build("val", dataset.source, settings).understood
    assert understood.left_out == (("sub/b.txt", "lies in a sub-folder"),)
    assert understood.warnings == ("labels.json: read as quad; d.txt: line 1",)
    assert summary_lines(understood, settings.parameters)[-1].endswith(": sub/b.txt")


def test_what_is_known_is_counted_again_only_where_something_changed() -> None:
    sample = page("a.jpg", [box(1, 1, 90, 20)], [False])
    parameters = Settings().parameters

    def now(known: Understood | None, data_hash: str = "0" * 64, **facts: Any) -> Understood:
        reading = Reading("icdar", [], [], **facts)
        return understand(Samples.of([sample]), reading, parameters, data_hash, known)

    first = now(None)
    assert now(first) is first
    note = Note("repaired", "a.jpg", "line 1", "hull order")
    others = [
        now(first, "1" * 64),
        now(first, notes=(note,)),
        now(first, dialect="quad"),
        now(first, unannotated=("b.jpg",)),
        now(first, left_out=(("c", "a pipe"),)),
        now(first, warnings=("uncertain",)),
    ]
    assert len({first.key, *(other.key for other in others)}) == 7
    declared, reading = replace(sample, declared_size=(9, 9)), Reading("icdar", [], [])
    assert understand(Samples.of([declared]), reading, parameters, "0" * 64, first).key != first.key
    again = understand(Samples.of([sample]), reading, parameters, "0" * 64, first, every_name=True)
    assert again == first
    assert again is not first


def test_no_word_at_all() -> None:
    understood = read(page("a.jpg", [], []))
    assert (understood.words, understood.trained, understood.kept) == (0, 0, ())
    assert "nothing trains" in warnings_of(understood)
    summary_lines(understood, Settings().parameters)


# ------------------------------------------------------------------------- report and strictness


def test_strict_refuses_what_is_probably_not_meant(tmp_path: Path) -> None:
    source, store = source_of("small_text_big_page"), tmp_path / "store"
    flags = ["--split", "val", "--images", source.images, "--annotations", source.annotations]
    flags += ["--store", store, "--backend", "sequential"]
    refused = run("build", *flags, "--strict", "--report", tmp_path / "r.json", cwd=tmp_path)
    assert refused.returncode == 2
    assert "gt.json: 48 words (100.0%) under 8 px at size 640" in refused.stderr
    assert "correct it, or build without --strict" in refused.stderr
    assert not (store / "splits" / "val.json").exists()
    document = json.loads((tmp_path / "r.json").read_text())
    assert (document["words"], document["trained"], document["size_needed"]) == (48, 0, 864)
    kept = run("build", *flags, "--size", "864", "--strict", "--json", cwd=tmp_path)
    assert kept.returncode == 0, kept.stderr
    assert json.loads(kept.stdout)["understood"]["trained"] == 48


def test_inspect_says_what_a_size_that_keeps_the_words_would_cost(tmp_path: Path) -> None:
    source, store = source_of("small_text_big_page"), tmp_path / "store"
    build("val", source, Settings(store=store, backend="sequential"))
    (split,) = json.loads(run("inspect", "--store", store, "--json").stdout)["splits"]
    times = split["content"] * (864 / 640) ** 2
    assert (
        "at --size 864, which keeps at least 99% of the words, they would hold "
        f"{times:.1f} times the pixels of batches at 640 x 640 without trim"
    ) in run("inspect", "--store", store).stderr


def test_the_report_names_all(dataset: Dataset, tmp_path: Path) -> None:
    for name in list(dataset.document["images"]):
        dataset.points(name)[:] = box(1, 1, 9, 2)
    dataset.save()
    flags = [*dataset.flags(), "--store", tmp_path / "store", "--size", "64", "--json"]
    flags += ["--report", tmp_path / "report.json", "--backend", "sequential"]
    result = run("build", *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (everything,) = [
        t
        for t in json.loads((tmp_path / "report.json").read_text())["tallies"]
        if t["kind"] == "small"
    ]
    (short,) = [
        t for t in json.loads(result.stdout)["understood"]["tallies"] if t["kind"] == "small"
    ]
    assert len(everything["worst"]) == everything["images"] == short["images"] == 24
    assert short["worst"] == everything["worst"][:20]
    manifest = json.loads((tmp_path / "store" / "splits" / "val.json").read_text())
    assert short in manifest["understood"]["tallies"]
    shown = json.loads(run("inspect", "--store", tmp_path / "store", "--json").stdout)
    assert shown["splits"][0]["understood"] == manifest["understood"]
    unwritable = run("build", *flags[:-3], tmp_path / "store" / "lock" / "r", cwd=tmp_path)
    assert unwritable.returncode == 2
    assert "name another --report" in unwritable.stderr
    assert "Traceback" not in unwritable.stderr


def test_a_dry_run_says_the_same(dataset: Dataset, settings: Settings) -> None:
    dry = build("val", dataset.source, settings, dry_run=True)
    assert dry.understood == build("val", dataset.source, settings).understood
    assert read_manifest(settings.store, "val").understood == dry.understood  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------- manifest


PLACE = Path("splits/val.json")


SHARDS = (ShardEntry("0" * 64, 1),)


def parsed(document: dict[str, Any]) -> Manifest:
    return Manifest.from_bytes(
        json.dumps(document).encode(), PLACE, lambda parts: [SHARDS for _ in parts]
    )


def manifest_document() -> dict[str, Any]:
    samples = [page("a.jpg", [box(1, 1, 90, 5)], [False])]
    parts = (PartEntry("2" * 64, 1, 1),)
    parameters, understood = Settings().parameters, read(*samples)
    manifest = Manifest("val", "1" * 64, parameters, parts, SHARDS, (), (), understood)
    document: dict[str, Any] = json.loads(manifest.to_bytes())
    assert parsed(document) == manifest
    return document


def test_unknown_fields_of_a_manifest_are_left_alone() -> None:
    document = manifest_document()
    before = parsed(document)
    for inner in (document, document["parts"][0], document["understood"]):
        inner["later"] = [1]
    later = {"kind": "later", "words": 1, "images": 1, "worst": []}
    document["understood"]["tallies"].append(later)
    after = parsed(document)
    assert (after.shards, after.parts) == (before.shards, before.parts)
    assert after.understood.tally("later").words == 1
    assert "1 word later, in 1 image: and 1 more" in tally_lines(after.understood, after.parameters)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("parts", 0, "samples"), True),
        (("parts", 0, "shards"), 1e300),
        (("parts", 0, "samples"), "7"),
        (("parts", 0, "key"), "../" * 20),
        (("parts",), {"a": 1}),
        (("split",), 7),
        (("skipped",), [{"kind": "image", "sample": 1, "entry": "", "reason": ""}]),
        (("understood",), None),
        (("understood", "words"), -1),
        (("understood", "words"), float("inf")),
        (("understood", "kept"), [[640, float("nan")]]),
        (("understood", "tallies"), [{"kind": "small"}]),
        (("understood", "left_out"), [["a"]]),
    ],
)
def test_hostile_values_of_a_manifest_are_one_line(where: tuple, value: object) -> None:
    document = manifest_document()
    inner: Any = document
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    with pytest.raises(StoreError, match=r"val.json: is damaged \([^\n]*\); build the split again"):
        parsed(document)
