"""What a store holds, wherever it lies: its layout and manifests.

STORE/
  zarr.json                 root group
  shards/ab/<shard key>.zip one shard, a Zarr v3 group in a ZIP file; immutable once it has its name
  splits/<split>.json       the manifest of a split: its root
  parts/<sha256>.zip        the manifest's parts, named by their bytes: shards, names and sizes
  digests/<sha256>.jsonl    what a part of a build learnt of images; may be deleted at any time
  unnamed/<key>             since when `gc` has known that no manifest names one of these

In a folder it also holds, and of a store behind a URL this machine keeps in the user's cache:

  tmp/                      shards being written; nothing ever reads from here
  sources/<split>.json      where the split was built from, for `verify` on this machine
  scans/<split>/            what sorted parts of its annotations came to; may be deleted, too
  digests.sqlite            digest cache; may be deleted at any time

Who changes a store says so: in a folder by `lock`, which builds hold shared and `gc` exclusively;
in object storage by objects in `builds/` and `gc/` (see `leases`).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    temporary_name,
    temporary_stem,
)
from ocr_precompute.format.keys import Hashes
from ocr_precompute.format.manifest import (
    Manifest,
    PartEntry,
    ShardEntry,
    check_format_version,
    is_key,
)
from ocr_precompute.format.parts import SampleIndex, part_index, part_shards
from ocr_precompute.format.schema import group_metadata
from ocr_precompute.format.shard import read_index, read_record
from ocr_precompute.runtime.collector import without_collector
from ocr_precompute.settings import Source, is_split_name
from ocr_precompute.storage.digests import DigestCache
from ocr_precompute.storage.seam import ConflictError, Found, Storage

log = logging.getLogger(__name__)

T = TypeVar("T")

_ROOT = "zarr.json"
_AT_ONCE = 16  # parts of a manifest that are read
_ANEW = "build the split again"
_MOST_MANIFEST = 2**26  # bytes of a root; most of it is what was skipped
_MOST_PART = 2**28  # bytes; ten times what the longest names would take
_MOST_SMALL = 2**20  # bytes of any other file that is read whole


def shard_name(key: str) -> str:
    """File of a shard, in a folder of those whose keys begin like its own."""
    return f"shards/{key[:2]}/{key}.zip"


def part_name(key: str) -> str:
    """File of a part of a manifest."""
    return f"parts/{key}.zip"


def digests_name(key: str) -> str:
    """File of what a part of a build learnt of images."""
    return f"digests/{key}.jsonl"


def manifest_name(split: str) -> str:
    """The manifest file of a split."""
    return f"splits/{split}.json"


def note_name(key: str) -> str:
    """File that says since when `gc` has known that nothing names what has that key."""
    return f"unnamed/{key}"


def key_of(found: Found) -> str:
    """The key of a shard, a part or digests; empty for whatever else lies among them."""
    key = found.name.rpartition("/")[2].partition(".")[0]
    names = shard_name(key), part_name(key), digests_name(key)
    return key if is_key(key) and found.name in names else ""


def find_rows(
    storage: Storage, wanted: np.ndarray, keys: Sequence[str]
) -> dict[bytes, tuple[str, int]]:
    """Where rows with the wanted geometry hashes lie already: hash -> (shard key, row).

    wanted: `Hashes.prefixes` of these, in order and each once. keys: of the shards to look into, in
    this order, until all is found. A damaged shard offers nothing.
    """
    found: dict[bytes, tuple[str, int]] = {}
    for key in keys:
        if len(found) >= len(wanted):
            break
        try:
            file = storage.open(shard_name(key))
            hashes = Hashes(read_record(file, read_index(file), "key").tobytes())
        except (OSError, ValueError):
            continue
        for row in rows_among(wanted, hashes.prefixes):
            found.setdefault(hashes[row], (key, row))
    return found


def rows_among(wanted: np.ndarray, prefixes: np.ndarray) -> list[int]:
    """Which of the prefixes are wanted, by their numbers. wanted: in order."""
    if not len(wanted):
        return []
    places = np.minimum(np.searchsorted(wanted, prefixes), len(wanted) - 1)
    rows: list[int] = np.flatnonzero(wanted[places] == prefixes).tolist()
    return rows


def shard_keys(storage: Storage) -> set[str]:
    """Keys of all finished shards, whether a manifest names them or not."""
    found = ((key_of(each), each) for each in storage.list("shards/"))
    return {key for key, each in found if key and each.is_file}


def forget_unnamed(storage: Storage, keys: Iterable[str]) -> None:
    """Take shards and parts that are or will be named out of what `gc` remembers as unnamed."""
    if storage.folder and (storage.folder / "unnamed").is_symlink():
        return
    remembered = {each.name.rpartition("/")[2] for each in storage.list("unnamed/")}
    for key in remembered.intersection(keys):
        storage.delete(note_name(key))


def source_path(storage: Storage, split: str) -> Path:
    """The file of this machine that remembers where a split was built from."""
    return storage.home / "sources" / f"{split}.json"


def scans_path(storage: Storage, split: str) -> Path:
    """The folder of this machine that remembers what sorted parts of a split came to."""
    return storage.home / "scans" / split


def forget_scans(folder: Path, used: Iterable[str] = ()) -> None:
    """Delete from that folder what is not in use, and what killed builds left."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for name in set(os.listdir(folder)).difference(used):
        if is_key(name) or is_abandoned(folder / name):
            with contextlib.suppress(OSError):
                (folder / name).unlink()
    with contextlib.suppress(OSError):  # unless something is left
        folder.rmdir()


