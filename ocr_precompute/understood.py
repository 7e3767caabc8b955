"""What a build understood of its source: how much trains, what does not and why, what is odd."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from ocr_precompute.parameters import Parameters

UNDERSTOOD_VERSION = 1
"""Another one where the same source is counted in another way."""

MOST_NAMES = 20  # names of each kind that a manifest keeps
NEARLY_ALL = 0.99  # share of words that a recommended canonical size keeps
_WORTH_A_WARNING = 0.1  # share of words
_SHOWN = 3  # names of each kind on the screen after a build

DONT_CARE = {
    "annotated": "annotated as don't-care",
    "kept-as-ignore": "of bad polygons, kept as don't-care",
    "outside": "wholly outside their image",
    "no-area": "of no area",
    "small": "under {min_size:g} px at size {size}",
    "collapsed": "that the shrink leaves nothing of",
}
"""Why a word does not train; each such word counts once, under the first that holds."""

ODD_WORDS = {
    "in-padding": "wholly outside their image, and yet drawn, in the padding beside it",
    "partly-outside": "partly outside their image",
    "repaired": "self-crossing, repaired",
    "self-crossing": "self-crossing, left as they are",
}
"""What else may be said of a word."""

IMAGES = {
    "unannotated": "without annotation",
    "unlabelled": "holding text that is not labelled, since its polygon is bad",
    "without-words": "annotated without a word",
    "nothing-trains": "in which no word trains",
}
"""What may be said of an image."""

SUSPICIONS = {
    "declared-size": "of another size than their annotation declares: were these the images that "
    "were annotated?",
    "declared-turned": "of the size that their annotation declares, turned by a quarter: EXIF "
    "orientation suspected; give points of the image as displayed",
    "exif": "with points outside the image as displayed, but inside the file's own pixels: EXIF "
    "orientation suspected; give points of the image as displayed",
    "tiny": "all of whose polygons are under 2 px: coordinates of another unit suspected; give "
    "pixels",
}
"""What is legal, and probably not meant."""

KINDS = (*DONT_CARE, *ODD_WORDS, *IMAGES, *SUSPICIONS)

_Count = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Tally:
    """How often something was found.

    kind: one of KINDS. words: how many; 0 if it is about whole images. images: how many hold it.
    worst: (name, words) of such images, the most words first, then by name; not all of them where
    only some are kept.
    """

    kind: str
    words: _Count
    images: _Count
    worst: tuple[tuple[str, _Count], ...]


@dataclass(frozen=True)
class Understood:
    """What was understood of a source.

    key: of all that it comes from: the same key, the same content. format, dialect: what the
    annotations were read as. images: those that are built. words: all in them. trained: words that
    a training learns from. tallies: what was found, in the order of KINDS, nothing that was not.
    kept: (longer side of the canonical size, share of words that are not under the recipe's
    smallest side there), among those that nothing else keeps from training; empty if the recipe has
    no smallest side. size_needed: longer side of the smallest canonical size, in steps of 32 px,
    that keeps nearly all; 0 if none does. left_out: (path below the annotation folder, reason) of
    what is no annotation. all_left_out: how many these are. warnings: about the whole, one line
    each.
    """

    key: str
    format: str
    dialect: str
    images: _Count
    words: _Count
    trained: _Count
    tallies: tuple[Tally, ...] = ()
    kept: tuple[tuple[_Count, _Share], ...] = ()
    size_needed: _Count = 0
    left_out: tuple[tuple[str, str], ...] = ()
    all_left_out: _Count = 0
    warnings: tuple[str, ...] = ()

    def tally(self, kind: str) -> Tally:
        """What was found of a kind; a tally of nothing if that is what was found."""
        return next((t for t in self.tallies if t.kind == kind), Tally(kind, 0, 0, ()))

    def shortened(self) -> Understood:
        """The same with at most MOST_NAMES names of each kind, the worst."""
        tallies = tuple(replace(t, worst=t.worst[:MOST_NAMES]) for t in self.tallies)
        return replace(self, tallies=tallies, left_out=self.left_out[:MOST_NAMES])

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return asdict(self)


def summary_lines(understood: Understood, parameters: Parameters) -> list[str]:
    """What was understood, in a few lines for people."""
    kind = ":".join(part for part in (understood.format, understood.dialect) if part)
    words, images = _many(understood.words, "word"), _many(understood.images, "image")
    trained = f"{understood.trained} train{_share(understood.trained, understood.words)}"
    lines = [f"read as {kind}: {words} in {images}, {trained}"]
    for title, kinds in (("don't-care words", DONT_CARE), ("words", ODD_WORDS), ("images", IMAGES)):
        found = [t for t in understood.tallies if t.kind in kinds]
        if found:
            said = (_phrase(t, kinds[t.kind], understood, parameters) for t in found)
            lines.append(f"{title}: {'; '.join(said)}")
    if understood.tally("small").words:
        shares = ", ".join(f"{side} {share:.1%}" for side, share in understood.kept)
        lines.append(f"large enough at canonical size: {shares}; {_advice(understood, parameters)}")
    if understood.all_left_out:
        paths = _some([path for path, _ in understood.left_out], understood.all_left_out)
        lines.append(f"not read as annotations: {paths}")
    return lines


def warning_lines(understood: Understood, parameters: Parameters) -> list[str]:
    """All that is legal and probably not meant, one line each: suspicions, and what is too often.

    These are what `--strict` refuses.
    """
    lines = list(understood.warnings)
    if not understood.trained:
        lines.append(f"nothing trains: there is no word but don't-care ({understood.words} words)")
    for kind, text in SUSPICIONS.items():
        if (found := understood.tally(kind)).images:
            lines.append(f"{_many(found.images, 'image')} {text} ({_names(found)})")
    for kind, text in {**DONT_CARE, **ODD_WORDS}.items():
        found = understood.tally(kind)
        if kind != "annotated" and found.words > _WORTH_A_WARNING * understood.words:
            share = _share(found.words, understood.words)
            said = f"{_many(found.words, 'word')}{share} {_filled(text, parameters)}"
            advice = f"; {_advice(understood, parameters)}" if kind == "small" else ""
            lines.append(f"{said} ({_names(found)}){advice}")
    return lines


def tally_lines(understood: Understood, parameters: Parameters) -> Iterator[str]:
    """Every tally with all the names that are kept, one line each."""
    texts = {**DONT_CARE, **ODD_WORDS, **IMAGES, **SUSPICIONS}
    for tally in understood.tallies:
        text = _filled(texts.get(tally.kind, tally.kind), parameters)
        images = _many(tally.images, "image")
        if tally.kind in IMAGES or tally.kind in SUSPICIONS:
            what = f"{images} {text}"
        else:
            what = f"{_many(tally.words, 'word')} {text}, in {images}"
        names = [_named(name, count) for name, count in tally.worst]
        if (more := tally.images - len(names)) > 0:
            names.append(f"and {more} more")
        yield f"{what}: {', '.join(names)}"
    for path, reason in understood.left_out:
        yield f"not read as annotations: {path}: {reason}"
    if understood.all_left_out > len(understood.left_out):
        yield f"and {understood.all_left_out - len(understood.left_out)} more"


def _phrase(tally: Tally, text: str, understood: Understood, parameters: Parameters) -> str:
    if tally.kind in IMAGES:
        return f"{tally.images} {_filled(text, parameters)} ({_names(tally)})"
    share = _share(tally.words, understood.words)
    return f"{tally.words}{share} {_filled(text, parameters)} ({_names(tally)})"


def _filled(text: str, parameters: Parameters) -> str:
    smallest, size = parameters.recipe.min_size, sized(max(parameters.size), parameters)
    return text.format(min_size=smallest, size=size)


def _advice(understood: Understood, parameters: Parameters) -> str:
    if not understood.size_needed:
        return "no size keeps nearly all of them"
    size = sized(understood.size_needed, parameters)
    return f"--size {size} keeps at least {NEARLY_ALL:.0%} of them"


def sized(longer: int, parameters: Parameters) -> str:
    """The canonical size of that longer side, of the shape that it has now, as it is given."""
    height, width = (round(side * longer / max(parameters.size)) for side in parameters.size)
    return f"{height}" if height == width else f"{height}x{width}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _names(tally: Tally) -> str:
    return _some([_named(name, words) for name, words in tally.worst], tally.images)


def _some(names: Iterable[str], count: int) -> str:
    shown = list(names)[:_SHOWN]
    return ", ".join(shown) + (", ..." if count > len(shown) else "")


def _named(name: str, words: int) -> str:
    return f"{name}: {words}" if words else name


def _share(part: int, whole: int) -> str:
    return f" ({part / whole:.1%})" if whole else ""
