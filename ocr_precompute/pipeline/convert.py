"""Annotations of any form, written in another: read and checked as a build reads them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import joblib

from ocr_precompute.annotations import Annotation, Reading
from ocr_precompute.annotations.writers import AnnotationWriter, Loss, Page
from ocr_precompute.errors import ImageError, Problem, StoreError
from ocr_precompute.files import flush, temporary_name, writing
from ocr_precompute.images.decoding import read_header
from ocr_precompute.images.files import image_problem, read_image
from ocr_precompute.pipeline.scan import raise_unless_usable, read_source
from ocr_precompute.remote_images import RemoteImage
from ocr_precompute.settings import Source
from ocr_precompute.storage.place import reached


@dataclass(frozen=True, eq=False)
class Conversion:
    """What was read and written.

    out: file or folder. losses: what the written form cannot say. reading: what was understood.
    """

    out: Path
    images: int
    words: int
    dont_care: int
    losses: tuple[Loss, ...]
    reading: Reading


def convert(
    source: Source,
    writer: AnnotationWriter,
    out: Path,
    max_pixels: int,
    on_read: Callable[[int, int], None] = lambda done, total: None,
) -> Conversion:
    """Write the annotations of a source in another form.

    out: a file or folder that is not there yet; it appears when all is written. on_read: called
    with how many images of how many have been looked at, for their sizes.
    Raises InputError with everything that is wrong with annotations and images, unless the source
    skips what is bad; StoreError if out is there or cannot be written.
    """
    if os.path.lexists(out):
        raise StoreError(f"{out}: is there already; remove it, or name another --out")
    source = reached(source)
    reading = read_source(source, told=True)
    pages, problems = _pages(reading.annotations, source, max_pixels, on_read)
    raise_unless_usable(source, [*reading.problems, *problems], True)
    losses = [loss for page in pages for loss in writer.losses(page)]
    _write(writer, out, pages)
    return Conversion(
        out=out,
        images=len(pages),
        words=sum(len(page.labels) for page in pages),
        dont_care=sum(int(page.polygons.ignore.sum()) for page in pages),
        losses=tuple(losses),
        reading=reading,
    )


def _pages(
    annotations: Sequence[Annotation],
    source: Source,
    max_pixels: int,
    on_read: Callable[[int, int], None],
) -> tuple[list[Page], list[Problem]]:
    """A page for each annotation whose image is as it should be, and what is wrong with others."""

    def page(annotation: Annotation) -> Page | Problem:
        path = source.image_path(annotation.name)
        try:
            header = read_header(read_image(path, max_pixels), max_pixels)
        except (OSError, ImageError) as error:
            return image_problem(path, annotation.name, error)
        if annotation.declared_size not in (None, header.size):
            return _other_size(annotation, path, header.size)
        labels = annotation.labels or tuple(
            f"word {number + 1}" for number in range(len(annotation.polygons.lengths))
        )
        told = annotation.texts, annotation.classes
        is_turned = header.orientation != 1
        return Page(annotation.name, header.size, annotation.polygons, labels, *told, is_turned)

    pages: list[Page] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor(joblib.cpu_count()) as threads:
        for number, found in enumerate(threads.map(page, annotations), 1):
            on_read(number, len(annotations))
            pages += [found] if isinstance(found, Page) else []
            problems += [found] if isinstance(found, Problem) else []
    return pages, problems


def _other_size(annotation: Annotation, path: Path | RemoteImage, size: tuple[int, int]) -> Problem:
    height, width = annotation.declared_size or size
    why = "it was resized since" if size != (width, height) else "its EXIF turns it for display"
    reason = (
        f"is {size[1]} x {size[0]} pixels and was annotated at {width} x {height}: {why}, as it "
        "seems; annotate it as it is, or restore it"
    )
    return Problem("image", str(path), "", reason, annotation.name)


def _write(writer: AnnotationWriter, out: Path, pages: Sequence[Page]) -> None:
    """Write beside out, and rename into place."""
    with writing(out, "name another --out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = out.with_name(temporary_name(f".{out.name[:100]}"))
        try:
            writer.write(beside, pages)
            flush(beside)
            beside.rename(out)
            flush(out.parent)
        finally:
            if beside.is_dir():
                shutil.rmtree(beside)
            beside.unlink(missing_ok=True)
