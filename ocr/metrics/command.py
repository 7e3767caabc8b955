"""`ocr-train evaluate`, which needs neither Lightning nor torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ocr.metrics.evaluation import Evaluation, Parts, evaluate
from ocr.metrics.protocols import PROTOCOLS
from ocr.metrics.tally import Tally
from ocr.reports.validation import group_lines
from ocr_precompute.errors import PrecomputeError, error_lines, printable
from ocr_precompute.settings import Rules, check_local, source_with

_DESCRIPTION = """\
Compare what `ocr-train predict` wrote with annotations of any format, by the protocols that sets of
images are evaluated by. All is in pixels of the original images, and no network is run.
"""
_EPILOG = """\
metrics:
{metrics}

An annotated image without predictions counts as one in which nothing was found.

examples:
  ocr-train predict --ckpt_path best.ckpt --data.images photos --predictions.out found
  ocr-train evaluate --predictions found/predictions.json --images photos --annotations gt \\
      --metric icdar --metric deteval

Exit status: 0 done, 2 bad input or usage.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command, and print what comes of it. Exit status: 0 done, 2 bad input or usage."""
    chosen = vars(_parser().parse_args(arguments))
    own = ("predictions", "metric", "json", "parts")
    predictions, names, as_json, parts = (chosen.pop(name) for name in own)
    rules = Rules(skip_bad=chosen.pop("skip_bad"))
    try:
        check_local(predictions, "--predictions")
        source = source_with(None, {**chosen, "rules": rules})
        found = evaluate(source, predictions, list(dict.fromkeys(names or ["icdar"])), parts)
    except PrecomputeError as error:
        print(error_lines(error), file=sys.stderr)
        return 2
    for line in _warnings(found):
        print(f"warning: {printable(line)}", file=sys.stderr)
    print(json.dumps(_facts(found), indent=1) if as_json else _table(found))
    return 0


def _warnings(found: Evaluation) -> list[str]:
    lines = [*found.reading.warnings, *(f"skipped: {each}" for each in found.reading.problems)]
    if found.unpredicted:
        lines.append(
            f"{len(found.unpredicted)} of {found.images} annotated images have no predictions, "
            f"{found.unpredicted[0]} the first; nothing counts as found in them"
        )
    if found.unannotated:
        lines.append(f"{found.unannotated} images have predictions and no annotation: left out")
    return lines


def _facts(found: Evaluation) -> dict[str, Any]:
    return {
        "images": found.images,
        "unpredicted": list(found.unpredicted),
        "metrics": {name: _values(tally) for name, tally in found.tallies.items()},
        **({} if found.parts is None else {"parts": _parts(found.parts)}),
        "warnings": _warnings(found),
    }


def _parts(parts: Parts) -> dict[str, Any]:
    counts = parts.by_score
    return {
        "average_precision": None if counts is None else counts.average_precision,
        "curve": None if counts is None else counts.curve(),
        "by_shorter_side": asdict(parts.sides),
        "by_aspect": asdict(parts.aspects),
    }


def _values(tally: Tally) -> dict[str, float]:
    ratios = {"precision": tally.precision, "recall": tally.recall, "hmean": tally.hmean}
    return {**ratios, **tally._asdict()}


def _table(found: Evaluation) -> str:
    lines = [f"{'metric':<10}{'precision':>10}{'recall':>10}{'H-mean':>10}"]
    for name, tally in found.tallies.items():
        what = "characters" if PROTOCOLS[name].counts_characters else "texts"
        of_found = "characters" if PROTOCOLS[name].counts_characters else "detections"
        lines.append(
            f"{name:<10}{tally.precision:>10.4f}{tally.recall:>10.4f}{tally.hmean:>10.4f}   "
            f"{tally.recalled:.10g} of {tally.annotated} {what} found, "
            f"{tally.precise:.10g} of {tally.detected} {of_found} right"
        )
    if found.parts is not None:
        counts = found.parts.by_score
        known = "unknown: predictions lack scores" if counts is None else counts.average_precision
        shown = known if isinstance(known, str) else f"{known:.4f}"
        lines += ["", f"ICDAR's average precision: {shown}"]
        lines += group_lines(found.parts.sides, found.parts.aspects)
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<10}{each.summary}" for name, each in PROTOCOLS.items())
    parser = argparse.ArgumentParser(
        prog="ocr-train evaluate",
        description=_DESCRIPTION,
        epilog=_EPILOG.format(metrics=listed),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    many: Mapping[str, Any] = {"action": "append", "metavar": "TEXT"}
    options: Mapping[str, Mapping[str, Any]] = {
        "--predictions": {"required": True, "type": Path, "help": "predictions.json"},
        "--annotations": {"required": True, "type": Path, "help": "annotation file or folder"},
        "--images": {"required": True, "type": Path, "help": "folder of the images"},
        "--metric": {
            "action": "append",
            "choices": list(PROTOCOLS),
            "metavar": "NAME",
            "help": "one of those below; give it as often as needed; default: icdar",
        },
        "--parts": {
            "action": "store_true",
            "help": "also ICDAR's average precision, and its figures by size and shape of texts",
        },
        "--format": {"default": "auto", "help": "NAME or NAME:DIALECT, as for a build"},
        "--ignore-label": {
            **many,
            "dest": "ignore_labels",
            "help": "words of this label are don't care",
        },
        "--ignore-text": {
            **many,
            "dest": "ignore_texts",
            "help": "words that say this are don't care",
        },
        "--keep-label": {
            **many,
            "dest": "keep_labels",
            "help": "words of other labels are left out",
        },
        "--strip-prefix": {"metavar": "TEXT", "help": "what names of images begin with besides"},
        "--unannotated": {
            "choices": ["skip", "empty", "error"],
            "help": "images without annotation: left out (default), without text, or an error",
        },
        "--skip-bad": {
            "choices": ["no", "polygon", "image"],
            "default": "no",
            "help": "bad input is an error (default); or is left as don't care; or its image is "
            "left out",
        },
        "--json": {"action": "store_true", "help": "print one JSON document on stdout"},
    }
    for name, settings in options.items():
        parser.add_argument(name, **settings)
    return parser
