"""Large pages by tiles: what lies across the border of two is found once."""

from __future__ import annotations

import itertools
import weakref
from pathlib import Path

import numpy as np
import pytest

from ocr.inference.description import Description
from ocr.inference.pages import plan_of
from ocr.inference.tiles import spans, stitched, tile_scale
from ocr.predict import Detector, PostProcess
from ocr_precompute.errors import ImageError

MARGIN = 40  # pixels at the border of what it sees in which the network below sees nothing


class Bright:
    """Takes white for text, but near the border of what it is shown, where it is blind.

    Knows how many of the maps that it made were held at once, at most.
    """

    def __init__(self, blind: int = MARGIN) -> None:
        self._blind = blind
        self._made: list[weakref.ref[np.ndarray]] = []
        self.calls = self.most = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        assert images.shape[0] == 1
        assert max(images.shape[1:3]) <= 640
        assert images.shape[1] % 32 == images.shape[2] % 32 == 0
        prob = (images[..., 0] > 127).astype(np.float32)
        for axis in (1, 2):
            for end in (slice(0, self._blind), slice(prob.shape[axis] - self._blind, None)):
                prob[(slice(None),) * axis + (end,)] = 0
        self._made = [made for made in (*self._made, weakref.ref(prob)) if made() is not None]
        self.calls, self.most = self.calls + 1, max(self.most, len(self._made))
        return prob


def test_tiles_follow_upon_each_other() -> None:
    for side in (64, 96, 640, 1024):
        for length in [*range(1, 3 * side, 7), 9999]:
            tiles = spans(length, side)
            assert (tiles[0].first, tiles[-1].last) == (0, length)
            assert all(a.last == b.first for a, b in itertools.pairwise(tiles))
            for tile in tiles:
                assert tile.start % 32 == 0
                assert 0 <= tile.start <= tile.first < tile.last <= tile.stop <= length
                assert tile.stop - tile.start <= side
                away = (side // 4 // 32 * 32 or 32) // 2  # from borders that are not the page's
                assert tile.start == 0 or tile.first - tile.start >= away
                assert tile.stop == length or tile.stop - tile.last >= away


def test_text_across_borders_is_found_once() -> None:
    """5,000 x 7,000 pixels with 2,450 words, at half the scale: 35 tiles of 640 pixels, whose
    borders cut hundreds of them.
    """
    page = np.zeros((7000, 5000, 3), np.uint8)
    centres = []
    for top in range(120, 6850, 140):
        for left in range(120, 4850, 95):
            page[top : top + 60, left : left + 60] = 255
            centres.append((left + 30, top + 30))
    assert len(centres) > 2400
    network = Bright()
    reading = PostProcess(unclip_ratio=0.1)
    detector = Detector(network, Description((640, 640)), reading)
    polygons, scores = detector(page, tile=1280)
    assert (network.calls, network.most) == (35, 1)
    assert len(polygons) == len(scores) == len(centres)
    found = [tuple(np.rint(polygon.mean(axis=0) / 5).astype(int)) for polygon in polygons]
    assert sorted(found) == sorted((round(x / 5), round(y / 5)) for x, y in centres)
    areas = [np.ptp(polygon, axis=0).prod() for polygon in polygons]
    assert max(areas) < 1.3 * min(areas)  # none is a half of one


def test_a_map_of_tiles_is_that_of_the_whole_page() -> None:
    random = np.random.default_rng(0)
    page = random.integers(0, 255, (900, 400, 3), np.uint8)
    page[:32] = page[-32:] = page[:, :32] = page[:, -32:] = 0
    whole = stitched(page, Bright(32), (256, 256))
    assert whole.dtype == np.uint8
    assert np.array_equal(whole, 255 * (page[..., 0] > 127))
    assert stitched(page, Bright(0), (640, 640)).tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("picture", "size", "tile", "scale"),
    [
        ((4000, 3000), (640, 640), None, None),
        ((4000, 3000), (640, 640), "auto", None),  # as the training saw its own
        ((3000, 1000), (640, 640), "auto", None),
        ((3100, 1000), (640, 640), "auto", 0.32),
        ((4400, 1000), (640, 640), "auto", 0.32),  # its width fills half of the size
        ((1000, 4400), (640, 640), "auto", 0.32),
        ((4400, 1000), (1280, 320), "auto", None),  # trained on long pages
        ((4000, 3000), (640, 640), 1280, 0.5),
        ((4000, 3000), (640, 640), 4000, None),  # all in one
        ((4000, 3000), (640, 480), 960, 0.5),
    ],
)
def test_when_there_are_tiles(
    picture: tuple[int, int], size: tuple[int, int], tile: int | None, scale: float | None
) -> None:
    assert tile_scale(picture, size, tile) == scale  # type: ignore[arg-type]


def test_tiles_that_would_take_too_much_memory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"becomes 100000 x 140000 pixels by tiles of 32, more"):
        plan_of((7000, 5000), (640, 640), 32)
    detector = Detector(Bright(), Description((640, 640)), PostProcess())
    with pytest.raises(ImageError, match="give larger tiles"):
        detector(np.zeros((7000, 5000, 3), np.uint8), tile=32)


@pytest.mark.parametrize("tile", [31, 0, -1, True, 40.0, "all"])
def test_what_is_no_tile(tile: object) -> None:
    detector = Detector(Bright(), Description((640, 640)), PostProcess())
    with pytest.raises(ValueError, match=r"tile is .*it must be a number of pixels, at least 32"):
        detector(np.zeros((64, 64, 3), np.uint8), tile=tile)  # type: ignore[arg-type]
