"""The command `init`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any

import typer
import yaml

from ocr_precompute.cli.options import (
    AnnotationsOption,
    ImagesOption,
    JsonOption,
    StoreOption,
    VerboseOption,
    source_unknown,
)
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import say
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.files import write_new
from ocr_precompute.settings import (
    DEFAULT_CONFIG,
    SPLIT_NAME_RULE,
    check_local,
    is_split_name,
    source_with,
    store_place,
)

Splits = Mapping[str, Mapping[str, str]]
"""What a configuration says of its splits, by name: `images` and `annotations`."""

_TO_BE_EDITED = {
    split: {"images": f"photos/{split}", "annotations": f"{split}.json"}
    for split in ("train", "val")
}
_STORE = re.compile(r"^store: \S+", re.MULTILINE)
_SPLITS = re.compile(r"(?<=^splits:\n)(?: {2,}[^ #].*\n)+", re.MULTILINE)


def init(
    path: Annotated[
        Path, typer.Argument(help="File to write; - for stdout.", metavar="[PATH]")
    ] = DEFAULT_CONFIG,
    split: Annotated[
        str | None, typer.Option("--split", help="Name of the split; val by default.")
    ] = None,
    images: ImagesOption = None,
    annotations: AnnotationsOption = None,
    store: StoreOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Write a configuration to start from: every setting, its default, and what it means.

    It has two splits to be edited, or with --images and --annotations the one that these are.
    """
    with reporting(as_json, verbose):
        chosen = None if path == Path("-") else path
        splits = _splits(split, images, annotations)
        text = configuration(splits or _TO_BE_EDITED, store)
        if chosen:
            check_local(chosen, "PATH")
            write_new({chosen: text.encode()}, force=force)
            _say_what_next(chosen, splits)
        elif not as_json:
            sys.stdout.write(text)
        if as_json:
            print_json({"path": str(chosen) if chosen else None, "text": text})


def configuration(splits: Splits, store: str | None = None) -> str:
    """The text of a configuration of these splits, with all other settings at their defaults.

    Raises StoreError for a store that looks like a URL and is none that can be used.
    """
    text = (files("ocr_precompute") / "configs" / "precompute.yaml").read_text("utf-8")
    named = indent(_yaml({name: dict(source) for name, source in splits.items()}), "  ")
    text = _SPLITS.sub(lambda _: named, text, count=1)
    if store is None:
        return text
    line = _yaml({"store": str(store_place(store))}).rstrip()
    return _STORE.sub(lambda _: line, text, count=1)


def _yaml(values: dict[str, Any]) -> str:
    dumped: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=sys.maxsize)
    return dumped


def _splits(split: str | None, images: str | None, annotations: Path | None) -> Splits:
    """What the flags say; nothing if there are none. Raises InputError if they are no split."""
    if (split, images, annotations) == (None, None, None):
        return {}
    name = split or "val"
    if not is_split_name(name):
        raise InputError([Problem("config", "command line", f"split {name!r}", SPLIT_NAME_RULE)])
    if images is None or annotations is None:
        raise source_unknown(name)
    source = source_with(None, {"images": images, "annotations": annotations})
    return {name: {"images": str(source.images), "annotations": str(source.annotations)}}


def _say_what_next(path: Path, splits: Splits) -> None:
    config = "" if path == DEFAULT_CONFIG else f" --config {path}"
    edit = "" if splits else "say there in `splits` where your images are, then run "
    say(f"wrote {path}; {edit}`ocr-precompute build --split {next(iter(splits), 'val')}{config}`")
