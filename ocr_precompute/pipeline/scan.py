"""Scan a split's source: read and check annotations, digest images, collect every problem."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import joblib

from ocr_precompute.annotations import Annotation, Reading, read_annotations
from ocr_precompute.annotations.checks import unsafe
from ocr_precompute.annotations.reading import joined
from ocr_precompute.errors import ImageError, InputError, Problem
from ocr_precompute.format.manifest import Manifest, Skipped
from ocr_precompute.images.decoding import decode, read_header
from ocr_precompute.images.files import image_problem, look_at, read_image
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.request import Request
from ocr_precompute.runtime.collector import without_collector
from ocr_precompute.runtime.stages import recorded_here, stage, waited_for
from ocr_precompute.samples import ImageFile, Polygons, Sample
from ocr_precompute.settings import Source
from ocr_precompute.storage.digests import DigestCache
from ocr_precompute.storage.store import digest_cache

log = logging.getLogger(__name__)

_SCAN_PART = 64  # images a thread looks at in one go; a call a file would take longer than the stat
_NO_POLYGONS = Polygons.from_list([], [])
_UNANNOTATED = "has no annotation; annotate or remove it, or choose --unannotated skip or empty"


@dataclass(frozen=True, eq=False)
class Scan:
    """The validated input: samples ordered by name, and what was left out of them.

    reading: the annotations as they were read, also those of images that are left out.
    """

    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]
    reading: Reading


def scan_request(request: Request) -> Scan:
    """Scan what is to be built, with the store's digest cache. Raises as scan does."""
    with digest_cache(request.storage) as cache:
        return scan(
            request.source,
            request.settings.max_pixels,
            cache,
            known_bad(request.published),
            request.progress.scanning,
        )


@without_collector()
def scan(
    source: Source,
    max_pixels: int,
    cache: DigestCache,
    known: dict[tuple[str, str], Skipped] | None = None,
    on_scanned: Callable[[int, int], None] = lambda done, total: None,
) -> Scan:
    """Read and check annotations, digest images.

    source: its rules say what is skipped.
    known: (name, digest) of images that an earlier build found undecodable (see known_bad).
    on_scanned: called with how many images of how many are digested.
    Raises InputError with all problems found, unless they can be skipped and the source says so.
    """
    with stage("annotations"):
        reading = read_source(source)
    annotations, problems = reading.annotations, list(reading.problems)
    skipping = skips(source)
    folders = {f"{part.name}/": part.images for part in source.parts} if source.others else {}
    log.info("%d images to look at", len(annotations))

    def digest(part: Sequence[Annotation]) -> list[Sample | Problem]:
        with stage("look"):
            return [
                _digest_sample(each, *_folder(each.name), max_pixels, cache, read) for each in part
            ]

    def _folder(name: str) -> tuple[Path, int]:
        """The folder of an image, and where in the sample's name its own begins."""
        first = name[: name.find("/") + 1]
        return (folders[first], len(first)) if folders else (source.images, 0)

    read: list[str] = []
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    parts = [annotations[i : i + _SCAN_PART] for i in range(0, len(annotations), _SCAN_PART)]
    with ThreadPoolExecutor(joblib.cpu_count()) as threads:
        looked = waited_for(threads.map(recorded_here(digest), parts), "threads")
        for number, results in enumerate(looked):
            on_scanned(number * _SCAN_PART, len(annotations))
            for result in results:
                if isinstance(result, Problem):
                    problems.append(result)
                elif bad := (known or {}).get((result.name, result.digest.hex())):
                    if not skipping:
                        problems.append(image_problem(result.path, result.name, bad.reason))
                    skipped.append(bad)
                else:
                    samples.append(result)
    log.info("%d images read, all others are known from an earlier scan", len(read))
    raise_unless_usable(source, problems, bool(samples))
    skipped += [
        Skipped(p.kind, p.sample, p.entry.removeprefix(p.sample).removeprefix(": "), p.message)
        for p in problems
    ]
    return Scan(tuple(samples), _in_order(skipped), reading)


def read_source(source: Source, told: bool = False) -> Reading:
    """The annotations of all sources of a split, names kept apart by those of the sources.

    See `_read_one`. Raises InputError with what is wrong with any that cannot be read at all.
    """
    readings: list[Reading] = []
    problems: list[Problem] = []
    for part in source.parts:
        try:
            found = _read_one(part, told)
            readings.append(found.within(part.name) if source.others else found)
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
    annotations, problems = list(reading.annotations), list(reading.problems)
    for name in reading.unannotated if source.unannotated != "skip" else ():
        path = str(source.images / name)
        if source.unannotated == "error":
            problems.append(Problem("annotations", path, "", _UNANNOTATED, name))
        elif reason := unsafe(name):
            problems.append(Problem("image", path, "", reason, name))
        else:
            annotations.append(Annotation(name, _NO_POLYGONS))
    return replace(
        reading,
        annotations=sorted(annotations, key=lambda each: each.name),
        problems=problems,
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


def _digest_sample(
    annotation: Annotation,
    images: Path,
    begin: int,
    max_pixels: int,
    cache: DigestCache,
    read: list[str],
) -> Sample | Problem:
    """The annotation with its image's digest; new images are looked at, known ones only statted.

    begin: where the name of the image begins in that of the sample. read: where the paths of new
    ones go.
    """
    path = os.path.join(images, annotation.name[begin:])  # Path takes longer than the file system
    try:
        status = look_at(path, max_pixels)
        image = cache.lookup(path, status)
        if image is None:
            with stage("read"):
                data = Path(path).read_bytes()
            header = read_header(data, max_pixels)
            with stage("digest"):
                digest = hashlib.sha256(data).digest()
            image = ImageFile(digest, header.size, header.turned)
            log.debug("%s: read, %d x %d pixels", path, header.width, header.height)
            read.append(path)
            cache.learn(path, status, image)
    except FileNotFoundError:
        return image_problem(
            path, annotation.name, "is missing; add it, or remove it from the annotations"
        )
    except (OSError, ImageError) as error:
        return image_problem(path, annotation.name, error)
    polygons, declared = annotation.polygons, annotation.declared_size
    return Sample(annotation.name, images, image, polygons, declared, begin)


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
    skipped = [
        Skipped("image", s.name, "", reasons[s.name], s.digest.hex())
        for s in scanned.samples
        if s.name in reasons
    ]
    kept = tuple(s for s in scanned.samples if s.name not in reasons)
    if not kept:
        raise InputError([image_problem(source.image_path(n), n, reason) for n, reason in bad])
    return replace(scanned, samples=kept, skipped=_in_order([*scanned.skipped, *skipped]))
