"""The command `build`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
from rich.text import Text

from ocr_precompute.cli.options import (
    AnnotationsOption,
    ConfigOption,
    FormatOption,
    IgnoreLabelOption,
    IgnoreTextOption,
    ImagesOption,
    JobsOption,
    JsonOption,
    KeepLabelOption,
    StoreOption,
    StripPrefixOption,
    VerboseOption,
    marked,
    source_to_build,
)
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import byte_size, print_damaged, progress_bar, say, warn
from ocr_precompute.errors import printable
from ocr_precompute.files import json_bytes, replace_file, writing
from ocr_precompute.parameters import RECIPES, Decode
from ocr_precompute.pipeline.progress import Progress
from ocr_precompute.settings import (
    Backend,
    Settings,
    SkipBad,
    Unannotated,
    check_local,
    load_settings,
)
from ocr_precompute.understood import Understood, summary_lines, warning_lines

if TYPE_CHECKING:
    from ocr_precompute.format.manifest import Damaged, Skipped
    from ocr_precompute.monitoring.resources import Resources
    from ocr_precompute.pipeline.encode import ShardResult
    from ocr_precompute.pipeline.plan import Plan
    from ocr_precompute.pipeline.report import BuildReport
    from ocr_precompute.runtime.stages import Totals

ConfiguredSplitOption = Annotated[
    str, typer.Option("--split", help="Name of the split, as in the config.")
]
RecipeOption = Annotated[
    str | None,
    typer.Option(help=f"Labels as these trainers draw them: {', '.join(RECIPES)}."),
]
SizeOption = Annotated[str | None, typer.Option(help="Canonical size, 640 or HxW.")]
DecodeOption = Annotated[
    Decode | None, typer.Option(help="reduced: let the JPEG decoder shrink large scans first.")
]
BackendOption = Annotated[
    Backend | None,
    typer.Option(help="Where workers run: on this machine, or on a cluster of Dask or Ray."),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Address of the cluster, for --backend dask or ray; ray without one takes the cluster "
        "of this machine, or starts one.",
    ),
]
UnannotatedOption = Annotated[
    Unannotated | None,
    typer.Option(
        "--unannotated",
        help="Images without annotation: skip (the default), take as pages without text "
        "(empty), or stop (error).",
    ),
]
PlanOnlyOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
SkipBadOption = Annotated[
    SkipBad | None,
    typer.Option(
        "--skip-bad",
        help="Skip bad images, make bad polygons don't-care, record both. "
        "With --skip-bad=image an image with a bad polygon is skipped too.",
    ),
]
PartOption = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="I/N",
        help="Build only the I-th of N parts, look at no other images, and publish nothing; parts "
        "may run anywhere, at any time. --finish publishes.",
    ),
]
FinishOption = Annotated[
    bool,
    typer.Option(
        "--finish",
        help="Publish what all parts have built; refused if a part is missing.",
    ),
]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict", help="Refuse damaged images, and what is allowed but probably a mistake."
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", help="Write everything that was understood, with every name, as JSON."
    ),
]
MonitorOption = Annotated[
    bool | None,
    typer.Option(
        "--monitor/--no-monitor",
        help="Look at what the build uses and raise alerts, as it does by default.",
    ),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=0,
        max=65535,
        help="Show Prometheus metrics at http://127.0.0.1:PORT/metrics; 0 takes a free port.",
    ),
]
MetricsFileOption = Annotated[
    Path | None,
    typer.Option(
        "--metrics-file",
        help="Write metrics to FOLDER/NAME.prom, for node-exporter's textfile collector.",
    ),
]
FailOnAlertOption = Annotated[
    bool | None,
    typer.Option(
        "--fail-on-alert/--no-fail-on-alert",
        help="End with status 1 if an alert was raised; the build is done anyway.",
    ),
]

ProfileOption = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        help="Say what bounds the build and what to try, with a trace for ui.perfetto.dev: "
        "report.md, report.json and trace.json in that folder.",
    ),
]


class BuildCommand(typer.core.TyperCommand):
    """A command whose option `--skip-bad` also stands without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments, `--skip-bad` alone as `--skip-bad=polygon`."""
        alone = [f"{each}=polygon" if each == "--skip-bad" else each for each in args]
        return super().parse_args(ctx, alone)


def build(
    split: ConfiguredSplitOption,
    config: ConfigOption = None,
    store: StoreOption = None,
    images: ImagesOption = None,
    annotations: AnnotationsOption = None,
    format_name: FormatOption = None,
    ignore_label: IgnoreLabelOption = None,
    ignore_text: IgnoreTextOption = None,
    keep_label: KeepLabelOption = None,
    strip_prefix: StripPrefixOption = None,
    recipe: RecipeOption = None,
    size: SizeOption = None,
    decode: DecodeOption = None,
    jobs: JobsOption = None,
    backend: BackendOption = None,
    scheduler: SchedulerOption = None,
    unannotated: UnannotatedOption = None,
    dry_run: PlanOnlyOption = False,
    skip_bad: SkipBadOption = None,
    strict: StrictOption = False,
    part: PartOption = None,
    finish: FinishOption = False,
    report_file: ReportOption = None,
    monitor: MonitorOption = None,
    metrics_port: MetricsPortOption = None,
    metrics_file: MetricsFileOption = None,
    fail_on_alert: FailOnAlertOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Build or update a split. Does nothing when the data hash has not changed.

    Sources and settings come from the configuration file; with --images and --annotations none is
    needed. Only what changed is computed again, an interrupted build resumes, and readers see the
    old split until the new one is complete.

    Example: ocr-precompute build --split val --images img --annotations gt --store data/store
    """
    with reporting(as_json, verbose):
        from ocr_precompute.pipeline import build as building

        given: dict[str, Any] = {"store": store, "recipe": recipe, "size": size, "decode": decode}
        given |= {"jobs": jobs, "backend": backend, "scheduler": scheduler, "monitor": monitor}
        given |= {"metrics_port": metrics_port, "metrics_file": metrics_file, "profile": profile}
        settings = load_settings(config, {**given, "fail_on_alert": fail_on_alert})
        asked: dict[str, Any] = {"skip_bad": skip_bad, "strict": strict, "dry_run": dry_run}
        asked |= {"part": part, "finish": finish}
        if report_file:
            check_local(report_file, "--report")
        source = source_to_build(settings, split, images, annotations, format_name)
        source = marked(source, ignore_label, ignore_text, keep_label, strip_prefix, unannotated)
        with BuildScreen(report_file) as screen:
            every_name = report_file is not None
            report = building.build(
                split, source, settings, every_name=every_name, progress=screen, **asked
            )
        _end(report, settings, as_json)


