"""Annotations: read by formats, checked once for all of them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

from ocr_precompute.annotations.checks import check_entries, is_plain, unsafe
from ocr_precompute.annotations.crossing import survey
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.formats import FORMATS
from ocr_precompute.annotations.looking import Look
from ocr_precompute.annotations.marking import Marking
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Annotation, Entry, Found, Note, Reading
from ocr_precompute.annotations.registry import choose_format, format_names, known_formats
from ocr_precompute.annotations.sorted_parts import Part, entries, find_parts
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.remote_images import ImageUrl
from ocr_precompute.runtime.collector import without_collector
from ocr_precompute.settings import Marks, Rules, Source

__all__ = ["Annotation", "Entry", "Note", "Reading", "format_names", "read_annotations"]

log = logging.getLogger(__name__)

_RELATIVE = (-0.1, 1.1)  # coordinates within are shares of the image's size


def read_annotations(
    path: Path,
    images: Path | ImageUrl,
    format_name: str = "auto",
    rules: Rules | None = None,
    marks: Marks | None = None,
    told: bool = False,
) -> Reading:
    """All annotated images, and everything wrong with them or worth saying.

    path: annotation file or folder. images: folder that image names are relative to.
    format_name: `auto`, a format, or FORMAT:DIALECT. rules: what becomes of bad and self-crossing
    polygons; by default bad ones are left out, and self-crossing quads repaired. marks: what counts
    by what it is called. told: keep what words say and what they are, for `Annotation`.
    Raises InputError if there is nothing at path, or not one format fits.
    """
    rules, marks = rules or Rules(), marks or Marks()
    form, dialect = _chosen(path, format_name)
    names = ImageNames(images, marks.strip_prefix, exact=_in_parts(form, path, marks))
    marking = Marking(marks)
    with without_collector():
        found = form.read(path, names, dialect, rules)
        annotations, problems, notes = _checked(found, names, rules, marking, told)
        annotations, noted, bounds = survey(annotations, rules.repair is not False)
    problems += _relative(path, bounds)
    chosen = f"{form.name}:{found.dialect}" if found.dialect else form.name
    log.info(
        "%s: read as %s, %d images, %d problems", path, chosen, len(annotations), len(problems)
    )
    used = {a.name for a in annotations} | {problem.sample for problem in problems}
    return Reading(
        format=form.name,
        annotations=annotations,
        problems=problems,
        dialect=found.dialect,
        notes=tuple(sorted(notes + noted, key=lambda note: (note.sample, note.kind))),
        unannotated=tuple(sorted(names.names - used)),
        left_out=found.left_out,
        warnings=(*found.warnings, *(f"{path}: {line}" for line in marking.unused())),
    )


def _chosen(path: Path, format_name: str) -> tuple[AnnotationFormat, str]:
    if not path.exists():
        reason = "there is no such annotation file or folder; correct the path"
        raise InputError([Problem("annotations", str(path), "", reason)])
    return choose_format(path, format_name)


def _in_parts(form: AnnotationFormat, path: Path, marks: Marks) -> bool:
    """Whether a format is one of sorted parts. Raises InputError for what that cannot do."""
    if form.parts and marks.strip_prefix:
        reason = "names of sorted parts are taken as they are; leave strip_prefix out"
        raise InputError([Problem("annotations", str(path), "", reason)])
    return form.parts is not None


def _relative(path: Path, bounds: tuple[float, float] | None) -> list[Problem]:
    """The problem with points of those smallest and largest coordinates, if there is one."""
    if not bounds or bounds[0] < _RELATIVE[0] or bounds[1] > _RELATIVE[1]:
        return []
    reason = (
        "all coordinates lie between 0 and 1, so they are relative to the image's size; "
        "multiply x by its width and y by its height: points are pixels"
    )
    return [Problem("annotations", str(path), "", reason)]


class PartReader:
    """Reads annotations in sorted parts range by range; what holds for the whole it says at last.

    found: the parts. bounds: extreme coordinates of what was read.

    Raises InputError if what lies there cannot be read, or parts overlap.
    """

    def __init__(self, path: Path, format_name: str, rules: Rules, marks: Marks) -> None:
        form, _ = _chosen(path, format_name)
        _in_parts(form, path, marks)
        if form.parts is None:
            raise ValueError(f"{form.name} has no sorted parts")
        self.path, self.format, self._form = path, form.name, form.parts
        self._rules, self._marking = rules, Marking(marks)
        self.bounds: list[float] = []
        self.found = find_parts(path, form.parts)

    def read(self, part: Part, most: int) -> Iterator[Reading]:
        """What a part says, so many images at a time, in order of their names."""
        names = ImageNames(self.path, exact=True)
        rows = entries(part, self._form)
        while some := list(itertools.islice(rows, most)):
            with without_collector():
                found = _checked(Found(some), names, self._rules, self._marking, False)
                annotations, noted, bounds = survey(found[0], self._rules.repair is not False)
            self.bounds += bounds or ()
            yield Reading(self.format, annotations, found[1], notes=tuple(found[2] + noted))

    def rest(self) -> Reading:
        """What is to be said of the whole, once all of it has been read."""
        bounds = (min(self.bounds), max(self.bounds)) if self.bounds else None
        return Reading(
            self.format,
            [],
            _relative(self.path, bounds),
            left_out=self.found.left_out,
            warnings=tuple(f"{self.path}: {line}" for line in self._marking.unused()),
        )


def read_again(
    format_name: str, part: Part, source: Source, first: str, last: str
) -> list[Annotation]:
    """The annotations of a part that has been read before, from one name to another."""
    form, rules = known_formats()[format_name].parts, source.rules or Rules()
    if form is None:
        raise ValueError(f"{format_name} has no sorted parts")
    rows = entries(form.narrowed(part, first, last), form)
    names = ImageNames(part.path, exact=True)
    with without_collector():
        found = _checked(Found(rows), names, rules, Marking(source), False)[0]
        return survey(found, rules.repair is not False)[0]


def in_sorted_parts(path: Path, format_name: str) -> bool:
    """Whether annotations are in sorted parts, which `PartReader` reads; a look, no more."""
    wanted = {name for form in FORMATS if form.parts for name in (form.name, *form.aliases)}
    if format_name != "auto":
        return format_name in wanted
    look = Look(path)
    return path.exists() and any(form.recognise(look) for form in FORMATS if form.parts)


def _checked(
    found: Found, names: ImageNames, rules: Rules, marking: Marking, told: bool
) -> tuple[list[Annotation], list[Problem], list[Note]]:
    """The annotations in order of their names, and what is wrong or worth saying."""
    problems: list[Problem] = []
    seen: set[str] = set()
    unusable: set[str] = set()

    def usable() -> Iterator[tuple[str, Entry]]:
        for entry in _until_broken(found, problems):
            if isinstance(entry, Problem):
                problems.append(entry)
                if entry.kind == "image":
                    unusable.add(names.named(entry.sample))
                continue
            plain = is_plain(entry.name) and not names.strip_prefix  # as nearly all are
            name = entry.name if plain else names.named(entry.name)
            if not plain and (reason := unsafe(name)):
                problems.append(Problem("image", entry.file, entry.name, reason, entry.name))
            elif name in seen:
                reason = "is annotated twice; keep one of the entries"
                problems.append(Problem("image", entry.file, entry.name, reason, name))
                unusable.add(name)
            else:
                seen.add(name)
                yield name, marking.applied(entry)

    annotations: list[Annotation] = []
    notes: list[Note] = []
    for annotation, bad, more in check_entries(usable(), rules, told):
        annotations += [annotation] if annotation else []
        problems += bad
        notes += more
    kept = (annotation for annotation in annotations if annotation.name not in unusable)
    return sorted(kept, key=lambda each: each.name), problems, notes


def _until_broken(found: Found, problems: list[Problem]) -> Iterator[Entry | Problem]:
    """The entries; what ends them before they are all there goes to problems."""
    try:
        yield from found.entries
    except InputError as error:
        problems.extend(error.problems)
