"""Folders and files as users leave them: names of images, text files, bytes within bounds."""

from __future__ import annotations

import errno
import io
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ocr_precompute import files
from ocr_precompute.errors import ImageError, InputError, Problem
from ocr_precompute.remote_images import ImageUrl

LARGEST_TEXT = 1 << 30
"""Bytes of a text file that is read line by line."""

_LARGEST_IMAGE = 1 << 28  # pixels of an image whose size is asked for
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_DEEPEST = 64  # folders of a name that may be one of another folder; more take long
_PLAIN_PATH = re.compile(r"\w[\w.-]*+(?:/\w[\w.-]*+)*+")  # is as it is written
_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before a name


def plain_name(name: str) -> str:
    """An image's name with `/` between folders, whatever wrote it."""
    if not name or _PLAIN_PATH.fullmatch(name):
        return name
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def is_image_name(name: str) -> bool:
    """Whether a file of that name is taken for an image."""
    return name.lower().endswith(_IMAGE_SUFFIXES)


def walk(
    folder: Path, unreadable: list[tuple[str, str]] | None = None
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that lies below a folder, folders too, with its path relative to it; in no order.

    Links to folders are followed, each folder is entered once, hidden ones are not.
    unreadable: where (folder, reason) goes of folders below that cannot be read.
    Raises OSError if the folder itself cannot be read.
    """
    waiting, entered = [""], set[tuple[int, int]]()
    while waiting:
        inside = waiting.pop()
        try:
            status = os.stat(folder / inside)
            with os.scandir(folder / inside) as found:
                entries = list(found)
        except OSError as error:
            if not inside:
                raise
            if unreadable is not None:
                unreadable.append((inside, f"cannot be read: {error.strerror}"))
            continue
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        for entry in entries:
            relative = inside + entry.name
            if entry.name[0] != "." and is_folder(entry):
                waiting.append(relative + "/")
            yield relative, entry


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads nowhere is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


class ImageNames:
    """The names of the images below a folder, as they are on disk; looked at when first needed.

    A folder that is not there holds none. strip_prefix: what names in annotations begin with that
    is not below the folder. exact: names are taken as they are, and the folder is not looked at.
    """

    def __init__(
        self, folder: Path | ImageUrl, strip_prefix: str = "", exact: bool = False
    ) -> None:
        self.folder, self.strip_prefix = folder, strip_prefix.replace("\\", "/")
        self.exact = exact

    @cached_property
    def names(self) -> frozenset[str]:
        """Every image's name, relative to the folder, with `/`; hidden files are none."""
        if self.exact:
            return frozenset()
        if isinstance(self.folder, ImageUrl):
            named = (name for name, _ in self.folder.asked().stamps())
            return frozenset(
                name for name in named if is_image_name(name) and "/." not in f"/{name}"
            )
        if not self.folder.is_dir():
            return frozenset()
        return frozenset(
            relative
            for relative, entry in walk(self.folder)
            if entry.name[0] != "." and is_image_name(entry.name) and not is_folder(entry)
        )

    @cached_property
    def _composed(self) -> dict[str, str]:
        """Names on disk by their composed Unicode form, where that tells them apart."""
        found: dict[str, str] = {}
        twice = set()
        for name in self.names:
            if not name.isascii():
                form = unicodedata.normalize("NFC", name)
                twice |= {form} & found.keys()
                found[form] = name
        return {form: name for form, name in found.items() if form not in twice}

    def on_disk(self, name: str) -> str:
        """The name as the disk has it, if it differs in Unicode form alone; else as it is."""
        if name.isascii() or name in self.names:
            return name
        return self._composed.get(unicodedata.normalize("NFC", name), name)

    def named(self, name: str) -> str:
        """The image that an annotation calls so, as the disk has it, or how it would be called.

        Without the prefix that is to be stripped, unless an image has just this name.
        """
        if self.exact:
            return name
        whole = self.on_disk(plain_name(name))
        prefix, slashes = self.strip_prefix, name.replace("\\", "/")
        if not prefix or not slashes.startswith(prefix) or whole in self.names:
            return whole
        return self.on_disk(plain_name(slashes[len(prefix) :].lstrip("/")))

    def resolved(self, name: str) -> str:
        """The image that is meant by a name of another folder, or of another machine.

        It is the longest end of the path that an image has, also without what an upload put before
        it; else the one image that differs from such an end in its suffix alone. If there is none,
        the name stays as it is.
        """
        whole = self.named(name)
        if whole in self.names or not self.names:
            return whole if self.names else name
        parts = whole.split("/")
        ends = ["/".join(parts[n:]) for n in range(max(0, len(parts) - _DEEPEST), len(parts))]
        ends.append(_UPLOADED.sub("", parts[-1], count=1))
        for end in ends:
            found = self.on_disk(end)
            if found in self.names:
                return found
        for end in ends:
            alike = self._by_stem.get(unicodedata.normalize("NFC", os.path.splitext(end)[0]), ())
            if len(alike) == 1:
                return alike[0]
        return name

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for name in sorted(self.names):
            found[unicodedata.normalize("NFC", os.path.splitext(name)[0])].append(name)
        return dict(found)

    def of_stem(self, stem: str) -> list[str]:
        """Images whose name is that (with its folder) or that and a suffix, in order."""
        exact = self.on_disk(stem)
        if exact in self.names:
            return [exact]
        return self._by_stem.get(unicodedata.normalize("NFC", stem), [])

    def size(self, name: str) -> tuple[int, int]:
        """(height, width) in pixels of an image as displayed, by its header; nothing is decoded.

        For formats that give points as shares of it. Raises ValueError saying what is wrong with
        an image that is not there, or whose size cannot be told.
        """
        from ocr_precompute.images.files import displayed_size  # loads OpenCV, seldom needed here

        needed = "its size is needed, since points are shares of it"
        if isinstance(self.folder, ImageUrl):
            raise ValueError(f"lies behind a URL, and {needed}; copy the images into a folder")
        if name not in self.names:
            raise ValueError(f"there is no such image, and {needed}; add it or remove the entry")
        try:
            return displayed_size(self.folder / name, _LARGEST_IMAGE)
        except OSError as error:
            reason = f"the image cannot be read: {error.strerror}, and {needed}; replace it"
        except ImageError as error:
            reason = f"the image {error}; {needed}"
        raise ValueError(reason)


def text_files(folder: Path, suffixes: set[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """What lies below a folder and ends so, relative to it and in order; and what is left out.

    Nothing is opened: what ends so and is no file is said by whoever reads it. Images are not
    mentioned, nor folders of other names.
    """
    found: list[str] = []
    left_out: list[tuple[str, str]] = []
    for relative, entry in walk(folder, left_out):
        if entry.name.startswith("._"):
            left_out.append((relative, "holds what macOS keeps beside another file"))
        elif entry.name[0] == ".":
            left_out.append((relative, "is hidden"))
        elif os.path.splitext(relative)[1].lower() in suffixes:
            found.append(relative)
        elif not is_folder(entry) and not is_image_name(relative):
            left_out.append((relative, f"does not end in {' or '.join(sorted(suffixes))}"))
    return sorted(found), sorted(left_out)


def read_bounded(path: Path, limit: int) -> bytes:
    """A regular file's bytes. Never waits on a pipe or device, never reads more than limit bytes.

    Raises OSError if it cannot be read, ValueError saying what is wrong with it otherwise.
    """
    with _remedies(limit):
        return files.read_bounded(path, limit)


def open_bounded(path: Path, limit: int) -> BinaryIO:
    """A regular file of at most limit bytes, opened for reading; raises as `read_bounded` does."""
    with _remedies(limit):
        file = files.open_regular(path)
        if os.fstat(file.fileno()).st_size > limit:
            file.close()
            raise OSError(errno.EFBIG, "is too large", str(path))
        return file


@contextmanager
def _remedies(limit: int) -> Iterator[None]:
    """Say of files that are of no use what to do about them."""
    try:
        yield
    except OSError as error:
        remedies = {
            errno.EINVAL: "is not a regular file; replace or remove it",
            errno.EFBIG: f"is larger than {limit >> 20} MB; split it up or remove it",
        }
        if error.errno in remedies:
            raise ValueError(remedies[error.errno]) from None
        raise


def decode_text(data: bytes) -> str:
    """Text of a file in UTF-8, or in UTF-16 with a byte-order mark; line ends become newlines.

    What is not UTF-8 is taken as text whose letters do not matter, such as Latin-1.
    The last line ends with a newline, too.
    Raises ValueError naming the encoding for UTF-16 that cannot be read.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            raise ValueError("starts as UTF-16 and is damaged; save it as UTF-8") from None
    elif b"\0" in data:
        reason = "holds NUL bytes, as UTF-16 without a byte-order mark does; save it as UTF-8"
        raise ValueError(reason)
    else:
        text = data.decode("utf-8-sig", errors="replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.endswith("\n") else text + "\n"


def text_lines(path: Path, largest: int = LARGEST_TEXT) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers, decoded as by `decode_text`.

    One line is held at a time. Raises InputError, where it happens, for what cannot be read.
    """
    try:
        with open_bounded(path, largest) as file:
            first = file.read(2)
            file.seek(0)
            wide = first in (b"\xff\xfe", b"\xfe\xff")
            encoding, errors = ("utf-16", "strict") if wide else ("utf-8-sig", "replace")
            with io.TextIOWrapper(file, encoding, errors) as text:
                for number, line in enumerate(text, 1):
                    if not line.isspace():
                        yield number, line.removesuffix("\n")
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; make it readable, or correct the path"
    except UnicodeError:
        reason = "starts as UTF-16 and is damaged; save it as UTF-8"
    except ValueError as error:
        reason = str(error)
    else:
        return
    raise InputError([Problem("annotations", str(path), "", reason)])
