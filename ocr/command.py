"""The command `ocr-train`: Lightning's subcommands, and those that need no Lightning."""

from __future__ import annotations

import signal
import sys


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
    if sys.argv[1:2] == ["report"]:
        from ocr.reports.command import main as report

        sys.exit(report(sys.argv[2:]))
    if sys.argv[1:2] == ["baseline"]:
        from ocr.baselines.command import main as baseline

        sys.exit(baseline(sys.argv[2:]))
    if sys.argv[1:2] == ["export"]:
        from ocr.export.command import main as export

        sys.exit(export(sys.argv[2:]))
    from ocr.train import main as train

    train()


if __name__ == "__main__":
    main()
