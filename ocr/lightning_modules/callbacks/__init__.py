"""What Lightning calls besides the model: clocks, and the writer of predictions."""

from ocr.lightning_modules.callbacks.predictions import PredictionWriter
from ocr.lightning_modules.callbacks.step_times import StepTimes

__all__ = ["PredictionWriter", "StepTimes"]
