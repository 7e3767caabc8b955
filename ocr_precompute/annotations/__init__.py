"""Annotations: read by formats, checked once for all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from ocr_precompute.annotations.checks import check_entries, is_plain, unsafe
from ocr_precompute.annotations.crossing import survey
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.marking import Marking
from ocr_precompute.annotations.reading import Annotation, Entry, Found, Note, Reading
from ocr_precompute.annotations.registry import choose_format, format_names
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.runtime.collector import without_collector
from ocr_precompute.settings import Marks, Rules

__all__ = ["Annotation", "Entry", "Note", "Reading", "format_names", "read_annotations"]

log = logging.getLogger(__name__)

_RELATIVE = (-0.1, 1.1)  # coordinates within are shares of the image's size


def read_annotations(
    path: Path,
    images: Path,
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
    rules = rules or Rules()
    if not path.exists():
        reason = "there is no such annotation file or folder; correct the path"
        raise InputError([Problem("annotations", str(path), "", reason)])
    form, dialect = choose_format(path, format_name)
    marks = marks or Marks()
    names, marking = ImageNames(images, marks.strip_prefix), Marking(marks)
    with without_collector():
        found = form.read(path, names, dialect, rules)
        annotations, problems, notes = _checked(found, names, rules, marking, told)
        annotations, noted, bounds = survey(annotations, rules.repair is not False)
    if bounds and _RELATIVE[0] <= bounds[0] and bounds[1] <= _RELATIVE[1]:
        reason = (
            "all coordinates lie between 0 and 1, so they are relative to the image's size; "
            "multiply x by its width and y by its height: points are pixels"
        )
        problems.append(Problem("annotations", str(path), "", reason))
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
