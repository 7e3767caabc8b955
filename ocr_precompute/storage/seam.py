"""Where a store lies: what folders and object storage have in common, and no more.

A store's files have names relative to it, with slashes: `shards/ab/<key>.zip`. What is above relies
on no rename, no lock and no folder, but on this: a file is there as a whole or not at all; what was
written is seen by whoever looks afterwards; and a file can be replaced if it is still the one that
was seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeAlias

from ocr_precompute.errors import StoreError
from ocr_precompute.format.shard import Bytes

Buffer: TypeAlias = bytes | memoryview


class ConflictError(StoreError):
    """Somebody else has written the file meanwhile."""


@dataclass(frozen=True)
class Found:
    """Something that was found in a store.

    is_file: whether it is, or leads to, a regular file. is_link: whether it only leads there; this
    package makes none. modified: when it was written, by the clock of who keeps it, and size, in
    bytes, where these come with the list.
    """

    name: str
    is_file: bool = True
    is_link: bool = False
    modified: datetime | None = None
    size: int | None = None


class Storage(Protocol):
    """The files of one store. Can be pickled; who gets a copy sees the same files.

    All raise FileNotFoundError for a file that is not there, other OSErrors where this machine is
    in the way, RemoteError, a StoreError, where a network or a service is.
    """

    @property
    def folder(self) -> Path | None:
        """The folder of this machine in which the files lie as such; None if they do not."""

    @property
    def home(self) -> Path:
        """The folder of this machine for what belongs to it alone, as the digest cache does."""

    def workspace(self) -> Path:
        """A folder of this machine in which shards are written before they are placed."""

    def at(self, name: str) -> str:
        """The file as messages name it."""

    def get(self, name: str, most: int) -> bytes:
        """All of a file of at most that many bytes. Raises OSError for a larger one."""

    def get_tagged(self, name: str, most: int) -> tuple[bytes, str]:
        """As `get`, and a tag that another content does not have, for `put_if`."""

    def open(self, name: str) -> Bytes:
        """A file of which parts are wanted. Raises ValueError if it is empty."""

    def fetch(self, name: str) -> Bytes:
        """A file of which all is wanted. Raises ValueError if it is empty."""

    def look(self, name: str) -> tuple[Bytes, bool | None]:
        """As `open`, and whether the keeper's checksum of all of it is that of what was written.

        None if one of the two is not known. Only where `sums` holds does a difference mean damage.
        """

    def sums(self, name: str) -> bool:
        """Whether the keeper gives checksums of files, as a small one shows."""

    def pieces(self, name: str) -> Iterator[Buffer]:
        """All of a file, piece by piece, so that little of it is in memory at a time."""

    def size(self, name: str) -> int:
        """Bytes of a file."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file, whatever was there."""

    def put_new(self, name: str, data: bytes) -> None:
        """Write a file that is named by its content: what is there already is the same."""

    def put_if(self, name: str, data: bytes, tag: str | None) -> None:
        """Write a file if what is there has that tag; None: if nothing is.

        Raises ConflictError if not.
        """

    def place(self, written: Path, name: str) -> None:
        """Give a finished file of the workspace a name by its content, as `put_new` does."""

    def list(self, prefix: str) -> Iterator[Found]:
        """What lies below a name that ends with a slash, in order."""

    def delete(self, name: str) -> None:
        """Delete a file; one that is not there, or that somebody holds on to, is left to itself."""
