"""What the values of a stored sample may be, whoever wrote them."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np

from ocr_precompute.format.records import SampleRecord
from ocr_precompute.images.decoding import fit_scale
from ocr_precompute.parameters import Parameters

_REACH = 1e6  # pixels of the original that an annotated point may lie away
_MOST_SIDE = 2**20  # pixels of an original image; decoders refuse larger ones


def map_problem(array: np.ndarray, field: str, parameters: Parameters) -> str:
    """What is wrong with a map's values; empty if nothing is."""
    if field == "image":
        return ""
    low, high = 0.0, 1.0
    if field == "thresh":
        recipe = parameters.recipe
        low, high = float(np.float32(recipe.thresh_min)), float(np.float32(recipe.thresh_max))
    if array.min() >= low and array.max() <= high:  # false for not-a-number too
        return ""
    return f"{field}: holds values outside {low:g} to {high:g}"


def record_problems(record: SampleRecord, parameters: Parameters) -> list[str]:
    """What is wrong with the rest of a sample, each by field; empty if nothing is."""
    found = []
    if not _is_safe(record.name):
        found.append("name: leaves the image folder, or is no file name")
    scale, reach = 0.0, float(np.finfo(np.float32).max)
    if all(0 < side <= _MOST_SIDE for side in record.original_size):
        scale = fit_scale(record.original_size, parameters.size)
        reach = _REACH * scale * 1.001
    else:
        found.append(f"original_size: {record.original_size} is no size of an image")
    # Written so that not-a-number is found too.
    if scale and not np.allclose(record.matrix, np.diag([1 / scale, 1 / scale, 1]), 1e-9, 0):
        found.append("matrix: does not lead back to an image of that size")
    if not all(len(polygon) >= 3 for polygon in record.polygons):
        found.append("polygon_offsets: a polygon has fewer than three points")
    points = np.concatenate([*record.polygons, np.zeros((0, 2), np.float32)])
    if not (np.abs(points) <= reach).all():
        found.append("points: holds coordinates that no annotation may have")
    return found


def _is_safe(name: str) -> bool:
    """Whether a file of that name lies below the image folder, and the name can be shown."""
    parts = PurePosixPath(name).parts
    inside = bool(parts) and ".." not in parts and not name.startswith("/")
    return inside and "\\" not in name and name[1:2] != ":" and min(name) >= " "
