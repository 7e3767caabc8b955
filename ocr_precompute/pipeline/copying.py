"""Copy splits from store to store, wherever they lie: `push` and `pull`.

What travels is what is missing, by key. So a copy that was killed goes on where it was, and one
that has nothing to do sends nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import joblib

from ocr_precompute.errors import StoreError, one_line
from ocr_precompute.files import temporary_name
from ocr_precompute.format.keys import data_hash, shard_key
from ocr_precompute.format.shard import MappedFile, StoredShard, shard_fault
from ocr_precompute.storage.faults import RemoteError
from ocr_precompute.storage.locks import writable
from ocr_precompute.storage.place import storage_at
from ocr_precompute.storage.seam import Buffer, ConflictError, Storage
from ocr_precompute.storage.store import (
    Root,
    check_store,
    key_of,
    manifest_tag,
    no_split,
    publish_root,
    read_parts,
    read_root,
    shard_name,
    split_names,
)

log = logging.getLogger(__name__)

JOBS = 8
"""Shards on their way at once, unless somebody says otherwise; one takes 64 MiB at most."""

_AT_ONCE = 16  # requests about shards
_MOST_NAMED = 3  # damaged shards in an error


@dataclass(frozen=True)
class SplitCopy:
    """What was done about one split.

    shards, samples: of the split. sent: shards that travelled, or with dry_run would; bytes: of
    these. up_to_date: the target had it already.
    """

    split: str
    data_hash: str
    samples: int
    shards: int
    sent: int
    bytes: int
    up_to_date: bool


@dataclass(frozen=True)
class CopyReport:
    """What `push` or `pull` did, or with dry_run would do."""

    source: str
    target: str
    splits: tuple[SplitCopy, ...]
    dry_run: bool
    seconds: float


class CopyProgress:
    """A watcher that keeps silent; others override what they want to know."""

    def planned(self, shards: int, size: int) -> None:
        """It is known how many shards are to travel, and of how many bytes."""

    def sent(self, size: int) -> None:
        """A shard has arrived."""


@dataclass(frozen=True, eq=False)
class _Move:
    """One split to copy. goal: what the target has of it now, and its tag. missing: bytes of each
    shard that is to travel, by key.
    """

    split: str
    root: Root
    goal: Root | None
    tag: str | None
    missing: dict[str, int]


def copy_store(
    source: str | Path | Storage,
    target: str | Path | Storage,
    splits: Sequence[str] | None = None,
    *,
    dry_run: bool = False,
    jobs: int | None = None,
    progress: CopyProgress | None = None,
) -> CopyReport:
    """Copy splits (default: all) of a store into another: folders, URLs, in any direction.

    source, target: see storage_at; the target is made if it is not there. jobs: shards at once.
    Every shard is compared with its checksums and its key on the way. A split of the target is
    replaced in one step, when all its shards are there.
    Raises StoreError if there is no such store or split, a shard is damaged or missing, in which
    case its splits are not published and all others are, or somebody else has published a split
    of that name meanwhile. What arrived is kept, and the next copy sends the rest.
    """
    started = time.perf_counter()
    origin, goal, watcher = storage_at(source), storage_at(target), progress or CopyProgress()
    _check_places(origin, goal)
    check_store(origin)
    names = split_names(origin) if splits is None else list(dict.fromkeys(splits))
    with writable(goal, dry_run):
        moves = _plan(origin, goal, [_wanted(origin, name) for name in names])
        sizes = {key: size for move in moves for key, size in move.missing.items()}
        watcher.planned(len(sizes), sum(sizes.values()))
        faults: dict[str, str] = {}
        for move in [] if dry_run else moves:
            faults |= _send_all(origin, goal, move, jobs or JOBS, watcher)
            if not faults.keys() & set(move.root.manifest.keys):
                _publish(origin, goal, move)
    if faults:
        raise _damaged(origin, faults, moves)
    report = tuple(_report(move) for move in moves)
    return CopyReport(str(origin), str(goal), report, dry_run, time.perf_counter() - started)


def _check_places(origin: Storage, goal: Storage) -> None:
    """Raises StoreError for a copy onto itself."""
    same = str(origin) == str(goal)
    if origin.folder and goal.folder:
        same = os.path.realpath(origin.folder) == os.path.realpath(goal.folder)
    if same:
        raise StoreError(f"{origin}: is source and target at once; name two places")


def _wanted(origin: Storage, split: str) -> Root:
    root = read_root(origin, split)
    if root is None:
        raise no_split(origin, split)
    keys = [shard.key for shard in root.manifest.shards]
    if root.manifest.split != split or root.manifest.data_hash != data_hash(keys):
        raise StoreError(
            f"{origin}: the manifest of split {split!r} contradicts itself; nothing was copied. "
            "`ocr-precompute verify` says more; build the split again"
        )
    return root


def _report(move: _Move) -> SplitCopy:
    manifest, goal = move.root.manifest, move.goal
    return SplitCopy(
        split=move.split,
        data_hash=manifest.data_hash,
        samples=manifest.samples,
        shards=len(manifest.shards),
        sent=len(move.missing),
        bytes=sum(move.missing.values()),
        up_to_date=not move.missing and goal is not None and goal.data == move.root.data,
    )


# ------------------------------------------------------------------------------------------- plan


def _plan(origin: Storage, goal: Storage, roots: list[Root]) -> list[_Move]:
    """What of the splits is missing; a shard that several need travels with the first."""
    keys = list(dict.fromkeys(shard.key for root in roots for shard in root.manifest.shards))
    there = {root.manifest.split: _there(goal, root.manifest.split) for root in roots}
    named = {key for found, _ in there.values() if found for key in found.manifest.keys}
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        sizes = _sizes(origin, keys, threads)
        present = _sizes(goal, keys, threads)
        alike = [key for key in keys if key in present and sizes.get(key) == present[key]]
        new = [key for key in alike if key not in named]  # a copy or a build that was killed
        whole = threads.map(lambda key: _is_shard(goal, key), new)
        usable = {*named.intersection(alike), *(k for k, ok in zip(new, whole, strict=True) if ok)}
    missing = {key: sizes.get(key, 0) for key in keys if key not in usable}
    moves = []
    for root in roots:
        split = root.manifest.split
        mine = [shard.key for shard in root.manifest.shards if shard.key in missing]
        take = {key: missing.pop(key) for key in dict.fromkeys(mine)}
        moves.append(_Move(split, root, *there[split], take))
    return moves


def _there(goal: Storage, split: str) -> tuple[Root | None, str | None]:
    """What the target has of a split, and its tag; a damaged one is replaced."""
    try:
        root = read_root(goal, split)
    except RemoteError:
        raise
    except StoreError as error:
        log.warning("%s; it is replaced", error)
        return None, manifest_tag(goal, split)
    return root, root.tag if root else None


def _sizes(storage: Storage, keys: list[str], threads: ThreadPoolExecutor) -> dict[str, int]:
    """Bytes of the shards that are there, by key: from the list, as far as that says it."""
    try:
        listed = {key_of(each): each.size for each in storage.list("shards/") if each.is_file}
        found = {key: listed[key] for key in keys if key in listed}
    except RemoteError:
        raise
    except StoreError:  # a server that lists nothing
        found = dict.fromkeys(keys)

    def size(key: str) -> int:
        try:
            return storage.size(shard_name(key))
        except FileNotFoundError:
            return 0

    unknown = [key for key, known in found.items() if known is None]
    found |= zip(unknown, threads.map(size, unknown), strict=True)
    return {key: known for key, known in found.items() if known}


def _is_shard(storage: Storage, key: str) -> bool:
    """Whether a file that no manifest vouches for is the shard of its name, by its records."""
    try:
        records = StoredShard.open(storage.open(shard_name(key))).records
    except (OSError, ValueError):
        return False
    return shard_key(records.names, records.keys) == key


# ------------------------------------------------------------------------------------------- send


class _SourceFault(Exception):
    """A shard of the source cannot be copied; the message says why."""


def _send_all(
    origin: Storage, goal: Storage, move: _Move, jobs: int, watcher: CopyProgress
) -> dict[str, str]:
    """Send what is missing. Gives what is wrong with shards that could not be, by key."""
    tasks = (joblib.delayed(_send)(origin, goal, key) for key in move.missing)
    faults: dict[str, str] = {}
    with joblib.parallel_config("threading"):
        for key, fault in joblib.Parallel(jobs, return_as="generator_unordered")(tasks):
            if fault:
                faults[key] = fault
            else:
                watcher.sent(move.missing[key])
    return faults


def _send(origin: Storage, goal: Storage, key: str) -> tuple[str, str]:
    """Send one shard. Gives its key, and what is wrong with it, or nothing."""
    name = shard_name(key)
    try:
        with _at_hand(origin, goal, key) as path:
            try:
                fault = shard_fault(MappedFile(path), key)
            except (OSError, ValueError) as error:
                raise _SourceFault(one_line(error)) from error
            if fault:
                raise _SourceFault(fault)
            goal.place(path, name)
    except _SourceFault as error:
        return key, str(error)
    log.info("%s: sent", goal.at(name))
    return key, ""


@contextlib.contextmanager
def _at_hand(origin: Storage, goal: Storage, key: str) -> Iterator[Path]:
    """A shard as a file that the target may take: the source's own, if that is only read."""
    name = shard_name(key)
    if origin.folder and not goal.folder:
        yield origin.folder / name
        return
    path = goal.workspace() / temporary_name(key[:16])
    try:
        with path.open("xb") as file:
            for piece in _pieces(origin, name):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def _pieces(origin: Storage, name: str) -> Iterator[Buffer]:
    """The bytes of a file. Raises _SourceFault where the source is at fault, not the target."""
    try:
        yield from origin.pieces(name)
    except (OSError, ValueError) as error:
        raise _SourceFault(error.strerror if isinstance(error, OSError) else error) from error


