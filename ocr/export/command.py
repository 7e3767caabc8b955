"""`ocr-train export`, which needs no Lightning."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ocr.packages import imported
from ocr_precompute.errors import PrecomputeError, error_lines, printable
from ocr_precompute.settings import check_local

_DESCRIPTION = """\
Write a checkpoint's network as one file that is used without this training environment, and a card
beside it (model.onnx and model.md) that says what it is and how it is called.

The exported model is run on pictures, through ONNX Runtime where it is ONNX, and compared with the
checkpoint. If any probability differs by more than 1e-4 nothing is written.
"""
_EPILOG = """\
examples:
  ocr-train export --ckpt_path runs/train/version_0/checkpoints/best.ckpt --out model.onnx
  ocr-train export --ckpt_path best.ckpt --format safetensors --out model.safetensors
  ocr-train export --ckpt_path best.ckpt --out model.onnx --images photos
  ocr-train export --ckpt_path best.ckpt --out model.onnx --config tuned.yaml

Needs: pip install 'ocr-precompute[train,export]'. Exit status: 0 done, 2 bad input or usage.
"""
_FORMATS = ("onnx", "torchscript", "safetensors")


def main(arguments: Sequence[str]) -> int:
    """Run the command. Exit status: 0 done, 2 bad input or usage."""
    parser = argparse.ArgumentParser(
        prog="ocr-train export",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        *("--ckpt_path", "--ckpt-path"), type=Path, required=True, help="checkpoint of ocr-train"
    )
    parser.add_argument(
        "--format", choices=_FORMATS, default="onnx", help="of the file; default: onnx"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="file to write")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="compare on images of this folder too"
    )
    parser.add_argument(
        *("--config",),
        type=Path,
        metavar="FILE",
        help="how maps are read: model.postprocess of this YAML, as ocr-train tune writes it",
    )
    chosen = parser.parse_args(arguments)
    try:
        for name in ("ckpt_path", "out", "images", "config"):
            check_local(getattr(chosen, name) or Path(), f"--{name}")
        exporting = imported("ocr.export.exporting", "'ocr-precompute[train,export]'")
        paths = chosen.out, chosen.images, chosen.config
        done = exporting.export(chosen.ckpt_path, chosen.format, *paths)
    except PrecomputeError as error:
        print(error_lines(error), file=sys.stderr)
        return 2
    print(
        f"largest difference of a probability from the checkpoint's: {done.difference:.2g}, on "
        f"{done.pictures} pictures (at most {exporting.TOLERANCE:g})",
        file=sys.stderr,
    )
    for path in (done.path, done.card):
        print(printable(str(path)))
    return 0
