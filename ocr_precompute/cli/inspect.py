"""The command `inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ocr_precompute.cli.options import (
    ConfigOption,
    JsonOption,
    OneSplitOption,
    StoreOption,
    VerboseOption,
)
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import add_row, byte_size, print_damaged, print_table, say, warn
from ocr_precompute.errors import printable
from ocr_precompute.settings import load_settings
from ocr_precompute.understood import (
    NEARLY_ALL,
    sized,
    summary_lines,
    tally_lines,
    warning_lines,
)

if TYPE_CHECKING:
    from ocr_precompute.reports.summary import SplitSummary, StoreSummary


def inspect(
    split: OneSplitOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    shards: Annotated[bool, typer.Option("--shards", help="List every shard.")] = False,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Show splits, shards, sizes, ratios, parameters, keys, and what was understood and skipped."""
    with reporting(as_json, verbose):
        from ocr_precompute.reports.summary import summarise
        from ocr_precompute.storage.place import storage_of

        settings = load_settings(config, {"store": store})
        summary = summarise(storage_of(settings), [split] if split else None)
        if as_json:
            print_json(summary.as_dict(shards))
        else:
            print_summary(summary, shards)


def print_summary(summary: StoreSummary, shards: bool) -> None:
    """Tables of a store's splits. shards: whether to list every shard."""
    table = Table("split", "samples", "shards", "stored", "raw", "ratio", "data hash")
    for split in summary.splits:
        add_row(
            table,
            split.name,
            str(split.samples),
            str(len(split.shards)),
            byte_size(split.stored_bytes),
            byte_size(split.raw_bytes),
            f"{split.ratio:.1f}",
            split.data_hash[:16],
        )
    print_table(table)
    for split in summary.splits:
        print_table(_shard_table(split, shards))
        print_table(_parameter_table(split))
        for line in summary_lines(split.understood, split.parameters)[:1]:
            say(f"{split.name}: {line}")
        say(f"{split.name}: {_content_line(split)}")
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
            add_row(table, key[:16], str(samples), byte_size(size))
        return table
    table = Table("shards", "least", "median", "most", title=title, title_justify="left")
    for name, spread in split.spreads.items():
        add_row(table, name, *(byte_size(n) if name == "bytes" else str(n) for n in spread))
    return table


def _content_line(split: SplitSummary) -> str:
    """How much of the pixels is content, and what a size that keeps nearly all words would cost."""
    (height, width), needed = split.parameters.size, split.understood.size_needed
    share, longer = split.content, max(height, width)
    line = f"pages fill {share:.0%} of {height} x {width}; batches with trim hold little more"
    if needed <= longer:
        return line
    times, size = share * (needed / longer) ** 2, sized(needed, split.parameters)
    return (
        f"{line}: at --size {size}, which keeps at least {NEARLY_ALL:.0%} of the words, they would "
        f"hold {times:.1f} times the pixels of batches at {height} x {width} without trim"
    )


def _parameter_table(split: SplitSummary) -> Table:
    title = Text(f"{printable(split.name)}: parameters")
    table = Table("parameter", "value", title=title, title_justify="left")
    for name, value in split.parameters.model_dump(mode="json").items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        add_row(table, name, "x".join(map(str, text)) if isinstance(text, list) else str(text))
    return table