def _damaged(origin: Storage, faults: dict[str, str], moves: list[_Move]) -> StoreError:
    first = [*faults.items()][:_MOST_NAMED]
    named = "; ".join(f"{origin.at(shard_name(key))}: {why}" for key, why in first)
    more = f"; and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
    held = [m.split for m in moves if faults.keys() & {s.key for s in m.root.manifest.shards}]
    return StoreError(
        f"{named}{more}; not published: {', '.join(held)}. `ocr-precompute verify --repair` "
        "builds damaged shards again"
    )


# ---------------------------------------------------------------------------------------- publish


def _publish(origin: Storage, goal: Storage, move: _Move) -> None:
    """Give the target the manifest, byte for byte, once all that it names is there."""
    manifest = move.root.manifest
    if _report(move).up_to_date:
        return
    keys = list(dict.fromkeys(shard.key for shard in manifest.shards))
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        gone = set(keys) - _sizes(goal, keys, threads).keys()
    if gone:
        raise StoreError(
            f"{goal}: {len(gone)} shards were deleted while the rest was sent; "
            f"split {move.split!r} is not published. Run it again"
        )
    try:
        publish_root(goal, manifest, move.root.data, read_parts(origin, manifest), move.tag)
    except ConflictError as error:
        raise StoreError(
            f"{error}: another split {move.split!r} was published there, and stays; what was sent "
            "is kept. Run it again to replace that split"
        ) from error
    log.info("%s: split %s published", goal, move.split)
