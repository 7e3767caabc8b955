"""A Ray cluster: one that runs, or one that is started here for the build."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, Queue
from threading import Thread
from typing import Any

from ocr_precompute.errors import WorkerError, one_line
from ocr_precompute.pipeline.engines.protocol import R

_QUIET: dict[str, Any] = {
    "log_to_driver": False,
    "logging_level": logging.ERROR,
    "include_dashboard": False,
}
_ANSWER = 20.0  # seconds that a cluster may take to answer


def address() -> str:
    """The machine and process that asks."""
    from ray.util import get_node_ip_address

    return f"{get_node_ip_address()} (process {os.getpid()})"


class Ray:
    """A connection to a cluster; the one that the calling program has, if it has one."""

    def __init__(self, scheduler: str | None) -> None:
        """scheduler: the cluster's address; None: one that runs on this machine, or a new one.

        Raises WorkerError if there is none.
        """
        try:
            import ray
        except ImportError as error:
            raise WorkerError(
                "the backend ray needs another package; pip install 'ocr-precompute[ray]'"
            ) from error
        self._ray, self._ours, self._lost = ray, not ray.is_initialized(), False
        self._sent: dict[Callable[..., Any], Any] = {}
        if self._ours:
            given: dict[str, Any] = {"address": scheduler} if scheduler else {}
            try:
                ray.init(**given, **_QUIET)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise WorkerError(
                    f"the Ray cluster {scheduler or ''} cannot be reached ({one_line(error)}); "
                    f"{_advice(error)}"
                ) from error

    def workers(self) -> int:
        """Processors of all nodes. Raises WorkerError if the cluster does not answer."""
        answers: Queue[dict[str, float]] = Queue()
        ask = self._ray.cluster_resources  # which waits until Ray ends the process
        Thread(target=lambda: answers.put(ask()), daemon=True).start()
        try:
            return int(answers.get(timeout=_ANSWER).get("CPU", 0))
        except Empty:
            self._lost = True
            raise self._gone() from None

    def submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Have a worker call the function, once."""
        if function not in self._sent:  # which Ray waits for
            self._sent[function] = self._ray.remote(max_retries=0)(function)
        return self._sent[function].remote(*arguments).future()  # type: ignore[no-any-return]

    def losses(self, error: BaseException) -> int:
        """One for a worker that crashed, ran out of memory, or whose node is gone."""
        lost = self._ray.exceptions
        kinds = (lost.WorkerCrashedError, lost.OutOfMemoryError, lost.NodeDiedError)
        return int(isinstance(error, (*kinds, lost.ObjectLostError)))

    def check(self) -> None:
        """Raises WorkerError if the connection is broken."""
        if not self._ray.is_initialized():
            raise self._gone()

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        if self._ours and not self._lost:
            self._ray.shutdown()

    def _gone(self) -> WorkerError:
        return WorkerError(
            "the Ray cluster is gone; nothing was published, and finished shards are kept. "
            "Start it again, and run the build again"
        )


def _advice(error: BaseException) -> str:
    """What to do about a cluster that cannot be reached."""
    if "AuthToken" in str(error.__cause__):  # Ray tells so in the cause alone
        return (
            "it asks for a token: set RAY_AUTH_MODE=token here and on all its machines, and have "
            "the same token on all of them, in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        )
    return "give the address that `ray start --head` shows to --scheduler"
