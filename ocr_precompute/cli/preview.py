"""The command `preview`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ocr_precompute.cli.options import (
    ConfigOption,
    JsonOption,
    SplitOption,
    StoreOption,
    VerboseOption,
)
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import say
from ocr_precompute.settings import check_local, load_settings


def preview(
    split: SplitOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path("preview"),
    count: Annotated[int, typer.Option("--count", min=1, help="How many samples.")] = 8,
    sample: Annotated[
        list[str] | None, typer.Option("--sample", help="Show this sample; may be repeated.")
    ] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Write pictures of stored samples: image with polygons, and its four label maps."""
    with reporting(as_json, verbose):
        from ocr_precompute.reports.preview import write_previews

        check_local(out, "--out")
        settings = load_settings(config, {"store": store})
        written = write_previews(settings.store, split, out, count, sample or [])
        say(f"{len(written)} pictures in {out}")
        if as_json:
            print_json({"pictures": [str(path) for path in written]})
