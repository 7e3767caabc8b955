"""The package's log: shown on the error stream, or kept in one process to be handled in another."""

from __future__ import annotations

import copy
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ocr_precompute.errors import printable

_TOP = logging.getLogger("ocr_precompute")

Lines = list[logging.LogRecord]


class _OnErrorStream(logging.Handler):
    """On what is the error stream by then: a progress bar stands in for it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(printable(self.format(record)), file=sys.stderr)


@contextmanager
def log_shown(verbosity: int = 0) -> Iterator[None]:
    """Write the log to the error stream within: warnings, with 1 what is done, with 2 all of it."""
    handler, before = _OnErrorStream(), _TOP.level
    if verbosity:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    _TOP.addHandler(handler)
    _TOP.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)])
    try:
        yield
    finally:
        _TOP.setLevel(before)
        _TOP.removeHandler(handler)


def level() -> int:
    """The least level that anybody wants to see."""
    return _TOP.getEffectiveLevel()


class _Keeping(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: Lines = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self._thread:  # which keeps its own
            return
        line = copy.copy(record)
        line.msg, line.args, line.exc_info = record.getMessage(), None, None
        self.lines.append(line)  # plain text, which can be pickled


@contextmanager
def keeping_lines(lowest: int) -> Iterator[Lines]:
    """Keep what this thread logs within, from a level on, to be handled by another process."""
    handler, before = _Keeping(), _TOP.level
    _TOP.addHandler(handler)
    _TOP.setLevel(lowest)
    try:
        yield handler.lines
    finally:
        _TOP.setLevel(before)
        _TOP.removeHandler(handler)


def handle_kept(lines: Lines) -> None:
    """Handle lines that another process kept, as if they had been logged here."""
    for line in lines:
        logging.getLogger(line.name).handle(line)