def read_manifest(storage: Storage, split: str) -> Manifest | None:
    """The published manifest of a split; None if there is none. Raises StoreError if damaged."""
    return read_tagged(storage, split)[0]


@dataclass(frozen=True)
class Root:
    """A published manifest, the bytes of its root, and their tag, for `publish_root`."""

    manifest: Manifest
    data: bytes
    tag: str


def read_tagged(storage: Storage, split: str) -> tuple[Manifest | None, str | None]:
    """As read_manifest, and the tag of its file, for `publish_manifest`; None if there is none."""
    root = read_root(storage, split)
    return (root.manifest, root.tag) if root else (None, None)


def read_root(storage: Storage, split: str) -> Root | None:
    """As read_manifest, and what the file holds."""
    if not is_split_name(split):
        return None
    name = manifest_name(split)
    try:
        data, tag = storage.get_tagged(name, _MOST_MANIFEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{storage.at(name)}: cannot be read: {error.strerror}") from error
    manifest = _manifest(storage, name, data)
    log.debug(
        "%s: read, %d samples in %d shards",
        *(storage.at(name), manifest.samples, len(manifest.shards)),
    )
    return Root(manifest, data, tag)


def manifest_tag(storage: Storage, split: str) -> str | None:
    """The tag of a split's manifest, whatever it holds; None if there is none."""
    try:
        return storage.get_tagged(manifest_name(split), _MOST_MANIFEST)[1]
    except OSError:
        return None


def _manifest(storage: Storage, name: str, data: bytes) -> Manifest:
    def shards(parts: Sequence[PartEntry]) -> list[tuple[ShardEntry, ...]]:
        return _read_parts(storage, parts, part_shards)

    with without_collector():  # of millions of samples there are many shards
        return Manifest.from_bytes(data, storage.at(name), shards)


def sample_index(storage: Storage, manifest: Manifest) -> SampleIndex:
    """Names and sizes of a split's samples. Raises StoreError if a part is damaged or missing."""
    with without_collector():
        parts = _read_parts(storage, manifest.parts, part_index)
    sizes = [np.zeros((0, 2), np.int32), *(part.sizes for part in parts)]
    names = tuple(itertools.chain.from_iterable(part.names for part in parts))
    return SampleIndex(names, np.concatenate(sizes))


def _read_parts(
    storage: Storage, parts: Sequence[PartEntry], of: Callable[[bytes, PartEntry], T]
) -> list[T]:
    """What is to be had of each part, several read at once."""
    if len(parts) <= 1:
        return [_read_part(storage, part, of) for part in parts]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(lambda part: _read_part(storage, part, of), parts))


