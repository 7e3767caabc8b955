"""What a worker of a cluster proves before its first task: it sees the same, and is the same.

The driver writes a number through the store. Each worker reads it there and writes an answer, which
the driver reads: so they have one store, whatever it is called on either machine. What workers
compute depends on libraries, so these are of the same versions.
"""

from __future__ import annotations

import hashlib
import platform
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ocr_precompute.errors import StoreError, WorkerError, one_line
from ocr_precompute.files import temporary_name
from ocr_precompute.remote_images import RemoteImage
from ocr_precompute.storage.seam import Storage

_LIBRARIES = (
    *("ocr-precompute", "numpy", "opencv-python-headless", "simplejpeg", "pyclipper"),
    *("numba", "numcodecs", "zarr", "crc32c"),
)
_LENGTH = 32  # bytes of the number that is passed through the store


@cache
def versions() -> Mapping[str, str]:
    """Python, and the libraries that what is written may depend on, by name."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


@dataclass(frozen=True)
class Proof:
    """What workers are asked to prove.

    storage: the store. name: of a file in it, and number: what that holds. versions: of libraries.
    images: some image files, one of each source, and the hex SHA-256 of their bytes.
    """

    storage: Storage
    name: str
    number: str
    versions: Mapping[str, str]
    images: tuple[tuple[Path | RemoteImage, str], ...]

    def answered(self, worker: str, answer: str) -> None:
        """Raises WorkerError if what a worker has written is not in this store.

        answer: the name of that.
        """
        try:
            found = self.storage.get(answer, _LENGTH).decode()
        except OSError:
            found = ""
        if found != self.number[::-1]:
            raise unseen(worker, self.storage, "what it writes does not come here")
        with suppress(OSError, StoreError):
            self.storage.delete(answer)


def unseen(worker: str, storage: Storage, reason: str) -> WorkerError:
    """The error of a worker that has another store, or none."""
    return WorkerError(
        f"worker {worker} does not see the store {storage} ({reason}); put the store into a folder "
        "that all workers share under one path, or name a URL with --store, as s3://BUCKET/NAME"
    )


@contextmanager
def proof_for(
    storage: Storage, images: tuple[tuple[Path | RemoteImage, str], ...]
) -> Iterator[Proof]:
    """A proof that workers can be asked for within."""
    name, number = f"tmp/{temporary_name('proof')}", uuid.uuid4().hex
    storage.put(name, number.encode())
    try:
        yield Proof(storage, name, number, versions(), images)
    finally:
        with suppress(OSError, StoreError):
            storage.delete(name)


_answers: dict[str, str] = {}
_proving = threading.Lock()


def prove(proof: Proof, worker: str) -> str:
    """Prove it, once in a process. Returns the name of the answer in the store.

    worker: its address. Raises WorkerError if it cannot be proved.
    """
    with _proving:
        if proof.name not in _answers:
            _answers[proof.name] = _prove(proof, worker)
        return _answers[proof.name]


def _prove(proof: Proof, worker: str) -> str:
    here = versions()
    if other := [name for name in proof.versions if proof.versions[name] != here.get(name, "none")]:
        says = ", ".join(f"{name} {here.get(name, 'none')}" for name in other)
        wanted = ", ".join(f"{name} {proof.versions[name]}" for name in other)
        raise WorkerError(
            f"worker {worker} has {says}, and the machine that builds has {wanted}; install the "
            "same versions everywhere"
        )
    storage, answer = proof.storage, f"tmp/{temporary_name('answer')}"
    try:
        if storage.get(proof.name, _LENGTH).decode() != proof.number:
            raise unseen(worker, storage, "another one is there")
        storage.put(answer, proof.number[::-1].encode())
    except FileNotFoundError:
        raise unseen(worker, storage, "it is not there, or another one is") from None
    except (OSError, StoreError) as error:
        reason = getattr(error, "strerror", "") or one_line(error)
        raise unseen(worker, storage, reason) from None
    for path, digest in proof.images:
        try:
            same = hashlib.sha256(path.read_bytes()).hexdigest() == digest
            reason = "" if same else "it is another file there"
        except (OSError, StoreError) as error:
            reason = getattr(error, "strerror", "") or one_line(error)
        if reason:
            raise WorkerError(
                f"worker {worker} does not see the image {path} ({reason}); put the images into a "
                "folder that all workers share under one path, or behind a URL that all may read"
            )
    return answer
