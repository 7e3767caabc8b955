"""What a build says it understood of its sources."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import Dataset, run

from ocr.datasets import LiveDataset
from ocr_precompute.build import build
from ocr_precompute.config import Settings, Source, Unannotated
from ocr_precompute.errors import InputError
from ocr_precompute.reader import open_store
from ocr_precompute.store import recorded_source
from ocr_precompute.unannotated import unannotated_images
from ocr_precompute.verify import verify

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases"
if not CASES.is_dir():
    CASES = HERE.parents[1] / "shared" / "cases"


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
    found = unannotated_images(tmp_path, {"a.png"})
    assert found == ["b.JPG", "folder.jpg/d.webp", "in/deep/c.tiff", "linked.jpg"]
    assert unannotated_images(tmp_path, set(found)) == ["a.png"]


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
