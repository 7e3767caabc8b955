"""Who changes a store in object storage: builds together, `gc` alone.

There are no locks there, but what was written is seen by whoever looks afterwards. So each says
that it is at work, by an object that it writes anew as long as it is, and then looks whether the
other is: of two that begin at once at least one sees the other. Who was lost stops writing, and is
left out of account after a while, by the service's clock alone.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from time import monotonic

from ocr_precompute.errors import StoreError
from ocr_precompute.files import temporary_name
from ocr_precompute.storage.seam import Storage

log = logging.getLogger(__name__)

_BEAT = 60.0  # seconds
_LOST = timedelta(minutes=15)
_LOOK = 1.0  # seconds from look to look of a build that waits
_BUILDS, _COLLECTORS = "builds/", "gc/"


@contextlib.contextmanager
def build_lease(storage: Storage) -> Iterator[None]:
    """Held by a build: any number at once, but not while `gc` deletes. Waits until it is done."""
    with _at_work(storage, _BUILDS) as mine:
        since, said = monotonic(), False
        while others := alive(storage, _COLLECTORS, mine):
            if not said:
                log.warning("%s: waiting until gc is done (%s)", storage, others[0])
                said = True
            if monotonic() - since > 2 * _LOST.total_seconds():
                raise StoreError(
                    f"{storage}: gc does not end ({others[0]}); run the build again later"
                )
            threading.Event().wait(_LOOK)
        yield


@contextlib.contextmanager
def gc_lease(storage: Storage) -> Iterator[None]:
    """Held while shards are deleted. Raises StoreError if a build, or another gc, is at work."""
    with _at_work(storage, _COLLECTORS) as mine:
        if alive(storage, _BUILDS, mine):
            raise StoreError(
                f"{storage}: a build is running; nothing was deleted. Run gc again when it is done"
            )
        if alive(storage, _COLLECTORS, mine):
            raise StoreError(f"{storage}: another gc is running; nothing was deleted")
        yield
        for kind in (_BUILDS, _COLLECTORS):
            for lost in _others(storage, kind, mine, alive=False):
                storage.delete(lost)


def alive(storage: Storage, kind: str, mine: str) -> list[str]:
    """Names of those at work of a kind, but for one's own."""
    return _others(storage, kind, mine, alive=True)


def _others(storage: Storage, kind: str, mine: str, *, alive: bool) -> list[str]:
    """Those of a kind that wrote lately, or did not, as the service dates one's own object."""
    kinds = {kind, f"{mine.partition('/')[0]}/"}
    found = {each.name: each.modified for one in kinds for each in storage.list(one)}
    now = found.get(mine)
    return [
        name
        for name, modified in found.items()
        if name.startswith(kind)
        and name != mine
        and (now is None or modified is None or now - modified < _LOST) == alive
    ]


@contextlib.contextmanager
def _at_work(storage: Storage, kind: str) -> Iterator[str]:
    """An object that says that this process is at work, written anew until it is done."""
    name = f"{kind}{temporary_name('at')}"
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_BEAT):
            try:
                storage.put(name, b"")
            except (OSError, StoreError) as error:
                log.info("%s: cannot be written (%s)", storage.at(name), error)

    storage.put(name, b"")
    thread = threading.Thread(target=beat, name="store-lease", daemon=True)
    thread.start()
    try:
        yield name
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(OSError, StoreError):
            storage.delete(name)
