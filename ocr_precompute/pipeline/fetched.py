"""Images from behind a URL, kept between the scan, which digests them, and their encoding.

So each is fetched once. The key of a shard is made of digests, so that no shard can be begun before
the scan has seen its images; what lies on this machine may be read twice, for nothing.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from ocr_precompute.files import temporary_name
from ocr_precompute.remote_images import ImageUrl
from ocr_precompute.runtime.stages import stage
from ocr_precompute.settings import ON_CLUSTERS, Settings, Source
from ocr_precompute.storage.seam import Storage

log = logging.getLogger(__name__)

_SHARE = 0.5  # of what is free on the disk


class Fetched:
    """Bytes of images in files of a folder, by their digests. Can be pickled, to take from.

    Files have temporary names, so that the next build deletes what a killed one leaves.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._suffix = folder.absolute(), temporary_name("")
        self._room = int(_SHARE * shutil.disk_usage(folder).free)
        self._counting: Lock | None = Lock()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_counting": None}

    def keep(self, digest: bytes, data: bytes) -> None:
        """Keep an image, from any thread, as long as there is room; nobody is told if not."""
        if self._counting is None:
            return
        with self._counting:
            self._room -= len(data)
            if self._room < 0:
                return
        path = self._path(digest)
        try:
            path.write_bytes(data)
        except OSError as error:
            log.info("%s: not kept (%s)", path, error.strerror)
            with contextlib.suppress(OSError):
                path.unlink()

    def take(self, digest: bytes) -> bytes | None:
        """An image's bytes, which are not kept any longer; None if they are not there."""
        path = self._path(digest)
        try:
            with stage("read"):
                data = path.read_bytes()
            path.unlink()
        except OSError:
            return None
        return data

    def forget(self) -> None:
        """Delete all that nobody took."""
        for path in self._folder.glob(f"*{self._suffix}"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _path(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}{self._suffix}"


@contextlib.contextmanager
def keeping(
    storage: Storage, source: Source, settings: Settings, encodes: bool
) -> Iterator[Fetched | None]:
    """What keeps images while a build goes on that encodes; None if all lie on this machine.

    Also if they may be encoded elsewhere.
    """
    elsewhere = not encodes or settings.backend in ON_CLUSTERS
    if elsewhere or not any(isinstance(part.images, ImageUrl) for part in source.parts):
        yield None
        return
    fetched = Fetched(storage.workspace())
    try:
        yield fetched
    finally:
        fetched.forget()
