"""The command line: parse, call, print."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from ocr_precompute import __version__
from ocr_precompute.annotations import format_names
from ocr_precompute.errors import InputError, PrecomputeError, Problem
from ocr_precompute.parameters import Decode
from ocr_precompute.settings import (
    DEFAULT_CONFIG,
    Backend,
    Settings,
    SkipBad,
    Source,
    Unannotated,
    check_local,
    load_settings,
    source_with,
)

app = typer.Typer(
    help="Compile a text-detection dataset once; train from it for ever.",
    epilog="Exit status: 0 done, 1 verify found a problem, 2 bad input or usage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help=f"Configuration file; {DEFAULT_CONFIG} by default, if present."),
]
StoreOption = Annotated[Path | None, typer.Option("--store", help="Folder of the store.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder that image names are relative to.")
]
AnnotationsOption = Annotated[
    Path | None, typer.Option("--annotations", help="Annotation file, or folder of text files.")
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", help=f"Annotation format: auto, {', '.join(format_names())}."),
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Workers; one a core by default.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Change nothing, only say what would be done.")
]


def main() -> None:
    """Entry point of the console command."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ocr-precompute {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None: ...


class _BuildCommand(typer.core.TyperCommand):
    """A command whose option `--skip-bad` also stands without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments, `--skip-bad` alone as `--skip-bad=polygon`."""
        alone = [f"{each}=polygon" if each == "--skip-bad" else each for each in args]
        return super().parse_args(ctx, alone)


