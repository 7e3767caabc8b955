"""Run tasks on any engine: results as they come, and what is lost with a worker begun again.

Whatever the engine, one pure function does one task.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from ocr_precompute.errors import WorkerError
from ocr_precompute.pipeline.engines.local import Processes, Threads
from ocr_precompute.pipeline.engines.protocol import Engine, Halving, R, T
from ocr_precompute.runtime.stages import recording, stage, waiting
from ocr_precompute.targets.maps import compile_kernel

log = logging.getLogger(__name__)

_LOOK = 1.0  # seconds from look to look whether anybody is there
_MOST_LOST = 2  # workers that a task may lose together with others, before it is tried by itself

Notice = Callable[[str], None]


def _never() -> bool:
    return False


def run(
    function: Callable[[T], R],
    tasks: Sequence[T],
    jobs: int,
    backend: str,
    notice: Notice,
    crowded: Callable[[], bool] = _never,
    halving: Halving[T, R] | None = None,
    apart: bool = False,
) -> Iterator[R]:
    """Results of tasks on this machine, as they come. The function and the tasks can be pickled.

    notice: called with something worth a line on the screen. What a worker process logs is handled
    here once its task is done. crowded: whether memory is short; half of the workers do the rest
    then, half of these again if it still is once each has had a task, and at last this process.
    halving: how to find what workers are lost to, see run_on. apart: have even one worker be a
    process of its own, as far as the backend has processes, so that this one outlives it.
    Raises what a task raises, or WorkerError if workers are lost again and again.
    """
    jobs, least = min(jobs, len(tasks)), 0 if apart and backend == "loky" else 1
    if backend == "sequential" or jobs <= least:
        log.info("%d shards to build, in this process", len(tasks))
        return map(function, tasks)
    log.info("%d shards to build, %d workers of %s", len(tasks), jobs, backend)
    return _in_workers(function, tasks, jobs, least, backend, notice, crowded, halving)


def _in_workers(
    function: Callable[[T], R],
    tasks: Sequence[T],
    jobs: int,
    least: int,
    backend: str,
    notice: Notice,
    crowded: Callable[[], bool],
    halving: Halving[T, R] | None,
) -> Iterator[R]:
    with stage("compile"), recording():  # of an image that nobody has
        compile_kernel()  # once here, so that workers find it on the disk
    done, left = 0, deque(tasks)
    try:
        while left and jobs > least:
            engine: Threads | Processes = (
                Threads(jobs) if backend == "threading" else Processes(jobs)
            )
            short = crowded if jobs > 1 else _never
            for result in _run(engine, function, left, notice, short, halving):
                done += 1
                yield result
            if left:
                jobs = max(jobs // 2, 1)
                engine.give_back()
                notice(f"memory is short: {jobs} at a time from here on, {len(left)} shards left")
    except (OSError, ImportError, NotImplementedError) as error:
        if done:
            raise
        notice(f"workers cannot be started ({error}); working in this process instead")
        left = deque(tasks)
    yield from map(function, left)


def run_on(
    engine: Engine,
    function: Callable[[T], R],
    tasks: Sequence[T],
    notice: Notice,
    halving: Halving[T, R] | None = None,
) -> Iterator[R]:
    """Results of tasks on any engine, which is closed at the end, as they come.

    A task whose worker is lost is begun again. If that goes on it is tried by itself, and then in
    halves, until what it is that kills workers is found: halving says what to make of that.
    Raises what a task raises, or WorkerError.
    """
    return _run(engine, function, deque(tasks), notice, _never, halving)


def _run(
    engine: Engine,
    function: Callable[[T], R],
    left: deque[T],
    notice: Notice,
    crowded: Callable[[], bool],
    halving: Halving[T, R] | None,
) -> Iterator[R]:
    """As run_on. Tasks are taken from those left; some stay if memory is short."""
    running: dict[Future[Any], T] = {}
    lost, suspects, handed, enough = Counter[int](), deque[T](), 0, False
    try:
        while True:
            while left and len(running) < engine.room and not enough:
                future = engine.submit(function, left[0])
                running[future] = left.popleft()
                handed += 1
                enough = handed >= engine.room and crowded()
            if not running:
                break
            ended = _ended(engine, running)
            losses = {future: _losses(engine, future) for future in ended}
            if any(losses.values()):
                notice("a worker was lost (killed, or out of memory); what it had is begun again")
            for future, times in losses.items():
                task = running.pop(future)
                lost[id(task)] += times
                if not times:
                    yield engine.received(future.result())
                elif lost[id(task)] < _MOST_LOST:
                    left.append(task)
                else:
                    suspects.append(task)
        for task in suspects:
            yield _searched(engine, function, task, notice, halving)
    except BaseException:
        for future in running:
            future.cancel()
        engine.close(done=False)
        raise
    engine.close(done=True)


def _ended(engine: Engine, running: Iterable[Future[Any]]) -> set[Future[Any]]:
    """Those that have ended, one at least."""
    ended: set[Future[Any]] = set()
    with waiting("workers"):
        while not ended:
            ended, _ = wait(running, _LOOK, FIRST_COMPLETED)
            engine.check()  # before what has ended is looked at: it may have been for want of all
    return ended


def _losses(engine: Engine, future: Future[Any]) -> int:
    if future.cancelled():
        return 1
    error = future.exception()
    return engine.losses(error) if error else 0


def _searched(
    engine: Engine,
    function: Callable[[T], R],
    task: T,
    notice: Notice,
    halving: Halving[T, R] | None,
) -> R:
    """The result of a task that was lost again and again, or what it says of what kills workers.

    Raises WorkerError if nothing in it does by itself.
    """

    def alone(part: T) -> list[R]:
        """The result of a part, with nothing else under way; none if that is lost, too."""
        future = engine.submit(function, part)
        _ended(engine, [future])
        return [] if _losses(engine, future) else [engine.received(future.result())]

    if result := alone(task):
        return result[0]
    culprit = task
    if halving:
        notice(f"workers are lost to {halving.named(task)}; looking for what it is in it")
        while parts := halving.halves(culprit):
            kills = next((part for part in parts if not alone(part)), None)
            if kills is None:
                break
            culprit = kills
        if not (parts or alone(culprit)):  # again, to be sure
            return halving.killed(culprit)
        if result := alone(task):
            return result[0]
    raise WorkerError(
        f"workers are lost again and again (killed, or out of memory), at last to "
        f"{halving.named(task) if halving else 'the same task'}, of which no part does that by "
        "itself; nothing was published, and finished shards are kept. Run again with fewer --jobs, "
        "with more memory for each worker, or with --backend sequential"
    )
