"""What a person sees: progress, tables and errors, all on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ocr_precompute.checking.repair import Repair
from ocr_precompute.checking.verify import VerifyReport
from ocr_precompute.errors import InputError, PrecomputeError, StoreError, printable
from ocr_precompute.files import json_bytes, replace_file
from ocr_precompute.format.manifest import Damaged, Skipped
from ocr_precompute.pipeline import build
from ocr_precompute.pipeline.encode import ShardResult
from ocr_precompute.reports.bench import BenchReport
from ocr_precompute.reports.summary import SplitSummary, StoreSummary
from ocr_precompute.settings import Settings
from ocr_precompute.storage.garbage import Garbage, Removal
from ocr_precompute.understood import Understood, summary_lines, tally_lines, warning_lines

_MOST_FINDINGS = 200
_MOST_NAMES = 20  # of samples that are worth a line each


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """One line on stderr, as it is."""
    _console().print(Text(printable(message)))


def warn(message: str) -> None:
    """One line on stderr that is to be seen."""
    _console().print(Text(f"warning: {printable(message)}", style="bold yellow"))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} samples/s" if task.speed else "")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=_console(),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


class BuildScreen(build.Progress):
    """Shows a running build."""

    def __init__(self, report: Path | None = None) -> None:
        """report: file to write all that was understood to."""
        self._report = report
        self._facts: dict[str, Any] = {}
        self._progress = _progress()
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
        try:
            replace_file(self._report, json_bytes(self._facts))
        except OSError as error:
            raise StoreError(
                f"{self._report}: cannot be written: {error.strerror}; name another --report"
            ) from error

    def planned(self, plan: build.Plan) -> None:
        """Start the bar, at what is there already."""
        missing = sum(len(shard.samples) for shard in plan.to_build)
        self._built, self._reused = 0, len(plan.shards) - len(plan.to_build)
        self._progress.reset(
            self._task, total=missing, description="encoding", detail=self._detail()
        )

    def encoded(self, result: ShardResult) -> None:
        """Advance the bar by one shard."""
        self._built += 1
        self._progress.update(
            self._task, advance=result.computed + result.copied, detail=self._detail()
        )

    def notice(self, message: str) -> None:
        """One line above the bar."""
        self._progress.console.print(Text(printable(message)))

    def _detail(self) -> str:
        return f"{self._built} shards built, {self._reused} reused"


class VerifyScreen:
    """Shows a running verification."""

    def __init__(self) -> None:
        self._progress = _progress()
        self._task = self._progress.add_task("verifying", total=None, detail="")

    def __enter__(self) -> VerifyScreen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def checked(self, samples: int) -> None:
        """Advance by one shard."""
        self._progress.advance(self._task, samples)


def print_build(report: build.BuildReport, settings: Settings) -> None:
    """The result of a build, in a few lines; what is probably not meant in colour."""
    counts = f"{report.samples} samples in {report.shards} shards"
    if report.up_to_date:
        say(f"{report.split}: up to date, {counts}, {report.seconds:.1f} s")
    else:
        verb = "would build" if report.dry_run else "built"
        say(
            f"{report.split}: {verb} {report.built} shards ({report.computed} samples computed, "
            f"{report.copied} copied), reused {report.reused}; {counts}, {report.seconds:.1f} s"
        )
    for line in summary_lines(report.understood, settings.parameters):
        say(line)
    for line in warning_lines(report.understood, settings.parameters):
        warn(line)
    if report.skipped:
        say(f"skipped: {report.skipped}; `ocr-precompute inspect` names them")
    print_damaged(report.damaged)
    say(f"store {settings.store}, data hash {report.data_hash}")


def print_damaged(damaged: Sequence[Damaged], prefix: str = "") -> None:
    """A line for each damaged image, up to a number that can be read."""
    for each in damaged[:_MOST_NAMES]:
        say(f"{prefix}{each.sample}: {each.damage}")
    if len(damaged) > _MOST_NAMES:
        say(f"{prefix}{len(damaged) - _MOST_NAMES} more images are damaged; --json lists all")


def print_verify(report: VerifyReport, repair: Repair, without_sources: set[str]) -> None:
    """The result of a verification, and of a repair before it, one line a finding."""
    for key in repair.repaired:
        say(f"repaired: {key[:16]}: built again")
    for finding in [*report.problems[:_MOST_FINDINGS], *repair.failed[:_MOST_FINDINGS]]:
        where = ": ".join(part for part in (finding.shard[:16], finding.sample) if part)
        say(f"{finding.kind}: {where + ': ' if where else ''}{finding.detail}")
    if len(report.problems) > _MOST_FINDINGS:
        say(f"... and {len(report.problems) - _MOST_FINDINGS} more; --json lists all")
    for split in sorted(without_sources):
        say(f"split {split}: not compared with its sources")
    verdict = "ok" if report.ok else f"{len(report.problems)} problems"
    say(
        f"{verdict}: {report.samples} samples in {report.shards} shards verified, "
        f"{report.recomputed} computed again"
    )


def print_summary(summary: StoreSummary, shards: bool) -> None:
    """Tables of a store's splits. shards: whether to list every shard."""
    console = _console()
    table = Table("split", "samples", "shards", "stored", "raw", "ratio", "data hash")
    for split in summary.splits:
        _add_row(
            table,
            split.name,
            str(split.samples),
            str(len(split.shards)),
            _size(split.stored_bytes),
            _size(split.raw_bytes),
            f"{split.ratio:.1f}",
            split.data_hash[:16],
        )
    console.print(table)
    for split in summary.splits:
        console.print(_shard_table(split, shards))
        console.print(_parameter_table(split))
        for line in summary_lines(split.understood, split.parameters)[:1]:
            say(f"{split.name}: {line}")
        for line in tally_lines(split.understood, split.parameters):
            say(f"{split.name}: {line}")
        for line in warning_lines(split.understood, split.parameters):
            warn(f"{split.name}: {line}")
        for skipped in split.skipped:
            entry = f": {skipped.entry}" if skipped.entry else ""
            say(f"{split.name}: skipped {skipped.kind}: {skipped.sample}{entry}: {skipped.reason}")
        print_damaged(split.damaged, f"{split.name}: ")
    if summary.unreferenced:
        say(
            f"{summary.unreferenced} shards belong to no split; `ocr-precompute gc` deletes them "
            "a day after it has first seen them so"
        )


