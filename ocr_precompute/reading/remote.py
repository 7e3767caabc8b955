"""Stores behind a URL: what goes wrong there in one true line, and no waiting without an end."""

from __future__ import annotations

import logging
import queue
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from ocr_precompute.errors import StoreError, one_line
from ocr_precompute.runtime.forks import undisturbed

log = logging.getLogger(__name__)

T = TypeVar("T")

# Libraries of storage services derive their errors from nothing in common, and some pass on a
# server that cannot be reached as a file that is not there: so names and words are looked at, of
# the error and of all those behind it.
_DENIED = re.compile(
    r"credential|access ?denied|forbidden|unauthori[sz]ed|unauthenticated|permission"
    r"|invalidaccesskey|signaturedoesnotmatch|expiredtoken|invalidtoken|anonymous caller",
    re.IGNORECASE,
)
_LATE = re.compile(r"time(d )?out", re.IGNORECASE)
_UNREACHABLE = re.compile(r"connect|gaierror|ssl|certificate|nameresolution|dns", re.IGNORECASE)
_NO_BUCKET = re.compile(r"no ?such ?bucket|bucket (does|was) not|bucketnotfound", re.IGNORECASE)

_END = 2**16  # bytes: records, metadata and directory of a shard of 64 samples


class RemoteError(StoreError):
    """A store behind a URL cannot be reached, or may not be read."""


def remote_folder(url: str) -> Path:
    """The folder at a URL, as good as a Path to all that reads a store.

    Raises StoreError if that needs a package that is not installed, or nobody knows such URLs.
    """
    try:
        with undisturbed:
            from upath import UPath
    except ImportError as error:
        raise StoreError(
            f"{url}: reading a store over the network needs more packages; "
            "pip install 'ocr-precompute[remote]'"
        ) from error
    try:
        return cast(Path, UPath(url))
    except ImportError as error:
        raise RemoteError(f"{url}: {_explanation(error)}") from error
    except ValueError as error:
        raise StoreError(f"{url}: cannot be opened: {error}") from error


class RangedFile:
    """A file behind a URL, read by ranges of bytes. Raises OSError if it cannot be.

    Its end, where a shard says what it holds, comes in one request and is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = int(path.stat().st_size)
        self._kept = max(0, self.size - _END)
        self._end = self._ask(self._kept, self.size)

    def read(self, start: int, stop: int) -> memoryview:
        """The bytes from start to stop, in one request or none."""
        if start >= self._kept:
            return self._end[start - self._kept : stop - self._kept]
        return self._ask(start, stop)

    def _ask(self, start: int, stop: int) -> memoryview:
        path: Any = self._path
        log.debug("%s: bytes %d to %d asked for", path, start, stop)
        data = path.fs.cat_file(path.path, start=start, end=stop)
        if len(data) != stop - start:
            raise OSError(f"{len(data)} bytes came where {stop - start} were asked for")
        return memoryview(data)


@dataclass(frozen=True)
class Access:
    """How a store is asked: one on this machine directly, one behind a URL within a time limit.

    limit: seconds that one request may take.
    """

    store: Path
    limit: float

    @property
    def is_remote(self) -> bool:
        """Whether the store is behind a URL."""
        return not isinstance(self.store, Path)

    def ask(self, work: Callable[[], T]) -> T:
        """The result of work, which reads the store. Raises as it does, or RemoteError.

        A request that is late goes on in its thread, for it cannot be stopped: work must not write
        into what anybody else uses.
        """
        if not self.is_remote:
            return work()
        try:
            return _within(self.limit, work)
        except Exception as error:
            reason = _explanation(error, self.limit)
            if reason is None:
                raise
            raise RemoteError(f"{self.store}: {reason}") from error


class _LateError(TimeoutError):
    """The time limit is over."""


def _within(seconds: float, work: Callable[[], T]) -> T:
    answers: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def answer() -> None:
        try:
            answers.put((work(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=answer, name="store-request", daemon=True).start()
    try:
        result, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise _LateError from None
    if error is not None:
        raise error
    return cast(T, result)


def _explanation(error: BaseException, limit: float = 0) -> str | None:
    """Why a store cannot be read; None if that is nothing of the network's."""
    chain = list(_behind(error))
    if any(isinstance(each, RemoteError) for each in chain):
        return None
    if any(isinstance(each, _LateError) for each in chain):
        return f"gave no answer within {limit:g} s; see to the network, or set a longer timeout"
    for each in chain:
        if isinstance(each, ModuleNotFoundError) and each.name:
            return f"such URLs need the package {each.name}; pip install {each.name}"
    said = f" ({one_line(chain[-1])})"
    kinds = " ".join(f"{type(each).__module__} {type(each).__name__}" for each in chain)
    if any(isinstance(each, ImportError) for each in chain):
        return f"such URLs need another package{said}"
    codes = {code for each in chain if isinstance(code := getattr(each, "status", 0), int)}
    foreign = " ".join(str(each) for each in chain if not isinstance(each, StoreError))
    if codes & {401, 403} or _DENIED.search(kinds) or _DENIED.search(foreign):
        return f"access is denied; give credentials that may read it{said}"
    if _NO_BUCKET.search(kinds) or _NO_BUCKET.search(foreign):
        return f"there is no such bucket; correct the URL{said}"
    if any(isinstance(each, TimeoutError) for each in chain) or _LATE.search(kinds):
        return f"gave no answer in time; see to the network{said}"
    if any(isinstance(each, ConnectionError) for each in chain) or _UNREACHABLE.search(kinds):
        return f"cannot be reached; see to the network and the URL{said}"
    if failed := [code for code in codes if code >= 500]:
        return f"the server fails with status {failed[0]}; try again later"
    return None


def _behind(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it."""
    seen: BaseException | None = error
    for _ in range(20):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__