@app.command(cls=_BuildCommand)
def build(
    split: Annotated[str, typer.Option("--split", help="Name of the split, as in the config.")],
    config: ConfigOption = None,
    store: StoreOption = None,
    images: ImagesOption = None,
    annotations: AnnotationsOption = None,
    format_name: FormatOption = None,
    recipe: Annotated[str | None, typer.Option(help="Label recipe: seed or dbnet.")] = None,
    size: Annotated[str | None, typer.Option(help="Canonical size, 640 or HxW.")] = None,
    decode: Annotated[
        Decode | None,
        typer.Option(help="reduced: let the JPEG decoder shrink large scans first."),
    ] = None,
    jobs: JobsOption = None,
    backend: Annotated[Backend | None, typer.Option(help="How workers run.")] = None,
    unannotated: Annotated[
        Unannotated | None,
        typer.Option(
            "--unannotated",
            help="Images without annotation: skip (the default), take as pages without text "
            "(empty), or stop (error).",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    skip_bad: Annotated[
        SkipBad | None,
        typer.Option(
            "--skip-bad",
            help="Skip bad images, make bad polygons don't-care, record both. "
            "With --skip-bad=image an image with a bad polygon is skipped too.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Refuse damaged images, and what is legal and probably not meant."
        ),
    ] = False,
    report_file: Annotated[
        Path | None,
        typer.Option("--report", help="Write all that was understood, every name, as JSON."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build or update a split. Does nothing when the data hash has not changed.

    Sources and settings come from the configuration file; with --images and --annotations none is
    needed. Only what changed is computed again, an interrupted build resumes, and readers see the
    old split until the new one is complete.

    Example: ocr-precompute build --split val --images img --annotations gt --store data/store
    """
    with _reporting(as_json):
        from ocr_precompute.cli.screen import BuildScreen, print_build
        from ocr_precompute.pipeline import build as building

        overrides = {
            "store": store,
            "recipe": recipe,
            "size": size,
            "decode": decode,
            "jobs": jobs,
            "backend": backend,
        }
        settings = load_settings(config, overrides)
        if report_file:
            check_local(report_file, "--report")
        source = _source(settings, split, images, annotations, format_name)
        source = source.model_copy(update={"unannotated": unannotated or source.unannotated})
        with BuildScreen(report_file) as screen:
            report = building.build(
                split,
                source,
                settings,
                skip_bad=skip_bad,
                strict=strict,
                dry_run=dry_run,
                every_name=report_file is not None,
                progress=screen,
            )
        print_build(report, settings)
        if as_json:
            _print_json(asdict(report))


@app.command()
def verify(
    split: Annotated[str | None, typer.Option("--split", help="Only this split.")] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    recompute: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of samples to compute again and compare."),
    ] = 0.0,
    check_sources: Annotated[
        bool, typer.Option("--sources/--no-sources", help="Compare with the source files.")
    ] = True,
    repair: Annotated[
        bool, typer.Option("--repair", help="Build damaged shards again from their sources.")
    ] = False,
    images: ImagesOption = None,
    annotations: AnnotationsOption = None,
    format_name: FormatOption = None,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every manifest, folder, index, checksum and value, and the sources of each split.

    Sources are those the split was built from; give --images and --annotations if they moved, or
    --no-sources to leave them out. With --recompute 0.1 (or 1) that share of samples is computed
    again from source and compared bit for bit. With --repair a damaged shard is built again, if its
    sources are still what they were. Exit status 1 if anything is, or stays, wrong.
    """
    with _reporting(as_json):
        from ocr_precompute.checking import repair as repairing
        from ocr_precompute.checking import verify as verifying
        from ocr_precompute.cli.screen import VerifyScreen, print_verify, say
        from ocr_precompute.storage.store import check_store, recorded_source, split_names

        settings = load_settings(config, {"store": store, "jobs": jobs})
        check_store(settings.store)
        splits = [split] if split else split_names(settings.store)
        sources: dict[str, Source] = {}
        for name in splits if check_sources else []:
            found = recorded_source(settings.store, name) or settings.splits.get(name)
            if images or annotations:
                found = _override(found, name, images, annotations, format_name)
            if found:
                rules = found.rules or settings.rules
                sources[name] = found.model_copy(update={"rules": rules})

        def check() -> verifying.VerifyReport:
            with VerifyScreen() as screen:
                return verifying.verify(
                    settings.store,
                    [split] if split else None,
                    sources=sources,
                    recompute=recompute,
                    max_pixels=settings.max_pixels,
                    jobs=settings.jobs,
                    on_shard=screen.checked,
                )

        report = check()
        done = repairing.Repair((), ())
        if repair and not report.ok:
            say(f"{len(report.problems)} problems; building damaged shards again")
            done = repairing.repair(settings.store, report, sources, max_pixels=settings.max_pixels)
            report = check()
        print_verify(report, done, set(splits) - set(sources))
        if as_json:
            failed = [asdict(finding) for finding in done.failed]
            document = asdict(report) | {"repaired": done.repaired}
            _print_json({**document, "problems": [*document["problems"], *failed]})
        if not report.ok:
            raise typer.Exit(1)


@app.command()
def inspect(
    split: Annotated[str | None, typer.Option("--split", help="Only this split.")] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    shards: Annotated[bool, typer.Option("--shards", help="List every shard.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show splits, shards, sizes, ratios, parameters, keys, and what was understood and skipped."""
    with _reporting(as_json):
        from ocr_precompute.cli.screen import print_summary
        from ocr_precompute.reports.summary import summarise

        settings = load_settings(config, {"store": store})
        summary = summarise(settings.store, [split] if split else None)
        if as_json:
            _print_json(summary.as_dict(shards))
        else:
            print_summary(summary, shards)


@app.command()
def preview(
    split: Annotated[str, typer.Option("--split", help="Name of the split.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path("preview"),
    count: Annotated[int, typer.Option("--count", min=1, help="How many samples.")] = 8,
    sample: Annotated[
        list[str] | None, typer.Option("--sample", help="Show this sample; may be repeated.")
    ] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write pictures of stored samples: image with polygons, and its four label maps."""
    with _reporting(as_json):
        from ocr_precompute.cli.screen import say
        from ocr_precompute.reports.preview import write_previews

        check_local(out, "--out")
        settings = load_settings(config, {"store": store})
        written = write_previews(settings.store, split, out, count, sample or [])
        say(f"{len(written)} pictures in {out}")
        if as_json:
            _print_json({"pictures": [str(path) for path in written]})


@app.command()
def bench(
    split: Annotated[str, typer.Option("--split", help="Name of the split.")],
    config: ConfigOption = None,
    store: StoreOption = None,
    images: ImagesOption = None,
    annotations: AnnotationsOption = None,
    format_name: FormatOption = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="How many, spread over the split.")
    ] = 64,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Samples a batch.")] = 16,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads; one a core by default.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="How long each measurement goes on at least.")
    ] = 1.0,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also draw a stacked bar chart, a PNG.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what the store saves: the live path against it, stage by stage, on your own split.

    Live: read the image file, decode, resize, draw labels, collate. Store: read, compare checksums,
    decompress into the batch. Stages are timed on one thread with files in the page cache, then
    whole batches on all threads, warm and, where the system drops files from its cache, cold.

    Example: ocr-precompute bench --split val --plot bench.png
    """
    with _reporting(as_json):
        import joblib

        from ocr_precompute.cli.screen import plot_bench, print_bench
        from ocr_precompute.reports import bench as benching
        from ocr_precompute.storage.store import recorded_source

        if plot:
            check_local(plot, "--plot")
        settings = load_settings(config, {"store": store})
        source = recorded_source(settings.store, split) or settings.splits.get(split)
        if images or annotations or source is None:
            source = _override(source, split, images, annotations, format_name)
        report = benching.bench(
            settings.store,
            split,
            source.model_copy(update={"rules": source.rules or settings.rules}),
            samples=samples,
            batch_size=batch_size,
            threads=threads or joblib.cpu_count(),
            max_pixels=settings.max_pixels,
            seconds=seconds,
        )
        print_bench(report)
        if plot:
            plot_bench(report, plot)
        if as_json:
            _print_json(asdict(report))


@app.command()
def remove(
    split: Annotated[str, typer.Option("--split", help="Name of the split.")],
    config: ConfigOption = None,
    store: StoreOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take a split out of the store. Its shards stay until `gc` deletes them.

    A training that has the split open reads on meanwhile.
    """
    with _reporting(as_json):
        from ocr_precompute.cli.screen import print_removal
        from ocr_precompute.storage.garbage import remove_split

        settings = load_settings(config, {"store": store})
        removal = remove_split(settings.store, split, dry_run)
        print_removal(removal, dry_run)
        if as_json:
            _print_json({**asdict(removal), "dry_run": dry_run})


@app.command()
def gc(
    config: ConfigOption = None,
    store: StoreOption = None,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than",
            help="Grace for shards, since gc first saw that no split names them: "
            "1d, 12h, 30m, or 0 to delete them now.",
        ),
    ] = "1d",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete shards that no split names any more, and what killed builds left behind.

    A training may have such shards open, so they stay for a day (--older-than) after gc has first
    seen them without a name. Deletes nothing while a build runs, or while something in splits/
    cannot be read as a manifest, and never what this program did not make.

    Example: ocr-precompute gc --older-than 12h
    """
    with _reporting(as_json):
        from ocr_precompute.cli.screen import print_garbage
        from ocr_precompute.storage.garbage import collect_garbage

        grace = _duration(older_than, "--older-than")
        settings = load_settings(config, {"store": store})
        garbage = collect_garbage(settings.store, dry_run, grace)
        print_garbage(garbage, dry_run)
        if as_json:
            _print_json({**asdict(garbage), "dry_run": dry_run})


def _duration(text: str, option: str) -> timedelta:
    """A length of time as given on the command line: a number and d, h, m or s; or 0."""
    match = re.fullmatch(r"(\d{1,5})([dhms])|0", text.strip())
    if match is None:
        reason = "give a whole number and d, h, m or s, as in 1d, 12h or 30m, or 0"
        raise InputError([Problem("config", "command line", f"{option} {text!r}", reason)])
    unit = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds", None: "days"}[match[2]]
    return timedelta(**{unit: int(match[1] or 0)})


def _source(
    settings: Settings,
    split: str,
    images: Path | None,
    annotations: Path | None,
    format_name: str | None,
) -> Source:
    """The split's source: the flags, over what the configuration says."""
    if images and annotations:
        return _override(settings.splits.get(split), split, images, annotations, format_name)
    return _override(settings.source(split), split, images, annotations, format_name)


def _override(
    source: Source | None,
    split: str,
    images: Path | None,
    annotations: Path | None,
    format_name: str | None,
) -> Source:
    if source is None and not (images and annotations):
        reason = "give both --images and --annotations"
        raise InputError([Problem("config", "command line", f"split {split!r}", reason)])
    given = {"images": images, "annotations": annotations, "format": format_name}
    return source_with(source, given)


@contextmanager
def _reporting(as_json: bool) -> Iterator[None]:
    """Turn this package's errors into lines on stderr, and exit status 2."""
    from ocr_precompute.cli.screen import print_error

    try:
        yield
    except PrecomputeError as error:
        problems = error.problems if isinstance(error, InputError) else ()
        print_error(error)
        if as_json:
            listed = [problem.as_dict() for problem in problems]
            _print_json({"error": str(error), "problems": listed})
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; nothing was published, finished shards are kept", err=True)
        raise typer.Exit(130) from None


def _print_json(document: dict[str, Any]) -> None:
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")
