"""Encode shards: one pure task each, the same for every number of workers and every backend."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import joblib

from ocr_precompute.errors import ImageError, InputError, StoreError, WorkerError
from ocr_precompute.format.chunks import encode_chunk
from ocr_precompute.format.shard import (
    MAPS,
    Records,
    SampleRecord,
    ShardWriter,
    read_records,
    read_row,
)
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.scan import image_problem
from ocr_precompute.runtime import compiled
from ocr_precompute.runtime.opencv import single_thread
from ocr_precompute.samples import Sample
from ocr_precompute.settings import Backend, Settings
from ocr_precompute.storage.store import shard_path
from ocr_precompute.targets.maps import compile_kernel
from ocr_precompute.targets.sample import compute_sample


@dataclass(frozen=True, eq=False)
class ShardPlan:
    """One shard to be: its key, its samples, and each sample's geometry hash."""

    key: str
    samples: tuple[Sample, ...]
    hashes: tuple[bytes, ...]


@dataclass(frozen=True)
class ShardResult:
    """What encoding one shard came to: rows computed and copied, or the images in its way.

    bad: (name, reason) of images that cannot be decoded; the shard is not written then.
    """

    key: str
    computed: int
    copied: int
    bad: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class ShardTask:
    """All that encoding one shard depends on."""

    store: Path
    plan: ShardPlan
    parameters: Parameters
    max_pixels: int
    donors: dict[bytes, tuple[str, int]]


def encode(
    store: Path,
    shards: Sequence[ShardPlan],
    donors: Mapping[bytes, tuple[str, int]],
    settings: Settings,
    notice: Callable[[str], None],
) -> Iterator[ShardResult]:
    """Build shards in parallel, longest first.

    donors: geometry hash -> (shard key, row) of rows that can be copied. notice: called with
    something worth a line on the screen.
    Raises StoreError, InputError or WorkerError; finished shards stay.
    """
    tasks = [
        ShardTask(
            store,
            shard,
            settings.parameters,
            settings.max_pixels,
            {h: donors[h] for h in shard.hashes if h in donors},
        )
        for shard in sorted(shards, key=lambda shard: -len(shard.samples))
    ]
    yield from _run(tasks, settings.jobs or joblib.cpu_count(), settings.backend, notice)


def _run(
    tasks: list[ShardTask], jobs: int, backend: Backend, notice: Callable[[str], None]
) -> Iterator[ShardResult]:
    jobs = min(jobs, len(tasks))
    if backend == "sequential" or jobs <= 1:
        yield from map(encode_shard, tasks)
        return
    options = {
        "inner_max_num_threads": 1,
        "initializer": _start_worker,
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
        notice(f"workers cannot be started ({error}); working in this process instead")
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


def _start_worker(parent: int) -> None:
    """Make this worker process end when the process that started it is gone.

    Workers wait minutes for more work otherwise, and whoever reads the build's output with them.
    What is to be said about compiled code, the process that started it has said.
    """
    compiled.log.setLevel(logging.ERROR)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def encode_shard(task: ShardTask, target: Path | None = None) -> ShardResult:
    """Compute or copy every row of one shard and give the shard its name.

    target: the folder that it becomes, if not that of its key. The same for every backend; nothing
    but the task decides what is written.
    Raises StoreError if the shard cannot be written, InputError if an image changed since the scan.
    """
    records_of = lru_cache(maxsize=4)(read_records)
    rows: list[SampleRecord] = []
    bad: list[tuple[str, str]] = []
    copied = 0
    target = target or shard_path(task.store, task.plan.key)
    try:
        with single_thread(), ShardWriter(target, task.store / "tmp") as writer:
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
        raise unwritable(task.store, error) from error
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
        raise InputError([image_problem(sample.path, sample.name, reason)])
    computed = compute_sample(sample.name, data, sample.polygons, task.parameters, task.max_pixels)
    compression = task.parameters.compression
    chunks = {field: encode_chunk(getattr(computed, field), compression) for field in MAPS}
    return chunks, SampleRecord.of(computed, geometry)


def unwritable(store: Path, error: OSError) -> StoreError:
    """The error that says that a store cannot be written, and what to do."""
    return StoreError(
        f"{error.filename or store}: cannot be written: {error.strerror or error}; nothing was "
        "published, and finished shards are kept. Put that right, or name another --store"
    )
