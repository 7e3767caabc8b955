"""What `storage.store` does, for stores in folders, which is where tests look into them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from ocr_precompute.format.manifest import Manifest
from ocr_precompute.settings import Source
from ocr_precompute.storage import locks
from ocr_precompute.storage import store as storage
from ocr_precompute.storage.folder import Folder


def shard_path(store: Path, key: str) -> Path:
    """File of a shard."""
    return store / storage.shard_name(key)


def part_path(store: Path, key: str) -> Path:
    """File of a part of a manifest."""
    return store / storage.part_name(key)


def manifest_path(store: Path, split: str) -> Path:
    """File of a split's manifest."""
    return store / storage.manifest_name(split)


def shard_keys(store: Path) -> set[str]:
    """Keys of all finished shards."""
    return storage.shard_keys(Folder(store))


def read_manifest(store: Path, split: str) -> Manifest | None:
    """The published manifest of a split; None if there is none."""
    return storage.read_manifest(Folder(store), split)


def recorded_source(store: Path, split: str) -> Source | None:
    """Where a split was built from, if that is remembered."""
    return storage.recorded_source(Folder(store), split)


def publish_manifest(store: Path, manifest: Manifest, parts: Mapping[str, bytes]) -> None:
    """Put a manifest in its place."""
    storage.publish_manifest(Folder(store), manifest, parts, None)


def build_lock(store: Path) -> AbstractContextManager[None]:
    """Held by a build."""
    return locks.build_lock(Folder(store))
