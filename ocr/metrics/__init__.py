"""How well text is found."""

from ocr.metrics.hmean import DetectionHmean, MatchCounts, match_polygons

__all__ = ["DetectionHmean", "MatchCounts", "match_polygons"]
