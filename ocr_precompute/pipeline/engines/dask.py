"""A Dask cluster: a scheduler that runs somewhere, and its workers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ocr_precompute.errors import WorkerError, one_line
from ocr_precompute.pipeline.engines.protocol import R

_client_log = logging.getLogger("distributed.client")
_CONNECT = 20.0  # seconds
_WORKERS = 60.0  # seconds that workers may take to come
_ANSWER = 20.0  # seconds that a scheduler may take to answer


def address() -> str:
    """The address of the worker that asks."""
    from distributed import get_worker

    return str(get_worker().address)


class Dask:
    """A connection to the scheduler at an address."""

    def __init__(self, scheduler: str) -> None:
        """Raises WorkerError if there is none, or no worker comes."""
        try:
            from distributed import Client
        except ImportError as error:
            raise WorkerError(
                "the backend dask needs another package; pip install 'ocr-precompute[dask]'"
            ) from error
        self._name, self._level = scheduler, _client_log.level
        _client_log.setLevel(logging.CRITICAL)  # a lost scheduler is told once, by an error
        try:
            self._client = Client(scheduler, timeout=_CONNECT, set_as_default=False)
        except (OSError, ValueError, ImportError) as error:
            raise WorkerError(
                f"the Dask scheduler {scheduler} cannot be reached ({one_line(error)}); start "
                "`dask scheduler`, and give the address that it shows to --scheduler"
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=_WORKERS)
        except (OSError, TimeoutError) as error:
            self.close()
            raise WorkerError(
                f"no worker has come to the Dask scheduler {scheduler} within {_WORKERS:g} s; "
                f"start `dask worker {scheduler}`"
            ) from error
        self._executor = self._client.get_executor(pure=False)

    def workers(self) -> int:
        """Threads of all workers. Raises WorkerError if the scheduler is gone."""
        self.check()
        ask = self._client.scheduler.ncores
        try:
            threads = self._client.sync(ask, workers=None, callback_timeout=_ANSWER)
        except Exception as error:  # of many kinds
            raise self._lost() from error
        return sum(threads.values())

    def submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Have a worker call the function."""
        return self._executor.submit(function, *arguments)  # type: ignore[no-any-return]

    def losses(self, error: BaseException) -> int:
        """The scheduler itself begins tasks anew, several times."""
        from distributed.scheduler import KilledWorker

        return error.allowed_failures + 1 if isinstance(error, KilledWorker) else 0

    def check(self) -> None:
        """Raises WorkerError if the connection is broken: all tasks are lost with it."""
        if self._client.status != "running":
            raise self._lost()

    def close(self) -> None:
        """Take back what has not begun."""
        self._client.close(timeout=_ANSWER)
        _client_log.setLevel(self._level)

    def _lost(self) -> WorkerError:
        return WorkerError(
            f"the Dask scheduler {self._name} is gone; nothing was published, and finished shards "
            "are kept. Start it again, and run the build again"
        )
