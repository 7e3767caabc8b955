"""What engines of clusters have in common: workers elsewhere, which prove themselves first."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from ocr_precompute.errors import PrecomputeError, WorkerError, one_line
from ocr_precompute.pipeline.engines.proof import Proof, prove
from ocr_precompute.pipeline.engines.protocol import R, T
from ocr_precompute.runtime.logs import Lines, handle_kept, keeping_lines, level
from ocr_precompute.settings import Settings

_AHEAD = 2  # tasks under way for each that can run at a time: the next ones are there already
_LOOK = 5.0  # seconds from look to look how many workers there are
_COME_BACK = 120.0  # seconds in which a cluster may start workers anew


class Connection(Protocol):
    """A cluster as its library shows it. All but `close` may raise WorkerError."""

    def workers(self) -> int:
        """How many tasks can run at a time."""

    def submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Have some worker call the function."""

    def losses(self, error: BaseException) -> int:
        """As of Engine."""

    def check(self) -> None:
        """As of Engine, and at once."""

    def close(self) -> None:
        """Leave the cluster as it was; whatever is under way there is not waited for."""


@dataclass(frozen=True)
class Answer:
    """What comes from a worker: the result of its task, or the error; and what was logged.

    worker: its address. proof: the name of what it wrote into the store.
    """

    worker: str
    proof: str
    result: Any
    error: PrecomputeError | None
    lines: Lines


def connected(settings: Settings, proof: Proof) -> Cluster:
    """The cluster that the settings name. Raises WorkerError if it cannot be had."""
    if settings.backend == "dask":
        from ocr_precompute.pipeline.engines import dask

        return Cluster(dask.Dask(str(settings.scheduler)), dask.address, proof, settings.jobs)
    from ocr_precompute.pipeline.engines import ray

    return Cluster(ray.Ray(settings.scheduler), ray.address, proof, settings.jobs)


class Cluster:
    """An engine whose workers are elsewhere."""

    def __init__(
        self, connection: Connection, address: Callable[[], str], proof: Proof, most: int | None
    ) -> None:
        """address: what gives a worker's own address there. most: tasks at a time."""
        self._connection, self._address, self._proof = connection, address, proof
        self._most, self._room = most, 1
        self._looked, self._seen = float("-inf"), monotonic()
        self._known: set[str] = set()

    @property
    def room(self) -> int:
        """For all workers that there are by now."""
        now = monotonic()
        if now - self._looked > _LOOK:
            self._looked, workers = now, self._connection.workers()
            self._room = self._most or max(_AHEAD * workers, 1)
            self._seen = now if workers else self._seen
        if now - self._seen > _COME_BACK:
            raise WorkerError(
                f"the cluster has had no worker for {_COME_BACK:g} s; nothing was published, and "
                "finished shards are kept. Start workers, and run the build again"
            )
        return self._room

    def submit(self, function: Callable[[T], R], task: T) -> Future[Answer]:
        """Begin a task. It is unpacked only once the versions there are known to be the same."""
        packed = pickle.dumps((function, task))
        return self._connection.submit(at_work, self._address, self._proof, level(), packed)

    def received(self, answer: Answer) -> Any:
        """The result, of a worker that has proved what it should."""
        if answer.error is None and answer.worker not in self._known:
            self._proof.answered(answer.worker, answer.proof)
            self._known.add(answer.worker)
        handle_kept(answer.lines)
        if answer.error is not None:
            raise answer.error
        return answer.result

    def losses(self, error: BaseException) -> int:
        """As the cluster counts. Raises WorkerError for what is no answer at all."""
        if times := self._connection.losses(error):
            return times
        raise WorkerError(
            f"a worker cannot do its task ({one_line(f'{type(error).__name__}: {error}')}); see "
            "that ocr-precompute is installed there, the same version as here"
        ) from error

    def check(self) -> None:
        """Whether anybody is there."""
        self._connection.check()
        _ = self.room

    def close(self, done: bool) -> None:
        """Leave the cluster."""
        self._connection.close()


def at_work(address: Callable[[], str], proof: Proof, lowest: int, packed: bytes) -> Answer:
    """A task on a worker, which proves itself first."""
    worker, written, result, error = address(), "", None, None
    with keeping_lines(lowest) as lines:
        try:
            written = prove(proof, worker)
            function, task = pickle.loads(packed)
            result = function(task)
        except PrecomputeError as raised:
            error = raised
    return Answer(worker, written, result, error, lines)
