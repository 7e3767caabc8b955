#!/usr/bin/env python3
"""What a build costs beside its bare work: decode, resize, labels and compression.

Images are repeated under other names up to --samples, so that start-up does not decide. The bare
cost is a plain loop over the same files with OpenCV, `make_targets` and Blosc that writes nothing.
Beside it: `build` with one job and with two, by processes and by threads; and `decode: reduced`
against `exact` on the images that are at least twice the canonical size.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numcodecs
import numpy as np
from common import (
    SPLIT,
    add_out,
    argument_parser,
    checked_annotations,
    environment,
    link,
    markdown_table,
    repeat_images,
    words_document,
    write_report,
)

from ocr_precompute.annotations import Annotation
from ocr_precompute.parameters import Compression
from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.clock import in_turn
from ocr_precompute.settings import Settings, Source
from ocr_precompute.targets.maps import compile_kernel, make_targets

SIDE = 640
LZ4 = {"cname": "lz4", "clevel": 9}  # packs fastest, and so shows what decoding alone saves


def decoded(path: Path) -> np.ndarray:
    """The pixels of an image file, BGR; ends the program if there are none."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return sys.exit(f"{path}: cannot be decoded") if pixels is None else pixels


def bare(images: Path, annotations: list[Annotation]) -> None:
    """Decode, resize, draw and compress every image; keep nothing."""
    compression = Compression()
    codec = numcodecs.Blosc(compression.cname, compression.clevel, numcodecs.Blosc.NOSHUFFLE)
    for annotation in annotations:
        pixels = decoded(images / annotation.name)
        height, width = pixels.shape[:2]
        scale = SIDE / max(height, width)
        target = (max(1, round(width * scale)), max(1, round(height * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        content = cv2.resize(pixels, target, interpolation=method)
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        image[: target[1], : target[0]] = cv2.cvtColor(content, cv2.COLOR_BGR2RGB)
        polygons = [polygon * scale for polygon in annotation.polygons.as_list()]
        maps = make_targets(polygons, annotation.polygons.ignore, SIDE)
        for array in (image, maps.prob, maps.prob_mask, maps.thresh, maps.thresh_mask):
            codec.encode(array)


def build_afresh(source: Source, scratch: Path, **settings: object) -> None:
    """Build all of the split into a new store."""
    store = scratch / "store-built"
    shutil.rmtree(store, ignore_errors=True)
    build(SPLIT, source, Settings.model_validate({"store": store, **settings}))


def median_seconds(functions: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds each function takes, the median of some rounds in turn."""
    found = in_turn(functions, rounds, lambda name, s: print(f"{name}: {s:.1f} s", file=sys.stderr))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def large_images(images: Path, annotations: Path, folder: Path) -> Source:
    """A split of only those images that are at least twice the canonical size."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    large = {}
    for annotation in checked_annotations(images, annotations):
        if max(decoded(images / annotation.name).shape[:2]) >= 2 * SIDE:
            link(images / annotation.name, folder / "images" / annotation.name)
            large[annotation.name] = annotation.polygons
    (folder / "words.json").write_text(json.dumps(words_document(large)))
    return Source(images=folder / "images", annotations=folder / "words.json")


def report(arguments: argparse.Namespace, seconds: dict[str, float]) -> Iterable[str]:
    """The table, and the ratios."""
    yield f"# Building {arguments.samples} samples"
    yield ""
    yield from environment(("opencv-python-headless", "numcodecs", "joblib"))
    yield ""
    count = arguments.samples
    rows = [(n, f"{s:.1f}", f"{1000 * s / count:.2f}") for n, s in seconds.items()]
    yield markdown_table(("what", "s", "ms per sample"), rows)
    yield ""
    one, two = seconds["build, 1 job"], seconds["build, 2 jobs (loky)"]
    yield f"- build / bare: {one / seconds['bare work']:.2f}"
    yield f"- two jobs (loky) against one: {one / two:.2f}"
    yield f"- two jobs (threading) against one: {one / seconds['build, 2 jobs (threading)']:.2f}"
    for codec in ("", ", lz4"):
        exact, reduced = (seconds[f"large images, {mode}{codec}"] for mode in ("exact", "reduced"))
        told = f"reduced against exact, images of twice the size or more{codec}"
        yield f"- {told}: {exact / reduced:.2f}"


def main() -> None:
    """Command line."""
    parser = argument_parser(__doc__, samples=1000)
    parser.add_argument("--rounds", type=int, default=1)
    add_out(parser)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    compile_kernel()
    scratch: Path = arguments.scratch
    source = repeat_images(
        arguments.images, arguments.annotations, arguments.samples, scratch / "source"
    )
    images = Path(source.images)
    annotations = checked_annotations(images, source.annotations)
    few = large_images(arguments.images, arguments.annotations, scratch / "large-once")
    large = repeat_images(Path(few.images), few.annotations, arguments.samples, scratch / "large")
    seconds = median_seconds(
        {
            "bare work": lambda: bare(images, annotations),
            "build, 1 job": lambda: build_afresh(source, scratch, jobs=1),
            "build, 2 jobs (loky)": lambda: build_afresh(source, scratch, jobs=2),
            "build, 2 jobs (threading)": lambda: build_afresh(
                source, scratch, jobs=2, backend="threading"
            ),
            "large images, exact": lambda: build_afresh(large, scratch, jobs=1),
            "large images, reduced": lambda: build_afresh(large, scratch, jobs=1, decode="reduced"),
            "large images, exact, lz4": lambda: build_afresh(
                large, scratch, jobs=1, compression=LZ4
            ),
            "large images, reduced, lz4": lambda: build_afresh(
                large, scratch, jobs=1, compression=LZ4, decode="reduced"
            ),
        },
        arguments.rounds,
    )
    write_report(report(arguments, seconds), arguments.out)


if __name__ == "__main__":
    main()
