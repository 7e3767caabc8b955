"""A store in object storage, or behind any URL that gives parts of files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from ocr_precompute.errors import StoreError
from ocr_precompute.remote_images import Stamp
from ocr_precompute.runtime.forks import undisturbed
from ocr_precompute.storage.faults import RemoteError, explanation, is_cut
from ocr_precompute.storage.seam import Buffer, ConflictError, Found

log = logging.getLogger(__name__)

T = TypeVar("T")

_END = 2**16  # bytes: records, metadata and directory of a shard of 64 samples
_RETRIES = 8
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(milliseconds=100), timedelta(seconds=5)
_LISTED = 1000  # names an answer, as services have it
_PIECE = 2**22  # bytes read at a time of what is wanted as a whole
_WHOLE = 2**26  # bytes; what is larger is sent in parts, of which some are in memory at a time
_PART, _PARTS_AT_ONCE = 2**24, 4
_SUM = "md5"  # of what was written, as user metadata in the form that ETags have


@dataclass(frozen=True)
class Objects:
    """A store behind a URL, whose files are objects.

    url: without a slash at its end. timeout: seconds that a request may take with all its retries,
    about. options: of the service, as obstore names them (`endpoint`, `region`); credentials come
    from the environment.
    """

    url: str
    timeout: float = 60.0
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __hash__(self) -> int:
        return hash(self.url)

    def __str__(self) -> str:
        return self.url

    @property
    def folder(self) -> None:
        """None: it is nowhere on this machine."""
        return None

    @property
    def home(self) -> Path:
        """A folder of its own in the user's cache."""
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "ocr-precompute" / hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def workspace(self) -> Path:
        """A folder of this machine; made if it is not there."""
        folder = self.home / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def at(self, name: str) -> str:
        """The URL."""
        return f"{self.url}/{name}"

    def get(self, name: str, most: int) -> bytes:
        """All of an object, in one request."""
        return self.get_tagged(name, most)[0]

    def get_tagged(self, name: str, most: int) -> tuple[bytes, str]:
        """As `get`, and the service's ETag with its version, of which each asks for one."""
        data, found = self._whole(name, most)
        return data, json.dumps({key: found[key] for key in ("e_tag", "version") if found[key]})

    def get_stamped(self, name: str, most: int) -> tuple[bytes, Stamp]:
        """As `get`, and the stamp that lists give of it. A larger one is an OSError with EFBIG."""
        data, found = self._whole(name, most)
        return data, self._stamp(found)

    def _whole(self, name: str, most: int) -> tuple[bytes, Mapping[str, Any]]:
        def work(client: Any, obstore: Any) -> tuple[bytes, Mapping[str, Any]]:
            found = obstore.get(client, name)
            if found.meta["size"] > most:
                raise OSError(errno.EFBIG, f"is larger than {most} bytes", self.at(name))
            return bytes(found.bytes()), found.meta

        return self._ask(name, work)

    def open(self, name: str) -> RangedFile:
        """The object, whose end comes at once: a shard says there what it holds."""
        return RangedFile(self, name)

    def fetch(self, name: str) -> HeldFile:
        """The object, in memory."""
        return HeldFile(self._ask(name, lambda client, obstore: obstore.get(client, name).bytes()))

    def look(self, name: str) -> tuple[RangedFile, bool | None]:
        """As `open`, and whether the ETag is the MD5 that was recorded with what was written."""
        file = RangedFile(self, name)
        return file, file.recorded == file.tag if file.recorded else None

    def sums(self, name: str) -> bool:
        """Whether ETags are MD5: they are in S3, unless it encrypts with keys of the user."""
        file = RangedFile(self, name)
        return file.tag == _md5(file.read(0, file.size))

    def pieces(self, name: str) -> Iterator[memoryview]:
        """The object, in one request as long as nothing cuts it."""
        found = self._ask(name, lambda client, obstore: obstore.get(client, name))
        stream, left = iter(found.stream(min_chunk_size=_PIECE)), int(found.meta["size"])
        while piece := self._ask(name, lambda *_: next(stream, None)):
            left -= len(piece)
            yield memoryview(piece)
        if left:
            raise OSError(f"{self.at(name)}: {left} bytes of it did not come")

    def size(self, name: str) -> int:
        """Bytes of the object."""
        return int(self._ask(name, lambda client, obstore: obstore.head(client, name)["size"]))

    def end(self, name: str, length: int) -> tuple[memoryview, Mapping[str, Any], str]:
        """The last bytes of an object, at most so many, its metadata, and its recorded MD5."""

        def work(client: Any, obstore: Any) -> tuple[memoryview, Mapping[str, Any], str]:
            found = obstore.get(client, name, options={"range": {"suffix": length}})
            return memoryview(found.bytes()), found.meta, found.attributes.get(_SUM, "")

        return self._ask(name, work)

    def part(self, name: str, start: int, stop: int) -> memoryview:
        """The bytes of an object from start to stop."""
        data = self._ask(
            name, lambda client, obstore: obstore.get_range(client, name, start=start, end=stop)
        )
        if len(data) != stop - start:
            raise OSError(f"{len(data)} bytes came where {stop - start} were asked for")
        return memoryview(data)

    def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        self._put(name, data, "overwrite")

    def put_new(self, name: str, data: bytes) -> None:
        """Write an object unless it is there; one that holds something else is replaced."""
        tag = _md5(data)
        try:
            self._put(name, data, "create", tag)
        except ConflictError:
            with contextlib.suppress(OSError, ValueError):
                if self._tag(name) == tag or self.fetch(name).data == data:
                    log.info("%s: somebody has written it already", self.at(name))
                    return
            log.warning("%s: was damaged, replaced", self.at(name))
            self._put(name, data, "overwrite", tag)

    def put_if(self, name: str, data: bytes, tag: str | None) -> None:
        """Write an object on the service's condition.

        An answer that got lost makes the service refuse what was written already: so what lies
        there is looked at before that counts as a conflict.
        """
        try:
            self._put(name, data, "create" if tag is None else json.loads(tag))
        except ConflictError:
            try:
                if self.get(name, len(data)) == data:
                    return
            except OSError:  # it is gone, or larger
                pass
            raise

    def place(self, written: Path, name: str) -> None:
        """Send a finished file, unless it is there; one that holds something else is replaced.

        A large one is sent in parts, which takes no condition: it is named by its content, so that
        does no harm.
        """
        if written.stat().st_size <= _WHOLE:
            self.put_new(name, written.read_bytes())
            return
        tag = _md5_of_parts(written)
        with contextlib.suppress(FileNotFoundError):
            if self._tag(name) == tag:
                return
        sending: Any = {
            "chunk_size": _PART,
            "max_concurrency": _PARTS_AT_ONCE,
            "use_multipart": True,
            "attributes": {_SUM: tag},
        }
        try:
            self._ask(name, lambda client, obstore: obstore.put(client, name, written, **sending))
        except (OSError, RemoteError):  # of an upload that ended, whose answer got lost
            if self._tag(name) != tag:
                raise

    def _tag(self, name: str) -> str:
        found = self._ask(name, lambda client, obstore: obstore.head(client, name)["e_tag"])
        return (found or "").strip('"')

    def _put(self, name: str, data: bytes, mode: Any, tag: str = "") -> None:
        more: Any = {"attributes": {_SUM: tag}} if tag else {}
        self._ask(
            name,
            lambda client, obstore: obstore.put(
                client, name, data, mode=mode, use_multipart=False, **more
            ),
        )

    def list(self, prefix: str) -> Iterator[Found]:
        """All objects whose names begin so. Raises StoreError where a server lists nothing."""
        if self.url.startswith("http"):
            raise StoreError(f"{self.url}: plain HTTP does not say what is there; name the split")

        yield from sorted(
            (
                Found(meta["path"], modified=meta["last_modified"], size=meta["size"])
                for page in self._pages(prefix.rstrip("/"))
                for meta in page
            ),
            key=lambda each: each.name,
        )

    def stamps(self, first: str = "", last: str | None = None) -> Iterator[tuple[str, Stamp]]:
        """Names and stamps of objects, from one name to another, or of all.

        A service lists in order of names: so it is asked from just before the first on, and not
        for what lies behind the last.
        """
        before = first[:-1].rstrip("./")  # no name ends so
        for page in self._pages("", before):
            for meta in page:
                name = meta["path"]
                if name >= first and (last is None or name <= last):
                    yield name, self._stamp(meta)
            if last is not None and page[-1]["path"] > last:
                return

    def _stamp(self, meta: Mapping[str, Any]) -> Stamp:
        # One in memory counts from 0 in each process, so its tags mean nothing to the next one.
        tag = "" if self.url.startswith("memory://") else meta["e_tag"] or ""
        return Stamp(int(meta["size"]), tag.strip('"'))

    def _pages(self, prefix: str, after: str = "") -> Iterator[Sequence[Any]]:
        """What obstore says of objects behind a name, a list for each answer."""
        stream: Any = None
        left = _RETRIES  # for answers that are cut, which obstore leaves to us
        while True:
            try:
                if stream is None:
                    stream = self._ask(prefix, partial(_listing, prefix, after))
                page = self._ask(prefix, lambda *_, stream=stream: next(stream, None))
            except RemoteError as error:
                if not left or not is_cut(error.__cause__):
                    raise
                log.info("%s: the list was cut, asking for the rest", self.at(prefix))
                stream, left = None, left - 1
                continue
            if page is None:
                return
            if page:
                after = page[-1]["path"]
                yield page

    def delete(self, name: str) -> None:
        """Delete an object."""
        try:
            self._ask(name, lambda client, obstore: obstore.delete(client, name))
            log.debug("%s: deleted", self.at(name))
        except FileNotFoundError:
            pass

    def _ask(self, name: str, work: Callable[[Any, Any], T]) -> T:
        """The result of work. Raises FileNotFoundError, ConflictError, RemoteError or OSError."""
        client, obstore = self._client()
        log.debug("%s: asked", self.at(name))
        try:
            return work(client, obstore)
        except FileNotFoundError as error:
            if reason := explanation(error, self.timeout):
                raise RemoteError(f"{self.url}: {reason}") from error
            raise FileNotFoundError(2, "there is no such object", self.at(name)) from None
        except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
            raise ConflictError(
                f"{self.at(name)}: was written by somebody else meanwhile"
            ) from None
        except obstore.exceptions.BaseError as error:
            reason = explanation(error, self.timeout) or "cannot be used"
            raise RemoteError(f"{self.url}: {reason}") from error

    def _client(self) -> tuple[Any, Any]:
        return _client(self.url, self.timeout, tuple(sorted(self.options.items())), os.getpid())


