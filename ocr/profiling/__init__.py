"""What the time of a training goes to."""

from ocr.profiling.sync_times import SyncTimes
from ocr.profiling.verdict import Evidence, verdict
from ocr.profiling.window import Profiled, ProfiledWindow

__all__ = ["Evidence", "Profiled", "ProfiledWindow", "SyncTimes", "verdict"]
