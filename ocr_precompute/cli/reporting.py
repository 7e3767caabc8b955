"""How a command ends: one JSON document, or an error as lines and an exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from ocr_precompute.errors import InputError, PrecomputeError
from ocr_precompute.runtime.logs import log_shown


@contextmanager
def reporting(as_json: bool, verbosity: int) -> Iterator[None]:
    """Show the log, and turn this package's errors into lines on stderr, and exit status 2."""
    try:
        with log_shown(verbosity):
            yield
    except PrecomputeError as error:
        problems = error.problems if isinstance(error, InputError) else ()
        _print_error(error)
        if as_json:
            listed = [problem.as_dict() for problem in problems]
            print_json({"error": str(error), "problems": listed})
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; nothing was published, finished shards are kept", err=True)
        raise typer.Exit(130) from None


def print_json(document: dict[str, Any]) -> None:
    """The one document that a command prints on stdout."""
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")


def _print_error(error: PrecomputeError) -> None:
    """One line a problem."""
    from ocr_precompute.cli.screen import say

    lines = [str(p) for p in error.problems] if isinstance(error, InputError) else [str(error)]
    for line in lines:
        say(f"error: {line}")
    if len(lines) > 1:
        say(f"{len(lines)} problems; nothing was published")
