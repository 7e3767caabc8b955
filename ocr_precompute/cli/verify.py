"""The command `verify`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocr_precompute.cli.options import (
    AnnotationsOption,
    ConfigOption,
    FormatOption,
    ImagesOption,
    JobsOption,
    JsonOption,
    OneSplitOption,
    StoreOption,
    VerboseOption,
    source_built_from,
)
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import progress_bar, say
from ocr_precompute.settings import Settings, Source, load_settings

if TYPE_CHECKING:
    from ocr_precompute.checking.repair import Repair
    from ocr_precompute.checking.verify import VerifyReport

RecomputeOption = Annotated[
    float, typer.Option(min=0, max=1, help="Share of samples to compute again and compare.")
]
SourcesOption = Annotated[
    bool, typer.Option("--sources/--no-sources", help="Compare with the source files.")
]
FullOption = Annotated[
    bool,
    typer.Option("--full", help="Download every shard behind a URL and check it to the last byte."),
]
RepairOption = Annotated[
    bool, typer.Option("--repair", help="Build damaged shards again from their sources.")
]
_MOST_FINDINGS = 200


def verify(
    split: OneSplitOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    recompute: RecomputeOption = 0.0,
    full: FullOption = False,
    check_sources: SourcesOption = True,
    repair: RepairOption = False,
    images: ImagesOption = None,
    annotations: AnnotationsOption = None,
    format_name: FormatOption = None,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Check every manifest, folder, index, checksum and value, and the sources of each split.

    Sources are those the split was built from; give --images and --annotations if they moved, or
    --no-sources to leave them out. With --recompute 0.1 (or 1) that share of samples is computed
    again from source and compared bit for bit. With --repair a damaged shard is built again, if its
    sources are still what they were. Exit status 1 if anything is, or stays, wrong.

    Behind a URL only the end of each shard is downloaded, one request per shard, and the service's
    checksum is compared with that of what was written, if it keeps one; --full downloads all.
    """
    with reporting(as_json, verbose):
        from ocr_precompute.checking import repair as repairing
        from ocr_precompute.storage.place import storage_of
        from ocr_precompute.storage.store import check_store, split_names

        settings = load_settings(config, {"store": store, "jobs": jobs})
        storage = storage_of(settings)
        check_store(storage)
        splits = [split] if split else None
        names = splits or split_names(storage)
        found = {
            name: source_built_from(settings, name, images, annotations, format_name)
            for name in (names if check_sources else [])
        }
        sources = {name: source for name, source in found.items() if source}
        report = _check(settings, splits, sources, recompute, full)
        done = repairing.Repair((), ())
        if repair and not report.ok:
            say(f"{len(report.problems)} problems; building damaged shards again")
            done = repairing.repair(storage, report, sources, max_pixels=settings.max_pixels)
            report = _check(settings, splits, sources, recompute, full)
        print_verify(report, done, set(names) - set(sources))
        if as_json:
            print_json(_document(report, done))
        if not report.ok:
            raise typer.Exit(1)


def _check(
    settings: Settings,
    splits: list[str] | None,
    sources: dict[str, Source],
    recompute: float,
    full: bool,
) -> VerifyReport:
    from ocr_precompute.checking.verify import verify as verify_store
    from ocr_precompute.storage.place import storage_of

    with progress_bar() as progress:
        task = progress.add_task("verifying", total=None, detail="")
        return verify_store(
            storage_of(settings),
            splits,
            sources=sources,
            recompute=recompute,
            full=full,
            max_pixels=settings.max_pixels,
            jobs=settings.jobs,
            on_shard=lambda samples: progress.advance(task, samples),
        )


def _document(report: VerifyReport, done: Repair) -> dict[str, Any]:
    failed = [asdict(finding) for finding in done.failed]
    document = asdict(report) | {"repaired": done.repaired}
    return {**document, "problems": [*document["problems"], *failed]}


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
    if report.by_checksum:
        say(
            f"{report.by_checksum} shards were not downloaded: their bytes are, by the service's "
            "checksums, those that were written"
        )
    if report.by_end:
        say(
            f"of {report.by_end} shards only records, metadata and directory were looked at, not "
            "the pixels and maps, for the service has no checksum of what was written; --full "
            "downloads them"
        )
    verdict = "ok" if report.ok else f"{len(report.problems)} problems"
    say(
        f"{verdict}: {report.samples} samples in {report.shards} shards verified, "
        f"{report.recomputed} computed again"
    )
