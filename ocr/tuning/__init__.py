"""Post-processing's settings, found on a validation split: `ocr-train tune`."""