def _shard_table(split: SplitSummary, every: bool) -> Table:
    """Every shard, or the smallest, the median and the largest."""
    title = Text(f"{printable(split.name)}: shards")
    if every:
        table = Table("shard", "samples", "stored", title=title, title_justify="left")
        for key, samples, size in split.shards:
            _add_row(table, key[:16], str(samples), _size(size))
        return table
    table = Table("shards", "least", "median", "most", title=title, title_justify="left")
    for name, spread in split.spreads.items():
        _add_row(table, name, *(_size(n) if name == "bytes" else str(n) for n in spread))
    return table


def _parameter_table(split: SplitSummary) -> Table:
    title = Text(f"{printable(split.name)}: parameters")
    table = Table("parameter", "value", title=title, title_justify="left")
    for name, value in split.parameters.model_dump(mode="json").items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        _add_row(table, name, "x".join(map(str, text)) if isinstance(text, list) else str(text))
    return table


def _add_row(table: Table, *cells: str) -> None:
    """Cells as they are: a store may come from elsewhere, with markup or escapes in its texts."""
    table.add_row(*(Text(printable(cell)) for cell in cells))


def _size(count: int) -> str:
    """Bytes for people, in powers of 1000."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def print_bench(report: BenchReport) -> None:
    """Tables of both paths, and the factor between them."""
    console = _console()
    stages = Table("stage", "ms a sample", "share", title="one thread, files in the page cache")
    totals = Table("path", "samples/s", "MB/s", "cold samples/s", "memory", "files read")
    for name, path in (("live", report.live), ("store", report.store)):
        for stage in path.stages:
            share = f"{stage.milliseconds / path.milliseconds:.0%}"
            _add_row(stages, f"{name}: {stage.name}", f"{stage.milliseconds:.3f}", share)
        _add_row(stages, f"{name}: all", f"{path.milliseconds:.3f}", "")
        cold = path.cold_samples_per_second
        _add_row(
            totals,
            name,
            f"{path.samples_per_second:.0f}",
            f"{path.megabytes_per_second:.0f}",
            "unknown" if cold is None else f"{cold:.0f}",
            "unknown" if path.memory is None else _size(path.memory),
            _size(path.file_bytes),
        )
    console.print(stages)
    totals.title = f"batches of {report.batch_size} on {report.threads} threads"
    console.print(totals)
    say(
        f"{report.split}: the store is {report.factor:.1f} times as fast as the live path "
        f"({report.samples} samples)"
    )


def plot_bench(report: BenchReport, path: Path) -> None:
    """A stacked bar a path, milliseconds a sample on one thread, as a PNG.

    Raises StoreError if matplotlib is missing or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise StoreError(
            f"{path}: drawing needs matplotlib; pip install 'ocr-precompute[plot]'"
        ) from error
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for row, (name, result) in enumerate((("live", report.live), ("store", report.store))):
        left = 0.0
        for stage in result.stages:
            label = f"{name}: {stage.name}, {stage.milliseconds:.2f} ms"
            axes.barh(row, stage.milliseconds, left=left, label=label)
            left += stage.milliseconds
        axes.text(left, row, f" {left:.2f} ms", va="center")
    axes.set_yticks([0, 1], ["live", "store"])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(report.live.milliseconds, report.store.milliseconds))
    axes.set_xlabel("milliseconds a sample, one thread, files in the page cache")
    axes.set_title(
        f"{report.split}: {report.factor:.1f} times as many samples a second from the store "
        f"({report.threads} threads)",
        fontsize="medium",
    )
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    try:
        figure.savefig(path, format="png", dpi=150)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
    say(f"chart in {path}")


