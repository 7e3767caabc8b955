"""Label maps from polygons, and whole samples: arrays in, arrays out."""

from ocr_precompute.targets.maps import make_targets

__all__ = ["make_targets"]
