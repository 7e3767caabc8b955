#!/usr/bin/env python3
"""How many training crops hold no text to learn: our crop against the rule of DBNet's release.

The release (Liao et al. 2020, arXiv 1911.08947) cuts a window of any shape in the gaps that texts
leave along each axis, and scales it to the side of the crop; where ten tries find none that holds
text, it takes the whole page. Ours is `Augmentation.crop`. Both see the same pages, turned and
scaled as configs/train.yaml says, and only text that is not don't-care. A crop counts as empty if
the map that is drawn for it has no pixel of text; beside it stands how many texts a crop cuts.
Pages without any text to learn, as they are, take no part.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from measuring.command import argument_parser, run_script
from measuring.machine import environment
from measuring.results import Cell, Column, Result, Table
from measuring.samples import checked_annotations, decoded

from ocr_precompute.augmentation.placement import Augmentation, transformed, visible_polygons
from ocr_precompute.parameters import RECIPES
from ocr_precompute.samples import Polygons
from ocr_precompute.targets.maps import draw_targets

PACKAGES = ("opencv-python-headless", "pyclipper")
CONFIG = Path(__file__).parents[2] / "configs" / "train.yaml"
SIDES = (640, 320)
RECIPE = RECIPES["dbnet"]
MIN_SIDE_RATIO, MAX_TRIES = 0.1, 10  # of the release

Place = Callable[["Page", Augmentation, np.random.Generator], np.ndarray]


@dataclass(frozen=True, eq=False)
class Page:
    """Polygons of one image in canonical pixels, (H, W) of its content, and the canonical side."""

    polygons: Polygons
    content: tuple[int, int]
    side: int


def ours(page: Page, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
    """The (2, 3) matrix from page to crop."""
    return augmentation.placement(page.polygons, (page.side, page.side), RECIPE, random)


def release(page: Page, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
    """The same by the release's rule."""
    matrix = replace(augmentation, crop=None).placement(page.polygons, page.content, RECIPE, random)
    height, width = page.content
    corners = Polygons.from_list(
        [np.array([[0, 0], [width, 0], [width, height], [0, height]], float)], [False]
    )
    moved = transformed(corners, matrix).points
    matrix[:, 2] -= moved.min(axis=0)
    size = np.ceil(np.ptp(moved, axis=0)).astype(int)
    boxes = np.rint(text_boxes(transformed(page.polygons, matrix))).astype(int)
    low, high = release_window(boxes, size, random)
    factor = (augmentation.crop or 0) / (high - low).max()
    matrix[:, 2] -= low
    scaled: np.ndarray = matrix * factor
    return scaled


def text_boxes(polygons: Polygons) -> np.ndarray:
    """Lowest and highest xy of each polygon that is not don't-care, (N, 2, 2)."""
    pairs = zip(polygons.as_list(), polygons.ignore, strict=True)
    return np.array([[p.min(axis=0), p.max(axis=0)] for p, ignored in pairs if not ignored])


def release_window(
    boxes: np.ndarray, size: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest xy of the window. boxes: int (N, 2, 2), lowest and highest of each."""
    gaps = []
    for axis in (0, 1):
        free = np.ones(size[axis], bool)
        for low, high in boxes[:, :, axis]:
            free[max(low, 0) : max(high, 0)] = False
        places = np.flatnonzero(free)
        runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
        # Where there are three gaps or more, the release forgets the last.
        gaps.append(runs[:-1] if len(runs) > 2 else [places])
    whole = np.zeros(2, int), size
    if any(not len(runs[0]) for runs in gaps):
        return whole
    for _ in range(MAX_TRIES):
        cuts = np.array(
            [[random.choice(runs[i]) for i in random.integers(len(runs), size=2)] for runs in gaps]
        )
        low, high = cuts.min(axis=1), cuts.max(axis=1)
        if np.any(high - low < MIN_SIDE_RATIO * size):
            continue
        if np.any(np.all((boxes[:, 0] < high) & (boxes[:, 1] > low), axis=1)):
            return low, high
    return whole


RULES: dict[str, Place] = {"the release's rule": release, "ours": ours}


def measured_row(
    pages: Sequence[Page], rule: str, augmentation: Augmentation, crops: int
) -> tuple[Cell, ...]:
    """One line of the table."""
    size = (augmentation.crop or 0, augmentation.crop or 0)
    empty, cut = 0, 0
    for number in range(crops):
        page = pages[number % len(pages)]
        random = np.random.default_rng([0, number // len(pages), number % len(pages)])
        moved = transformed(page.polygons, RULES[rule](page, augmentation, random))
        empty += not draw_targets(visible_polygons(moved, size), size, RECIPE).prob.any()
        cut += texts_cut(moved, size[0])
    return f"{size[0]} px, {rule}", 100 * empty / crops, cut / crops


def texts_cut(polygons: Polygons, side: int) -> int:
    """How many texts that are not don't-care lie partly in the crop and partly outside."""
    texts = [
        p for p, ignored in zip(polygons.as_list(), polygons.ignore, strict=True) if not ignored
    ]
    low, high = (np.array([end(text, axis=0) for text in texts]) for end in (np.min, np.max))
    touched = np.all((low < side) & (high > 0), axis=1)
    return int((touched & ~np.all((low >= 0) & (high <= side), axis=1)).sum())


def read_pages(arguments: argparse.Namespace) -> list[Page]:
    """The images that have text to learn."""
    pages = []
    for annotation in checked_annotations(arguments.images, arguments.annotations):
        pixels = decoded(arguments.images / annotation.name)
        scale = arguments.size / max(pixels.shape[:2])
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        polygons = annotation.polygons.scaled(scale)
        size = (arguments.size, arguments.size)
        if draw_targets(polygons, size, RECIPE).prob.any():
            pages.append(Page(polygons, (height, width), arguments.size))
    return pages or sys.exit(f"{arguments.annotations}: no image has text to learn")


def measure(arguments: argparse.Namespace) -> Result:
    """Place crops, draw them, count: a row for each side and rule."""
    settings = yaml.safe_load(CONFIG.read_text())["data"]["augmentation"]
    pages = read_pages(arguments)
    rows = tuple(
        measured_row(pages, rule, Augmentation(**{**settings, "crop": side}), arguments.crops)
        for side in SIDES
        for rule in RULES
    )
    return Result(
        "crops",
        "How many training crops hold no text to learn?",
        environment(PACKAGES),
        (
            Table(
                (
                    Column("crops"),
                    Column("without text to learn", "%", 2),
                    Column("texts cut per crop", "", 2),
                ),
                rows,
            ),
        ),
        notes=(
            f"{arguments.crops:,} crops of {len(pages)} pages, canonical size {arguments.size} px",
        ),
    )


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__)
    options.add_argument("--crops", type=int, default=20_000, help="of each kind; default: 20000")
    options.add_argument("--size", type=int, default=640, help="canonical side; default: 640")
    return options


if __name__ == "__main__":
    run_script(parser(), measure)
