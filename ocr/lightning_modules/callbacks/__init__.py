"""What Lightning calls besides the model: checkpoints, clocks, and the writer of predictions."""

from ocr.lightning_modules.callbacks.checkpoints import BestAndLast
from ocr.lightning_modules.callbacks.predictions import PredictionWriter
from ocr.lightning_modules.callbacks.resume import Resume
from ocr.lightning_modules.callbacks.step_times import StepTimes

__all__ = ["BestAndLast", "PredictionWriter", "Resume", "StepTimes"]
