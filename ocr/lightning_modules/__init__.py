"""Where models meet Lightning."""

from ocr.lightning_modules.detector import TextDetector

__all__ = ["TextDetector"]
