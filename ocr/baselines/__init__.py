"""Is a training slower than it was? `ocr-train baseline save` and `compare`."""

RATE = "training"
"""Of the rates in a baseline, that of training."""
