"""Training samples varied: pixels moved and recoloured, and their labels drawn again."""

from ocr_precompute.augmentation.placement import Augmentation

__all__ = ["Augmentation"]
