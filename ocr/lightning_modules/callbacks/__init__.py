"""What Lightning calls besides the model: checkpoints, clocks, progress, failures, predictions."""

from ocr.lightning_modules.callbacks.checkpoints import BestAndLast
from ocr.lightning_modules.callbacks.failures import FailureRelay
from ocr.lightning_modules.callbacks.performance import Performance
from ocr.lightning_modules.callbacks.predictions import PredictionWriter
from ocr.lightning_modules.callbacks.profile import Profile
from ocr.lightning_modules.callbacks.progress_lines import ProgressLines
from ocr.lightning_modules.callbacks.report import RunReport
from ocr.lightning_modules.callbacks.resources import ResourceMonitor
from ocr.lightning_modules.callbacks.resume import Resume
from ocr.lightning_modules.callbacks.validation import ValidationRecord

__all__ = [
    "BestAndLast",
    "FailureRelay",
    "PredictionWriter",
    "ProgressLines",
    "Profile",
    "ResourceMonitor",
    "Resume",
    "Performance",
    "RunReport",
    "ValidationRecord",
]
