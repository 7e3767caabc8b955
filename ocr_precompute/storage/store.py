"""The store on disk: its layout and manifests.

STORE/
  zarr.json                 root group
  shards/ab/<shard key>.zip one shard, a Zarr v3 group in a ZIP file; immutable once it has its name
  splits/<split>.json       the manifest of a split: its root
  parts/<sha256>.zip        the manifest's parts, named by their bytes: shards, names and sizes
  sources/<split>.json      where the split was built from, for `verify` on this machine
  unnamed/<key>             since when `gc` has known that no manifest names the shard or part
  tmp/                      shards being written; nothing ever reads from here
  digests.sqlite            digest cache; may be deleted at any time
  lock                      held shared by builds, exclusively by `gc`
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ocr_precompute.errors import StoreError, one_line
from ocr_precompute.files import (
    is_abandoned,
    is_litter,
    json_bytes,
    read_bounded,
    replace_file,
    temporary_stem,
)
from ocr_precompute.format.manifest import Manifest, PartEntry, check_format_version, is_key
from ocr_precompute.format.parts import SampleIndex, part_index, part_shards
from ocr_precompute.format.schema import group_metadata
from ocr_precompute.format.shard import MappedFile, read_index, read_record
from ocr_precompute.settings import Source, is_split_name, looks_like_url, url_refusal
from ocr_precompute.storage.digests import DigestCache

log = logging.getLogger(__name__)

T = TypeVar("T")

_ANEW = "build the split again"
_MOST_MANIFEST = 2**26  # bytes of a root; most of it is what was skipped
_MOST_PART = 2**28  # bytes; ten times what the longest names would take
_MOST_SMALL = 2**20  # bytes of any other file that is read whole


def shard_path(store: Path, key: str) -> Path:
    """File of a shard, in a folder of those whose keys begin like its own."""
    return store / "shards" / key[:2] / f"{key}.zip"


def find_rows(store: Path, wanted: set[bytes], keys: Sequence[str]) -> dict[bytes, tuple[str, int]]:
    """Where rows with the wanted geometry hashes lie already: hash -> (shard key, row).

    keys: of the shards to look into, in this order, until all is found. A damaged shard offers
    nothing.
    """
    found: dict[bytes, tuple[str, int]] = {}
    for key in keys:
        if len(found) == len(wanted):
            break
        try:
            file = MappedFile(shard_path(store, key))
            rows = read_record(file, read_index(file), "key")
        except (OSError, ValueError):
            continue
        for row, geometry in enumerate(rows):
            if geometry.tobytes() in wanted:
                found.setdefault(geometry.tobytes(), (key, row))
    return found


def shard_keys(store: Path) -> set[str]:
    """Keys of all finished shards, whether a manifest names them or not."""
    return {key for key, entry in shard_files(store) if key and entry.is_file()}


def shard_files(store: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that lies in shards/ and its folders, with the key of each shard, empty for all else."""
    for folder in _entries(store / "shards"):
        if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
            for entry in _entries(folder.path):
                key = _key_of(entry)
                yield key if key[:2] == folder.name else "", entry
        else:
            yield "", folder


def part_files(store: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that lies in parts/, with the key of each part, empty for all else.

    What is being written there is left out.
    """
    found = _entries(store / "parts")
    return ((_key_of(entry), entry) for entry in found if not temporary_stem(entry.name))


def _key_of(entry: os.DirEntry[str]) -> str:
    key = entry.name.removesuffix(".zip")
    return key if entry.name.endswith(".zip") and is_key(key) else ""


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def forget_unnamed(store: Path, keys: Iterable[str]) -> None:
    """Take shards and parts that are or will be named out of what `gc` remembers as unnamed."""
    folder = store / "unnamed"
    try:
        remembered = set() if folder.is_symlink() else set(os.listdir(folder))
    except FileNotFoundError:
        return
    for key in remembered.intersection(keys):
        (folder / key).unlink(missing_ok=True)


def manifest_path(store: Path, split: str) -> Path:
    """The manifest file of a split."""
    return store / "splits" / f"{split}.json"


def part_path(store: Path, key: str) -> Path:
    """File of a part of a manifest."""
    return store / "parts" / f"{key}.zip"


def source_path(store: Path, split: str) -> Path:
    """The file that remembers where a split was built from."""
    return store / "sources" / f"{split}.json"


def read_manifest(store: Path, split: str) -> Manifest | None:
    """The published manifest of a split; None if there is none. Raises StoreError if damaged."""
    if not is_split_name(split):
        return None
    path = manifest_path(store, split)
    try:
        manifest = _manifest(store, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    log.debug("%s: read, %d samples in %d shards", path, manifest.samples, len(manifest.shards))
    return manifest


def _manifest(store: Path, path: Path) -> Manifest:
    """The manifest at that path. Raises OSError for its file alone, StoreError for all else."""
    data = read_bounded(path, _MOST_MANIFEST)
    return Manifest.from_bytes(data, path, lambda part: _read_part(store, part, part_shards))


def sample_index(store: Path, manifest: Manifest) -> SampleIndex:
    """Names and sizes of a split's samples. Raises StoreError if a part is damaged or missing."""
    parts = [_read_part(store, part, part_index) for part in manifest.parts]
    sizes = [np.zeros((0, 2), np.int32), *(part.sizes for part in parts)]
    names = tuple(itertools.chain.from_iterable(part.names for part in parts))
    return SampleIndex(names, np.concatenate(sizes))


def _read_part(store: Path, part: PartEntry, of: Callable[[bytes, PartEntry], T]) -> T:
    path = part_path(store, part.key)
    try:
        return of(read_bounded(path, _MOST_PART), part)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: is missing, a part of a manifest; {_ANEW}") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}; {_ANEW}") from error
    except ValueError as error:
        raise StoreError(f"{path}: is damaged ({one_line(error)}); {_ANEW}") from error


