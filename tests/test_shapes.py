"""Measures of many polygons at once are those of each."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocr_precompute.samples import Polygons
from ocr_precompute.targets.shapes import areas_and_perimeters, measured

COORDINATE = st.floats(-1000, 1000, width=32)
POLYGON = st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=7)


@settings(max_examples=100, deadline=None)
@given(st.lists(POLYGON, max_size=8))
def test_measures_are_those_of_each_polygon(polygons: list) -> None:
    arrays = [np.array(polygon, float) for polygon in polygons]
    many = Polygons.from_list(arrays, [False] * len(arrays))
    shapes = measured(many)
    assert shapes.areas.shape == shapes.upright.shape == (len(arrays),)
    for number, array in enumerate(arrays):
        assert (shapes.low[:, number] == array.min(axis=0)).all()
        assert (shapes.high[:, number] == array.max(axis=0)).all()
        plain = array.astype(np.float32)
        assert np.isclose(shapes.areas[number], cv2.contourArea(plain), rtol=1e-3, atol=0.5)
        length = cv2.arcLength(plain, True)
        assert np.isclose(shapes.perimeters[number], length, rtol=1e-4, atol=1e-3)
        chosen = many.chosen(np.array([number]))
        assert (chosen.points == array).all()
        assert chosen.lengths.tolist() == [len(array)]


@pytest.mark.parametrize("vertices", [3, 4, 9, 40, 400])
def test_areas_and_perimeters_are_numpys_to_the_last_bit(vertices: int) -> None:
    random = np.random.default_rng(vertices)
    arrays = [random.uniform(-900, 900, (vertices + n % 2, 2)) for n in range(50)]
    many = Polygons.from_list(arrays, [False] * len(arrays))
    areas, perimeters = areas_and_perimeters(many)
    edges = many.following() - many.points
    assert (areas == np.abs(many.areas())).all()
    lengths = np.sqrt((edges * edges).sum(axis=1))
    assert (perimeters == np.add.reduceat(lengths, many.starts[:-1])).all()


def test_rectangles_along_the_axes_are_known() -> None:
    box = np.array([[1, 2], [5, 2], [5, 9], [1, 9]], float)
    flat = box * [1, 0]
    tilted = np.add(box, [[0, 0], [0, 1], [0, 1], [0, 0]])
    five = np.array([[1, 2], [3, 2], [5, 2], [5, 9], [1, 9]], float)
    polygons = [box, box[::-1], flat, tilted, five, box[:3]]
    upright = measured(Polygons.from_list(polygons, [False] * 6)).upright
    assert upright.tolist() == [True, True, False, False, False, False]


def test_no_polygon_has_no_measures() -> None:
    nothing = Polygons.from_list([], [])
    assert measured(nothing).areas.shape == (0,)
    assert [each.shape for each in areas_and_perimeters(nothing)] == [(0,), (0,)]
