"""The command `convert`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocr_precompute.cli.options import (
    FormatOption,
    IgnoreLabelOption,
    IgnoreTextOption,
    JsonOption,
    KeepLabelOption,
    StripPrefixOption,
    VerboseOption,
    marked,
)
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import progress_bar, say, warn
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.files import json_bytes, replace_file, writing
from ocr_precompute.settings import Rules, Settings, SkipBad, Unannotated, check_local, source_with

if TYPE_CHECKING:
    from ocr_precompute.annotations.writers import AnnotationWriter, Loss
    from ocr_precompute.pipeline.convert import Conversion

_SHOWN = 3


GivenImagesOption = Annotated[str, typer.Option("--images", help="Folder or URL of the images.")]
GivenAnnotationsOption = Annotated[
    Path, typer.Option("--annotations", help="Annotation file or folder, of any format.")
]
ToOption = Annotated[
    str,
    typer.Option(
        "--to",
        help="words, coco, paddle, doctr, mmocr, icdar or icdar:polygon.",
        metavar="FORM",
    ),
]
OutOption = Annotated[
    Path, typer.Option("--out", help="File to write, for icdar a folder; it must not exist.")
]
UnannotatedOption = Annotated[
    Unannotated,
    typer.Option("--unannotated", help="Images without annotation: skip, empty, or error."),
]
SkipBadOption = Annotated[
    SkipBad, typer.Option("--skip-bad", help="What becomes of bad input, as for `build`.")
]
LossesOption = Annotated[
    Path | None, typer.Option("--report", help="Write every loss, one by one, as JSON.")
]


def convert(
    images: GivenImagesOption,
    annotations: GivenAnnotationsOption,
    to: ToOption,
    out: OutOption,
    format_name: FormatOption = "auto",
    ignore_label: IgnoreLabelOption = None,
    ignore_text: IgnoreTextOption = None,
    keep_label: KeepLabelOption = None,
    strip_prefix: StripPrefixOption = None,
    unannotated: UnannotatedOption = "skip",
    skip_bad: SkipBadOption = "no",
    report_file: LossesOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Write annotations of any format that is read in another format.

    They go through the checks of a build, so what is wrong is an error here too. What the other
    format cannot express is listed: a text, a label, don't-care, a polygon of too many points.

    Example: ocr-precompute convert --images img --annotations Label.txt --to coco --out gt.json
    """
    with reporting(as_json, verbose):
        from ocr_precompute.pipeline import convert as converting

        writer = _writer(to)
        for path, option in ((out, "--out"), (report_file, "--report")):
            if path is not None:
                check_local(path, option)
        given = {"images": images, "annotations": annotations, "format": format_name}
        rules = Rules(skip_bad=skip_bad)
        source = source_with(None, given | {"rules": rules})
        marks = ignore_label, ignore_text, keep_label, strip_prefix
        source = marked(source, *marks, unannotated)
        with progress_bar() as progress:
            task = progress.add_task("reading", total=None, detail="")

            def on_read(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            found = converting.convert(source, writer, out, Settings().max_pixels, on_read)
        facts = _facts(found, writer)
        if report_file:
            with writing(report_file, "name another --report"):
                listed = [asdict(loss) for loss in found.losses]
                replace_file(report_file, json_bytes({**facts, "losses": listed}))
        print_json(facts) if as_json else _print(found, writer)


def _writer(name: str) -> AnnotationWriter:
    from ocr_precompute.annotations.writers import WRITERS

    if name not in WRITERS:
        reason = f"is no form that is written; one of {', '.join(WRITERS)}"
        raise InputError([Problem("config", "command line", f"--to {name!r}", reason)])
    return WRITERS[name]


def _facts(found: Conversion, writer: AnnotationWriter) -> dict[str, Any]:
    return {
        "format": _form(found),
        "to": writer.name,
        "out": str(found.out),
        "images": found.images,
        "words": found.words,
        "dont_care": found.dont_care,
        "lost": dict(Counter(loss.what for loss in found.losses)),
        "warnings": list(found.reading.warnings),
        "problems": [problem.as_dict() for problem in found.reading.problems],
    }


def _form(found: Conversion) -> str:
    reading = found.reading
    return f"{reading.format}:{reading.dialect}" if reading.dialect else reading.format


def _print(found: Conversion, writer: AnnotationWriter) -> None:
    say(
        f"{_form(found)} to {writer.name}: {found.images} images, {found.words} words, "
        f"{found.dont_care} of them don't care; {found.out}"
    )
    for line in found.reading.warnings:
        warn(line)
    for problem in found.reading.problems:
        warn(f"skipped: {problem}")
    by_kind: dict[str, list[Loss]] = {}
    for loss in found.losses:
        by_kind.setdefault(loss.what, []).append(loss)
    for what, losses in by_kind.items():
        warn(f"{writer.name} cannot say {len(losses)} x {what}:")
        for loss in losses[:_SHOWN]:
            warn(f"  {loss.image}{loss.entry and ': '}{loss.entry}: {loss.detail}")
        if len(losses) > _SHOWN:
            warn(f"  and {len(losses) - _SHOWN} more; --report FILE lists them")