def published(store: Path, split: str) -> Manifest:
    """The published manifest of a split. Raises StoreError if it is damaged or there is none."""
    manifest = read_manifest(store, split)
    if manifest is None:
        raise no_split(store, split)
    return manifest


def no_split(store: Path, split: str) -> StoreError:
    """The error that says which splits there are. Raises one if there is no store any more."""
    check_store(store)
    known = ", ".join(split_names(store)) or "none"
    return StoreError(f"{store}: no split {split!r} in this store; splits: {known}")


def split_names(store: Path) -> list[str]:
    """Names of all published splits."""
    names = (path.stem for path in (store / "splits").glob("*.json"))
    return sorted(name for name in names if is_split_name(name))


def all_manifests(store: Path) -> list[Manifest]:
    """Whatever reads as a manifest in splits/, under any name.

    Raises StoreError at anything else, whose shards cannot be known.
    """
    manifests = []
    for path in (store / "splits" / name for name in sorted(os.listdir(store / "splits"))):
        if is_litter(path.name) or temporary_stem(path.name):
            continue
        try:
            manifests.append(_manifest(store, path))
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be read as a manifest ({error.strerror}), so the shards it names "
                "are not known; nothing was deleted. Repair it, or move it elsewhere"
            ) from error
    return manifests


def publish_manifest(store: Path, manifest: Manifest, parts: Mapping[str, bytes]) -> None:
    """Put the manifest in its place, in one step: readers see the old split or the new one.

    parts: bytes of parts, by key; those that lie there already may be left out.
    """
    forget_unnamed(store, manifest.keys)
    for key, data in parts.items():
        path = part_path(store, key)
        try:
            known = read_bounded(path, len(data))
        except OSError:
            known = b""
        if known != data:
            replace_file(path, data)
    replace_file(manifest_path(store, manifest.split), manifest.to_bytes())


def record_source(store: Path, split: str, source: Source) -> None:
    """Remember on this machine where a split was built from, and how that was read."""
    whole = source.changed(
        lambda each: {"images": each.images.resolve(), "annotations": each.annotations.resolve()}
    )
    data = json_bytes(whole.model_dump(mode="json"))
    path = source_path(store, split)
    try:
        known = read_bounded(path, _MOST_SMALL)
    except OSError:
        known = b""
    if known != data:
        replace_file(path, data)


def recorded_source(store: Path, split: str) -> Source | None:
    """Where a split was built from, if this store remembers."""
    try:
        return Source.model_validate_json(read_bounded(source_path(store, split), _MOST_SMALL))
    except (OSError, ValueError):
        return None


def digest_cache(store: Path) -> DigestCache:
    """The store's digest cache."""
    return DigestCache(store / "digests.sqlite")


def check_target(store: Path) -> None:
    """Raises StoreError unless a build may write there: a store of this version, or nothing yet."""
    if looks_like_url(store):
        raise StoreError(url_refusal(store))
    if (store / "zarr.json").exists() or store.is_file():
        check_store(store)
    elif store.is_dir():
        foreign = [n for n in os.listdir(store) if not _may_precede_a_store(n)]
        if foreign:
            raise StoreError(
                f"{store}: is not a store and not empty (it holds {min(foreign)!r}); "
                "name another --store"
            )


def _may_precede_a_store(name: str) -> bool:
    return is_litter(name) or temporary_stem(name) == ".zarr.json"


def create_store(store: Path) -> None:
    """Make the store's folders, or check that the store there is one this version can write."""
    check_target(store)
    if not (store / "zarr.json").exists():
        replace_file(store / "zarr.json", group_metadata())  # first: it makes the folder ours
    for folder in ("shards", "splits", "parts", "tmp"):
        (store / folder).mkdir(exist_ok=True)


def check_store(store: Path) -> None:
    """Raises StoreError unless there is a store at that path and this version reads it."""
    path = store / "zarr.json"
    try:
        document = json.loads(read_bounded(path, _MOST_SMALL))
        ours = document["attributes"]["ocr_precompute"]
        version, holds = ours["format_version"], ours.get("holds")
    except FileNotFoundError:
        raise StoreError(
            f"{store}: there is no store here; `ocr-precompute build` makes one"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, NotADirectoryError) and store.is_file():
            raise StoreError(
                f"{store}: is a file, not a store; name the folder that holds the store"
            ) from error
        raise StoreError(
            f"{path}: does not describe an ocr-precompute store; name another --store"
        ) from error
    check_format_version(version, path)
    if holds != "splits":  # a shard, unpacked
        raise StoreError(f"{store}: is a shard, not a store; name the store that it belongs to")


def leftovers(folder: Path) -> list[Path]:
    """Files that killed processes left in a folder of the store under temporary names."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    paths = [folder / name for name in names]
    return [path for path in paths if is_abandoned(path)]
