"""Where tasks run: in this process, in its threads, or in processes of its own.

Whatever the engine, one pure function does one task.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import joblib
from joblib.externals import loky

from ocr_precompute.errors import WorkerError
from ocr_precompute.runtime import compiled
from ocr_precompute.runtime.logs import Lines, handle_kept, keeping_lines, level
from ocr_precompute.runtime.stages import recording, stage, waited_for
from ocr_precompute.settings import Backend
from ocr_precompute.targets.maps import compile_kernel

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)

# Seconds that idle workers are kept for the next build of this process. They end with it anyway,
# and whoever hands out tasks just when idle workers end may wait for them for ever.
_KEPT = 24 * 3600


def run(
    function: Callable[[T], R],
    tasks: Sequence[T],
    jobs: int,
    backend: Backend,
    notice: Callable[[str], None],
    crowded: Callable[[], bool] = lambda: False,
) -> Iterator[R]:
    """Results as they come. The function and the tasks can be pickled.

    notice: called with something worth a line on the screen. What a worker process logs is handled
    here once its task is done. crowded: whether memory is short; half of the workers do the rest
    then, half of these again if it still is once each has had a task, and at last this process.
    Raises what a task raises, or WorkerError if a worker is lost.
    """
    jobs = min(jobs, len(tasks))
    if backend == "sequential" or jobs <= 1:
        log.info("%d shards to build, in this process", len(tasks))
        return map(function, tasks)
    log.info("%d shards to build, %d workers of %s", len(tasks), jobs, backend)
    return _in_workers(function, tasks, jobs, backend, notice, crowded)


def _in_workers(
    function: Callable[[T], R],
    tasks: Sequence[T],
    jobs: int,
    backend: Backend,
    notice: Callable[[str], None],
    crowded: Callable[[], bool],
) -> Iterator[R]:
    with stage("compile"), recording():  # of an image without anything on it
        compile_kernel()  # once here, so that workers find it on the disk
    done, left = 0, deque(tasks)
    work = partial(_in_process, os.getcwd(), level()) if backend == "loky" else _in_thread
    try:
        while left and jobs > 1:
            handed = _until_crowded(left, jobs, crowded)
            results = _parallel(partial(work, function), handed, jobs, backend)
            for result, lines in waited_for(results, "workers"):
                handle_kept(lines)
                done += 1
                yield result
            if left:
                jobs //= 2
                _end_workers(backend)
                notice(f"memory is short: {jobs} at a time from here on, {len(left)} shards left")
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process was lost (killed, or out of memory); nothing was published, and "
            f"{done} finished shards are kept. Run again with fewer --jobs, or with "
            "--backend sequential"
        ) from error
    except (OSError, ImportError, NotImplementedError) as error:
        if done:
            raise
        notice(f"workers cannot be started ({error}); working in this process instead")
        left = deque(tasks)
    yield from map(function, left)


def _until_crowded(left: deque[T], most: int, crowded: Callable[[], bool]) -> Iterator[T]:
    """Take tasks from those left until memory is short; so many in any case."""
    handed = 0
    while left and (handed < most or not crowded()):
        handed += 1
        yield left.popleft()


def _parallel(
    work: Callable[[T], tuple[R, Lines]], tasks: Iterator[T], jobs: int, backend: Backend
) -> Iterator[tuple[R, Lines]]:
    """Results as they come, with what was logged. Tasks are taken on as others are done."""
    processes = {
        "inner_max_num_threads": 1,
        "idle_worker_timeout": _KEPT,
        "initializer": _start_worker,
        "initargs": (os.getpid(),),
    }
    with (
        _quiet_resource_trackers(),
        joblib.parallel_config(backend, **(processes if backend == "loky" else {})),
    ):
        parallel = joblib.Parallel(jobs, return_as="generator_unordered", batch_size=1)
        yield from parallel(joblib.delayed(work)(task) for task in tasks)


def _end_workers(backend: Backend) -> None:
    """Have idle worker processes give back their memory; the next to be started are new."""
    if backend == "loky":
        loky.get_reusable_executor(reuse=True).shutdown(wait=True)


def _in_process(folder: str, lowest: int, function: Callable[[T], R], task: T) -> tuple[R, Lines]:
    """A task in a worker, which may be left from a build that was started in another folder."""
    os.chdir(folder)
    with keeping_lines(lowest) as lines:
        return function(task), lines


def _in_thread(function: Callable[[T], R], task: T) -> tuple[R, Lines]:
    return function(task), []


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
