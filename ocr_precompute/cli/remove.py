"""The command `remove`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ocr_precompute.cli.options import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    SplitOption,
    StoreOption,
    VerboseOption,
)
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import say
from ocr_precompute.settings import load_settings

if TYPE_CHECKING:
    from ocr_precompute.storage.garbage import Removal


def remove(
    split: SplitOption,
    config: ConfigOption = None,
    store: StoreOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Take a split out of the store. Its shards stay until `gc` deletes them.

    A training that has the split open can go on reading.
    """
    with reporting(as_json, verbose):
        from ocr_precompute.storage.garbage import remove_split
        from ocr_precompute.storage.place import storage_of

        settings = load_settings(config, {"store": store})
        removal = remove_split(storage_of(settings), split, dry_run)
        print_removal(removal, dry_run)
        if as_json:
            print_json({**asdict(removal), "dry_run": dry_run})


def print_removal(removal: Removal, dry_run: bool) -> None:
    """What `remove` did."""
    counts = f"{removal.samples} samples in {removal.shards} shards"
    what = counts if removal.readable else "its manifest cannot be read"
    say(f"{'would remove' if dry_run else 'removed'} split {removal.split} ({what})")
    say(
        "`ocr-precompute gc` deletes shards that no split names, a day after it has first seen them"
    )
