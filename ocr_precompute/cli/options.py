"""Options that several commands take, and what they say together about a split's source."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from ocr_precompute.errors import InputError, Problem
from ocr_precompute.settings import DEFAULT_CONFIG, Settings, Source, Unannotated, source_with

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help=f"Configuration file; {DEFAULT_CONFIG} by default, if present."),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Folder of the store, or its URL: s3://BUCKET/NAME, gs://, az://. Credentials come "
        "from the environment.",
    ),
]
SplitOption = Annotated[str, typer.Option("--split", help="Name of the split.")]
OneSplitOption = Annotated[str | None, typer.Option("--split", help="Only this split.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
VerboseOption = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        help="Log what is done to stderr; -vv logs more.",
        show_default=False,
    ),
]
ImagesOption = Annotated[
    str | None, typer.Option("--images", help="Folder or URL that image names are relative to.")
]
AnnotationsOption = Annotated[
    Path | None, typer.Option("--annotations", help="Annotation file, or folder of text files.")
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Annotation format: auto, or one that `ocr-precompute formats` lists, as NAME or "
        "NAME:DIALECT.",
    ),
]
IgnoreLabelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore-label",
        help="Words whose label, category or tag is this are don't care; give it as often as "
        "needed. The label is what LabelMe, CVAT, Label Studio and COCO give each shape.",
        metavar="LABEL",
    ),
]
IgnoreTextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore-text",
        help="Words that read exactly so are don't care, besides ###; as often as needed.",
        metavar="TEXT",
    ),
]
KeepLabelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-label",
        help="Only words of this label are text, all others are left out; as often as needed.",
        metavar="LABEL",
    ),
]
StripPrefixOption = Annotated[
    str | None,
    typer.Option(
        "--strip-prefix",
        help="What names of images in the annotations begin with that is not below --images, as "
        "in train/ or C:\\data\\.",
        metavar="PREFIX",
    ),
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Workers; as many as are of use by default.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Change nothing, only say what would be done.")
]


def source_to_build(
    settings: Settings,
    split: str,
    images: str | None,
    annotations: Path | None,
    format_name: str | None,
) -> Source:
    """A split's source: the flags, over what the configuration says.

    Raises InputError if they are not enough.
    """
    known = settings.splits.get(split) if images and annotations else settings.source(split)
    return _override(known, split, images, annotations, format_name)


def source_built_from(
    settings: Settings,
    split: str,
    images: str | None,
    annotations: Path | None,
    format_name: str | None,
) -> Source | None:
    """What a split was built from: the flags, over what the store remembers or is configured.

    None if nothing is known of it and no flag given.
    """
    from ocr_precompute.storage.place import reached, storage_of
    from ocr_precompute.storage.store import recorded_source

    source = recorded_source(storage_of(settings), split) or settings.splits.get(split)
    if images or annotations:
        source = _override(source, split, images, annotations, format_name)
    if source is None:
        return None
    ruled = source.changed(lambda each: {"rules": each.rules or settings.rules})
    return reached(ruled, settings.storage)


def _override(
    source: Source | None,
    split: str,
    images: str | None,
    annotations: Path | None,
    format_name: str | None,
) -> Source:
    if source is None and not (images and annotations):
        raise source_unknown(split)
    given = {"images": images, "annotations": annotations, "format": format_name}
    if source and source.others and any(value is not None for value in given.values()):
        if not (images and annotations):
            reason = "has several sources; give both --images and --annotations, or neither"
            raise InputError([Problem("config", "command line", f"split {split!r}", reason)])
        source = None
    return source_with(source, given)


def marked(
    source: Source,
    ignore_labels: list[str] | None,
    ignore_texts: list[str] | None,
    keep_labels: list[str] | None,
    strip_prefix: str | None,
    unannotated: Unannotated | None,
) -> Source:
    """The source with what flags say that counts of its annotations; they replace what it says."""
    given: dict[str, object] = {
        "ignore_labels": tuple(ignore_labels or ()),
        "ignore_texts": tuple(ignore_texts or ()),
        "keep_labels": tuple(keep_labels or ()),
        "strip_prefix": strip_prefix,
        "unannotated": unannotated,
    }
    chosen = {name: value for name, value in given.items() if value}
    return source.changed(lambda _: chosen)


def source_unknown(split: str) -> InputError:
    """The error that says which flags a command needs."""
    reason = "give both --images and --annotations"
    return InputError([Problem("config", "command line", f"split {split!r}", reason)])


def duration(text: str, option: str) -> timedelta:
    """A length of time as given on the command line: a number and d, h, m or s; or 0."""
    match = re.fullmatch(r"(\d{1,5})([dhms])|0", text.strip())
    if match is None:
        reason = "give a whole number and d, h, m or s, as in 1d, 12h or 30m, or 0"
        raise InputError([Problem("config", "command line", f"{option} {text!r}", reason)])
    unit = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds", None: "days"}[match[2]]
    return timedelta(**{unit: int(match[1] or 0)})
