"""What the time of a training goes to."""

from ocr.profiling.sync_times import SyncTimes

__all__ = ["SyncTimes"]
