"""The command `preview`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocr_precompute.cli.options import (
    ConfigOption,
    JsonOption,
    SplitOption,
    StoreOption,
    VerboseOption,
)
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import byte_size, progress_bar, say
from ocr_precompute.errors import InputError, Problem
from ocr_precompute.settings import Settings, check_local, load_settings

if TYPE_CHECKING:
    from ocr_precompute.reports.gallery import GalleryReport

_PICTURES = 8
_SHOWN = 5  # suspicious samples on the screen

HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        help="Write a gallery to look through in a browser. A path that ends in .html becomes one "
        "file of at most 300 samples and 50 MB, which can be sent to somebody; any other path a "
        "folder of any number, to be opened by its index.html. An earlier gallery is replaced.",
        show_default=False,
    ),
]
PredictionsOption = Annotated[
    Path | None,
    typer.Option(
        "--predictions",
        help="With --html: compare labels with these predictions, the predictions.json of "
        "`ocr-train predict`. Where they disagree the annotation may be wrong.",
        show_default=False,
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder for pictures: one for each sample, with its maps beside it, and contact "
        "sheets. `preview` by default, unless --html is given.",
        show_default=False,
    ),
]
CountOption = Annotated[
    int | None,
    typer.Option(
        "--count",
        min=1,
        help="How many samples. By default 8 pictures, spread over the split; in a gallery, where "
        "the most suspicious are taken first, 300 in a file and all in a folder.",
        show_default=False,
    ),
]


def preview(
    split: SplitOption,
    html: HtmlOption = None,
    predictions: PredictionsOption = None,
    out: OutOption = None,
    count: CountOption = None,
    sample: Annotated[
        list[str] | None,
        typer.Option("--sample", help="Show this sample; may be repeated.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Show stored samples: a gallery for a browser, or pictures with contact sheets.

    A gallery shows polygons, don't-care and label maps over each image, filters by name, by what
    was found and by the number of polygons, and begins with what is suspicious: signs that are rare
    in the split, such as overlaps, labels that vanished, text outside the page or of unusual shape,
    and with --predictions all that labels and predictions disagree about.

    Example: ocr-precompute preview --split val --html val.html
    """
    with reporting(as_json, verbose):
        from ocr_precompute.reports.preview import write_previews
        from ocr_precompute.storage.place import storage_of

        for path, option in ((out, "--out"), (html, "--html"), (predictions, "--predictions")):
            if path:
                check_local(path, option)
        if predictions and not html:
            reason = "is for a gallery; give --html PATH too"
            raise InputError([Problem("config", "command line", "--predictions", reason)])
        settings = load_settings(config, {"store": store})
        document: dict[str, Any] = {}
        if html:
            report = _gallery(settings, split, html, count, sample or [], predictions)
            document["gallery"] = asdict(report)
        if out or not html:
            folder = out or Path("preview")
            with _shown_progress() as told:
                written = write_previews(
                    storage_of(settings), split, folder, count or _PICTURES, sample or [], told
                )
            say(f"{len(written.pictures)} pictures and {_sheets(written.sheets)} in {folder}")
            document |= {name: [str(p) for p in paths] for name, paths in asdict(written).items()}
        if as_json:
            print_json(document)


def _sheets(sheets: Sequence[Path]) -> str:
    return f"{len(sheets)} contact sheet" + "s" * (len(sheets) != 1)


@contextmanager
def _shown_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Give what shows how far the work is, by what is done, how much of it, and of how much."""
    progress = progress_bar()
    task = progress.add_task("opening", total=None, detail="")

    def told(what: str, done: int, total: int) -> None:
        progress.update(task, description=what, completed=done, total=total)

    with progress:
        yield told


def _gallery(
    settings: Settings,
    split: str,
    html: Path,
    count: int | None,
    names: list[str],
    predictions: Path | None,
) -> GalleryReport:
    """Write a gallery, with progress, and say what is in it."""
    from ocr_precompute.reading.store import store_of
    from ocr_precompute.reports.gallery import write_gallery

    with _shown_progress() as told:
        report = write_gallery(
            store_of(settings),
            split,
            html,
            count=count,
            names=names,
            predictions=predictions,
            told=told,
        )
    print_gallery(report)
    return report


def print_gallery(report: GalleryReport) -> None:
    """What was written, and the most suspicious samples, in a few lines."""
    from ocr_precompute.reports.suspicion import SIGNS

    say(f"{report.path}: {report.samples} of {report.of} samples, {byte_size(report.bytes)}")
    if report.predictions is not None:
        say(f"compared with predictions for {report.predictions} samples")
    for each in report.suspicious[:_SHOWN]:
        reasons = ", ".join(SIGNS.get(reason, reason) for reason in each.reasons)
        say(f"worth a look: {each.name} ({each.score:.2f}: {reasons})")
