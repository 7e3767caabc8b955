"""Which formats there are, those of other packages too, and which one a path is in.

A package adds a format by an entry point of the group `ocr_precompute.formats` that is an
`AnnotationFormat`. It is code that the user has installed, so it runs as any other; but what goes
wrong in it is said in one line, and it takes no name that a format here has.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.formats import FORMATS
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Entry, Found
from ocr_precompute.errors import InputError, Problem, one_line
from ocr_precompute.settings import Rules

log = logging.getLogger(__name__)

GROUP = "ocr_precompute.formats"
"""Entry points of other packages' formats."""


def format_names() -> list[str]:
    """The name of every format there is, in order."""
    return sorted(known_formats())


def known_formats() -> dict[str, AnnotationFormat]:
    """Every format there is, by its name."""
    return {form.name: form for form in FORMATS} | {n: form for n, (form, _) in plug_ins().items()}


@cache
def plug_ins() -> Mapping[str, tuple[AnnotationFormat, str]]:
    """Formats of other packages by name, each with its package; looked for once a process.

    What cannot be one is left out with a line in the log.
    """
    taken = {name for form in FORMATS for name in _names(form)}
    found: dict[str, tuple[AnnotationFormat, str]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda each: (each.name, each.value)):
        package = point.dist.name if point.dist else "an unnamed package"
        form, reason = _loaded(point)
        if form and (same := taken.intersection(_names(form))):
            reason = f"the name {min(same)!r} is taken"
        if form is None or reason:
            log.warning(
                "the annotation format %r of %s is left out: %s; update or remove that package",
                *(point.name, package, reason),
            )
            continue
        taken.update(_names(form))
        found[form.name] = _guarded(form, package), package
    return found


def _names(form: AnnotationFormat) -> tuple[str, ...]:
    return (form.name, *form.aliases)


def _loaded(point: EntryPoint) -> tuple[AnnotationFormat | None, str]:
    """What an entry point names, or why it is no format."""
    try:
        loaded = point.load()
    except Exception as error:  # whatever importing it runs into
        return None, f"it cannot be loaded: {type(error).__name__}: {one_line(error)}"
    if not isinstance(loaded, AnnotationFormat):
        return None, f"{point.value} is no AnnotationFormat"
    return loaded, ""


def _guarded(form: AnnotationFormat, package: str) -> AnnotationFormat:
    """The same format; of what goes wrong in it one line is left, which names its package."""

    def recognise(look: Look) -> Fit:
        try:
            return Fit(form.recognise(look))
        except Exception as error:
            log.warning(
                "the annotation format %r of %s cannot look at %s: %s; update or remove that "
                "package",
                *(form.name, package, look.path, f"{type(error).__name__}: {one_line(error)}"),
            )
            return Fit.NO

    def read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
        with _failures_said(form, package, path):
            found = form.read(path, images, dialect, rules)
            return replace(found, entries=entries(path, found))

    def entries(path: Path, found: Found) -> Iterator[Entry | Problem]:
        with _failures_said(form, package, path):
            for entry in found.entries:
                if not isinstance(entry, Entry | Problem):
                    raise TypeError(f"it gives {type(entry).__name__}, not Entry")
                yield entry

    return replace(form, recognise=recognise, read=read)


@contextmanager
def _failures_said(form: AnnotationFormat, package: str, path: Path) -> Iterator[None]:
    """Turn what goes wrong in another package into InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = (
            f"the format {form.name!r} of {package} fails: {type(error).__name__}: "
            f"{one_line(error)}; update that package, or tell its makers"
        )
        raise InputError([Problem("annotations", str(path), "", reason)]) from error


def choose_format(path: Path, wanted: str) -> tuple[AnnotationFormat, str]:
    """The format and dialect that are wanted, or the one format that fits what lies at a path.

    wanted: `auto`, a format's name, or FORMAT:DIALECT. Raises InputError if there is none, or more
    than one fits.
    """
    if wanted == "auto":
        return _fitting(path), ""
    name, colon, dialect = wanted.partition(":")
    form = _named(name)
    if form is None:
        reason = f"format {name!r} is unknown; one of auto, {', '.join(format_names())}"
        raise InputError([Problem("annotations", str(path), "", reason)])
    if colon and dialect not in form.dialects:
        dialects = ", ".join(f"{form.name}:{each}" for each in form.dialects) or form.name
        reason = f"format {wanted!r} is unknown; one of {dialects}"
        raise InputError([Problem("annotations", str(path), "", reason)])
    return form, dialect


def _named(name: str) -> AnnotationFormat | None:
    """The format of that name or other name; other packages are asked for what is not here."""
    for form in FORMATS:
        if name in _names(form):
            return form
    return next((form for form, _ in plug_ins().values() if name in _names(form)), None)


def _fitting(path: Path) -> AnnotationFormat:
    look = Look(path)
    known = known_formats()
    fits = {name: known[name].recognise(look) for name in sorted(known)}
    best = max(fits.values())
    names = [name for name, fit in fits.items() if fit == best]
    if best and len(names) == 1:
        return known[names[0]]
    if best:
        given = " or ".join(f"--format {name}" for name in names)
        reason = f"fits the formats {' and '.join(names)}; say which is meant with {given}"
    elif look.packed_by:
        reason = f"is packed by {look.packed_by}; unpack it, and name what was in it"
    else:
        reason = (
            f"is in no known annotation format; say which with --format ({', '.join(fits)}); "
            "`ocr-precompute formats` shows how each looks"
        )
    raise InputError([Problem("annotations", str(path), "", reason)])