def _read_part(storage: Storage, part: PartEntry, of: Callable[[bytes, PartEntry], T]) -> T:
    path = storage.at(part_name(part.key))
    try:
        return of(storage.get(part_name(part.key), _MOST_PART), part)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: is missing, a part of a manifest; {_ANEW}") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}; {_ANEW}") from error
    except ValueError as error:
        raise StoreError(f"{path}: is damaged ({one_line(error)}); {_ANEW}") from error


def published(storage: Storage, split: str) -> Manifest:
    """The published manifest of a split. Raises StoreError if it is damaged or there is none."""
    manifest = read_manifest(storage, split)
    if manifest is None:
        raise no_split(storage, split)
    return manifest


def no_split(storage: Storage, split: str) -> StoreError:
    """The error that says which splits there are. Raises one if there is no store any more."""
    check_store(storage)
    known = ""
    with contextlib.suppress(StoreError):  # of services that list nothing
        known = f"; splits: {', '.join(split_names(storage)) or 'none'}"
    return StoreError(f"{storage}: no split {split!r} in this store{known}")


def split_names(storage: Storage) -> list[str]:
    """Names of all published splits."""
    names = (each.name.removeprefix("splits/") for each in storage.list("splits/"))
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(name for name in stems if is_split_name(name))


def all_manifests(storage: Storage) -> list[Manifest]:
    """Whatever reads as a manifest in splits/, under any name.

    Raises StoreError at anything else, whose shards cannot be known.
    """
    manifests = []
    for name in (each.name for each in storage.list("splits/")):
        if temporary_stem(name.removeprefix("splits/")):
            continue
        try:
            manifests.append(_manifest(storage, name, storage.get(name, _MOST_MANIFEST)))
        except OSError as error:
            raise StoreError(
                f"{storage.at(name)}: cannot be read as a manifest ({error.strerror}), so the "
                "shards it names are not known; nothing was deleted. Repair it, or move it "
                "elsewhere"
            ) from error
    return manifests


def publish_manifest(
    storage: Storage, manifest: Manifest, parts: Mapping[str, bytes], tag: str | None
) -> None:
    """Put the manifest in its place, in one step: readers see the old split or the new one.

    parts: bytes of parts, by key; those that lie there already may be left out. tag: of the
    manifest that this one is to follow; None: there was none.
    Raises ConflictError if another has been published meanwhile.
    """
    publish_root(storage, manifest, manifest.to_bytes(), parts, tag)


def publish_root(
    storage: Storage, manifest: Manifest, root: bytes, parts: Mapping[str, bytes], tag: str | None
) -> None:
    """As publish_manifest. root: the bytes of the manifest's root."""
    forget_unnamed(storage, manifest.keys)
    for key, data in parts.items():
        storage.put_new(part_name(key), data)
    storage.put_if(manifest_name(manifest.split), root, tag)


def read_parts(storage: Storage, manifest: Manifest) -> dict[str, bytes]:
    """The bytes of a manifest's parts, by key. Raises StoreError if one is damaged or missing."""
    return {part.key: _read_part(storage, part, _whole_part) for part in manifest.parts}


def _whole_part(data: bytes, part: PartEntry) -> bytes:
    part_shards(data, part)  # compares them with the key
    return data


def record_source(storage: Storage, split: str, source: Source) -> None:
    """Remember on this machine where a split was built from, and how that was read."""
    whole = source.changed(
        lambda each: {"images": each.images.resolve(), "annotations": each.annotations.resolve()}
    )
    data = json_bytes(whole.model_dump(mode="json"))
    path = source_path(storage, split)
    try:
        known = read_bounded(path, _MOST_SMALL)
    except OSError:
        known = b""
    if known != data:
        replace_file(path, data)


def recorded_source(storage: Storage, split: str) -> Source | None:
    """Where a split was built from, if this machine remembers."""
    try:
        return Source.model_validate_json(read_bounded(source_path(storage, split), _MOST_SMALL))
    except (OSError, ValueError):
        return None


