"""Scan a split's source: read and check annotations, digest images, collect every problem."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import joblib

from ocr_precompute.annotations import (
    Annotation,
    PartReader,
    Reading,
    in_sorted_parts,
    read_annotations,
)
from ocr_precompute.annotations.checks import unsafe
from ocr_precompute.annotations.reading import joined
from ocr_precompute.annotations.sorted_parts import Part
from ocr_precompute.errors import ImageError, InputError, Problem
from ocr_precompute.format.manifest import Manifest, Skipped
from ocr_precompute.images.decoding import decode
from ocr_precompute.images.files import (
    check_length,
    image_problem,
    look_at,
    read_image,
)
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.counting import count
from ocr_precompute.pipeline.digesting import (
    Digested,
    DigestResult,
    DigestTask,
    digested,
    digested_on_cluster,
)
from ocr_precompute.pipeline.fetched import Fetched
from ocr_precompute.pipeline.part import Share
from ocr_precompute.pipeline.remembered import PartMemory, Remembered
from ocr_precompute.pipeline.request import Request
from ocr_precompute.pipeline.tables import BLOCK, Columns, Listed, Samples, Table
from ocr_precompute.remote_images import ImageUrl, Stamp, is_key
from ocr_precompute.runtime.collector import without_collector
from ocr_precompute.runtime.stages import recorded_here, stage, waited_for
from ocr_precompute.samples import ImageFile, Polygons, Sample
from ocr_precompute.settings import ON_CLUSTERS, Rules, Source
from ocr_precompute.storage.digests import DigestCache
from ocr_precompute.storage.place import reached
from ocr_precompute.storage.store import digest_cache, scans_path, take_digests
from ocr_precompute.understood import MOST_NAMES

log = logging.getLogger(__name__)

_SCAN_PART = 64  # images a thread looks at in one go; a call a file would take longer than the stat
_WORTH_OTHERS = 1024  # new images; it takes seconds to reach a cluster
_AT_ONCE = 16  # requests to a service, which waits rather than works
_NO_POLYGONS = Polygons.from_list([], [])
_UNANNOTATED = "has no annotation; annotate or remove it, or choose --unannotated skip or empty"


Elsewhere = Callable[[Sequence[DigestTask]], Iterator[DigestResult]]
Names = tuple[Callable[[], Iterable[str]], ...]
"""Names of samples: each gives some, in order."""


@dataclass(frozen=True, eq=False)
class Scan:
    """The validated input: samples ordered by name, and what was left out of them.

    reading: the annotations as they were read, also those of images that are left out; of sorted
    parts what was noted, without the annotations. others: samples that other parts of the build
    compute. dropped: of those whose images were looked at, the ones that are left out.
    """

    samples: Samples
    skipped: tuple[Skipped, ...]
    reading: Reading
    others: Names = ()
    dropped: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Looking:
    """How images are looked at: by default all of them, by this process.

    fetched: keeps what comes from behind a URL. share_of: chooses, by their names, the samples
    whose images are looked at. elsewhere: where to have images read that are not known. Of
    sorted parts all are looked at, here.
    """

    fetched: Fetched | None = None
    share_of: Callable[[Callable[[], Iterable[str]]], Share] | None = None
    elsewhere: Elsewhere | None = None


def scan_request(request: Request) -> Scan:
    """Scan what is to be built, with the store's digest cache. Raises as scan does.

    What a part of a build learns it leaves in the store, for the build that finishes.
    """
    memory = PartMemory(scans_path(request.storage, request.split), not request.dry_run)
    part, length = request.part, request.settings.shard_length
    far = request.settings.backend in ON_CLUSTERS and not (request.dry_run or request.finish)
    with digest_cache(request.storage, shares=bool(part) and not request.dry_run) as cache:
        if request.finish:
            take_digests(request.storage, cache)
        found = scan(
            request.source,
            request.parameters,
            request.settings.max_pixels,
            cache,
            known_bad(request.published),
            request.progress.scanning,
            memory,
            Looking(
                request.fetched,
                partial(part.share, length=length) if part else None,
                partial(digested_on_cluster, request) if far else None,
            ),
        )
    memory.forget_others()
    return found


@without_collector()
def scan(
    source: Source,
    parameters: Parameters,
    max_pixels: int,
    cache: DigestCache,
    known: dict[tuple[str, str], Skipped] | None = None,
    on_scanned: Callable[[int, int], None] = lambda done, total: None,
    memory: PartMemory | None = None,
    looking: Looking | None = None,
) -> Scan:
    """Read and check annotations, digest images.

    source: its rules say what is skipped. parameters: what samples in sorted parts are hashed with.
    known: (name, digest) of images that an earlier build found undecodable (see known_bad).
    on_scanned: called with how many images of about how many are digested. memory: of sorted parts
    that were scanned before. looking: how images are looked at.
    Raises InputError with all problems found, unless they can be skipped and the source says so.
    """
    source, looking = reached(source), looking or Looking()
    ranged = {part.name for part in source.parts if in_sorted_parts(part.annotations, part.format)}
    cores: int = joblib.cpu_count()
    with ThreadPoolExecutor(max(_AT_ONCE, 4 * cores) if _is_remote(source) else cores) as threads:
        parts = memory or PartMemory(None, False)
        look = _Look(source, max_pixels, cache, known or {}, threads, parts, looking.fetched)
        readings: list[Reading] = []
        if listed := [part for part in source.parts if part.name not in ranged]:
            with stage("annotations"):
                readings.append(_read_all(listed, within=bool(source.others)))
        annotations = readings[0].annotations if listed else []
        scanned = [
            _in_parts(look, part, bool(source.others), parameters, on_scanned)
            for part in source.parts
            if part.name in ranged
        ]
        readings += [each.reading for each in scanned]
        tables = [table for each in scanned for table in each.tables]
        share: Share | None = None
        others: Names = ()
        if looking.share_of:
            share, others = _shared(annotations, tables, looking.share_of)
            annotations = [each for each in annotations if share.holds(each.name)]
            tables = [cut for cut, is_own in _cut(tables, share) if is_own]
        stretches: list[Listed | Table] = [*tables]
        if annotations:
            stretches += _in_memory(look, annotations, share, looking.elsewhere, on_scanned)
    stretches.sort(key=_first_name)
    reading = readings[0] if len(readings) == 1 else joined(readings)
    log.info("%d images read, all others are known from an earlier scan", len(look.read))
    problems = [*reading.problems, *look.problems]
    raise_unless_usable(source, problems, bool(stretches or others))
    skipped = _in_order([*look.skipped, *map(_skipped, problems)])
    dropped = frozenset([s.sample for s in look.skipped] + [p.sample for p in look.problems])
    return Scan(Samples(stretches), skipped, reading, others, dropped)


def _skipped(problem: Problem) -> Skipped:
    entry = problem.entry.removeprefix(problem.sample).removeprefix(": ")
    return Skipped(problem.kind, problem.sample, entry, problem.message)


def _shared(
    annotations: Sequence[Annotation],
    tables: Sequence[Table],
    share_of: Callable[[Callable[[], Iterable[str]]], Share],
) -> tuple[Share, Names]:
    """The share of all samples, and the names of those that are not in it."""
    listed = sorted(each.name for each in annotations)
    share = share_of(lambda: heapq.merge(listed, _names_of(tables)))
    rest = [name for name in listed if not share.holds(name)]
    left = [cut for cut, is_own in _cut(tables, share) if not is_own]
    return share, (rest.__iter__, partial(_names_of, left))


def _cut(tables: Sequence[Table], share: Share) -> Iterator[tuple[Table, bool]]:
    """Tables cut where the share begins and ends, and whether each is in it."""
    for table in tables:
        start = 0
        for is_own, some in itertools.groupby(map(share.holds, table.names())):
            stop = start + sum(1 for _ in some)
            yield table.cut(start, stop), is_own
            start = stop


def _names_of(tables: Sequence[Table]) -> Iterator[str]:
    """The names of all tables, in order."""
    ordered = sorted(tables, key=_first_name)
    return itertools.chain.from_iterable(table.names() for table in ordered)


def _first_name(stretch: Listed | Table) -> str:
    return next(iter(stretch.names()))


class _Look:
    """Looks at the images of annotations, and collects what is wrong with them.

    problems, skipped: as a scan has them. read: paths of images that were not known.
    """

    def __init__(
        self,
        source: Source,
        max_pixels: int,
        cache: DigestCache,
        known: Mapping[tuple[str, str], Skipped],
        threads: ThreadPoolExecutor,
        memory: PartMemory,
        fetched: Fetched | None,
    ) -> None:
        self._images, self._max_pixels, self.cache = source.images, max_pixels, cache
        self._known, self._threads, self._skips = known, threads, skips(source)
        parts = source.parts if source.others else ()
        self._folders = {f"{part.name}/": part.images for part in parts}
        self._remote = _is_remote(source)
        self.memory, self._fetched = memory, fetched
        self._stamps: dict[str, Stamp] = {}
        self._digested: dict[str, Digested] = {}
        self.problems: list[Problem] = []
        self.skipped: list[Skipped] = []
        self.read: list[str] = []

    def samples(
        self,
        annotations: Sequence[Annotation],
        on_looked: Callable[[int], None],
        share: Share | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> list[Sample]:
        """The samples of those that are usable, in order.

        on_looked: told how many are done. share: that they are, between whose runs many lie that
        nobody asks for. elsewhere: where to have images read that are not known.
        """
        found: list[Sample] = []
        self._stamps = self._stamps_of(annotations, share)
        if elsewhere:
            self._digest_elsewhere(annotations, on_looked, elsewhere)
        parts = [annotations[i : i + _SCAN_PART] for i in range(0, len(annotations), _SCAN_PART)]
        looked = waited_for(self._threads.map(recorded_here(self._looked_at), parts), "threads")
        for number, results in enumerate(looked):
            on_looked(number * _SCAN_PART)
            for result in results:
                if isinstance(result, Problem):
                    self.problems.append(result)
                elif bad := self._known.get((result.name, result.digest.hex())):
                    if not self._skips:
                        self.problems.append(image_problem(result.path, result.name, bad.reason))
                    self.skipped.append(bad)
                else:
                    found.append(result)
        return found

    def knows(self, prefix: str, part: Part) -> bool:
        """Whether an earlier build found images of a part undecodable."""
        first, last = prefix + part.first, prefix + part.last
        return any(first <= name <= last for name, _ in self._known)

    def _looked_at(self, part: Sequence[Annotation]) -> list[Sample | Problem]:
        with stage("look"):
            return [self._sample(each) for each in part]

    def _sample(self, annotation: Annotation) -> Sample | Problem:
        """The annotation with its image's digest; new images are read, known ones only statted."""
        polygons, declared, given = annotation.polygons, annotation.declared_size, annotation.digest
        images, begin = self._folder(annotation.name)
        if given and declared:
            told = ImageFile(given, declared, False)
            return Sample(annotation.name, images, told, polygons, declared, begin)
        name = annotation.name[begin:]
        path = os.path.join(images, name)  # Path takes longer than the file system
        try:
            status = self._status(annotation.name, images, path)
            image = self.cache.lookup(path, status)
            if image is None:
                seen = self._digested.pop(os.path.join(images.absolute(), name), None)
                seen = seen or digested(images, name, self._max_pixels, self._fetched)
                image, stamp = seen
                self.read.append(path)
                self.cache.learn(path, stamp or status, image)
        except FileNotFoundError:
            return image_problem(
                path, annotation.name, "is missing; add it, or remove it from the annotations"
            )
        except (OSError, ImageError) as error:
            return image_problem(path, annotation.name, error)
        if given and given != image.digest:
            reason = (
                "is not the image that was annotated: its SHA-256 is another; correct the digest"
            )
            return image_problem(path, annotation.name, reason)
        return Sample(annotation.name, images, image, polygons, declared, begin)

    def _status(self, name: str, images: Path | ImageUrl, path: str) -> os.stat_result | Stamp:
        """What an image is known again by. Raises as look_at does."""
        if isinstance(images, Path):
            return look_at(path, self._max_pixels)
        if (stamp := self._stamps.get(name)) is None:
            raise FileNotFoundError(2, "there is no such object", path)
        check_length(stamp.size, self._max_pixels)
        return stamp

    def _new(self, part: Sequence[Annotation]) -> list[tuple[Path | ImageUrl, str]]:
        """Folders and names of images that are there and not known."""
        found = []
        for each in part:
            images, begin = self._folder(each.name)
            path = os.path.join(images, each.name[begin:])
            with suppress(OSError, ImageError), stage("look"):
                given = each.digest and each.declared_size
                if not given and not self.cache.lookup(path, self._status(each.name, images, path)):
                    found.append((images, each.name[begin:]))
        return found

    def _digest_elsewhere(
        self,
        annotations: Sequence[Annotation],
        on_looked: Callable[[int], None],
        elsewhere: Elsewhere,
    ) -> None:
        """Have new images read by others, if they are many."""
        parts = [annotations[i : i + _SCAN_PART] for i in range(0, len(annotations), _SCAN_PART)]
        folders: dict[Path | ImageUrl, list[str]] = {}
        for some in waited_for(self._threads.map(recorded_here(self._new), parts), "threads"):
            for folder, name in some:
                folders.setdefault(folder.absolute(), []).append(name)
        if sum(map(len, folders.values())) < _WORTH_OTHERS:
            return
        tasks = [
            DigestTask(folder, tuple(names[i : i + _SCAN_PART]), self._max_pixels)
            for folder, names in folders.items()
            for i in range(0, len(names), _SCAN_PART)
        ]
        for result in elsewhere(tasks):
            for name, seen in zip(result.task.names, result.found, strict=True):
                if seen:
                    self._digested[os.path.join(result.task.folder, name)] = seen
            on_looked(len(self._digested))

    def _stamps_of(
        self, annotations: Sequence[Annotation], share: Share | None
    ) -> dict[str, Stamp]:
        """The stamps of images that are to be looked at and lie behind a URL, by names of samples.

        A list is a request for a thousand objects, so it is asked for all between two names.
        """
        found: dict[str, Stamp] = {}
        asked: dict[tuple[str, int], tuple[ImageUrl, list[str]]] = {}
        for each in annotations if self._remote else ():
            folder, begin = self._folder(each.name)
            told, name = each.digest and each.declared_size, each.name[begin:]
            if isinstance(folder, ImageUrl) and not told and is_key(name):
                stretch = each.name[:begin], share.run(each.name) if share else 0
                asked.setdefault(stretch, (folder, []))[1].append(name)
        for (prefix, _), (folder, names) in asked.items():
            with stage("look"):
                wanted, stamps = set(names), folder.asked().stamps(names[0], names[-1])
                found |= {prefix + name: stamp for name, stamp in stamps if name in wanted}
        return found

    def _folder(self, name: str) -> tuple[Path | ImageUrl, int]:
        """The folder of an image, and where in the sample's name its own begins."""
        first = name[: name.find("/") + 1]
        return (self._folders[first], len(first)) if self._folders else (self._images, 0)


