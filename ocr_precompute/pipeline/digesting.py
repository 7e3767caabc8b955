"""New images read for their digests and sizes: by this process, or by the workers of a cluster."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ocr_precompute.errors import ImageError
from ocr_precompute.images.decoding import read_header
from ocr_precompute.images.files import read_image, read_stamped
from ocr_precompute.pipeline.engines.cluster import connected
from ocr_precompute.pipeline.engines.proof import proof_for
from ocr_precompute.pipeline.engines.running import run_on
from ocr_precompute.pipeline.fetched import Fetched
from ocr_precompute.pipeline.request import Request
from ocr_precompute.remote_images import ImageUrl, Stamp
from ocr_precompute.runtime.stages import Totals, add, recording, stage
from ocr_precompute.samples import ImageFile

log = logging.getLogger(__name__)


class Digested(NamedTuple):
    """What a new image is, and the stamp of just these bytes, if it is an object."""

    image: ImageFile
    stamp: Stamp | None


def digested(
    folder: Path | ImageUrl, name: str, max_pixels: int, fetched: Fetched | None = None
) -> Digested:
    """Read an image. fetched: keeps it, if it lies behind a URL.

    Raises OSError if it cannot be read, ImageError if it is no image, StoreError as who reads
    objects does.
    """
    stamp = None
    if isinstance(folder, ImageUrl):
        data, stamp = read_stamped(folder / name, max_pixels)
    else:
        with stage("read"):
            data = (folder / name).read_bytes()
    header = read_header(data, max_pixels)
    with stage("digest"):
        digest = hashlib.sha256(data).digest()
    if fetched and stamp:
        fetched.keep(digest, data)
    log.debug("%s/%s: read, %d x %d pixels", folder, name, header.width, header.height)
    return Digested(ImageFile(digest, header.size, header.turned), stamp)


@dataclass(frozen=True)
class DigestTask:
    """Some images of a folder, for a worker."""

    folder: Path | ImageUrl
    names: tuple[str, ...]
    max_pixels: int


@dataclass(frozen=True)
class DigestResult:
    """What the images of a task are, None if one cannot be used; and where time went."""

    task: DigestTask
    found: tuple[Digested | None, ...]
    recorded: Totals


def digest_images(task: DigestTask) -> DigestResult:
    """Read the images of a task, all that can be used. Raises StoreError as `digested` does."""
    found: list[Digested | None] = []
    with recording() as recorded, stage("look"):
        for name in task.names:
            seen = None
            with suppress(OSError, ImageError):  # who builds reads it again, and says why
                seen = digested(task.folder, name, task.max_pixels)
            found.append(seen)
    return DigestResult(task, tuple(found), recorded.totals())


def digested_on_cluster(request: Request, tasks: Sequence[DigestTask]) -> Iterator[DigestResult]:
    """Results of tasks as they come from the cluster that the request's settings name.

    The first image of each folder is read here, too, and workers must see the same one.
    Raises WorkerError, and StoreError.
    """
    images = []
    for folder, task in {task.folder: task for task in reversed(tasks)}.items():
        path = folder / task.names[0]
        with suppress(OSError, ImageError):
            data = read_image(path, task.max_pixels)
            images.append((path, hashlib.sha256(data).hexdigest()))
    with proof_for(request.storage, tuple(images)) as proof:
        cluster = connected(request.settings, proof)
        for result in run_on(cluster, digest_images, tasks, request.progress.notice):
            add(result.recorded)
            yield result
