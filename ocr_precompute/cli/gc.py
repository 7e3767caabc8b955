"""The command `gc`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ocr_precompute.cli.options import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    StoreOption,
    VerboseOption,
    duration,
)
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import byte_size, say
from ocr_precompute.settings import load_settings

if TYPE_CHECKING:
    from ocr_precompute.storage.garbage import Garbage

OlderThanOption = Annotated[
    str,
    typer.Option(
        "--older-than",
        help="Grace for shards, since gc first saw that no split names them: "
        "1d, 12h, 30m, or 0 to delete them now.",
    ),
]


def gc(
    config: ConfigOption = None,
    store: StoreOption = None,
    older_than: OlderThanOption = "1d",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Delete shards and parts of manifests that no split names any more, and what killed builds and
    parts of builds left behind.

    A training may have them open, so they stay for a day (--older-than) after gc has first
    seen them without a name. Deletes nothing while a build runs, or while something in splits/
    cannot be read as a manifest, and never what this program did not make.

    Example: ocr-precompute gc --older-than 12h
    """
    with reporting(as_json, verbose):
        from ocr_precompute.storage.garbage import collect_garbage
        from ocr_precompute.storage.place import storage_of

        grace = duration(older_than, "--older-than")
        settings = load_settings(config, {"store": store})
        garbage = collect_garbage(storage_of(settings), dry_run, grace)
        print_garbage(garbage, dry_run)
        if as_json:
            print_json({**asdict(garbage), "dry_run": dry_run})


def print_garbage(garbage: Garbage, dry_run: bool) -> None:
    """What `gc` did."""
    verb = "would delete" if dry_run else "deleted"
    say(
        f"{verb} {len(garbage.shards)} shards, {len(garbage.parts)} parts of manifests, "
        f"{len(garbage.digests)} lists of digests and {len(garbage.leftovers)} leftovers of killed "
        f"builds, {byte_size(garbage.bytes)}"
    )
    if garbage.kept:
        dates = [datetime.fromisoformat(kept.until).astimezone() for kept in garbage.kept]
        first, last = (f"{date:%Y-%m-%d %H:%M:%S %z}" for date in (min(dates), max(dates)))
        until = first if first == last else f"{first}, the last until {last}"
        say(
            f"kept {len(dates)} files that no split names until {until}, as a training may have "
            "them open; run gc again then, or with --older-than 0 if none has"
        )
    if garbage.foreign:
        shown = ", ".join(garbage.foreign[:3]) + (" ..." if len(garbage.foreign) > 3 else "")
        say(f"left alone what is not of a store: {shown}")
