"""Functions as machine code: compiled when first called, and kept on disk for the next process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from types import FunctionType
from typing import Any, Generic, ParamSpec, TypeVar

from ocr_precompute.errors import one_line
from ocr_precompute.runtime.forks import undisturbed
from ocr_precompute.runtime.stages import stage

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)
_said: list[str] = []  # why code cannot be kept on disk, once somebody has been told


class Compiled(Generic[P, R]):
    """A function of numbers and arrays, called without the interpreter lock.

    It may call others that are decorated so; those of its own module, since what is kept on disk is
    dropped when its file changes and not when others do.
    Neither the compiler is imported nor anything compiled before the first call. Where no folder
    for machine code can be written (neither the package's nor one below the home folder), each
    process compiles for itself, and says so once.
    """

    def __init__(self, function: Callable[P, R], signature: Any = None) -> None:
        self.__doc__ = function.__doc__
        self._function, self._signature = function, signature
        self._call: Callable[P, R] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the machine code. Arguments that do not fit raise TypeError."""
        if self._call is not None:
            return self._call(*args, **kwargs)
        with undisturbed, stage("compile"):
            return (self._call or self._first_call)(*args, **kwargs)

    def _first_call(self, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            call = self._compiler(cache=True)
            result: R = call(*args, **kwargs)
        except Exception as error:  # of the files, in whatever way; any other comes again below
            call = self._compiler(cache=False)
            result = call(*args, **kwargs)
            _say_once(str(error.strerror if isinstance(error, OSError) else error))
        self._call = call
        return result

    def _compiler(self, cache: bool) -> Callable[P, R]:
        """The function as numba knows it, which calls others as numba knows them."""
        import numba  # half a second

        function: Any = self._function
        called = {
            name: each._part
            for name in function.__code__.co_names
            if isinstance(each := function.__globals__.get(name), Compiled)
        }
        if called:
            function = FunctionType(function.__code__, {**function.__globals__, **called})
        found: Callable[P, R] = numba.njit(self._signature, nogil=True, cache=cache)(function)
        return found

    @cached_property
    def _part(self) -> Callable[P, R]:
        """The function for those that call it, in whose files it is kept."""
        return self._compiler(cache=False)


def _say_once(reason: str) -> None:
    if not _said:
        _said.append(reason)
        log.warning(
            "compiled code cannot be kept on disk (%s), so each process takes some seconds to "
            "compile it; let NUMBA_CACHE_DIR name a folder that can be written",
            one_line(reason),
        )


def compiled(signature: Any = None) -> Callable[[Callable[P, R]], Compiled[P, R]]:
    """Decorate a function to be Compiled: for one signature of numba, or as it is called."""
    return lambda function: Compiled(function, signature)
