"""Scan a split's source: read and check annotations, digest images, collect every problem."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import joblib

from ocr_precompute.annotations import Annotation, Reading, _unsafe, read_annotations
from ocr_precompute.config import Source
from ocr_precompute.errors import ImageError, InputError, Problem
from ocr_precompute.fingerprint import DigestCache
from ocr_precompute.images import check_image
from ocr_precompute.manifest import Manifest, Skipped
from ocr_precompute.samples import Polygons, Sample
from ocr_precompute.unannotated import unannotated_images

_SCAN_PART = 64  # images a thread looks at in one go; a call a file would take longer than the stat
_BYTES_A_PIXEL = 16  # no image format needs more: four channels of 32 bits
_NO_POLYGONS = Polygons.from_list([], [])
_UNANNOTATED = "has no annotation; annotate or remove it, or choose --unannotated skip or empty"


@dataclass(frozen=True, eq=False)
class Scan:
    """The validated input: samples ordered by name, and what was left out of them."""

    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]


def scan(
    source: Source,
    max_pixels: int,
    cache: DigestCache,
    skip_bad: bool = False,
    known: dict[tuple[str, str], Skipped] | None = None,
    on_scanned: Callable[[int, int], None] = lambda done, total: None,
) -> Scan:
    """Read and check annotations, digest images.

    known: (name, digest) of images that an earlier build found undecodable (see known_bad).
    on_scanned: called with how many images of how many are digested.
    Raises InputError with all problems found, unless skip_bad and each can be skipped.
    """
    reading = read_source(source)
    annotations, problems = reading.annotations, list(reading.problems)
    if not source.images.is_dir():
        annotations = []  # one problem, not one an image

    def digest(part: Sequence[Annotation]) -> list[Sample | Problem]:
        return [_digest_sample(each, source.images, max_pixels, cache) for each in part]

    samples: list[Sample] = []
    skipped: list[Skipped] = []
    parts = [annotations[i : i + _SCAN_PART] for i in range(0, len(annotations), _SCAN_PART)]
    with ThreadPoolExecutor(joblib.cpu_count()) as threads:
        for number, results in enumerate(threads.map(digest, parts)):
            on_scanned(number * _SCAN_PART, len(annotations))
            for result in results:
                if isinstance(result, Problem):
                    problems.append(result)
                elif bad := (known or {}).get((result.name, result.digest.hex())):
                    if not skip_bad:
                        problems.append(image_problem(result.path, result.name, bad.reason))
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


def read_source(source: Source) -> Reading:
    """The annotations of a source, and of images without any what the source wants.

    Raises InputError if something cannot be read at all; all else that is wrong is in `problems`.
    """
    try:
        reading = read_annotations(source.annotations, source.images, source.format)
        if not source.images.is_dir():
            reason = "there is no such image folder; correct the path"
            problem = Problem("annotations", str(source.images), "", reason)
            return replace(reading, problems=[*reading.problems, problem])
        annotated = {annotation.name for annotation in reading.annotations}
        annotated.update(problem.sample for problem in reading.problems)
        names = unannotated_images(source.images, annotated)
    except OSError as error:
        where = str(error.filename or source.annotations)
        reason = f"cannot be read: {error.strerror or error}; make it readable, or correct the path"
        raise InputError([Problem("annotations", where, "", reason)]) from error
    annotations, problems = list(reading.annotations), list(reading.problems)
    for name in names if source.unannotated != "skip" else ():
        path = str(source.images / name)
        if source.unannotated == "error":
            problems.append(Problem("annotations", path, "", _UNANNOTATED, name))
        elif reason := _unsafe(name):
            problems.append(Problem("image", path, "", reason, name))
        else:
            annotations.append(Annotation(name, _NO_POLYGONS))
    return replace(
        reading,
        annotations=sorted(annotations, key=lambda each: each.name),
        problems=problems,
        unannotated=tuple(names),
    )


def _digest_sample(
    annotation: Annotation, images: Path, max_pixels: int, cache: DigestCache
) -> Sample | Problem:
    """The annotation with its image's digest; new images are looked at, known ones only statted."""
    path = images / annotation.name
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return image_problem(path, annotation.name, "is not a regular file; replace it")
        if status.st_size > _BYTES_A_PIXEL * max_pixels:
            return image_problem(
                path, annotation.name, "is larger than any image within the pixel limit; replace it"
            )
        digest = cache.lookup(str(path), status)
        if digest is None:
            data = path.read_bytes()
            check_image(data, max_pixels)
            digest = hashlib.sha256(data).digest()
            cache.learn(str(path), status, digest)
    except FileNotFoundError:
        return image_problem(
            path, annotation.name, "is missing; add it, or remove it from the annotations"
        )
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; replace it"
        return image_problem(path, annotation.name, reason)
    except ImageError as error:
        return image_problem(path, annotation.name, str(error))
    return Sample(annotation.name, path, digest, annotation.polygons)


def image_problem(path: Path, name: str, reason: str) -> Problem:
    """What is wrong with an image file."""
    return Problem("image", str(path), "", reason, name)


def _in_order(skipped: Sequence[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(skipped, key=lambda s: (s.sample, s.entry, s.kind)))


def known_bad(published: Manifest | None) -> dict[tuple[str, str], Skipped]:
    """Images that could not be decoded when the split was built, by (name, hex digest)."""
    skipped = published.skipped if published else ()
    return {(s.sample, s.digest): s for s in skipped if s.digest}


def without_bad(
    scanned: Scan, bad: Sequence[tuple[str, str]], source: Source, skip_bad: bool
) -> Scan:
    """The scan without images that turned out undecodable; raises InputError unless skip_bad."""
    if not skip_bad:
        raise InputError([image_problem(source.images / n, n, reason) for n, reason in bad])
    reasons = dict(bad)
    skipped = [
        Skipped("image", s.name, "", reasons[s.name], s.digest.hex())
        for s in scanned.samples
        if s.name in reasons
    ]
    kept = tuple(s for s in scanned.samples if s.name not in reasons)
    if not kept:
        raise InputError([image_problem(source.images / n, n, reason) for n, reason in bad])
    return Scan(kept, _in_order([*scanned.skipped, *skipped]))
