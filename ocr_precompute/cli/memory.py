"""What `bench` says of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from ocr_precompute.cli.screen import add_row, print_table, say

if TYPE_CHECKING:
    from ocr_precompute.reports.memory import SplitMemory


def print_memory(memory: SplitMemory, split: str) -> None:
    """A table of what an opened split holds in memory, and how that compares with lists."""
    table = Table("part", "bytes per sample", "share", title="memory, without images and maps")
    for name, size in memory.parts.items():
        add_row(table, name, f"{size:.1f}", f"{size / memory.store:.0%}")
    add_row(table, "all", f"{memory.store:.1f}", "")
    add_row(table, "as lists of arrays", f"{memory.lists:.1f}", "")
    print_table(table)
    than = f"{abs(memory.saved):.0%} {'less' if memory.saved >= 0 else 'more'}"
    say(
        f"{split}: the opened split takes {memory.store:,.0f} bytes of memory per sample, {than} "
        f"than names, polygons, flags and sizes in lists of arrays ({memory.samples} samples)"
    )