def _in_memory(
    look: _Look,
    annotations: Sequence[Annotation],
    share: Share | None,
    elsewhere: Elsewhere | None,
    on_scanned: Callable[[int, int], None],
) -> list[Listed]:
    """The samples of annotations; those of each source apart, if there are several."""
    count = len(annotations)
    log.info("%d images to look at", count)
    look.cache.load()
    samples = look.samples(annotations, lambda done: on_scanned(done, count), share, elsewhere)
    sources = itertools.groupby(samples, key=lambda each: each.name[: each.begin])
    return [Listed(tuple(some)) for _, some in sources]


@dataclass(frozen=True, eq=False)
class _Scanned:
    """Tables of a source in sorted parts, and what was noted while it was read."""

    tables: list[Table]
    reading: Reading


def _in_parts(
    look: _Look,
    source: Source,
    within: bool,
    parameters: Parameters,
    on_scanned: Callable[[int, int], None],
) -> _Scanned:
    """Scan a source part by part: what is held as Python has it is a block of one part."""
    _refuse_unannotated(source)
    reader = PartReader(source.annotations, source.format, source.rules or Rules(), source)
    tables: list[Table] = []
    readings: list[Reading] = []
    total, done = sum(part.stop for part in reader.found.parts), 0
    for part in reader.found.parts:
        found = _one_part(look, reader, part, source, within, parameters)
        tables += [Table(columns, 0, len(columns.turned)) for columns in found.blocks]
        readings.append(found.reading)
        done += part.stop
        images = sum(map(len, tables))
        on_scanned(images, images * total // done)
    rest = _named_inside(reader.rest(), source)
    return _Scanned(tables, joined([*readings, rest.within(source.name) if within else rest]))


@dataclass(frozen=True, eq=False)
class _ScannedPart:
    blocks: Sequence[Columns]
    reading: Reading


def _one_part(
    look: _Look,
    reader: PartReader,
    part: Part,
    source: Source,
    within: bool,
    parameters: Parameters,
) -> _ScannedPart:
    """Scan a part, or remember what that came to before."""
    prefix, memory = f"{source.name}/" if within else "", look.memory
    anywhere = source.model_copy(update={"images": source.images.absolute()})
    there = replace(part, path=part.path.absolute())
    with stage("digest"):
        name = memory.name(part, source, prefix, parameters)
    if (known := memory.find(name, there, anywhere, prefix)) and not look.knows(prefix, part):
        reader.bounds += known.bounds
        return _ScannedPart(known.blocks, Reading(reader.format, [], [], notes=known.notes))
    blocks: list[Columns] = []
    readings: list[Reading] = []
    whole, before = True, len(reader.bounds)
    for block in _staged(reader.read(part, BLOCK)):
        found = block.within(source.name) if within else block
        given = all(each.digest and each.declared_size for each in found.annotations)
        if not given:
            ends = block.annotations[0].name, block.annotations[-1].name
            look.cache.load(*(os.path.join(source.images, name) for name in ends))
        samples = look.samples(found.annotations, lambda _: None)
        whole &= given and not found.problems and len(samples) == len(found.annotations)
        readings.append(replace(found, annotations=[]))
        if samples:
            with stage("count"):
                counted = count(samples, found.notes, parameters, MOST_NAMES)
            blocks.append(
                Columns.of(samples, anywhere, reader.format, there, parameters, counted, given)
            )
    reading = joined(readings) if readings else Reading(reader.format, [], [])
    if whole and name == memory.name(part, source, prefix, parameters):
        bounds = tuple(reader.bounds[before:])
        extremes = (min(bounds), max(bounds)) if bounds else ()
        memory.keep(name, Remembered(tuple(blocks), reading.notes, extremes))
    return _ScannedPart(blocks, reading)


def _staged(blocks: Iterator[Reading]) -> Iterator[Reading]:
    while True:
        with stage("annotations"):
            block = next(blocks, None)
        if block is None:
            return
        yield block


def read_source(source: Source, told: bool = False) -> Reading:
    """The annotations of all sources of a split, names kept apart by those of the sources.

    See `_read_one`. Raises InputError with what is wrong with any that cannot be read at all.
    """
    return _read_all(source.parts, bool(source.others), told)


def _read_all(sources: Sequence[Source], within: bool, told: bool = False) -> Reading:
    readings: list[Reading] = []
    problems: list[Problem] = []
    for part in sources:
        try:
            found = _read_one(part, told)
            readings.append(found.within(part.name) if within else found)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError([*problems, *(p for reading in readings for p in reading.problems)])
    return readings[0] if len(readings) == 1 else joined(readings)


def _read_one(source: Source, told: bool) -> Reading:
    """The annotations of a source, and of images without any what the source wants.

    The source's rules say what becomes of odd polygons; a missing image folder is one problem.
    told: keep what words say and what they are.
    Raises InputError if something cannot be read at all; all else that is wrong is in `problems`.
    """
    try:
        reading = read_annotations(
            source.annotations, source.images, source.format, source.rules, source, told
        )
        if not source.images.is_dir():
            reason = "there is no such image folder; correct the path"
            problem = Problem("annotations", str(source.images), "", reason)
            return replace(reading, annotations=[], problems=[*reading.problems, problem])
    except OSError as error:
        where = str(error.filename or source.annotations)
        reason = f"cannot be read: {error.strerror or error}; make it readable, or correct the path"
        raise InputError([Problem("annotations", where, "", reason)]) from error
    if in_sorted_parts(source.annotations, reading.format):
        _refuse_unannotated(source)
    annotations, problems = list(reading.annotations), list(reading.problems)
    for name in reading.unannotated if source.unannotated != "skip" else ():
        path = str(source.images / name)
        if source.unannotated == "error":
            problems.append(Problem("annotations", path, "", _UNANNOTATED, name))
        elif reason := unsafe(name):
            problems.append(Problem("image", path, "", reason, name))
        else:
            annotations.append(Annotation(name, _NO_POLYGONS))
    annotations.sort(key=lambda each: each.name)
    return _named_inside(replace(reading, annotations=annotations, problems=problems), source)


def _refuse_unannotated(source: Source) -> None:
    """Raises InputError if images without annotation are asked for, which no sorted parts tell."""
    if source.unannotated != "skip":
        reason = "sorted parts are not compared with the folder of images; set unannotated to skip"
        raise InputError([Problem("annotations", str(source.annotations), "", reason)])


def _named_inside(reading: Reading, source: Source) -> Reading:
    """The same, with paths from the annotation folder on."""
    return replace(
        reading,
        left_out=tuple((_inside(path, source), reason) for path, reason in reading.left_out),
        warnings=tuple(_inside(line, source) for line in reading.warnings),
    )


def _inside(text: str, source: Source) -> str:
    """The text with paths from the annotation folder on: a manifest is the same on any machine."""
    folder = str(source.annotations)
    return text.replace(f"{folder}{os.sep}", "").replace(folder, source.annotations.name)


def skips(source: Source) -> bool:
    """Whether bad images of the source are left out."""
    return all(part.rules and part.rules.skip_bad != "no" for part in source.parts)


def raise_unless_usable(source: Source, problems: list[Problem], some: bool) -> None:
    """Raise InputError for problems that the source does not skip, or if nothing is left of it."""
    fatal = [p for p in problems if p.kind not in ("image", "polygon")]
    if fatal or (problems and not skips(source)):
        raise InputError(problems)
    if not some:
        reason = "holds no usable annotated image; nothing to build"
        raise InputError([Problem("annotations", str(source.annotations), "", reason), *problems])


def live_annotations(source: Source, parameters: Parameters, max_pixels: int) -> list[Annotation]:
    """The annotations of the samples that `build` would store, in order.

    Where bad images are skipped, every image is decoded to know which are bad. Raises as scan does,
    but looks at no image where none is skipped.
    """
    reading = read_source(source)
    raise_unless_usable(source, reading.problems, True)
    if not skips(source):
        return reading.annotations

    def is_good(annotation: Annotation) -> bool:
        try:
            data = read_image(source.image_path(annotation.name), max_pixels)
            decode(data, parameters.size, parameters.decode, max_pixels)
        except (OSError, ImageError):
            return False
        return True

    with ThreadPoolExecutor(joblib.cpu_count()) as threads:
        good = list(threads.map(is_good, reading.annotations))
    kept = list(itertools.compress(reading.annotations, good))
    raise_unless_usable(source, reading.problems, bool(kept))
    return kept


def _is_remote(source: Source) -> bool:
    """Whether any of its images lie behind a URL."""
    return any(isinstance(part.images, ImageUrl) for part in source.parts)


def _in_order(skipped: Sequence[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(skipped, key=lambda s: (s.sample, s.entry, s.kind)))


def known_bad(published: Manifest | None) -> dict[tuple[str, str], Skipped]:
    """Images that could not be decoded when the split was built, by (name, hex digest)."""
    skipped = published.skipped if published else ()
    return {(s.sample, s.digest): s for s in skipped if s.digest}


def without_bad(scanned: Scan, bad: Sequence[tuple[str, str]], source: Source) -> Scan:
    """The scan without images that turned out undecodable.

    Raises InputError unless bad images are skipped and some are left.
    """
    if not skips(source):
        raise InputError([image_problem(source.image_path(n), n, reason) for n, reason in bad])
    reasons = dict(bad)
    digests = {s.name: s.digest.hex() for s in scanned.samples.of_names(set(reasons))}
    skipped = [Skipped("image", n, "", reason, digests[n]) for n, reason in reasons.items()]
    kept = scanned.samples.without(set(reasons))
    if not kept and not scanned.others:
        raise InputError([image_problem(source.image_path(n), n, reason) for n, reason in bad])
    skipped += scanned.skipped
    dropped = scanned.dropped.union(reasons)
    return replace(scanned, samples=kept, skipped=_in_order(skipped), dropped=dropped)
