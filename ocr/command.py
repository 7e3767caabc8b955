"""The command `ocr-train`: Lightning's subcommands, and those that need no Lightning."""

from __future__ import annotations

import signal
import sys
from importlib import import_module

MODULES = {
    "baseline": "ocr.baselines.command",
    "evaluate": "ocr.metrics.command",
    "export": "ocr.export.command",
    "init": "ocr.init",
    "report": "ocr.reports.command",
    "tune": "ocr.tuning.command",
}
"""What does the commands that are not Lightning's."""


def main() -> None:
    """Run the command.

    Exit status: 0 done, 1 an alert that counts, or slower, 2 bad input or usage, 130 interrupted
    from the keyboard, 143 stopped by SIGTERM.
    """
    try:
        _run()
    except KeyboardInterrupt:  # before there was anything to end
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _run() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        module = import_module(MODULES.get(word, "ocr.train"))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("ocr", "ocr_precompute"):
            raise
        needs = f"{package} is not installed, which ocr-train needs"
        print(f"error: {needs}; pip install 'ocr-precompute[train]'", file=sys.stderr)
        sys.exit(2)
    if word in MODULES:
        sys.exit(module.main(sys.argv[2:]))
    module.main()


if __name__ == "__main__":
    main()
