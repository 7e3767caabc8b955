"""A process on what Python has on another system: what is missing there is taken away first.

That is all that is simulated. File systems, compilers and other packages stay those of this one:
packages are imported before, since how they manage elsewhere is for them to know.

Usage: other_system.py windows|macos SCRIPT STORE IMAGES ANNOTATIONS
"""

from __future__ import annotations

import asyncio  # noqa: F401
import concurrent.futures.process  # noqa: F401
import multiprocessing  # noqa: F401
import os
import pathlib
import pkgutil
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2  # noqa: F401
import joblib.externals.loky  # noqa: F401
import numba  # noqa: F401
import numcodecs.blosc  # noqa: F401
import psutil  # noqa: F401
import pydantic  # noqa: F401
import simplejpeg  # noqa: F401
import typer.testing  # noqa: F401

MODULES = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog", "crypt")
CALLS = {
    "windows": """
        fork forkpty register_at_fork getuid geteuid getgid getegid getgroups setsid getpgid getpgrp
        killpg nice sched_getaffinity sched_setaffinity sched_yield posix_fadvise posix_fallocate
        posix_spawn pread preadv pwrite pwritev readv writev sendfile copy_file_range statvfs
        fstatvfs sysconf confstr uname getloadavg mkfifo mknod chown fchown lchown chroot sync
        fdatasync wait wait3 wait4 O_NONBLOCK O_NOFOLLOW O_DIRECTORY O_DIRECT O_CLOEXEC O_SYNC
        O_NOCTTY O_NOATIME WNOHANG getxattr setxattr memfd_create openpty ttyname
    """,
    "macos": """
        sched_getaffinity sched_setaffinity posix_fadvise posix_fallocate copy_file_range
        memfd_create O_DIRECT O_NOATIME getxattr setxattr
    """,
}
SIGNALS = {
    "windows": """
        SIGKILL SIGHUP SIGQUIT SIGSTOP SIGTSTP SIGCONT SIGCHLD SIGPIPE SIGALRM SIGUSR1 SIGUSR2 alarm
        setitimer pause pthread_kill pthread_sigmask sigwait
    """,
    "macos": "SIGRTMIN SIGRTMAX SIGPWR",
}


def become(system: str) -> None:
    """Take away what that system lacks."""
    if system == "windows":
        sys.modules |= dict.fromkeys(MODULES)  # an import of these raises ImportError now
    for module, names in ((os, CALLS[system]), (signal, SIGNALS[system])):
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    opened = pathlib.Path.open

    def without_proc(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.parts[:2] in (("/", "proc"), ("/", "sys")):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return opened(path, *arguments, **more)

    pathlib.Path.open = without_proc  # type: ignore[method-assign]


def import_everything() -> None:
    """All modules of the compiler, as whatever is first used would."""
    package = import_module("ocr_precompute")
    for found in pkgutil.walk_packages(package.__path__, "ocr_precompute."):
        if not found.name.endswith("__main__"):
            import_module(found.name)


def main() -> None:
    """Run a script, with what it is given by name."""
    system, script, store, images, annotations = sys.argv[1:]
    become(system)
    import_everything()
    source = {"images": Path(images), "annotations": Path(annotations)}
    exec(script, {"store": Path(store), "source": source})


if __name__ == "__main__":
    main()
