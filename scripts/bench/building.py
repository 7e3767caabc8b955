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
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numcodecs
import numpy as np
from measuring.command import add_scratch, argument_parser, run_script, say
from measuring.machine import environment
from measuring.results import Column, Result, Table
from measuring.samples import (
    SPLIT,
    checked_annotations,
    decoded,
    link,
    repeat_images,
    words_document,
)

from ocr_precompute.annotations import Annotation
from ocr_precompute.parameters import Compression
from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.clock import in_turn
from ocr_precompute.settings import Settings, Source
from ocr_precompute.targets.maps import compile_kernel, make_targets

SIDE = 640
LZ4 = {"cname": "lz4", "clevel": 9}  # packs fastest, and so shows what decoding alone saves


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
    found = in_turn(functions, rounds, lambda name, s: say(f"{name}: {s:.1f} s"))
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


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """What matters of these."""
    one = seconds["build, 1 job"]
    found = {
        "build / bare": one / seconds["bare work"],
        "two jobs (loky) against one": one / seconds["build, 2 jobs (loky)"],
        "two jobs (threading) against one": one / seconds["build, 2 jobs (threading)"],
    }
    for codec in ("", ", lz4"):
        exact, reduced = (seconds[f"large images, {mode}{codec}"] for mode in ("exact", "reduced"))
        told = f"reduced against exact, images of twice the size or more{codec}"
        found[told] = exact / reduced
    return found


def ways(arguments: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """All that is timed, by name."""
    scratch: Path = arguments.scratch
    images, annotations, samples = arguments.images, arguments.annotations, arguments.samples
    source = repeat_images(images, annotations, samples, scratch / "source")
    folder = Path(source.images)
    found = checked_annotations(folder, source.annotations)
    few = large_images(images, annotations, scratch / "large-once")
    large = repeat_images(Path(few.images), few.annotations, samples, scratch / "large")
    built = partial(build_afresh, source, scratch)
    from_large = partial(build_afresh, large, scratch, jobs=1)
    return {
        "bare work": lambda: bare(folder, found),
        "build, 1 job": partial(built, jobs=1),
        "build, 2 jobs (loky)": partial(built, jobs=2),
        "build, 2 jobs (threading)": partial(built, jobs=2, backend="threading"),
        "large images, exact": from_large,
        "large images, reduced": partial(from_large, decode="reduced"),
        "large images, exact, lz4": partial(from_large, compression=LZ4),
        "large images, reduced, lz4": partial(from_large, compression=LZ4, decode="reduced"),
    }


def measure(arguments: argparse.Namespace) -> Result:
    """A row for each way to build, and for the bare work."""
    cv2.setNumThreads(1)
    compile_kernel()
    seconds = median_seconds(ways(arguments), arguments.rounds)
    count = arguments.samples
    return Result(
        "building",
        f"What does a build of {count:,} samples cost beside its bare work?",
        environment(("opencv-python-headless", "numcodecs", "joblib")),
        (
            Table(
                (Column("what"), Column("", "s", 1), Column("", "ms/sample", 2)),
                tuple((name, s, 1000 * s / count) for name, s in seconds.items()),
            ),
        ),
        ratios(seconds),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__, samples=1000)
    options.add_argument("--rounds", type=int, default=1)
    add_scratch(options)
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
