"""The command `bench`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ocr_precompute.cli.comparing import (
    AgainstOption,
    CompareOption,
    MaxRegressionOption,
    RoundsOption,
    SaveOption,
    Wish,
    measuring,
    print_comparison,
)
from ocr_precompute.cli.memory import print_memory
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
from ocr_precompute.settings import Settings, check_local, load_settings

if TYPE_CHECKING:
    from ocr_precompute.reports.bench import Effort, Subject
    from ocr_precompute.reports.contest import BenchReport, Contest

SamplesOption = Annotated[
    int, typer.Option("--samples", min=1, help="How many, spread over the split.")
]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1, help="Samples per batch.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads; by default one per core.")
]
SecondsOption = Annotated[
    float, typer.Option("--seconds", min=0, help="Least duration of each measurement.")
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
    rounds: RoundsOption = None,
    plot: PlotOption = None,
    save: SaveOption = None,
    compare: CompareOption = None,
    against: AgainstOption = None,
    max_regression: MaxRegressionOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Measure what the store saves: the live path against it, stage by stage, on your own split.

    First samples as a training takes them, varied: a crop is turned, scaled and recoloured, and its
    labels are drawn anew. Then samples as they are. Live: read the image file, decode, resize, draw
    labels, collate. Store: compare checksums, decompress into the batch. Stages are timed on one
    thread with files in the page cache, then whole batches on all threads, warm and, where the
    system drops files from its cache, cold. Last, how much memory the opened split takes.

    To see whether something has become slower, --save a baseline and --compare with it later, on
    the same processor: exit status 1 if a path is slower by more than --max-regression, beyond
    chance. --against compares two configurations, and so two stores, in turn.

    Example: ocr-precompute bench --split val --plot bench.png
    """
    with reporting(as_json, verbose):
        from joblib import cpu_count

        from ocr_precompute.reports.bench import Effort

        wish = Wish.checked(save, compare, against, max_regression, rounds)
        if plot:
            check_local(plot, "--plot")
        settings = load_settings(config, {"store": store})
        subjects = [subject_of(settings, split, images, annotations, format_name)]
        if against:
            subjects.append(subject_of(load_settings(against, {}), split))
        effort = Effort(samples, batch_size, threads or cpu_count(), crop, seconds, wish.rounds)
        document = measured(split, subjects, effort, wish, plot)
        if as_json:
            print_json(document)
    if document["comparison"] and document["comparison"]["slower"]:
        raise typer.Exit(1)


def measured(
    split: str, subjects: Sequence[Subject], effort: Effort, wish: Wish, plot: Path | None
) -> dict[str, Any]:
    """Measure, compare, show and keep what is wished for. Returns all of it for JSON."""
    from ocr_precompute.baselines.baseline import Baseline, write_baseline
    from ocr_precompute.baselines.comparison import compared, compared_in_turn
    from ocr_precompute.reports.bench import measure, prepare
    from ocr_precompute.reports.charts import plot_bench

    prepared = [prepare(split, subject, effort) for subject in subjects]
    what = measuring(prepared[0].conditions) if wish.save or wish.compare else None
    saved = wish.saved(what) if what else None
    report, *others = measure(prepared)
    now: Baseline | None = None
    if what:
        now = Baseline(**dict(what), reference=report.reference, rates=report.rates)
    comparison = compared(saved, now, wish.max_regression) if saved and now else None
    if others:
        comparison = compared_in_turn(others[0].rates, report.rates, wish.max_regression)
    print_bench(report)
    print_memory(report.memory, split)
    if plot:
        plot_bench(report, plot)
        say(f"chart in {plot}")
    if comparison:
        print_comparison(comparison, str(wish.compare or wish.against))
    if wish.save and now:
        write_baseline(wish.save, now)
        say(f"baseline in {wish.save}")
    return {**report.as_dict(), "comparison": comparison and comparison.as_dict()}


def subject_of(
    settings: Settings,
    split: str,
    images: str | None = None,
    annotations: Path | None = None,
    format_name: str | None = None,
) -> Subject:
    """A split of a configuration, to be measured. Raises InputError if its source is not known."""
    from ocr_precompute.reports.bench import Subject
    from ocr_precompute.storage.place import storage_of

    source = source_built_from(settings, split, images, annotations, format_name)
    if source is None:
        raise source_unknown(split)
    return Subject(storage_of(settings), source, settings.max_pixels)


def print_bench(report: BenchReport) -> None:
    """Tables of both paths, and the factor between them, for varied samples and as they are."""
    print_contest(report.varied, f"varied, crops of {report.crop}", report)
    print_contest(report.plain, "as stored", report)


def print_contest(contest: Contest, kind: str, report: BenchReport) -> None:
    """Tables of both paths, and the factor between them. kind: of samples."""
    title = f"{kind}: one thread, files in the page cache"
    stages = Table("stage", "ms per sample", "share", title=title)
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
