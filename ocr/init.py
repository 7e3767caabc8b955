"""`ocr-train init`, which writes configurations and needs neither Lightning nor torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from ocr_precompute.errors import PrecomputeError, error_lines, printable
from ocr_precompute.files import write_new
from ocr_precompute.settings import check_local

TRAIN = "train.yaml"
"""The file of a training's settings; all others are laid over it."""

_DESCRIPTION = """\
Write configurations to start from: train.yaml, with the settings of a training and what they mean,
and experiment/, smaller files that are laid over it. The paths of what was written go to stdout.
"""
_EPILOG = """\
examples:
  ocr-train init
  ocr-train fit --config configs/train.yaml --config configs/experiment/bf16.yaml
  ocr-train init - > train.yaml
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command. Exit status: 0 done, 2 bad input or usage."""
    parser = argparse.ArgumentParser(
        prog="ocr-train init",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        default="configs",
        help=f"folder to write to, configs by default; - for {TRAIN} alone, on stdout",
    )
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    chosen = parser.parse_args(arguments)
    texts = configurations()
    if chosen.folder == "-":
        sys.stdout.write(texts[TRAIN])
        return 0
    folder = Path(chosen.folder)
    try:
        check_local(folder, "DIR")
        written = {folder / name: text.encode() for name, text in texts.items()}
        write_new(written, force=chosen.force)
    except PrecomputeError as error:
        print(error_lines(error), file=sys.stderr)
        return 2
    for path in written:
        print(printable(str(path)))
    return 0


def configurations() -> dict[str, str]:
    """The texts of all configurations, by path from their folder; that of a training first."""
    found = dict(_texts(files("ocr") / "configs", PurePosixPath()))
    return {TRAIN: found.pop(TRAIN), **found}


def _texts(folder: Traversable, below: PurePosixPath) -> Iterator[tuple[str, str]]:
    for each in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if each.is_dir():
            yield from _texts(each, below / each.name)
        elif each.name.endswith(".yaml"):
            yield str(below / each.name), each.read_text("utf-8")
