"""Work that a fork must not cut in two: a child would wait for ever for a lock held elsewhere."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

undisturbed = threading.RLock()
"""Held while modules are loaded late, code is compiled, or a setting of the process is changed.

A fork by another thread waits until it is free, so that no child finds it, or a lock taken below
it, held by a thread that the child does not have. One lock for all, since several would have to be
taken in one order everywhere.
"""

if hasattr(os, "register_at_fork"):  # Windows forks no process
    os.register_at_fork(
        before=undisturbed.acquire,
        after_in_parent=undisturbed.release,
        after_in_child=undisturbed.release,
    )


def in_children(function: Callable[[], object]) -> None:
    """Have a function called in each process that is forked from this one."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
