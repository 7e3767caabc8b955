"""Locks of files that go with their process, however it ends (flock)."""

from __future__ import annotations

from typing import IO, Any

from ocr_precompute.errors import StoreError

try:
    import fcntl
except ImportError:  # Windows has no such module
    fcntl = None  # type: ignore[assignment]


def check_locks(who: str, remedy: str) -> None:
    """Raises StoreError if this system has no such locks. who: needs them, and what to do then."""
    if fcntl is None:
        raise StoreError(
            f"{who} needs file locks that end with their process (flock), which this system does "
            f"not have; {remedy}"
        )


def lock(file: int | IO[Any], *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file until it is closed, in place of a lock that it has.

    shared: with others that share it. Raises BlockingIOError if another has it and we do not wait.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
