"""The storage that a folder or a URL means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ocr_precompute.errors import StoreError
from ocr_precompute.remote_images import ImageUrl
from ocr_precompute.settings import Settings, Source, store_place
from ocr_precompute.storage.folder import Folder
from ocr_precompute.storage.objects import Objects
from ocr_precompute.storage.seam import Storage

TIMEOUT = 60.0
"""Seconds that a request may take, unless somebody says otherwise."""


def storage_at(
    place: str | Path | Storage,
    *,
    timeout: float = TIMEOUT,
    options: Mapping[str, str] | None = None,
) -> Storage:
    """The storage of a store.

    place: a folder, the URL of one (`s3://bucket/store`), or a storage, which is given back.
    options: of the service behind a URL, as obstore names them (`endpoint`, `region`); and
    `timeout`, which replaces that given.
    Raises StoreError for what looks like a URL and is none that can be used.
    """
    if not isinstance(place, str | Path):
        return place
    found = store_place(place)
    return Folder(found) if isinstance(found, Path) else _objects(found, timeout, options)


def _objects(url: str, timeout: float, options: Mapping[str, str] | None) -> Objects:
    given = dict(options or {})
    limit = given.pop("timeout", timeout)
    try:
        return Objects(url, float(limit), given)
    except ValueError:
        raise StoreError(f"{url}: timeout is {limit!r}; give seconds, as in 60") from None


def reached(source: Source, options: Mapping[str, str] | None = None) -> Source:
    """The source, with whoever reads its images where they lie behind a URL.

    options: as of storage_at. Raises StoreError if they cannot be used.
    """

    def change(each: Source) -> Mapping[str, object]:
        place = each.images
        if not isinstance(place, ImageUrl) or place.reader is not None:
            return {}
        return {"images": ImageUrl(place.url, _objects(place.url, TIMEOUT, options))}

    return source.changed(change)


def storage_of(settings: Settings) -> Storage:
    """The storage of the configured store. Raises as storage_at does."""
    return storage_at(settings.store, options=settings.storage)
