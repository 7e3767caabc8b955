"""Functions called in a process of their own, which ends with all that it has started."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Found = TypeVar("Found")


class Failed(RuntimeError):
    """What was called raised an error, ended its process, or took too long."""


def apart(
    function: Callable[..., Found], *arguments: object, seconds: float | None = None
) -> Found:
    """What a function of a module returns, called in a process that knows nothing of this one.

    What it prints goes to standard error. seconds: after which it is given up. Raises Failed.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_called, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise Failed(f"took more than {seconds:g} s")
        good, found = receiver.recv()
    except EOFError:
        process.join()
        raise Failed(f"ended with status {process.exitcode}") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()  # if it was not yet at the head of a group
        process.join()
        receiver.close()
    if not good:
        raise Failed(found)
    answer: Found = found
    return answer


def _called(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    os.dup2(2, 1)
    try:
        answer = True, function(*arguments)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        answer = False, f"{type(error).__name__}: {error}"
    sender.send(answer)
