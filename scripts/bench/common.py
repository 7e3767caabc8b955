"""What the benchmarks share: sample data, the store they read, medians, tables, the machine."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ocr_precompute.annotations import Annotation, read_annotations
from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.clock import seconds_of
from ocr_precompute.samples import Polygons
from ocr_precompute.settings import Settings, Source

FIELDS = ("image", "prob", "thresh")
SPLIT = "bench"
SAMPLE_IMAGES = Path("data/sample/images/train")
SAMPLE_ANNOTATIONS = Path("data/sample/jsons/train.json")


def argument_parser(description: str | None, samples: int | None = None) -> argparse.ArgumentParser:
    """A parser with --images, --annotations and --scratch, and --samples if it has a default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, default=SAMPLE_IMAGES, help="folder of images")
    parser.add_argument("--annotations", type=Path, default=SAMPLE_ANNOTATIONS)
    if samples is not None:
        parser.add_argument("--samples", type=int, default=samples, help=f"default: {samples}")
        parser.add_argument(
            "--scratch",
            type=Path,
            default=Path(tempfile.gettempdir()) / "ocr-precompute-bench",
            help="folder for data made from the images; kept for the next run",
        )
    return parser


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


def canonical_polygons(polygons: Polygons, image: Path, side: int) -> Polygons:
    """Polygons as `compute_sample` scales them, for a square canonical size."""
    pixels = cv2.imread(str(image), cv2.IMREAD_COLOR)  # applies the EXIF orientation
    if pixels is None:
        sys.exit(f"{image}: cannot be decoded")
    return polygons.scaled(side / max(pixels.shape[:2]))


def one_core() -> None:
    """Keep this process, and the threads it will start, on one core."""
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def interleaved(
    functions: Mapping[str, Callable[[Any], Any]], arguments: Iterable[Any]
) -> dict[str, list[float]]:
    """Seconds each function takes for each argument; all functions in turn for one argument.

    A machine that is slow for a while is so for all of them. Which goes first changes every time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    for turn, argument in enumerate(arguments):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(seconds_of(partial(functions[name], argument)))
    return seconds


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    return importlib.util.find_spec(module) is not None


def environment(packages: Sequence[str]) -> list[str]:
    """Lines that say when and where this was measured, for the head of a table."""
    found = [f"Python {platform.python_version()}"]
    for package in ("numpy", *packages):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    command = [Path(sys.argv[0]).name, *(_shortened(word) for word in sys.argv[1:])]
    cores = f"{_usable_cores()} of {os.cpu_count()} cores"
    return [
        f"- {datetime.date.today().isoformat()}, {_cpu_model()}, {cores}, {platform.system()}",
        f"- {', '.join(found)}",
        f"- `{shlex.join(command)}`",
    ]


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _shortened(word: str) -> str:
    """An absolute path's last part: where a folder lies on one machine tells nobody anything."""
    return Path(word).name if word.startswith("/") else word


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def megabytes(size: float | None) -> str:
    """Bytes for a table."""
    return "" if size is None else f"{size / 1e6:,.1f} MB"


def random_indices(length: int, count: int, seed: int = 0) -> Iterator[int]:
    """Random indices below length."""
    return iter(np.random.default_rng(seed).integers(length, size=count).tolist())


def zipped(shard: Path, field: str) -> dict[str, Any]:
    """What tensorstore calls one array of a shard's file."""
    base = f"file://{shard.absolute()}"
    kvstore = {"driver": "zip", "base": base, "path": f"{field}/"}
    return {"driver": "zarr3", "kvstore": kvstore}


def add_out(parser: argparse.ArgumentParser) -> None:
    """Give a parser --out."""
    parser.add_argument("--out", type=Path, help="Markdown file; default: standard output")


def write_report(lines: Iterable[str], out: Path | None) -> None:
    """Lines of Markdown to a file, or to standard output."""
    text = "\n".join(lines) + "\n"
    if out:
        out.write_text(text)
    else:
        print(text, end="")


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of what `interleaved` measured, in milliseconds."""
    return {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
