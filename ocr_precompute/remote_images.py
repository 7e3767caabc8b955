"""Images behind a URL, in place of a folder of this machine and of files in it.

Who asks the service stands above, in `storage`: `ImageUrl` holds it, once it is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

_LARGEST = 2**31  # bytes of an object that is read where no limit of pixels is known


class Stamp(NamedTuple):
    """What an object is known again by: its size in bytes, and its ETag; empty if there is none."""

    size: int
    tag: str


class Reader(Protocol):
    """Who reads objects below a URL. Can be pickled.

    All raise FileNotFoundError for an object that is not there, StoreError where a service or a
    network is in the way.
    """

    def get_stamped(self, name: str, most: int) -> tuple[bytes, Stamp]:
        """All of an object, and its stamp. Raises OSError (EFBIG) for one of more bytes."""

    def size(self, name: str) -> int:
        """Bytes of an object."""

    def stamps(self, first: str = "", last: str | None = None) -> Iterator[tuple[str, Stamp]]:
        """Names and stamps of objects, from one name to another, or of all."""


def is_key(name: str) -> bool:
    """Whether an object may have that name: no part of it is empty, `.` or `..`."""
    return not {"", ".", ".."}.intersection(name.split("/"))


@dataclass(frozen=True)
class ImageUrl:
    """A URL below which images lie; what is asked of a folder's path can be asked of it.

    url: without a slash at its end. reader: None as long as the place is only named.
    """

    url: str
    reader: Reader | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.url

    def __fspath__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemoteImage:
        return RemoteImage(self, name)

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]

    def is_dir(self) -> bool:
        """Whether there is any object, for a service has no folders. Raises as `Reader` does."""
        named = (name for name, _ in self.asked().stamps())
        return any(named)  # one without a name is what consoles make for a folder

    def absolute(self) -> ImageUrl:
        """The same, as it is from everywhere."""
        return self

    def resolve(self) -> ImageUrl:
        """The same, as it is from everywhere."""
        return self

    def asked(self) -> Reader:
        """Who reads there. Raises OSError if nobody does."""
        if self.reader is None:
            raise OSError(95, "lies behind a URL, where this command reads no images", self.url)
        return self.reader


@dataclass(frozen=True)
class RemoteImage:
    """An object that is an image; what is asked of a file's path can be asked of it.

    All raise as `Reader` does, and OSError if nobody reads there.
    """

    folder: ImageUrl
    name: str

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"

    def read_bytes(self) -> bytes:
        """Its bytes, in one request."""
        return self.read_stamped(_LARGEST)[0]

    def read_stamped(self, most: int) -> tuple[bytes, Stamp]:
        """Its bytes, in one request, and the stamp of just these. Raises OSError for more."""
        if not is_key(self.name):
            raise FileNotFoundError(2, "there is no such object", str(self))
        return self.folder.asked().get_stamped(self.name, most)

    def size(self) -> int:
        """How many bytes it has."""
        return self.folder.asked().size(self.name)
