"""Workers of this machine: threads, or processes of their own by loky."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import joblib
from joblib.externals import loky

from ocr_precompute.errors import InputError, Problem
from ocr_precompute.pipeline.engines.protocol import R, T
from ocr_precompute.runtime import compiled
from ocr_precompute.runtime.logs import Lines, handle_kept, keeping_lines, level
from ocr_precompute.settings import Settings

# Seconds that idle workers are kept for the next build of this process. They end with it anyway,
# and whoever hands out tasks just when idle workers end may wait for them for ever.
_KEPT = 24 * 3600
# What libraries read when they are loaded: a worker has one core.
_ONE_THREAD = {
    f"{name}_NUM_THREADS": "1"
    for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB", "NUMBA", "NUMEXPR")
}


def as_joblib_is_set(settings: Settings) -> Settings:
    """The settings with the workers that a `joblib.parallel_config` around the build asks for.

    Raises InputError if it asks for what this package does not have, or the settings contradict it.
    """
    outer, jobs = joblib.parallel.get_active_backend()
    kind = type(outer).__name__.removesuffix("Backend").lower()
    if jobs is not None:
        jobs = outer.effective_n_jobs(jobs)
    elif outer.nesting_level:
        jobs = 1  # as joblib itself goes on within a worker
    asked = {"jobs": jobs, "backend": None if kind == "loky" else kind}
    given = {name: getattr(settings, name) for name in settings.model_fields_set & asked.keys()}
    wrong = [
        f"asks for {name} {value}, the settings for {given[name]}; leave one of them out"
        for name, value in asked.items()
        if value is not None and given.get(name) not in (None, value)
    ]
    if kind not in ("loky", "threading", "sequential"):
        wrong = [f"asks for {kind}, of which builds know nothing; leave it out, and set `backend`"]
    if wrong:
        raise InputError([Problem("config", "joblib.parallel_config", "", each) for each in wrong])
    changed = {name: value for name, value in asked.items() if value is not None}
    return settings.model_copy(update=changed) if changed else settings


class Threads:
    """Threads of this process."""

    def __init__(self, jobs: int) -> None:
        self.room = 2 * jobs
        self._threads = ThreadPoolExecutor(jobs, "worker")

    def submit(self, function: Callable[[T], R], task: T) -> Future[R]:
        """Begin a task."""
        return self._threads.submit(function, task)

    def received(self, answer: R) -> R:
        """The answer itself."""
        return answer

    def losses(self, error: BaseException) -> int:
        """None: threads are not lost."""
        return 0

    def check(self) -> None:
        """Threads are there."""

    def close(self, done: bool) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def give_back(self) -> None:
        """They hold no memory of their own."""


class _Pool(NamedTuple):
    """So many processes, and whose. They are the builds' alone: those of joblib, which it resizes
    and ends as it needs them, are another pool.
    """

    jobs: int
    parent: int
    workers: loky.ProcessPoolExecutor


_idle: list[_Pool] = []  # of the last build, at most one
_idle_lock = threading.Lock()


def _pool(jobs: int) -> _Pool:
    """The processes of the last build, or as many new ones."""
    own = os.getpid()
    with _idle_lock:
        kept = [pool for pool in _idle if pool.parent == own]  # a fork has its parent's no more
        _idle.clear()
    for pool in kept:
        if pool.jobs == jobs:
            return pool
        pool.workers.shutdown(wait=True)
    workers = loky.ProcessPoolExecutor(
        jobs, timeout=_KEPT, initializer=_start_worker, initargs=(own,), env=_ONE_THREAD
    )
    return _Pool(jobs, own, workers)


def _keep(pool: _Pool) -> None:
    """Leave processes to the next build."""
    with _idle_lock:
        kept = [*_idle]
        _idle[:] = [pool]
    for other in kept:
        other.workers.shutdown(wait=True)


class Processes:
    """Processes of this machine, each with one thread; they are kept for the next build."""

    def __init__(self, jobs: int) -> None:
        self.room, self._jobs = 2 * jobs, jobs
        self._pool: _Pool | None = None
        self._work: Callable[..., Any] = partial(_in_process, level())

    def submit(self, function: Callable[[T], R], task: T) -> Future[Any]:
        """Begin a task, in a new pool if the last one is broken."""
        with _quiet_resource_trackers():
            try:
                return self._submitted(function, task)
            except BrokenProcessPool:
                self.give_back()
                return self._submitted(function, task)

    def _submitted(self, function: Callable[[T], R], task: T) -> Future[Any]:
        self._pool = self._pool or _pool(self._jobs)
        future: Future[Any] = self._pool.workers.submit(self._work, function, task)
        return future

    def received(self, answer: tuple[R, Lines]) -> R:
        """The result; what was logged with it is handled."""
        result, lines = answer
        handle_kept(lines)
        return result

    def losses(self, error: BaseException) -> int:
        """One for each task under way when the pool broke: whose worker it was is not said."""
        return int(isinstance(error, BrokenProcessPool))

    def check(self) -> None:
        """A pool whose workers are lost says so by itself."""

    def close(self, done: bool) -> None:
        """Leave the workers idle, or end them if they are not."""
        if self._pool and done:
            _keep(self._pool)
        elif self._pool:
            self._pool.workers.shutdown(kill_workers=True)
        self._pool = None

    def give_back(self) -> None:
        """Have idle workers give back their memory; the next to be started are new."""
        if self._pool:
            self._pool.workers.shutdown(wait=True)
        self._pool = None


def _in_process(lowest: int, function: Callable[[T], R], task: T) -> tuple[R, Lines]:
    with keeping_lines(lowest) as lines:
        return function(task), lines


@contextmanager
def _quiet_resource_trackers() -> Iterator[None]:
    """Keep workers that are ended early from having their semaphores called leaked, on stderr."""
    before = os.environ.get("PYTHONWARNINGS")
    rules = [before] if before else []
    os.environ["PYTHONWARNINGS"] = ",".join([*rules, "ignore:resource_tracker:UserWarning"])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _start_worker(parent: int) -> None:
    """Make this worker process end when the process that started it is gone.

    Workers wait minutes for more work otherwise, and whoever reads the build's output with them.
    What is to be said about compiled code, the process that started it has said.
    """
    compiled.log.setLevel(logging.ERROR)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
