"""`ocr-train report RUN_DIR`, which needs neither Lightning nor torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ocr.reports.report import REPORT, write_report
from ocr_precompute.errors import PrecomputeError, error_lines, printable

_DESCRIPTION = """\
Write a page about a training: its losses, H-mean, precision and recall, the validation images with
the most mistakes, where its time went, what it used of its machine, alerts, configuration and
versions. One HTML file, which opens in any browser and loads nothing from anywhere.

A training writes it at its end by itself (report: false turns that off). Run this command while it
goes on, or after a run that was killed: the page shows what there is.
"""
_EPILOG = """\
examples:
  ocr-train report runs/train/version_0
  ocr-train report runs/train/version_0 --out /tmp/monday.html
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command, and print the page's path. Exit status: 0 done, 2 bad input or usage."""
    parser = argparse.ArgumentParser(
        prog="ocr-train report",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "run_dir",
        metavar="RUN_DIR",
        type=Path,
        help="folder of the run, such as runs/train/version_0, where metrics.csv lies",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help=f"where to write it; {REPORT} in RUN_DIR by default",
    )
    chosen = parser.parse_args(arguments)
    try:
        print(printable(str(write_report(chosen.run_dir, chosen.out))))
    except PrecomputeError as error:
        print(error_lines(error), file=sys.stderr)
        return 2
    return 0
