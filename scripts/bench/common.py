"""What benchmarks share that are not in rooms yet."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from measuring import machine
from measuring.command import SAMPLE_ANNOTATIONS, SAMPLE_IMAGES
from measuring.machine import is_installed, one_core
from measuring.samples import (
    FIELDS,
    SPLIT,
    build_store,
    canonical_polygons,
    checked_annotations,
    link,
    repeat_images,
    words_document,
    zipped,
)
from measuring.timing import interleaved, medians, random_indices

__all__ = (
    "FIELDS",
    "SPLIT",
    "build_store",
    "canonical_polygons",
    "checked_annotations",
    "interleaved",
    "is_installed",
    "link",
    "medians",
    "one_core",
    "random_indices",
    "repeat_images",
    "words_document",
    "zipped",
)


def environment(packages: Sequence[str]) -> list[str]:
    """Lines that say when and where this was measured, for the head of a table."""
    return list(machine.environment(packages).markdown())


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


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def megabytes(size: float | None) -> str:
    """Bytes for a table."""
    return "" if size is None else f"{size / 1e6:,.1f} MB"


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
