"""Who may change a store: builds together, `gc` alone."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ocr_precompute.errors import StoreError
from ocr_precompute.storage.store import check_target, create_store, leftovers

log = logging.getLogger(__name__)


@contextlib.contextmanager
def writable(store: Path, dry_run: bool) -> Iterator[None]:
    """A store that exists and is locked for a build; errors of the disk become StoreError."""
    try:
        if dry_run:
            check_target(store)
            yield
            return
        create_store(store)
        with build_lock(store):
            yield
    except OSError as error:
        raise unwritable(store, error) from error


def unwritable(store: Path, error: OSError) -> StoreError:
    """The error that says that a store cannot be written, and what to do."""
    return StoreError(
        f"{error.filename or store}: cannot be written: {error.strerror or error}; nothing was "
        "published, and finished shards are kept. Put that right, or name another --store"
    )


@contextlib.contextmanager
def build_lock(store: Path) -> Iterator[None]:
    """Held by a build: any number at once, but not while `gc` deletes.

    The first build to come removes what killed builds left in tmp/.
    """
    with _locked(store) as descriptor:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for leftover in [] if (store / "tmp").is_symlink() else leftovers(store / "tmp"):
                with contextlib.suppress(OSError):
                    leftover.unlink()
                    log.info("%s: deleted, a killed build left it", leftover)
        _share(descriptor, store)
        yield


def _share(descriptor: int, store: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("%s: waiting until gc is done", store)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    log.debug("%s: locked for a build", store)


@contextlib.contextmanager
def gc_lock(store: Path) -> Iterator[None]:
    """Held while shards are deleted. Raises StoreError if a build runs."""
    with _locked(store) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"{store}: a build is running; nothing was deleted. Run gc again when it is done"
            ) from None
        yield


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[int]:
    path = store / "lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        yield descriptor
    finally:
        os.close(descriptor)  # releases the lock, as the end of the process does