class RangedFile:
    """An object read by ranges of bytes; its end comes first and is kept.

    tag: the service's ETag. recorded: what it is to be, if that is known, or empty.
    """

    def __init__(self, storage: Objects, name: str) -> None:
        """Raises FileNotFoundError if there is no such object, ValueError if it is empty."""
        self._storage, self._name = storage, name
        self._end, found, self.recorded = storage.end(name, _END)
        self.size, self.tag = int(found["size"]), (found["e_tag"] or "").strip('"')
        if not self.size:
            raise ValueError("it is empty")

    def read(self, start: int, stop: int) -> memoryview:
        """The bytes from start to stop, in one request or none. Raises OSError or RemoteError."""
        kept = self.size - len(self._end)
        if start >= kept:
            return self._end[start - kept : stop - kept]
        return self._storage.part(self._name, start, stop)


class HeldFile:
    """An object in memory. data: its bytes."""

    def __init__(self, data: Any) -> None:
        """Raises ValueError if it is empty."""
        self.data = memoryview(data)
        self.size = len(self.data)
        if not self.size:
            raise ValueError("it is empty")

    def read(self, start: int, stop: int) -> memoryview:
        """The bytes from start to stop, a view."""
        return self.data[start:stop]


_started: list[int] = []
"""The process in which a client was made: its threads do not follow into a fork."""


