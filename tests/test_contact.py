"""Contact sheets: all samples, no padding, don't-care in another colour, names that fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Dataset

from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import open_store
from ocr_precompute.reports import preview
from ocr_precompute.reports.contact import fitted_text, sheet, tile
from ocr_precompute.samples import Fate
from ocr_precompute.settings import Settings


@pytest.fixture
def split(dataset: Dataset, settings: Settings) -> Split:
    build("val", dataset.source, settings)
    return open_store(settings.store)["val"]


def inked(tile: np.ndarray) -> np.ndarray:
    """Which pixels of a tile's picture are no paper."""
    return (tile[:300] != tile[-1, -1]).any(axis=2)


def excess(tile: np.ndarray, channel: int) -> int:
    """How many pixels have much more of a colour (1 green, 2 red) than of the others."""
    others = np.delete(tile.astype(int), channel, axis=2).max(axis=2)
    return int(np.count_nonzero(tile[..., channel].astype(int) - others > 50))


def test_a_tile_shows_all_but_the_padding(split: Split) -> None:
    sample = split[0]
    assert sample.original_size == (96, 80)
    drawn = inked(tile(sample))
    columns = np.flatnonzero(drawn.any(axis=0))
    assert drawn[:, columns[0] : columns[-1] + 1].mean() > 0.99
    assert columns[-1] + 1 - columns[0] == pytest.approx(300 * 80 / 96, abs=8)
    assert drawn.any(axis=1).all()


def test_dont_care_has_another_colour(split: Split) -> None:
    sample = replace(split[0], image=np.full_like(split[0].image, 128))
    trains = tile(replace(sample, fate=np.full(3, Fate.TRAINS, np.uint8)))
    ignored = tile(replace(sample, fate=np.full(3, Fate.ANNOTATED, np.uint8)))
    assert [(excess(trains, 1) > 0, excess(trains, 2) > 0)] == [(True, False)]
    assert [(excess(ignored, 1) > 0, excess(ignored, 2) > 0)] == [(False, True)]
    assert (trains[300:] != ignored[300:]).any()  # and the caption says so


def test_captions_fit() -> None:
    long = fitted_text("a" * 400 + "_page_0001.jpg", 0.5)
    assert long.startswith("aaa")
    assert long.endswith("_page_0001.jpg")
    width = cv2.getTextSize(long, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
    assert 200 < width <= 300
    assert fitted_text("short.jpg", 0.5) == "short.jpg"
    assert fitted_text("quittung_ß.jpg", 0.5) == "quittung_?.jpg"


def test_sheets_hold_all_samples(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "ON_A_SHEET", 10)
    written = preview.write_previews(split.storage.folder, "val", tmp_path / "out", 24, [])
    assert len(written.pictures) == 24
    assert [path.name for path in written.sheets] == [f"contact-sheet-00{n}.png" for n in (1, 2, 3)]
    shapes = [cv2.imread(str(path)).shape for path in written.sheets]
    assert shapes[0] == shapes[1] == (2 * 372 + 20, 5 * 320 + 20, 3)
    assert shapes[2] == (372 + 20, 4 * 320 + 20, 3)
    first = cv2.imread(str(written.sheets[0]))
    assert (first[20:372, 340:640] == tile(split[1])).all()
    assert sheet([tile(split[0])]).shape == (392, 340, 3)
