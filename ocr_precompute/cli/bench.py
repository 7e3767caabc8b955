"""The command `bench`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ocr_precompute.cli.options import (
    AnnotationsOption,
    ConfigOption,
    FormatOption,
    ImagesOption,
    JsonOption,
    SplitOption,
    StoreOption,
    VerboseOption,
    source_built_from,
    source_unknown,
)
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import add_row, byte_size, print_table, say
from ocr_precompute.settings import check_local, load_settings

if TYPE_CHECKING:
    from ocr_precompute.reports.bench import BenchReport, Contest

SamplesOption = Annotated[
    int, typer.Option("--samples", min=1, help="How many, spread over the split.")
]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1, help="Samples a batch.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads; one a core by default.")
]
SecondsOption = Annotated[
    float, typer.Option("--seconds", min=0, help="How long each measurement goes on at least.")
]
CropOption = Annotated[
    int | None,
    typer.Option(
        "--crop", min=32, help="Side of varied samples, px; the shorter canonical side by default."
    ),
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="Also draw a stacked bar chart, a PNG.")
]


def bench(
    split: SplitOption,
    config: ConfigOption = None,
    store: StoreOption = None,
    images: ImagesOption = None,
    annotations: AnnotationsOption = None,
    format_name: FormatOption = None,
    samples: SamplesOption = 64,
    batch_size: BatchSizeOption = 16,
    threads: ThreadsOption = None,
    crop: CropOption = None,
    seconds: SecondsOption = 1.0,
    plot: PlotOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Measure what the store saves: the live path against it, stage by stage, on your own split.

    First samples as a training takes them, varied: a crop is turned, scaled and recoloured, and its
    labels are drawn anew. Then samples as they are. Live: read the image file, decode, resize, draw
    labels, collate. Store: compare checksums, decompress into the batch. Stages are timed on one
    thread with files in the page cache, then whole batches on all threads, warm and, where the
    system drops files from its cache, cold.

    Example: ocr-precompute bench --split val --plot bench.png
    """
    with reporting(as_json, verbose):
        import joblib

        from ocr_precompute.reports import bench as benching
        from ocr_precompute.reports.charts import plot_bench

        if plot:
            check_local(plot, "--plot")
        settings = load_settings(config, {"store": store})
        source = source_built_from(settings, split, images, annotations, format_name)
        if source is None:
            raise source_unknown(split)
        report = benching.bench(
            settings.store,
            split,
            source,
            samples=samples,
            batch_size=batch_size,
            threads=threads or joblib.cpu_count(),
            crop=crop,
            max_pixels=settings.max_pixels,
            seconds=seconds,
        )
        print_bench(report)
        if plot:
            plot_bench(report, plot)
            say(f"chart in {plot}")
        if as_json:
            print_json(asdict(report))


def print_bench(report: BenchReport) -> None:
    """Tables of both paths, and the factor between them, for varied samples and as they are."""
    print_contest(report.varied, f"varied, crops of {report.crop}", report)
    print_contest(report.plain, "as stored", report)


def print_contest(contest: Contest, kind: str, report: BenchReport) -> None:
    """Tables of both paths, and the factor between them. kind: of samples."""
    title = f"{kind}: one thread, files in the page cache"
    stages = Table("stage", "ms a sample", "share", title=title)
    totals = Table("path", "samples/s", "MB/s", "cold samples/s", "memory", "files read")
    for name, path in (("live", contest.live), ("store", contest.store)):
        for stage in path.stages:
            share = f"{stage.milliseconds / path.milliseconds:.0%}"
            add_row(stages, f"{name}: {stage.name}", f"{stage.milliseconds:.3f}", share)
        add_row(stages, f"{name}: all", f"{path.milliseconds:.3f}", "")
        cold = path.cold_samples_per_second
        add_row(
            totals,
            name,
            f"{path.samples_per_second:.0f}",
            f"{path.megabytes_per_second:.0f}",
            "unknown" if cold is None else f"{cold:.0f}",
            "unknown" if path.memory is None else byte_size(path.memory),
            byte_size(path.file_bytes),
        )
    print_table(stages)
    totals.title = f"{kind}: batches of {report.batch_size} on {report.threads} threads"
    print_table(totals)
    say(
        f"{report.split}, {kind}: the store is {contest.factor:.1f} times as fast as the live path "
        f"({report.samples} samples)"
    )
