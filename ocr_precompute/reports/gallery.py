"""A split to look through in a browser: one HTML file, or a folder that opens without a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocr_precompute.errors import StoreError
from ocr_precompute.files import flush, new_folder, replace_file, writing
from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import Store, open_store
from ocr_precompute.reports import entries
from ocr_precompute.reports.page import asset, embedded, mark, page
from ocr_precompute.reports.predictions import labels_of, read_predictions
from ocr_precompute.reports.preview import chosen_samples
from ocr_precompute.reports.survey import Survey, Told, look, survey
from ocr_precompute.samples import Polygons
from ocr_precompute.storage.seam import Storage

MOST_IN_A_FILE = 300  # samples
MOST_BYTES = 50_000_000  # of a gallery that is one file
_MOST_SAMPLE = 400_000  # bytes of a sample's file in a folder
_LISTED = 50  # samples that a report names
_KIND = "gallery"
_INDEX, _SAMPLES = "index.html", "samples"


@dataclass(frozen=True)
class Suspicious:
    """A sample that is worth a look: its score, 0 to 1, and what at it is rare in the split."""

    name: str
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class GalleryReport:
    """What was written.

    path: the file, or the folder's index. samples: in the gallery; of: in the split. bytes: of all
    files. predictions: samples with predictions; None if none were given. suspicious: the most
    suspicious samples of the split, first the most.
    """

    path: str
    samples: int
    of: int
    bytes: int
    predictions: int | None
    suspicious: tuple[Suspicious, ...]


def is_one_file(path: Path) -> bool:
    """Whether a gallery of that path is one file."""
    return path.suffix.lower() in (".html", ".htm")


def write_gallery(
    store: Storage | Store,
    split_name: str,
    path: Path,
    *,
    count: int | None = None,
    names: Sequence[str] = (),
    predictions: Path | None = None,
    told: Told = lambda *_: None,
) -> GalleryReport:
    """Write a gallery of a split's samples, the most suspicious first.

    path: one file if it ends in .html, of at most MOST_IN_A_FILE samples and MOST_BYTES; otherwise
    a folder, new, empty, or an earlier gallery, which is replaced. count: how many samples; by
    default all that a file may have, or all. names: which samples. predictions: file to compare
    labels with. told: hears what is being done.
    Raises StoreError for an unknown split or sample, for more samples than a file takes, or if the
    place cannot be written; InputError for predictions that cannot be used.
    """
    split = open_store(store).split(split_name)
    wanted = len(names) or count
    if is_one_file(path) and (wanted or 0) > MOST_IN_A_FILE:
        reason = f"one file holds at most {MOST_IN_A_FILE} samples, not {wanted}"
        raise StoreError(f"{path}: {reason}; give a folder, a path that does not end in .html")
    predicted = read_predictions(predictions, split.names) if predictions else None
    seen = survey(split, predicted, told)
    order = seen.scores.order().tolist()
    if names:
        asked = set(chosen_samples(split, 0, list(names)))
        chosen = [number for number in order if number in asked]
    else:
        chosen = order[: count or (MOST_IN_A_FILE if is_one_file(path) else None)]
    write = _write_file if is_one_file(path) else _write_folder
    with writing(path):
        size = write(path, split, seen, chosen, predicted, told)
    index = path if is_one_file(path) else path / _INDEX
    return GalleryReport(
        path=str(index),
        samples=len(chosen),
        of=len(split),
        bytes=size,
        predictions=seen.predictions,
        suspicious=tuple(_suspicious(split, seen, order[:_LISTED])),
    )


def _suspicious(split: Split, seen: Survey, order: Sequence[int]) -> list[Suspicious]:
    scores = seen.scores
    return [
        Suspicious(
            split.names[number],
            round(float(scores.total[number]), 4),
            tuple(scores.reasons(number)),
        )
        for number in order
        if scores.total[number] > 0
    ]


def _write_file(
    path: Path,
    split: Split,
    seen: Survey,
    chosen: Sequence[int],
    predicted: dict[str, Polygons] | None,
    told: Told,
) -> int:
    blocks = [("index", embedded(entries.index(split, seen, chosen)))]
    room = MOST_BYTES - len(_document(split, blocks, False).encode()) - 100 * len(chosen)
    detail = _details(split, seen, predicted)
    for done, number in enumerate(chosen):
        text = detail(number, room // (len(chosen) - done))
        blocks.append((f"sample-{number}", text))
        room -= len(text)
        told("drawing", done + 1, len(chosen))
    data = _document(split, blocks, False).encode()
    if len(data) > MOST_BYTES:
        raise StoreError(f"{path}: would be of {len(data)} bytes; lower --count, or give a folder")
    replace_file(path, data)
    return len(data)


def _write_folder(
    path: Path,
    split: Split,
    seen: Survey,
    chosen: Sequence[int],
    predicted: dict[str, Polygons] | None,
    told: Told,
) -> int:
    detail = _details(split, seen, predicted)
    blocks = [("index", embedded(entries.index(split, seen, chosen)))]
    document = _document(split, blocks, True).encode()
    size = len(document)
    with new_folder(path, is_gallery) as folder:
        (folder / _SAMPLES).mkdir()
        for done, number in enumerate(chosen):
            script = f"gallery.take({number},{detail(number, _MOST_SAMPLE)});\n"
            size += (folder / _SAMPLES / f"{number}.js").write_bytes(script.encode())
            told("drawing", done + 1, len(chosen))
        flush(folder / _SAMPLES)
        (folder / _INDEX).write_bytes(document)
    return size


def is_gallery(folder: Path) -> bool:
    """Whether a folder holds a gallery that was written here, and nothing else."""
    try:
        with (folder / _INDEX).open("rb") as index:
            marked = mark(_KIND).encode() in index.read(4096)
        found = [*folder.iterdir(), *(folder / _SAMPLES).iterdir()]
    except OSError:
        return False
    return marked and all(_is_ours(path, folder) for path in found)


def _is_ours(path: Path, folder: Path) -> bool:
    if path.is_symlink():
        return False
    if path.parent == folder:
        return path.is_dir() if path.name == _SAMPLES else path.is_file() and path.name == _INDEX
    return path.is_file() and path.suffix == ".js" and path.stem.isdecimal()


def _details(
    split: Split, seen: Survey, predicted: dict[str, Polygons] | None
) -> Callable[[int, int], str]:
    """What gives a sample's block of data, from its number and the bytes that it may take."""
    size = split.manifest.parameters.size

    def detail(number: int, room: int) -> str:
        record = split.record(number)
        at = look(record, size, seen.usual, predicted)
        return entries.detail(split[number], at, labels_of(record), room)

    return detail


def _document(split: Split, blocks: list[tuple[str, Any]], scripts_beside: bool) -> str:
    return page(
        _KIND,
        f"{split.manifest.split}: gallery",
        asset("gallery.html"),
        asset("base.css") + asset("gallery.css"),
        asset("gallery.js"),
        blocks,
        scripts_beside,
    )
