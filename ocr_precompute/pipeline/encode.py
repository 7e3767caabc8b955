"""Encode shards: one pure task each, the same for every number of workers and every backend."""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

import joblib

from ocr_precompute.errors import ImageError, InputError, StoreError
from ocr_precompute.format.chunks import encode_chunk
from ocr_precompute.format.keys import geometry_hash
from ocr_precompute.format.records import Records, SampleRecord
from ocr_precompute.format.schema import MAPS
from ocr_precompute.format.shard import ShardWriter, StoredShard
from ocr_precompute.images.files import image_problem, read_image
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.engines.cluster import connected
from ocr_precompute.pipeline.engines.proof import proof_for
from ocr_precompute.pipeline.engines.protocol import Halving
from ocr_precompute.pipeline.engines.running import run, run_on
from ocr_precompute.pipeline.fetched import Fetched
from ocr_precompute.pipeline.plan import Plan, Rows, ShardPlan, left_by_parts, plan
from ocr_precompute.pipeline.request import Request
from ocr_precompute.pipeline.scan import skips, without_bad
from ocr_precompute.pipeline.tables import changed
from ocr_precompute.runtime.events import Stretch
from ocr_precompute.runtime.opencv import single_thread
from ocr_precompute.runtime.stages import Totals, add, recording, stage
from ocr_precompute.samples import CanonicalSample, Sample
from ocr_precompute.settings import ON_CLUSTERS
from ocr_precompute.storage.folder import Folder
from ocr_precompute.storage.locks import unwritable
from ocr_precompute.storage.seam import Storage
from ocr_precompute.storage.store import forget_unnamed, shard_name
from ocr_precompute.targets.sample import compute_sample

log = logging.getLogger(__name__)

_KILLS = (
    "kills the worker that computes it (a crash of its decoder, or out of memory); remove it, or "
    "leave it out with --skip-bad"
)
_WORTH_ALL = 4  # rows to copy from a shard; over a network each would be a request
_WORTH_A_WORKER = 64  # samples to compute; starting a worker takes as long as some fifty


