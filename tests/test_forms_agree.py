"""The same pictures, annotated in different forms, are the same data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ocr_precompute.annotations.writers import WRITERS
from ocr_precompute.pipeline.build import build
from ocr_precompute.pipeline.convert import convert
from ocr_precompute.settings import Settings, Source

THREE = ("img_1", "img_2", "img_5")
FORMS = ("icdar", "labelme", "coco", "mmocr 0.x", "mmocr 1.x")


def pictures(samples: Path, folder: Path, count: int) -> Path:
    """The real pictures, and for as many others as are wanted black ones of their size."""
    shutil.copytree(samples / "images_icdar2015", folder)
    for number in range(1, count + 1):
        path = folder / f"img_{number}.jpg"
        if not path.exists():
            cv2.imwrite(str(path), np.full((720, 1280, 3), number, np.uint8))
    return folder


def of_three(samples: Path, folder: Path, form: str) -> Path:
    """What a form has of the three pictures alone."""
    if form == "icdar":
        return samples / "icdar2015"
    if form == "labelme":
        for name in THREE:
            shutil.copy(samples / "labelme" / f"mmocr_{name}.json", folder / f"{name}.json")
        return folder
    path = folder / "labels.json"
    if form == "mmocr 0.x":
        lines = (samples / "mmocr0x" / "instances_test.txt").read_text().splitlines(True)
        path.write_text("".join(line for line in lines if kept(json.loads(line)["file_name"])))
    elif form == "mmocr 1.x":
        document = json.loads((samples / "mmocr1x" / "textdet_test.json").read_text())
        listed = [each for each in document["data_list"] if kept(each["img_path"])]
        path.write_text(json.dumps(document | {"data_list": listed}))
    else:
        document = json.loads((samples / "mmocr0x" / "instances_test.json").read_text())
        images = [each for each in document["images"] if kept(each["file_name"])]
        ids = {each["id"] for each in images}
        words = [each for each in document["annotations"] if each["image_id"] in ids]
        path.write_text(json.dumps(document | {"images": images, "annotations": words}))
    return path


def kept(name: str) -> bool:
    return Path(name).stem in THREE


def data_hash(images: Path, annotations: Path, store: Path) -> str:
    settings = Settings(store=store, size=64, backend="sequential", monitor=False)
    return build("val", Source(images=images, annotations=annotations), settings).data_hash


def test_three_pictures_in_five_forms(shared: Path, tmp_path: Path) -> None:
    samples = shared.parent / "formats" / "samples"
    images = pictures(samples, tmp_path / "images", 0)
    found = {}
    for form in FORMS:
        folder = tmp_path / form
        folder.mkdir()
        annotations = of_three(samples, folder, form)
        found[form] = data_hash(images, annotations, tmp_path / f"store of {form}")
    assert found == dict.fromkeys(FORMS, found["icdar"])


@pytest.mark.parametrize("form", ["coco", "words", "paddle", "mmocr", "icdar"])
def test_ten_pictures_and_what_they_are_converted_to(
    shared: Path, tmp_path: Path, form: str
) -> None:
    samples = shared.parent / "formats" / "samples"
    images = pictures(samples, tmp_path / "images", 10)
    files = (
        "mmocr1x/textdet_test.json",
        "mmocr0x/instances_test.txt",
        "mmocr0x/instances_test.json",
    )
    hashes = {
        data_hash(images, samples / name, tmp_path / str(number))
        for number, name in enumerate(files)
    }
    source = Source(images=images, annotations=samples / files[0])
    done = convert(source, WRITERS[form], tmp_path / "made", 2**27)
    assert (done.images, done.words, done.dont_care, done.losses) == (10, 82, 61, ())
    assert hashes == {data_hash(images, tmp_path / "made", tmp_path / "last")}