def _end(report: BuildReport, settings: Settings, as_json: bool) -> None:
    """Print what was done. Exits with status 1 if an alert counts."""
    print_build(report, settings)
    if as_json:
        print_json(report.as_dict())
    if settings.fail_on_alert and report.alerts:
        raise typer.Exit(1)


class BuildScreen(Progress):
    """Shows a running build."""

    def __init__(self, report: Path | None = None) -> None:
        """report: file to write all that was understood to."""
        self._report = report
        self._facts: dict[str, Any] = {}
        self._progress = progress_bar()
        self._task = self._progress.add_task("scanning", total=None, detail="")
        self._built = self._reused = 0

    def __enter__(self) -> BuildScreen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def scanning(self, done: int, total: int) -> None:
        """Show how far the scan is."""
        self._progress.update(self._task, completed=done, total=total)

    def understood(self, understood: Understood, skipped: tuple[Skipped, ...]) -> None:
        """Write the report, if one is wanted. Raises StoreError if that cannot be done."""
        self._facts |= {**understood.as_dict(), "skipped": [asdict(each) for each in skipped]}
        self._write_report()

    def damaged(self, damaged: tuple[Damaged, ...]) -> None:
        """Write the report again, with these. Raises StoreError if that cannot be done."""
        self._facts["damaged"] = [asdict(each) for each in damaged]
        self._write_report()

    def _write_report(self) -> None:
        if self._report is None:
            return
        with writing(self._report, "name another --report"):
            replace_file(self._report, json_bytes(self._facts))

    def planned(self, plan: Plan) -> None:
        """Start the bar, at what is there already."""
        missing = sum(len(shard.samples) for shard in plan.to_build)
        self._built, self._reused = 0, len(plan.shards) - len(plan.to_build)
        self._progress.reset(
            self._task, total=missing, description="encoding", detail=self._detail()
        )

    def encoded(self, result: ShardResult) -> None:
        """Advance the bar by one shard."""
        self._built += not (result.bad or result.found)
        self._reused += bool(result.found)
        rows = result.computed + result.copied + result.found
        self._progress.update(self._task, advance=rows, detail=self._detail())

    def notice(self, message: str) -> None:
        """One line above the bar."""
        self._progress.console.print(Text(printable(message)))

    def _detail(self) -> str:
        return f"{self._built} shards built, {self._reused} reused"


def work_line(recorded: Totals) -> str:
    """Where the time of all workers went; stages of less than a hundredth are left out."""
    shares = {name: share for name, share in recorded.shares().items() if share >= 0.01}
    parts = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return f"{recorded.seconds:.1f} s of work: {parts}"


def resources_line(used: Resources) -> str:
    """What the build used of its machine."""
    return (
        f"memory {byte_size(used.memory_peak)} at most, processor {used.cpu_share:.0%}, "
        f"{byte_size(used.read_bytes)} read from disk, {byte_size(used.written_bytes)} written"
    )


def profile_line(report: BuildReport) -> str:
    """What bounded the build, and where more is said; empty if nobody asked."""
    where = f" ({report.profile})" if report.profile else ""
    if report.verdict:
        return f"{report.verdict.line}{where}"
    return f"nothing was built, so nothing bounds it{where}" if where else ""


def print_build(report: BuildReport, settings: Settings) -> None:
    """The result of a build, in a few lines; what is probably not meant in colour."""
    counts = f"{report.samples} samples in {report.shards} shards"
    if report.up_to_date:
        say(f"{report.split}: up to date, {counts}, {report.seconds:.1f} s")
    else:
        verb = "would build" if report.dry_run else "built"
        what = f"{report.split}, part {report.part}" if report.part else report.split
        say(
            f"{what}: {verb} {report.built} shards ({report.computed} samples computed, "
            f"{report.copied} copied), reused {report.reused}; {counts}, {report.seconds:.1f} s"
        )
    if report.part and not report.up_to_date:
        say("nothing is published before all parts are done and `build --finish` has run")
    if report.built and not report.dry_run:
        say(work_line(report.recorded))
    if report.resources and report.built and not report.dry_run:
        say(resources_line(report.resources))
    for alert in report.alerts:
        warn(f"alert after {alert.raised:.0f} s: {alert.rule}: {alert.detail}")
    if report.part and not report.samples:
        say("this part has no images: there are more parts than shards")
    else:
        for line in summary_lines(report.understood, settings.parameters):
            say(line)
        for line in warning_lines(report.understood, settings.parameters):
            warn(line)
    if report.skipped:
        say(f"skipped: {report.skipped}; `ocr-precompute inspect` names them")
    print_damaged(report.damaged)
    if line := profile_line(report):
        say(line)
    known = f", data hash {report.data_hash}" if report.data_hash else ""
    say(f"store {settings.store}{known}")
