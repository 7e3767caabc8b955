"""Build a split: scan, plan, encode, publish. Open this file first.

Everything is keyed by content (see `fingerprint`), so resuming, reusing, building twice at once and
building with any number of workers need no code of their own.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import joblib

from ocr_precompute.annotations import Annotation, read_annotations
from ocr_precompute.chunks import encode_chunk
from ocr_precompute.compute import compute_sample
from ocr_precompute.config import (
    SPLIT_NAME_RULE,
    Backend,
    Parameters,
    Settings,
    Source,
    is_split_name,
)
from ocr_precompute.errors import (
    ImageError,
    InputError,
    Problem,
    StoreError,
    VersionError,
    WorkerError,
)
from ocr_precompute.fingerprint import (
    DigestCache,
    data_hash,
    geometry_hash,
    shard_bounds,
    shard_key,
)
from ocr_precompute.images import check_image
from ocr_precompute.manifest import Manifest, ShardEntry, Skipped
from ocr_precompute.samples import Polygons, Sample
from ocr_precompute.shard import (
    MAPS,
    Records,
    SampleRecord,
    ShardWriter,
    read_records,
    read_row,
)
from ocr_precompute.store import (
    build_lock,
    check_target,
    create_store,
    digest_cache,
    find_rows,
    publish_manifest,
    read_manifest,
    record_source,
    shard_keys,
    shard_path,
)
from ocr_precompute.targets import compile_kernel

_SCAN_PART = 64  # images a thread looks at in one go; a call a file would take longer than the stat
_BYTES_A_PIXEL = 16  # no image format needs more: four channels of 32 bits


class Progress:
    """What a build tells whoever watches it. This one keeps silent."""

    def scanning(self, done: int, total: int) -> None:
        """So many images of so many are digested."""

    def planned(self, plan: Plan) -> None:
        """It is known what there is to do."""

    def encoded(self, result: ShardResult) -> None:
        """One shard is finished."""

    def notice(self, message: str) -> None:
        """Something worth a line on the screen."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did, or with dry_run would do.

    built, reused: shards. computed, copied: rows of the built shards. skipped: images and polygons
    left out. zero_area: polygons that draw nothing. seconds: wall clock.
    """

    split: str
    data_hash: str
    samples: int
    shards: int
    built: int
    reused: int
    computed: int
    copied: int
    skipped: int
    zero_area: int
    up_to_date: bool
    dry_run: bool
    seconds: float


@dataclass(frozen=True, eq=False)
class Scan:
    """The validated input: samples ordered by name, and what was left out of them."""

    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, eq=False)
class ShardPlan:
    """One shard to be: its key, its samples, and each sample's geometry hash."""

    key: str
    samples: tuple[Sample, ...]
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """All shards of a split in order, which of them to build, and rows that need no computing.

    donors: geometry hash -> (shard key, row) where the row lies already.
    """

    shards: tuple[ShardPlan, ...]
    to_build: tuple[ShardPlan, ...]
    donors: dict[bytes, tuple[str, int]]

    @property
    def data_hash(self) -> str:
        """The data hash of the split as planned."""
        return data_hash(shard.key for shard in self.shards)


@dataclass(frozen=True)
class ShardResult:
    """What encoding one shard came to: rows computed and copied, or the images in its way.

    bad: (name, reason) of images that cannot be decoded; the shard is not written then.
    """

    key: str
    computed: int
    copied: int
    bad: tuple[tuple[str, str], ...] = ()


