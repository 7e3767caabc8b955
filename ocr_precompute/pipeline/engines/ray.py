"""A Ray cluster: one that runs, or one that is started here for the build."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ocr_precompute.errors import WorkerError, one_line
from ocr_precompute.pipeline.engines.protocol import R


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
        self._ray, self._ours = ray, not ray.is_initialized()
        if self._ours:
            given: dict[str, Any] = {"address": scheduler} if scheduler else {}
            try:
                ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise WorkerError(
                    f"the Ray cluster {scheduler or ''} cannot be reached ({one_line(error)}); "
                    "give the address that `ray start --head` shows to --scheduler"
                ) from error

    def workers(self) -> int:
        """Processors of all nodes."""
        return int(self._ray.cluster_resources().get("CPU", 0))

    def submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Have a worker call the function, once."""
        remote = self._ray.remote(max_retries=0)(function)
        return remote.remote(*arguments).future()  # type: ignore[no-any-return]

    def losses(self, error: BaseException) -> int:
        """One for a worker that crashed, ran out of memory, or whose node is gone."""
        lost = self._ray.exceptions
        kinds = (lost.WorkerCrashedError, lost.OutOfMemoryError, lost.NodeDiedError)
        return int(isinstance(error, (*kinds, lost.ObjectLostError)))

    def check(self) -> None:
        """Raises WorkerError if the connection is broken."""
        if not self._ray.is_initialized():
            raise WorkerError(
                "the Ray cluster is gone; nothing was published, and finished shards are kept. "
                "Start it again, and run the build again"
            )

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        if self._ours:
            self._ray.shutdown()
