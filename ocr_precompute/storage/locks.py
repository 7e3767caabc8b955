"""Who may change a store: builds together, `gc` alone."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ocr_precompute.errors import StoreError
from ocr_precompute.runtime.file_locks import check_locks, lock
from ocr_precompute.storage.leases import build_lease, gc_lease
from ocr_precompute.storage.seam import Storage
from ocr_precompute.storage.store import check_target, create_store, leftovers

log = logging.getLogger(__name__)

_REMEDY = "reading works; write it on Linux or macOS"


@contextlib.contextmanager
def writable(storage: Storage, dry_run: bool) -> Iterator[None]:
    """A store that exists and is locked for a build; errors of the disk become StoreError."""
    try:
        if dry_run:
            check_target(storage)
            yield
            return
        if storage.folder is not None:
            check_locks(f"{storage}: writing", _REMEDY)
        create_store(storage)
        with build_lock(storage):
            yield
    except OSError as error:
        raise unwritable(storage, error) from error


def unwritable(storage: Storage, error: OSError) -> StoreError:
    """The error that says that a store cannot be written, and what to do."""
    return StoreError(
        f"{error.filename or storage}: cannot be written: {error.strerror or error}; nothing was "
        "published, and finished shards are kept. Put that right, or name another --store"
    )


@contextlib.contextmanager
def build_lock(storage: Storage) -> Iterator[None]:
    """Held by a build: any number at once, but not while `gc` deletes.

    The first build to come removes what killed builds left in the workspace.
    """
    folder = storage.folder
    if folder is None:
        with build_lease(storage):
            _sweep(storage.workspace())
            yield
        return
    with _locked(folder) as descriptor:
        with contextlib.suppress(BlockingIOError):
            lock(descriptor)
            _sweep(storage.workspace())
        _share(descriptor, folder)
        yield


def _sweep(workspace: Path) -> None:
    for leftover in [] if workspace.is_symlink() else leftovers(workspace):
        with contextlib.suppress(OSError):
            leftover.unlink()
            log.info("%s: deleted, a killed build left it", leftover)


def _share(descriptor: int, store: Path) -> None:
    try:
        lock(descriptor, shared=True)
    except BlockingIOError:
        log.info("%s: waiting until gc is done", store)
        lock(descriptor, shared=True, wait=True)
    log.debug("%s: locked for a build", store)


@contextlib.contextmanager
def gc_lock(storage: Storage) -> Iterator[None]:
    """Held while shards are deleted. Raises StoreError if a build runs."""
    if storage.folder is None:
        with gc_lease(storage):
            yield
        return
    with _locked(storage.folder) as descriptor:
        try:
            lock(descriptor)
        except BlockingIOError:
            raise StoreError(
                f"{storage}: a build is running; nothing was deleted. Run gc again when it is done"
            ) from None
        yield


@contextlib.contextmanager
def _locked(store: Path) -> Iterator[int]:
    check_locks(f"{store}: writing", _REMEDY)
    path = store / "lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        yield descriptor
    finally:
        os.close(descriptor)  # releases the lock, as the end of the process does
