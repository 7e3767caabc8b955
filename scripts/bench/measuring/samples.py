"""The samples that benchmarks measure: images repeated under other names, and stores of them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ocr_precompute.annotations import Annotation, read_annotations
from ocr_precompute.pipeline.build import build
from ocr_precompute.samples import Polygons
from ocr_precompute.settings import Settings, Source

FIELDS = ("image", "prob", "thresh")
SPLIT = "bench"


def checked_annotations(images: Path, annotations: Path) -> list[Annotation]:
    """All annotations; ends the program if there are none."""
    if not annotations.exists():
        sys.exit(f"{annotations}: there is none; make it with scripts/make_sample_data.py")
    return read_annotations(annotations, images).annotations or sys.exit(
        f"{annotations}: holds no annotated image"
    )


def link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system refuses one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def words_document(images: Mapping[str, Polygons]) -> dict[str, Any]:
    """Annotations of named images in the `words` format."""
    return {
        "images": {
            name: {
                "words": {
                    f"{number:04d}": {"points": points.tolist(), "ignore": bool(ignore)}
                    for number, (points, ignore) in enumerate(
                        zip(polygons.as_list(), polygons.ignore, strict=True)
                    )
                }
            }
            for name, polygons in images.items()
        }
    }


def repeat_images(images: Path, annotations: Path, samples: int, folder: Path) -> Source:
    """A split of so many samples: the annotated images under other names, over and over."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    found = checked_annotations(images, annotations)
    named: dict[str, Polygons] = {}
    for number in range(samples):
        annotation = found[number % len(found)]
        name = f"{number // len(found):04d}-{annotation.name.replace('/', '-')}"
        link(images / annotation.name, folder / "images" / name)
        named[name] = annotation.polygons
    (folder / "words.json").write_text(json.dumps(words_document(named)))
    return Source(images=folder / "images", annotations=folder / "words.json")


def build_store(arguments: argparse.Namespace, size: int = 640) -> tuple[Path, Source]:
    """The store that is measured, split `bench`, and what it was built from.

    Built with the defaults but for its canonical size. Only what changed is built again.
    """
    scratch: Path = arguments.scratch
    source = repeat_images(
        arguments.images, arguments.annotations, arguments.samples, scratch / "source"
    )
    settings = Settings(store=scratch / "store", size=(size, size))
    report = build(SPLIT, source, settings)
    print(f"store: {report.samples} samples, {report.built} shards built", file=sys.stderr)
    return scratch / "store", source


def live_settings(store: Path, side: int, sources: Mapping[str, Source], path: Path) -> str:
    """A configuration, as data.live takes it, whose splits are computed from these sources."""
    splits = {
        name: {"images": str(source.images), "annotations": str(source.annotations)}
        for name, source in sources.items()
    }
    path.write_text(json.dumps({"store": str(store), "size": side, "splits": splits}))
    return str(path)


def canonical_polygons(polygons: Polygons, image: Path, side: int) -> Polygons:
    """Polygons as `compute_sample` scales them, for a square canonical size."""
    return polygons.scaled(side / max(decoded(image).shape[:2]))


def decoded(path: Path) -> np.ndarray:
    """The pixels of an image file, BGR, turned as it says; ends the program if there are none."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return sys.exit(f"{path}: cannot be decoded") if pixels is None else pixels


def zipped(shard: Path, field: str) -> dict[str, Any]:
    """What tensorstore calls one array of a shard's file."""
    base = f"file://{shard.absolute()}"
    kvstore = {"driver": "zip", "base": base, "path": f"{field}/"}
    return {"driver": "zarr3", "kvstore": kvstore}
