"""The commands `push` and `pull`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ocr_precompute.cli.options import ConfigOption, DryRunOption, JsonOption, VerboseOption
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import byte_size, copy_bar, say
from ocr_precompute.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from ocr_precompute.pipeline.copying import CopyReport

_PLACE = "a folder, or a URL: s3://BUCKET/NAME, gs://, az://. Credentials come from the environment"
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help=f"The store: {_PLACE}.")]
UrlArgument = Annotated[str, typer.Argument(metavar="URL", help=f"The other store: {_PLACE}.")]
SplitsOption = Annotated[
    list[str] | None,
    typer.Option("--split", help="Only this split; as often as needed.", metavar="NAME"),
]
JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", min=1, help="Shards on their way at once; 8 by default."),
]


def push(
    store: StoreArgument,
    url: UrlArgument,
    splits: SplitsOption = None,
    jobs: JobsOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Copy a store, or some of its splits, to a URL: only what is missing there.

    Every shard is compared with its checksums on the way, and a split is published when all of it
    is there. One that was interrupted goes on where it was. The endpoint and region of a service
    stand under `storage` in the configuration.

    Example: ocr-precompute push data/store s3://bucket/store --split train
    """
    _copy(store, url, splits, jobs, dry_run, config, as_json, verbose)


def pull(
    url: UrlArgument,
    store: StoreArgument,
    splits: SplitsOption = None,
    jobs: JobsOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Copy a store, or some of its splits, from a URL: only what is missing here. As `push` does.

    Example: ocr-precompute pull s3://bucket/store data/store --split val
    """
    _copy(url, store, splits, jobs, dry_run, config, as_json, verbose)


def _copy(
    source: str,
    target: str,
    splits: list[str] | None,
    jobs: int | None,
    dry_run: bool,
    config: Path | None,
    as_json: bool,
    verbose: int,
) -> None:
    with reporting(as_json, verbose), ExitStack() as stack:
        from ocr_precompute.pipeline.copying import CopyProgress, copy_store
        from ocr_precompute.storage.place import storage_at

        options = load_settings(config, {}).storage
        bar = stack.enter_context(copy_bar())
        task = bar.add_task("copying", total=None)

        class Shown(CopyProgress):
            def planned(self, shards: int, size: int) -> None:
                bar.update(task, total=size)

            def sent(self, size: int) -> None:
                bar.advance(task, size)

        origin, goal = (storage_at(place, options=options) for place in (source, target))
        report = copy_store(origin, goal, splits, dry_run=dry_run, jobs=jobs, progress=Shown())
        bar.stop()
        print_copy(report)
        if as_json:
            print_json(asdict(report))


def print_copy(report: CopyReport) -> None:
    """What `push` and `pull` did, one line per split."""
    for each in report.splits:
        held = f"{each.samples} samples in {each.shards} shards"
        if each.up_to_date:
            say(f"{each.split}: up to date ({held})")
            continue
        verb = "would send" if report.dry_run else "sent"
        size = byte_size(each.bytes)
        say(f"{each.split}: {verb} {each.sent} shards, {size}, of {held}")
    if not report.splits:
        say(f"{report.source}: holds no split; nothing was copied")
