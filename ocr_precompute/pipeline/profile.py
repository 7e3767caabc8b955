"""A build's profile: a trace of what it did, and a page that says what bounded it."""

from __future__ import annotations

import json
import logging
import operator
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import joblib

from ocr_precompute.errors import InputError, Problem
from ocr_precompute.files import json_bytes, read_bounded, replace_file
from ocr_precompute.monitoring.rules import MemoryShort
from ocr_precompute.pipeline.encode import ShardResult, useful_workers
from ocr_precompute.pipeline.report import BuildReport
from ocr_precompute.profiling.building import AtWork, Evidence, verdict
from ocr_precompute.profiling.trace import trace_bytes
from ocr_precompute.profiling.verdict import (
    Verdict,
    parts_page,
    stages_page,
    table,
    verdict_page,
)
from ocr_precompute.runtime.events import MOST, Stretch
from ocr_precompute.runtime.stages import Totals
from ocr_precompute.settings import Settings

log = logging.getLogger(__name__)

DATA, PAGE, TRACE = "report.json", "report.md", "trace.json"
"""The files of a profile. DATA is written first, and says whose they are."""

_OURS = "profile_of"  # an entry that DATA has
_MOST_DATA = 1 << 24  # bytes


def events_wanted(settings: Settings) -> int:
    """The most events of each kind of work that a build is to keep."""
    return MOST if settings.profile else 0


def check_profile(settings: Settings) -> None:
    """Make the folder for a profile, if one is wanted.

    Raises InputError if it cannot be written, lies in the store, or holds other files of its names.
    """
    if settings.profile is None:
        return
    if reason := _refusal(settings.profile, settings.store):
        problem = Problem("config", str(settings.profile), "profile", f"{reason}; name another one")
        raise InputError([problem])


def _refusal(folder: Path, store: str | Path) -> str:
    inside = isinstance(store, Path) and os.path.realpath(store)
    if inside and Path(os.path.realpath(folder)).is_relative_to(inside):
        return "this folder lies inside the store"
    found = [name for name in (DATA, PAGE, TRACE) if os.path.lexists(folder / name)]
    if found and not _is_ours(folder):
        return f"this folder holds a {found[0]} that is not of a build's profile"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"this folder cannot be written: {error.strerror or error}"


def _is_ours(folder: Path) -> bool:
    try:
        found = json.loads(read_bounded(folder / DATA, _MOST_DATA))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and _OURS in found


def profiled(
    report: BuildReport,
    settings: Settings,
    results: Mapping[str, ShardResult],
    stretches: Sequence[Stretch],
) -> BuildReport:
    """Write the profile of a build, if one is wanted, and give its report with the verdict.

    results: of the shards that were built. stretches: what was done, and when.
    What cannot be written is one warning in the log, for the build itself is done.
    """
    folder = settings.profile
    if folder is None:
        return report
    seen = _evidence(report, settings, results, stretches)
    said = verdict(seen)
    lost = sum(each.lost for each in stretches)
    kept = sum(len(each.events) for each in stretches)
    facts = {"kept": kept, "left_out": lost}
    page = [*_page(report, said, seen), *_trace_page(kept, lost)]
    try:
        replace_file(folder / DATA, json_bytes(_data(report, said, seen, facts)))
        replace_file(folder / PAGE, ("\n".join(page) + "\n").encode())
        replace_file(folder / TRACE, trace_bytes(stretches))
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror or error}"
        log.warning("profile: %s; the build is done, and its profile is not complete", reason)
        return replace(report, verdict=said)
    return replace(report, verdict=said, profile=str(folder / PAGE))


def _evidence(
    report: BuildReport,
    settings: Settings,
    results: Mapping[str, ShardResult],
    stretches: Sequence[Stretch],
) -> Evidence:
    worth = max(1, min(useful_workers(report.computed), len(results)))
    used = report.resources
    return Evidence(
        seconds=report.seconds,
        totals=report.recorded,
        tasks=reduce(operator.add, (result.recorded for result in results.values()), Totals()),
        at_work=AtWork.of(stretches, worth),
        worth=worth,
        cores=used.core_seconds / used.seconds if used else joblib.cpu_count(),
        processor=min(1.0, used.cpu_share) if used else None,
        short_of_memory=any(alert.rule == MemoryShort.name for alert in report.alerts),
        reduced=settings.decode == "reduced",
        sequential=settings.backend == "sequential",
    )


def _data(
    report: BuildReport, said: Verdict | None, seen: Evidence, facts: Mapping[str, int]
) -> dict[str, Any]:
    return {
        _OURS: "build",
        "split": report.split,
        "seconds": report.seconds,
        "samples": report.computed,
        "verdict": said and said.as_dict(),
        "parts": seen.parts() if said else {},
        "workers": {"at_work": seen.at_work.workers, "worth": seen.worth, "cores": seen.cores},
        "resources": report.resources and report.resources.as_dict(),
        "events": dict(facts),
        **report.recorded.as_dict(),
    }


def _page(report: BuildReport, said: Verdict | None, seen: Evidence) -> Iterator[str]:
    """Markdown, up to the trace."""
    if said is None:
        yield from ("# Nothing was built", "")
        why = "This was a dry run" if report.dry_run else "There was nothing to encode"
        yield f"{why}, so nothing is said to bound it. It took {report.seconds:.2f} s."
    else:
        yield from verdict_page(said, "build")
        yield from parts_page(seen.parts(), "build", report.seconds)
    yield from stages_page(report.recorded, "of all workers")
    if used := report.resources:
        yield from ("", "## Resources", "")
        share = f"{100 * used.cpu_share:.0f} % of {seen.cores:g} cores"
        rows = [("processor", share), ("memory at most", f"{used.memory_peak / 1e6:.0f} MB")]
        rows += [("read from disk", f"{used.read_bytes / 1e6:.1f} MB")]
        rows += [("written", f"{used.written_bytes / 1e6:.1f} MB")]
        yield from table(("what", "used"), rows)


def _trace_page(kept: int, lost: int) -> Iterator[str]:
    yield ""
    yield f"`{TRACE}` shows {kept:,} stages and waits; open it at ui.perfetto.dev."
    if lost:
        yield (
            f"It leaves out {lost:,}: of each kind of work it has the first {MOST:,} in detail, "
            "then whole shards only, and at last nothing."
        )
