"""A failure of one process ends all that run together, and is told once."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import NoReturn

import lightning
from lightning.pytorch import Trainer

from ocr_precompute.errors import printable

_VARIABLE = "OCR_TRAIN_FAILURE"  # names the file to processes that this one starts
_POLL = 0.1  # seconds
_GRACE = 2.0  # seconds in which the first process may end by itself


class FailureRelay(lightning.Callback):
    """Tells what went wrong in the process that the user started, as the last line there.

    Of processes that one of them has started, the first to fail leaves its message in a file. The
    process that the user started waits for that file beside its work, says what it holds, and ends;
    the others say nothing and end after it. A process that is alone, or that something else has
    started, says its own.
    """

    def __init__(self, kinds: tuple[type[Exception], ...]) -> None:
        """kinds: the errors whose text says all; others are left alone."""
        self._kinds = kinds
        self._parent = os.getppid()
        starter, _, name = os.environ.get(_VARIABLE, "").partition(":")
        self._started = starter not in ("", str(os.getpid()))
        if not self._started:
            name = f"{tempfile.gettempdir()}/ocr-train-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._path = Path(name)
        self._told = threading.Lock()

    @property
    def failed(self) -> bool:
        """Whether one of the processes has failed already."""
        return self._path.exists()

    def watch(self) -> None:
        """End this process when another fails, even while it waits for that one.

        Processes that are started from now on belong together with this one.
        """
        if not self._started:
            os.environ[_VARIABLE] = f"{os.getpid()}:{self._path}"
        threading.Thread(target=self._watch, name="failure-relay", daemon=True).start()

    def on_exception(
        self, trainer: Trainer, module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Leave the message before others notice that this process is gone."""
        if trainer.world_size > 1 and isinstance(exception, self._kinds):
            self._report(exception)

    def end(self, error: Exception | None = None) -> NoReturn:
        """End this process with status 2; if the user started it, say what went wrong.

        error: what went wrong here; by default another process has said so.
        """
        if error is not None and "LOCAL_RANK" not in os.environ:
            print(f"error: {_text(error)}", file=sys.stderr)
            sys.exit(2)
        if error is not None:
            self._report(error)
        if self._started:
            deadline = time.monotonic() + 10 * _GRACE
            while os.getppid() == self._parent and time.monotonic() < deadline:
                time.sleep(_POLL)
            os._exit(2)
        with self._told:
            message = self._path.read_text(errors="surrogateescape")
            self._path.unlink()
            sys.stdout.flush()
            print(f"error: {message}", file=sys.stderr, flush=True)
            os._exit(2)  # not later: what others do once this one is gone is of no interest

    def _report(self, error: Exception) -> None:
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        beside.write_text(_text(error), errors="surrogateescape")
        try:
            os.link(beside, self._path)
        except FileExistsError:
            pass  # another process was first
        finally:
            beside.unlink()

    def _watch(self) -> None:
        while not self.failed:
            time.sleep(_POLL)
        if not self._started:
            time.sleep(_GRACE)
        self.end()


def _text(error: Exception) -> str:
    return "\n".join(printable(line) for line in str(error).splitlines())