def build(
    split: str,
    source: Source,
    settings: Settings,
    *,
    skip_bad: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Build or update one split of a store.

    Raises InputError with every problem of the input, StoreError if the store cannot be used or
    written, WorkerError if a worker is lost. Whatever it raises, the split that was published
    before is intact, and finished shards are used by the next build.
    """
    started = time.perf_counter()
    progress = progress or Progress()
    store, parameters = settings.store, settings.parameters
    if not is_split_name(split):
        raise InputError([Problem("config", "command line", f"split {split!r}", SPLIT_NAME_RULE)])
    with _writable(store, dry_run):
        published = _published(store, split, progress)
        with digest_cache(store) as cache:
            scanned = scan(
                source, settings.max_pixels, cache, skip_bad, known_bad(published), progress
            )
        computed = copied = built = 0
        while True:
            planned = plan(store, scanned, parameters, settings.shard_length, published)
            progress.planned(planned)
            if dry_run:
                break
            bad: list[tuple[str, str]] = []
            for result in encode(store, planned, settings, progress):
                built += not result.bad
                computed += result.computed
                copied += result.copied
                bad += result.bad
                progress.encoded(result)
            if not bad:
                break
            scanned = _without(scanned, bad, source, skip_bad)
        manifest = Manifest(
            split=split,
            data_hash=planned.data_hash,
            parameters=parameters,
            shards=tuple(ShardEntry(shard.key, len(shard.samples)) for shard in planned.shards),
            skipped=scanned.skipped,
        )
        up_to_date = published == manifest and not planned.to_build
        if dry_run:
            built = len(planned.to_build)
            rows = [geometry for shard in planned.to_build for geometry in shard.hashes]
            copied = sum(geometry in planned.donors for geometry in rows)
            computed = len(rows) - copied
        else:
            publish(store, manifest, source, up_to_date)
    return BuildReport(
        split=split,
        data_hash=manifest.data_hash,
        samples=manifest.samples,
        shards=len(manifest.shards),
        built=built,
        reused=len(manifest.shards) - built,
        computed=computed,
        copied=copied,
        skipped=len(manifest.skipped),
        zero_area=int((Polygons.joined([s.polygons for s in scanned.samples]).areas() == 0).sum()),
        up_to_date=up_to_date,
        dry_run=dry_run,
        seconds=round(time.perf_counter() - started, 3),
    )


def _published(store: Path, split: str, progress: Progress) -> Manifest | None:
    """The split's manifest, if there is one to go by: a damaged one is published anew."""
    try:
        return read_manifest(store, split)
    except VersionError:
        raise
    except StoreError as error:
        progress.notice(str(error))
        return None


# ------------------------------------------------------------------------------------------ scan


def scan(
    source: Source,
    max_pixels: int,
    cache: DigestCache,
    skip_bad: bool = False,
    known: dict[tuple[str, str], Skipped] | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Read and check annotations, digest images.

    known: (name, digest) of images that an earlier build found undecodable (see known_bad).
    Raises InputError with all problems found, unless skip_bad and each can be skipped.
    """
    try:
        annotations, problems = read_annotations(source.annotations, source.images, source.format)
        images_are_there = source.images.is_dir()
    except OSError as error:
        where = str(error.filename or source.annotations)
        reason = f"cannot be read: {error.strerror or error}; make it readable, or correct the path"
        raise InputError([Problem("annotations", where, "", reason)]) from error
    if not images_are_there:
        message = "there is no such image folder; correct the path"
        problems.append(Problem("annotations", str(source.images), "", message))
        annotations = []  # one problem, not one an image

    def digest(part: Sequence[Annotation]) -> list[Sample | Problem]:
        return [_digest_sample(each, source.images, max_pixels, cache) for each in part]

    samples: list[Sample] = []
    skipped: list[Skipped] = []
    parts = [annotations[i : i + _SCAN_PART] for i in range(0, len(annotations), _SCAN_PART)]
    with ThreadPoolExecutor(joblib.cpu_count()) as threads:
        for number, results in enumerate(threads.map(digest, parts)):
            if progress:
                progress.scanning(number * _SCAN_PART, len(annotations))
            for result in results:
                if isinstance(result, Problem):
                    problems.append(result)
                elif bad := (known or {}).get((result.name, result.digest.hex())):
                    if not skip_bad:
                        problems.append(_image_problem(result.path, result.name, bad.reason))
                    skipped.append(bad)
                else:
                    samples.append(result)
    fatal = [p for p in problems if p.kind not in ("image", "polygon")]
    if fatal or (problems and not skip_bad):
        raise InputError(problems)
    if not samples:
        reason = "holds no usable annotated image; nothing to build"
        raise InputError([Problem("annotations", str(source.annotations), "", reason), *problems])
    skipped += [
        Skipped(p.kind, p.sample, p.entry.removeprefix(p.sample).removeprefix(": "), p.message)
        for p in problems
    ]
    return Scan(tuple(samples), _in_order(skipped))


def _digest_sample(
    annotation: Annotation, images: Path, max_pixels: int, cache: DigestCache
) -> Sample | Problem:
    """The annotation with its image's digest; new images are looked at, known ones only statted."""
    path = images / annotation.name
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return _image_problem(path, annotation.name, "is not a regular file; replace it")
        if status.st_size > _BYTES_A_PIXEL * max_pixels:
            return _image_problem(
                path, annotation.name, "is larger than any image within the pixel limit; replace it"
            )
        digest = cache.lookup(str(path), status)
        if digest is None:
            data = path.read_bytes()
            check_image(data, max_pixels)
            digest = hashlib.sha256(data).digest()
            cache.learn(str(path), status, digest)
    except FileNotFoundError:
        return _image_problem(
            path, annotation.name, "is missing; add it, or remove it from the annotations"
        )
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; replace it"
        return _image_problem(path, annotation.name, reason)
    except ImageError as error:
        return _image_problem(path, annotation.name, str(error))
    return Sample(annotation.name, path, digest, annotation.polygons)


def _image_problem(path: Path, name: str, reason: str) -> Problem:
    return Problem("image", str(path), "", reason, name)


def _in_order(skipped: Sequence[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(skipped, key=lambda s: (s.sample, s.entry, s.kind)))


def known_bad(published: Manifest | None) -> dict[tuple[str, str], Skipped]:
    """Images that could not be decoded when the split was built, by (name, hex digest)."""
    skipped = published.skipped if published else ()
    return {(s.sample, s.digest): s for s in skipped if s.digest}


def _without(scanned: Scan, bad: Sequence[tuple[str, str]], source: Source, skip_bad: bool) -> Scan:
    """The scan without images that turned out undecodable; raises InputError unless skip_bad."""
    if not skip_bad:
        raise InputError([_image_problem(source.images / n, n, reason) for n, reason in bad])
    reasons = dict(bad)
    skipped = [
        Skipped("image", s.name, "", reasons[s.name], s.digest.hex())
        for s in scanned.samples
        if s.name in reasons
    ]
    kept = tuple(s for s in scanned.samples if s.name not in reasons)
    if not kept:
        raise InputError([_image_problem(source.images / n, n, reason) for n, reason in bad])
    return Scan(kept, _in_order([*scanned.skipped, *skipped]))


# ------------------------------------------------------------------------------------------ plan


def plan(
    store: Path,
    scanned: Scan,
    parameters: Parameters,
    shard_length: int,
    published: Manifest | None = None,
) -> Plan:
    """Cut samples into shards, and see which exist and which rows can be copied.

    published: the split's manifest, whose shards are the likeliest to hold rows to copy.
    """
    samples = scanned.samples
    hashes = [geometry_hash(parameters, s.digest, s.polygons) for s in samples]
    shards = []
    for start, stop in shard_bounds([sample.name for sample in samples], shard_length):
        part, keys = samples[start:stop], tuple(hashes[start:stop])
        shards.append(ShardPlan(shard_key([s.name for s in part], keys), part, keys))
    existing = shard_keys(store)
    to_build = tuple(shard for shard in shards if shard.key not in existing)
    wanted = {geometry for shard in to_build for geometry in shard.hashes}
    likely = [entry.key for entry in published.shards] if published else []
    return Plan(tuple(shards), to_build, find_rows(store, wanted, likely) if wanted else {})


# ---------------------------------------------------------------------------------------- encode


@dataclass(frozen=True, eq=False)
class ShardTask:
    """All that encoding one shard depends on."""

    store: Path
    plan: ShardPlan
    parameters: Parameters
    max_pixels: int
    donors: dict[bytes, tuple[str, int]]


def encode(
    store: Path, planned: Plan, settings: Settings, progress: Progress
) -> Iterator[ShardResult]:
    """Build every planned shard that does not exist, in parallel, longest first."""
    tasks = [
        ShardTask(
            store,
            shard,
            settings.parameters,
            settings.max_pixels,
            {h: planned.donors[h] for h in shard.hashes if h in planned.donors},
        )
        for shard in sorted(planned.to_build, key=lambda shard: -len(shard.samples))
    ]
    threads = cv2.getNumThreads()
    try:
        yield from _run(tasks, settings.jobs or joblib.cpu_count(), settings.backend, progress)
    finally:
        cv2.setNumThreads(threads)


def _run(
    tasks: list[ShardTask], jobs: int, backend: Backend, progress: Progress
) -> Iterator[ShardResult]:
    jobs = min(jobs, len(tasks))
    if backend == "sequential" or jobs <= 1:
        yield from map(encode_shard, tasks)
        return
    options = {
        "inner_max_num_threads": 1,
        "initializer": _exit_with_parent,
        "initargs": (os.getpid(),),
    }
    compile_kernel()  # once here, so that workers find it on the disk
    done = 0
    try:
        with (
            _quiet_resource_trackers(),
            joblib.parallel_config(backend, **(options if backend == "loky" else {})),
        ):
            run = joblib.Parallel(jobs, return_as="generator_unordered", batch_size=1)
            for result in run(joblib.delayed(encode_shard)(task) for task in tasks):
                done += 1
                yield result
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process was lost (killed, or out of memory); nothing was published, and "
            f"{done} finished shards are kept. Run again with fewer --jobs, or with "
            "--backend sequential"
        ) from error
    except (OSError, ImportError, NotImplementedError) as error:
        if done:
            raise
        progress.notice(f"workers cannot be started ({error}); working in this process instead")
        yield from map(encode_shard, tasks)


@contextmanager
def _quiet_resource_trackers() -> Iterator[None]:
    """Keep workers that are ended early from having their semaphores called leaked, on stderr."""
    before = os.environ.get("PYTHONWARNINGS")
    rules = [before] if before else []
    os.environ["PYTHONWARNINGS"] = ",".join([*rules, "ignore:resource_tracker:UserWarning"])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _exit_with_parent(parent: int) -> None:
    """Make this worker process end when the process that started it is gone.

    Workers wait minutes for more work otherwise, and whoever reads the build's output with them.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def encode_shard(task: ShardTask) -> ShardResult:
    """Compute or copy every row of one shard and give the shard its name.

    The same for every backend; nothing but the task decides what is written.
    Raises StoreError if the shard cannot be written, InputError if an image changed since the scan.
    """
    cv2.setNumThreads(1)
    records_of = lru_cache(maxsize=4)(read_records)
    rows: list[SampleRecord] = []
    bad: list[tuple[str, str]] = []
    copied = 0
    target = shard_path(task.store, task.plan.key)
    try:
        with ShardWriter(target, task.store / "tmp") as writer:
            for sample, geometry in zip(task.plan.samples, task.plan.hashes, strict=True):
                donated = _copy_row(task, geometry, records_of)
                try:
                    chunks, record = donated or _compute_row(task, sample, geometry)
                except ImageError as error:
                    bad.append((sample.name, str(error)))
                    continue
                copied += donated is not None
                rows.append(replace(record, name=sample.name))
                writer.append(chunks)
            if bad:
                return ShardResult(task.plan.key, 0, 0, tuple(bad))
            writer.publish(Records.of(rows), task.parameters)
    except OSError as error:
        raise _unwritable(task.store, error) from error
    return ShardResult(task.plan.key, len(rows) - copied, copied)


def _copy_row(
    task: ShardTask, geometry: bytes, records_of: Callable[[Path], Records]
) -> tuple[dict[str, bytes], SampleRecord] | None:
    """The row as it lies in another shard; None if there is none, or it is damaged."""
    if geometry not in task.donors:
        return None
    key, row = task.donors[geometry]
    shard = shard_path(task.store, key)
    try:
        chunks, record = read_row(shard, records_of(shard), row)
    except (OSError, ValueError):
        return None
    return (chunks, record) if record.key == geometry else None


def _compute_row(
    task: ShardTask, sample: Sample, geometry: bytes
) -> tuple[dict[str, bytes], SampleRecord]:
    try:
        data = sample.path.read_bytes()
    except OSError:
        data = b""
    if hashlib.sha256(data).digest() != sample.digest:
        reason = "changed while the build was running; run it again"
        raise InputError([_image_problem(sample.path, sample.name, reason)])
    computed = compute_sample(sample.name, data, sample.polygons, task.parameters, task.max_pixels)
    compression = task.parameters.compression
    chunks = {field: encode_chunk(getattr(computed, field), compression) for field in MAPS}
    return chunks, SampleRecord.of(computed, geometry)


# --------------------------------------------------------------------------------------- publish


def publish(store: Path, manifest: Manifest, source: Source, up_to_date: bool) -> None:
    """Give the split its new manifest, in one step; nothing to do if it is up to date."""
    if not up_to_date:
        publish_manifest(store, manifest)
    record_source(store, manifest.split, source)


@contextmanager
def _writable(store: Path, dry_run: bool) -> Iterator[None]:
    """A store that exists and is locked for a build; errors of the disk become StoreError."""
    try:
        if dry_run:
            check_target(store)
            yield
            return
        create_store(store)
        with build_lock(store):
            yield
    except OSError as error:
        raise _unwritable(store, error) from error


def _unwritable(store: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{error.filename or store}: cannot be written: {error.strerror or error}; nothing was "
        "published, and finished shards are kept. Put that right, or name another --store"
    )
