"""Pictures to look at: images with polygons drawn on them, as PNG."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_TEXT, _DONT_CARE = (0, 180, 0), (0, 0, 220)  # BGR


def outlined(
    image: np.ndarray, polygons: Sequence[np.ndarray], ignore: Sequence[bool] | np.ndarray = ()
) -> np.ndarray:
    """The image with its polygons, don't-care in red, uint8 (H, W, 3) BGR.

    image: uint8 (H, W, 3) RGB. polygons: each (V, 2), xy in its pixels. ignore: don't-care flags,
    (N,); none if all are text.
    """
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    for number, polygon in enumerate(polygons):
        vertices = np.rint(polygon).astype(np.int32)
        colour = _DONT_CARE if len(ignore) and ignore[number] else _TEXT
        cv2.polylines(picture, [vertices], True, colour, 1, cv2.LINE_AA)
    return picture


def png_bytes(picture: np.ndarray) -> bytes:
    """A picture, uint8 BGR or grey, as a PNG file."""
    return cv2.imencode(".png", picture)[1].tobytes()
