"""How large an image is once it is scaled to fit its canonical size."""

from __future__ import annotations

import numpy as np


def fit_scale(original_size: tuple[int, int], size: tuple[int, int]) -> float:
    """Factor from original to canonical pixels, so that the image just fits in size (H, W)."""
    return min(size[0] / original_size[0], size[1] / original_size[1])


def scaled_sizes(original_sizes: np.ndarray, scales: np.ndarray | float) -> np.ndarray:
    """Height and width of images in whole canonical pixels, int32 (..., 2); at least 1.

    original_sizes: (..., 2), heights and widths as displayed. scales: factor of each, (..., 1).
    """
    scaled: np.ndarray = np.maximum(1, np.rint(original_sizes * scales)).astype(np.int32)
    return scaled


def content_sizes(original_sizes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Height and width of what letterboxed images fill of their canonical size, int32 (n, 2).

    original_sizes: int (n, 2), heights and widths as displayed, at least 1. size: canonical (H, W).
    The content lies at the top left; all beyond is padding.
    """
    scales = (np.array(size) / original_sizes).min(axis=1, keepdims=True)
    return np.minimum(scaled_sizes(original_sizes, scales), np.array(size, np.int32))
