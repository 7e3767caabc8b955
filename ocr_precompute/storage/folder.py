"""A store in a folder of this machine, or of a file server."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ocr_precompute.files import flush, is_litter, open_regular, read_bounded, replace_file
from ocr_precompute.format.shard import MappedFile
from ocr_precompute.storage.seam import Found

log = logging.getLogger(__name__)

_PIECE = 2**22  # bytes
_NESTED = 2  # characters of the names of folders that hold shards


@dataclass(frozen=True)
class Folder:
    """A store in a folder. Files are written beside their place, flushed, and renamed into it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.path

    @property
    def home(self) -> Path:
        """The folder itself."""
        return self.path

    def workspace(self) -> Path:
        """A folder in the store, and so on the same file system; `create_store` makes it."""
        return self.path / "tmp"

    def at(self, name: str) -> str:
        """The path."""
        return str(self.path / name)

    def get(self, name: str, most: int) -> bytes:
        """All of a regular file, without waiting for a pipe."""
        return read_bounded(self.path / name, most)

    def get_tagged(self, name: str, most: int) -> tuple[bytes, str]:
        """As `get`; the tag is made of the content."""
        data = self.get(name, most)
        return data, hashlib.sha256(data).hexdigest()

    def open(self, name: str) -> MappedFile:
        """The file, mapped."""
        return MappedFile(self.path / name)

    def fetch(self, name: str) -> MappedFile:
        """The file, mapped."""
        return MappedFile(self.path / name)

    def look(self, name: str) -> tuple[MappedFile, None]:
        """The file, mapped; nobody keeps a checksum of it."""
        return self.open(name), None

    def sums(self, name: str) -> bool:
        """No."""
        return False

    def pieces(self, name: str) -> Iterator[bytes]:
        """The file, read in one go."""
        with open_regular(self.path / name) as file:
            while piece := file.read(_PIECE):
                yield piece

    def size(self, name: str) -> int:
        """Bytes of the file."""
        return (self.path / name).stat().st_size

    def put(self, name: str, data: bytes) -> None:
        """Write the file in one step."""
        replace_file(self.path / name, data)

    def put_new(self, name: str, data: bytes) -> None:
        """Write the file, unless it holds these bytes; one that is damaged is replaced."""
        try:
            if self.get(name, len(data)) == data:
                return
        except OSError:
            pass
        self.put(name, data)

    def put_if(self, name: str, data: bytes, tag: str | None) -> None:
        """Write the file in one step, whatever was there: of two that build at once the last one
        holds, as with any file.
        """
        self.put(name, data)

    def place(self, written: Path, name: str) -> None:
        """Rename a file of the workspace; what lies there, the same or damaged, is replaced."""
        target = self.path / name
        if not target.parent.is_dir():
            target.parent.mkdir(exist_ok=True)
            flush(target.parent.parent)
        os.replace(written, target)
        flush(target.parent)

    def list(self, prefix: str) -> Iterator[Found]:
        """What lies in a folder, and in its folders of shards; of all other folders, themselves."""
        for entry in _entries(self.path / prefix):
            name = f"{prefix}{entry.name}"
            if len(entry.name) == _NESTED and entry.is_dir(follow_symlinks=False):
                for each in _entries(entry.path):
                    yield Found(f"{name}/{each.name}", each.is_file(), each.is_symlink())
            else:
                yield Found(name, entry.is_file(), entry.is_symlink())

    def delete(self, name: str) -> None:
        """Delete the file; what a file server holds on to is left to the next time."""
        path = self.path / name
        try:
            path.unlink()
            log.debug("%s: deleted", path)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOENT):
                raise
            return
        flush(path.parent)


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if not is_litter(entry.name)]
    except FileNotFoundError:
        return []
    return sorted(kept, key=lambda entry: entry.name)
