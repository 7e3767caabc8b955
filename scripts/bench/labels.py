#!/usr/bin/env python3
"""Labels of one image: edge by edge with numpy, as published DBNet trainers do, against ours.

The numpy way follows Liao et al. 2020 (arXiv 1911.08947), section 3.4. For each polygon it offsets
with pyclipper and fills with OpenCV; for each edge it makes an array of distances over the box of
the dilated polygon, as far as that lies in the image; the nearest edge counts. It is timed twice:
with distances to an edge's line by the law of cosines, as trainers write it, and by a cross
product, which is cheaper and more exact.

All draw the same polygons, at canonical scale, in turn, on one core. Their maps must agree:
prob and masks exactly, thresh within 1e-6 of the cross product's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from contenders.labels import edge_distance_by_cosines, numpy_targets
from measuring.command import argument_parser, run_script, say
from measuring.machine import environment, one_core
from measuring.results import Cell, Column, Result, Table
from measuring.samples import canonical_polygons, checked_annotations
from measuring.timing import medians

from ocr_precompute.parameters import RECIPES, Recipe
from ocr_precompute.runtime.clock import seconds_of
from ocr_precompute.targets.maps import Targets, make_targets

PACKAGES = ("opencv-python-headless", "pyclipper", "numba")
SIDES = (640, 1024)
TOLERANCE = 1e-6
COSINES, NUMPY, OURS = "numpy, cosines", "numpy", "ours"
COLUMNS = (
    Column("maps"),
    Column(COSINES, "ms/image", 2),
    Column("numpy, cross product", "ms/image", 2),
    Column(OURS, "ms/image", 2),
    Column("cosines / ours", "", 1),
    Column("cross product / ours", "", 1),
    Column("largest difference in thresh"),
)


@dataclass(frozen=True, eq=False)
class Page:
    """The polygons of one image, in canonical pixels, and their don't-care flags."""

    name: str
    polygons: list[np.ndarray]
    ignore: list[bool]


def check_equal(pages: Sequence[Page], side: int, recipe: Recipe) -> float:
    """The largest difference in thresh; stops if the two ways disagree. Compiles ours, too."""
    largest = 0.0
    for page in pages:
        theirs = numpy_targets(page.polygons, page.ignore, side, recipe)
        own = make_targets(page.polygons, page.ignore, side, recipe)
        for field in ("prob", "prob_mask", "thresh_mask"):
            differing = int((getattr(theirs, field) != getattr(own, field)).sum())
            if differing:
                sys.exit(f"{page.name}, {recipe.name}: {field} differs in {differing} pixels")
        difference = float(np.abs(theirs.thresh - own.thresh).max())
        if not difference <= TOLERANCE:
            sys.exit(f"{page.name}, {recipe.name}: thresh differs by {difference:.1e}")
        largest = max(largest, difference)
    return largest


def seconds_of_all(
    pages: Sequence[Page], rounds: int, side: int, recipe: Recipe
) -> dict[str, list[float]]:
    """Seconds for every page and round, of both ways."""
    functions: dict[str, Callable[[Page], Targets]] = {
        COSINES: lambda page: numpy_targets(
            page.polygons, page.ignore, side, recipe, edge_distance_by_cosines
        ),
        NUMPY: lambda page: numpy_targets(page.polygons, page.ignore, side, recipe),
        OURS: lambda page: make_targets(page.polygons, page.ignore, side, recipe),
    }
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    # All pages one way, then all the other: in between, each has the caches to itself.
    for _ in range(rounds):
        for name, function in functions.items():
            for page in pages:
                seconds[name].append(seconds_of(partial(function, page)))
    return seconds


def measured_row(arguments: argparse.Namespace, side: int, recipe: Recipe) -> tuple[Cell, ...]:
    """One line of the table: one size, one recipe."""
    pages = read_pages(arguments, side)
    say(f"{side} px, {recipe.name}: {len(pages)} images")
    difference = check_equal(pages, side, recipe)
    took = medians(seconds_of_all(pages, arguments.rounds, side, recipe))
    ratios = [took[name] / took[OURS] for name in (COSINES, NUMPY)]
    times = [took[name] for name in (COSINES, NUMPY, OURS)]
    return f"{side} px, {recipe.name}", *times, *ratios, float(f"{difference:.0e}")


def read_pages(arguments: argparse.Namespace, side: int) -> list[Page]:
    """The first images that have polygons, these scaled to fit a square."""
    found = checked_annotations(arguments.images, arguments.annotations)
    drawn = [a for a in found if len(a.polygons.lengths)][: arguments.samples]
    pages = []
    for annotation in drawn:
        scaled = canonical_polygons(annotation.polygons, arguments.images / annotation.name, side)
        pages.append(Page(annotation.name, scaled.as_list(), scaled.ignore.tolist()))
    return pages or sys.exit(f"{arguments.annotations}: no image has polygons")


def measure(arguments: argparse.Namespace) -> Result:
    """Check that all draw the same, then a row for each size and recipe."""
    recipes = [RECIPES[name] for name in ("seed", "dbnet")]  # whose rules contenders.labels has
    rows = [measured_row(arguments, side, recipe) for side in SIDES for recipe in recipes]
    question = "How long do the labels of one image take on one core?"
    return Result("labels", question, environment(PACKAGES), (Table(COLUMNS, tuple(rows)),))


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argument_parser(__doc__)
    options.add_argument("--samples", type=int, default=60, help="images at most; default: 60")
    options.add_argument("--rounds", type=int, default=3, help="times each is drawn; default: 3")
    return options


if __name__ == "__main__":
    run_script(parser(), measure, before=one_core)