@lru_cache(maxsize=64)
def _client(
    url: str, timeout: float, options: tuple[tuple[str, str], ...], process: int
) -> tuple[Any, Any]:
    """obstore's client of a URL, and obstore itself.

    process: this one. Raises StoreError if a client cannot be had.
    """
    if _started and _started[0] != process and not url.startswith("memory://"):
        raise StoreError(
            f"{url}: cannot be read in a process that was forked from one that has read it; start "
            "workers by 'spawn' or 'forkserver', or give a cache"
        )
    try:
        with undisturbed:
            import obstore
            from obstore.store import MemoryStore, from_url
    except ImportError as error:
        raise StoreError(
            f"{url}: stores over the network need another package; "
            "pip install 'ocr-precompute[remote]'"
        ) from error
    if url.startswith("memory://"):
        return _memory(url, MemoryStore), obstore
    _started[:] = [process]
    seconds = timedelta(seconds=timeout)
    given: Any = dict(options)
    backoff = {"init_backoff": _FIRST_PAUSE, "max_backoff": _LONGEST_PAUSE, "base": 2}
    retries: Any = {"max_retries": _RETRIES, "retry_timeout": seconds, "backoff": backoff}
    client_options: Any = {"timeout": seconds, "allow_http": _plain_http(url, given)}
    try:
        client = from_url(
            url, config=given or None, client_options=client_options, retry_config=retries
        )
    except Exception as error:  # of many kinds: unknown scheme, unknown option, bad value
        reason = explanation(error, timeout)
        raise StoreError(f"{url}: {reason}") from error
    return client, obstore


@lru_cache(maxsize=64)
def _memory(url: str, kind: Callable[[], Any]) -> Any:
    """The one store in memory of that URL, for as long as this process lives."""
    return kind()


def _listing(prefix: str, after: str, client: Any, obstore: Any) -> Any:
    pages = obstore.list(client, prefix or None, offset=after or None, chunk_size=_LISTED)
    return iter(pages)


def _md5(data: Buffer) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _md5_of_parts(path: Path) -> str:
    """What S3 gives as ETag of a file that was sent in parts."""
    digests = []
    with path.open("rb") as file:
        while part := file.read(_PART):
            digests.append(hashlib.md5(part, usedforsecurity=False).digest())
    return f"{_md5(b''.join(digests))}-{len(digests)}"


def _plain_http(url: str, options: Mapping[str, str]) -> bool:
    """Whether the user has named an address without encryption, as for a service of their own."""
    named = [url, *options.values()]
    named += [os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")]
    return any("http://" in each for each in named)