def print_garbage(garbage: Garbage, dry_run: bool) -> None:
    """What `gc` did."""
    verb = "would delete" if dry_run else "deleted"
    say(
        f"{verb} {len(garbage.shards)} shards and {len(garbage.leftovers)} leftovers of killed "
        f"builds, {_size(garbage.bytes)}"
    )
    if garbage.kept:
        dates = [datetime.fromisoformat(kept.until).astimezone() for kept in garbage.kept]
        first, last = (f"{date:%Y-%m-%d %H:%M:%S %z}" for date in (min(dates), max(dates)))
        until = first if first == last else f"{first}, the last until {last}"
        say(
            f"kept {len(dates)} shards that no split names until {until}, as a training may have "
            "them open; run gc again then, or with --older-than 0 if none has"
        )
    if garbage.foreign:
        shown = ", ".join(garbage.foreign[:3]) + (" ..." if len(garbage.foreign) > 3 else "")
        say(f"left alone what is not of a store: {shown}")


def print_removal(removal: Removal, dry_run: bool) -> None:
    """What `remove` did."""
    counts = f"{removal.samples} samples in {removal.shards} shards"
    what = counts if removal.readable else "its manifest cannot be read"
    say(f"{'would remove' if dry_run else 'removed'} split {removal.split} ({what})")
    say(
        "`ocr-precompute gc` deletes shards that no split names, a day after it has first seen them"
    )


def print_error(error: PrecomputeError) -> None:
    """One line a problem."""
    lines = [str(p) for p in error.problems] if isinstance(error, InputError) else [str(error)]
    for line in lines:
        say(f"error: {line}")
    if len(lines) > 1:
        say(f"{len(lines)} problems; nothing was published")