@dataclass(frozen=True)
class ShardResult:
    """What encoding one shard came to: rows computed and copied, or the images in its way.

    bad: (name, reason) of images that cannot be decoded; the shard is not written then. found: rows
    of a shard that another build has written meanwhile. recorded: where its time went. stretches:
    when, if the task asked for it.
    """

    key: str
    computed: int
    copied: int
    bad: tuple[tuple[str, str], ...] = ()
    found: int = 0
    recorded: Totals = field(default=Totals(), compare=False)
    stretches: tuple[Stretch, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class ShardTask:
    """All that encoding one shard depends on. donors: rows of it that can be copied.

    events: the most to give back with the result; they change nothing that is written. anew: also
    if the shard is there by now. trial: do all of it, and write nothing that stays. fetched: has
    images that the scan fetched.
    """

    storage: Storage
    plan: ShardPlan
    parameters: Parameters
    max_pixels: int
    donors: Rows
    events: int = 0
    anew: bool = True
    trial: bool = False
    fetched: Fetched | None = None


def encode(request: Request, planned: Plan) -> tuple[Plan, dict[str, ShardResult]]:
    """Build the plan's shards in parallel; nothing for a dry run. To finish, gather parts first.

    An image that cannot be decoded is found here: if bad images are skipped, what is left is
    planned again.
    Returns the plan that holds in the end, and the result of each shard that was built, by key.
    Raises StoreError, InputError or WorkerError; finished shards stay.
    """
    settings, watch = request.settings, request.watch
    results: dict[str, ShardResult] = {}
    if request.finish:
        planned = gather(request, planned)
    if request.dry_run:
        return planned, results
    while True:
        forget_unnamed(request.storage, [shard.key for shard in planned.shards])
        bad: list[tuple[str, str]] = []
        tasks, jobs = _tasks(request, planned), settings.jobs or _useful_workers(planned)
        watch.encoding()
        for result in _results(request, tasks, jobs):
            _log_result(result)
            add(result.recorded, result.stretches)
            bad += result.bad
            if not (result.bad or result.found):
                results[result.key] = replace(result, stretches=())
            watch.encoded(result.computed + result.copied)
            request.progress.encoded(result)
        if not bad:
            return planned, results
        planned = plan(request, without_bad(planned.scan, bad, request.source))


def _results(request: Request, tasks: list[ShardTask], jobs: int) -> Iterator[ShardResult]:
    """Results as they come, from wherever tasks run."""
    settings, notice = request.settings, request.progress.notice
    if settings.backend in ON_CLUSTERS:
        return _on_cluster(request, tasks) if tasks else iter(())
    crowded = request.watch.crowded
    apart = skips(request.source)  # also what kills workers, which this process has to outlive
    return run(encode_shard, tasks, jobs, settings.backend, notice, crowded, _HALVING, apart)


def _on_cluster(request: Request, tasks: list[ShardTask]) -> Iterator[ShardResult]:
    of_folder = {each.folder: each for task in tasks for each in task.plan.samples.stretches}
    first = [each.cut(0, 1).load()[0] for each in of_folder.values()]
    images = tuple((sample.path, sample.digest.hex()) for sample in first)
    with proof_for(tasks[0].storage, images) as proof:
        cluster, notice = connected(request.settings, proof), request.progress.notice
        yield from run_on(cluster, encode_shard, tasks, notice, _HALVING)


def gather(request: Request, planned: Plan) -> Plan:
    """The plan of a split of which other builds have made the shards, each a part.

    Images that they skipped are skipped here, too: of shards that are missing it is looked whether
    it is for those. What is left to build then are shards beside such images: no part knew what
    its neighbours would skip.
    Raises StoreError if shards are missing for another reason.
    """
    length = request.settings.shard_length
    while missing := left_by_parts(planned, length):
        bad: list[tuple[str, str]] = []
        unexplained = len(missing)
        if skips(request.source):
            tasks = _tasks(request, replace(planned, to_build=missing), trial=True)
            for result in map(encode_shard, tasks):
                bad += result.bad
                unexplained -= bool(result.bad)
                if not result.bad:
                    break
        if unexplained:
            samples = sum(len(shard.samples) for shard in missing)
            raise StoreError(
                f"{unexplained} of {len(planned.shards)} shards of split {request.split!r} are "
                f"missing ({samples} samples); nothing was published. Run the parts again that "
                "failed or were left out, then --finish: a part that is complete ends soon"
            )
        planned = plan(request, without_bad(planned.scan, bad, request.source))
    return planned


def _useful_workers(planned: Plan) -> int:
    rows = sum(len(shard.hashes) for shard in planned.to_build)
    return useful_workers(rows - len(planned.donors))


def useful_workers(samples: int) -> int:
    """How many workers so many samples to compute are worth: one a core that has enough to do."""
    cores: int = joblib.cpu_count()
    return min(cores, 1 + samples // _WORTH_A_WORKER)


def _tasks(request: Request, planned: Plan, trial: bool = False) -> list[ShardTask]:
    """Tasks for workers in any folder, long ones before short ones.

    Those of about one length are in an order that no other build has, so that of two builds at once
    each finds done what the other one has come to first.
    """
    donors, storage = planned.donors, request.storage
    if storage.folder:
        storage = Folder(storage.folder.absolute())
    shards = random.sample(planned.to_build, len(planned.to_build))
    shards.sort(key=lambda shard: -len(shard.samples).bit_length())
    return [
        ShardTask(
            storage,
            replace(shard, samples=shard.samples.absolute()),
            request.parameters,
            request.settings.max_pixels,
            {h: donors[h] for h in shard.hashes if h in donors},
            request.events,
            anew=False,
            trial=trial,
            fetched=request.fetched,
        )
        for shard in shards
    ]


def _halves(task: ShardTask) -> list[ShardTask]:
    """Two trials of half the images each; nothing if there is but one."""
    samples, hashes = task.plan.samples, task.plan.hashes
    half = len(samples) // 2
    cuts = (slice(half), slice(half, None)) if half else ()
    plans = [ShardPlan(task.plan.key, samples[cut], hashes[cut]) for cut in cuts]
    return [replace(task, plan=each, trial=True) for each in plans]


def _killed(task: ShardTask) -> ShardResult:
    """What a task comes to, with one image, that workers are lost to."""
    return ShardResult(task.plan.key, 0, 0, ((task.plan.samples[0].name, _KILLS),))


_HALVING = Halving(_halves, _killed, lambda task: f"shard {task.plan.key[:16]}")


def _log_result(result: ShardResult) -> None:
    for name, reason in result.bad:
        log.info("shard %s: not written, image %s %s", result.key[:16], name, reason)
    if result.found:
        log.info("shard %s: another build has written it", result.key[:16])
    elif not result.bad:
        log.info(
            "shard %s: written, %d samples computed and %d copied in %.2f s",
            *(result.key[:16], result.computed, result.copied, result.recorded.seconds),
        )


def encode_shard(task: ShardTask) -> ShardResult:
    """Compute or copy every row of one shard and give the shard its name.

    The same for every backend; nothing but the task decides what is written. A damaged shard of
    that name is replaced.
    Raises StoreError if the shard cannot be written, InputError if an image changed since the scan.
    """
    storage = task.storage
    if not task.anew and _is_there(task):
        return ShardResult(task.plan.key, 0, 0, found=len(task.plan.samples))

    wanted = Counter(key for key, _ in task.donors.values())

    @lru_cache(maxsize=4)
    def opened(donor: str) -> StoredShard:
        get = storage.open if wanted[donor] < _WORTH_ALL else storage.fetch
        return StoredShard.open(get(shard_name(donor)))

    rows: list[SampleRecord] = []
    bad: list[tuple[str, str]] = []
    copied = 0
    key, parameters = task.plan.key, task.parameters
    try:
        with (
            recording(task.events) as recorded,
            stage("other"),
            single_thread(),
            ShardWriter(key, storage.workspace()) as writer,
        ):
            for sample, geometry in zip(task.plan.samples, task.plan.hashes, strict=True):
                recorded.about(sample.name)
                if donated := _copy_row(task, geometry, opened):
                    chunks, record = donated
                    copied += 1
                else:
                    data = _source_bytes(task, sample, geometry)
                    try:
                        sampled = compute_sample(
                            sample.name, data, sample.polygons, parameters, task.max_pixels
                        )
                    except ImageError as error:
                        bad.append((sample.name, str(error)))
                        continue
                    chunks = _packed(sampled, parameters)
                    record = SampleRecord.of(sampled, geometry)
                log.debug("%s: %s", sample.name, "copied" if donated else "computed")
                _check_size(sample, record.original_size)
                rows.append(replace(record, name=sample.name))
                with stage("write"):
                    writer.append(chunks)
            recorded.about(key)
            if not (bad or task.trial):
                with stage("write"):
                    storage.place(writer.finish(Records.of(rows), parameters), shard_name(key))
    except OSError as error:
        raise unwritable(storage, error) from error
    done = (0, 0) if bad else (len(rows) - copied, copied)
    return ShardResult(key, *done, tuple(bad), 0, recorded.totals(), recorded.stretches())


def _packed(sampled: CanonicalSample, parameters: Parameters) -> dict[str, bytes]:
    """The chunk of each map."""
    with stage("pack"):
        return {name: encode_chunk(getattr(sampled, name), parameters.compression) for name in MAPS}


def _is_there(task: ShardTask) -> bool:
    """Whether somebody else has written the shard since it was planned."""
    name, folder = shard_name(task.plan.key), task.storage.folder
    if folder:
        return (folder / name).is_file()
    try:
        return task.storage.size(name) > 0
    except FileNotFoundError:
        return False


def _check_size(sample: Sample, found: tuple[int, int]) -> None:
    """Raises InputError if the image is not as large as its annotation says, which was believed."""
    if found == sample.image.size:
        return
    given, size = (f"{width} x {height}" for height, width in (sample.image.size, found))
    reason = f"has {size} pixels as displayed, not {given} as its annotation says beside the digest"
    problem = image_problem(sample.path, sample.name, f"{reason}; correct the annotation")
    raise InputError([problem])


def _source_bytes(task: ShardTask, sample: Sample, geometry: bytes) -> bytes:
    """The image file's bytes. Raises InputError if they, or polygons, are not as scanned."""
    if geometry_hash(task.parameters, sample.digest, sample.polygons) != geometry:
        raise changed(sample.path, sample.name)
    try:
        data = task.fetched and task.fetched.take(sample.digest)
        data = data or read_image(sample.path, task.max_pixels)
    except FileNotFoundError:
        reason = "is missing; add it, or remove it from the annotations"
        raise InputError([image_problem(sample.path, sample.name, reason)]) from None
    except (OSError, ImageError) as error:
        raise InputError([image_problem(sample.path, sample.name, error)]) from error
    with stage("digest"):
        digest = hashlib.sha256(data).digest()
    if digest != sample.digest:
        reason = (
            "changed while the build was running; run it again (or its annotation gives another "
            "image's digest: correct that)"
        )
        raise InputError([image_problem(sample.path, sample.name, reason)])
    return data


def _copy_row(
    task: ShardTask, geometry: bytes, opened: Callable[[str], StoredShard]
) -> tuple[dict[str, bytes], SampleRecord] | None:
    """The row as it lies in another shard; None if there is none, or it is damaged."""
    if geometry not in task.donors:
        return None
    key, row = task.donors[geometry]
    try:
        with stage("copy"):
            chunks, record = opened(key).row(row)
    except (OSError, ValueError) as error:
        log.info("shard %s: row %d cannot be copied (%s)", key[:16], row, error)
        return None
    return (chunks, record) if record.key == geometry else None
