"""What an engine is: who takes tasks, how many at a time, and what it means if one is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Engine(Protocol):
    """Workers, for as long as they are needed. The function and the tasks can be pickled."""

    @property
    def room(self) -> int:
        """How many tasks to have under way, so that no worker waits for the next."""

    def submit(self, function: Callable[[T], R], task: T) -> Future[Any]:
        """Begin a task. Raises OSError if workers cannot be started."""

    def received(self, answer: Any) -> Any:
        """The function's result, of what a future gave. Raises what the function raised."""

    def losses(self, error: BaseException) -> int:
        """How many workers a future lost, by what it raised; 0 if that means something else."""

    def check(self) -> None:
        """Called every now and then. Raises WorkerError if no task can be done any more."""

    def close(self, done: bool) -> None:
        """No more tasks. done: whether none is under way."""


@dataclass(frozen=True)
class Halving(Generic[T, R]):
    """How to find what in a task it is that workers are lost to.

    halves: the task in two, to be tried; nothing if there is but one thing in it. killed: what to
    give as the result of a task, with one thing in it, that workers are lost to. named: a task as
    messages name it.
    """

    halves: Callable[[T], Sequence[T]]
    killed: Callable[[T], R]
    named: Callable[[T], str]
