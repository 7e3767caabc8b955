"""How well text is found."""

from ocr.metrics.hmean import DetectionHmean, MatchCounts, Matching, match_polygons

__all__ = ["DetectionHmean", "MatchCounts", "Matching", "match_polygons"]