def digest_cache(storage: Storage, shares: bool = False) -> DigestCache:
    """The digest cache that this machine keeps for the store.

    shares: what is learnt is also left in the store, for other machines.
    """

    def tell(learnt: bytes) -> None:
        storage.put_new(digests_name(hashlib.sha256(learnt).hexdigest()), learnt)

    return DigestCache(storage.home / "digests.sqlite", tell if shares else None)


def take_digests(storage: Storage, cache: DigestCache) -> None:
    """Have the cache remember what others have left in the store.

    What cannot be read is passed over: then images are read once more.
    """
    for found in storage.list("digests/"):
        if found.is_file and key_of(found):
            try:
                cache.take(storage.get(found.name, _MOST_PART))
            except (OSError, ValueError, RecursionError) as error:
                log.info("%s: not taken (%s)", storage.at(found.name), one_line(error))


def check_target(storage: Storage) -> bool:
    """Whether there is a store that a build may write.

    Raises StoreError if something else is there, or a store of another version.
    """
    folder = storage.folder
    if folder and folder.is_dir() and not (folder / _ROOT).exists():
        foreign = [n for n in os.listdir(folder) if not _may_precede_a_store(n)]
        if foreign:
            raise StoreError(
                f"{folder}: is not a store and not empty (it holds {min(foreign)!r}); "
                "name another --store"
            )
        return False
    if folder and not folder.exists():
        return False
    try:
        check_store(storage)
    except NoStoreError:
        return False
    return True


def _may_precede_a_store(name: str) -> bool:
    return is_litter(name) or temporary_stem(name) == ".zarr.json"


def create_store(storage: Storage) -> None:
    """Make the store, or check that the store there is one this version can write.

    Raises StoreError if it may not be made there, or the service does not keep to conditions.
    """
    if not check_target(storage):
        if storage.folder is None:
            check_conditions(storage)
        storage.put(_ROOT, group_metadata())  # first: it makes the folder ours
    if storage.folder:
        for name in ("shards", "splits", "parts", "tmp"):
            (storage.folder / name).mkdir(exist_ok=True)


def check_conditions(storage: Storage) -> None:
    """Raises StoreError unless the service refuses what `put_if` is to have refused.

    Some take such writes and leave the condition out of account: there, of two builds the later one
    would undo what the earlier one published.
    """
    name = f"tmp/{temporary_name('probe')}"
    try:
        storage.put_if(name, b"1", None)
        _, seen = storage.get_tagged(name, 1)
        storage.put_if(name, b"2", seen)
        for tag in (None, seen):
            try:
                storage.put_if(name, b"3", tag)
            except ConflictError:
                continue
            raise StoreError(
                f"{storage}: this service ignores the conditions of writes (If-None-Match, "
                "If-Match), on which publishing relies; build into a folder, and copy that"
            )
    finally:
        with contextlib.suppress(StoreError, OSError):
            storage.delete(name)


class NoStoreError(StoreError):
    """There is nothing where a store should be."""


def check_store(storage: Storage) -> None:
    """Raises StoreError unless there is a store at that place and this version reads it."""
    origin = storage.at(_ROOT)
    try:
        document = json.loads(storage.get(_ROOT, _MOST_SMALL))
        ours = document["attributes"]["ocr_precompute"]
        version, holds = ours["format_version"], ours.get("holds")
    except FileNotFoundError:
        raise NoStoreError(
            f"{storage}: there is no store here; `ocr-precompute build` makes one"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, NotADirectoryError) and storage.folder and storage.folder.is_file():
            raise StoreError(
                f"{storage}: is a file, not a store; name the folder that holds the store"
            ) from error
        raise StoreError(
            f"{origin}: does not describe an ocr-precompute store; name another --store"
        ) from error
    check_format_version(version, origin)
    if holds != "splits":  # a shard, unpacked
        raise StoreError(f"{storage}: is a shard, not a store; name the store that it belongs to")


def leftovers(folder: Path) -> list[Path]:
    """Files that killed processes left in a folder of the store under temporary names."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    paths = [folder / name for name in names]
    return [path for path in paths if is_abandoned(path)]
