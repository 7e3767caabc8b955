"""Opening a store: `open_store(path)["val"][0]`."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from ocr_precompute.errors import StoreError
from ocr_precompute.reading.shard_cache import ShardCache
from ocr_precompute.reading.split import Split
from ocr_precompute.settings import Settings, looks_like_url, parse_bytes, url_refusal
from ocr_precompute.storage.objects import Objects
from ocr_precompute.storage.place import TIMEOUT, storage_at
from ocr_precompute.storage.seam import Storage
from ocr_precompute.storage.store import check_store, published, split_names

CACHE_SIZE = "50 GB"
"""What a cache may take unless somebody says otherwise."""


def open_store(
    path: str | Path | Storage | Store,
    *,
    checksums: bool = True,
    timeout: float = TIMEOUT,
    options: Mapping[str, str] | None = None,
    cache: str | Path | None = None,
    cache_size: int | str = CACHE_SIZE,
) -> Store:
    """Open a store for reading.

    path: a folder, or the URL of one (`s3://bucket/store`; needs the `remote` extra); a Store is
    given back.
    checksums: whether every chunk's crc32c is compared when it is read; it costs about 3 % of the
    time. timeout: seconds that one request to a URL may take. options: of the service behind a URL,
    such as `endpoint`, `region` and `timeout`; credentials come from the environment. cache: a
    folder of a disk of this machine, in which whole shards are kept and from which they are read,
    shared with all processes that name it. cache_size: bytes that it may take, as in 50000000000 or
    "50 GB".
    Raises StoreError if there is no store, it is out of reach, or of another format version;
    ValueError for a cache_size that is none.
    """
    if isinstance(path, Store):
        return path
    storage = storage_at(path, timeout=timeout, options=options)
    most = parse_bytes(cache_size)
    if cache is None:
        return Store(storage, checksums=checksums)
    if looks_like_url(cache):
        raise StoreError(f"cache: {url_refusal(cache)}")
    patience = storage.timeout if isinstance(storage, Objects) else timeout
    kept = ShardCache(Path(cache).absolute(), most, patience)
    return Store(storage, checksums=checksums, cache=kept)


def store_of(settings: Settings) -> Store:
    """The configured store, read through its cache if it has one. Raises as open_store does."""
    return open_store(
        settings.store,
        options=settings.storage,
        cache=settings.cache,
        cache_size=settings.cache_size,
    )


class Store:
    """A store opened for reading: its splits by name.

    Used as a context manager, it closes the files of its splits at the end; without, they are
    closed when store and splits are no longer used.
    """

    def __init__(
        self, storage: Storage, *, checksums: bool = True, cache: ShardCache | None = None
    ) -> None:
        check_store(storage)
        self.storage = storage
        self.cache = cache
        self._checksums = checksums
        self._opened: weakref.WeakSet[Split] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"Store({str(self.storage)!r}, splits: {', '.join(self.splits) or 'none'})"

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for split in self._opened:
            split.close()

    @property
    def path(self) -> str | Path:
        """The folder, or the URL."""
        return self.storage.folder or str(self.storage)

    @property
    def splits(self) -> list[str]:
        """Names of the published splits."""
        return split_names(self.storage)

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    def __len__(self) -> int:
        return len(self.splits)

    def __contains__(self, name: object) -> bool:
        return name in self.splits

    def __getitem__(self, name: str) -> Split:
        """A published split. Raises StoreError, which is no KeyError, if there is none."""
        return self.split(name)

    def split(self, name: str) -> Split:
        """A published split. Raises StoreError if there is none of that name."""
        manifest = published(self.storage, name)
        split = Split(self.storage, manifest, checksums=self._checksums, cache=self.cache)
        self._opened.add(split)
        return split
