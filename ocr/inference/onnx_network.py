"""A network in an ONNX file, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ocr.errors import ModelError
from ocr.inference.description import KEY, Description, Size, parse
from ocr.packages import imported
from ocr_precompute.errors import one_line

INPUT, OUTPUT = "images", "prob"
"""Names of what goes in, uint8 (B, H, W, 3) RGB, and of what comes out, float32 (B, H, W)."""

_QUIET = 4  # of ONNX Runtime's log levels: what goes wrong is raised


class OnnxNetwork:
    """Probability maps by an ONNX model: see ocr.inference.tiles.Network."""

    def __init__(self, model: Path | bytes, name: str) -> None:
        """Open a file, or take what would be in it. name: what it is called in messages.

        Raises ModelError if it is no model of one input and output as they are exported here,
        PrecomputeError if ONNX Runtime is not installed.
        """
        onnxruntime = imported("onnxruntime", "'ocr-precompute[export]'")
        self._name = name
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _QUIET
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # whatever a damaged or foreign file makes it raise
            reason = f"cannot be opened as an ONNX model ({one_line(error)}); name another"
            raise ModelError(f"{name}: {reason}") from error
        ends = [
            [(end.name, end.type, len(end.shape)) for end in side]
            for side in (self._session.get_inputs(), self._session.get_outputs())
        ]
        if ends != [[(INPUT, "tensor(uint8)", 4)], [(OUTPUT, "tensor(float)", 3)]]:
            reason = f"does not take {INPUT} and give {OUTPUT}, as a model does that is exported"
            raise ModelError(f"{name}: {reason} here; name another")

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probability maps. Raises ModelError if the model cannot make them."""
        try:
            (prob,) = self._session.run([OUTPUT], {INPUT: images})
        except Exception as error:  # whatever a foreign model makes it raise
            raise ModelError(f"{self._name}: fails ({one_line(error)}); name another") from error
        if prob.shape != images.shape[:3]:
            reason = f"makes {prob.shape} of {images.shape[:3]}; name another model"
            raise ModelError(f"{self._name}: {reason}")
        made: np.ndarray = prob
        return made

    def description(self, path: Path, size: Size = None) -> Description:
        """What the model says of itself; size: as of `parse`. Raises ModelError."""
        try:
            told = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        except Exception as error:  # metadata that is no UTF-8
            raise ModelError(f"{path}: its metadata cannot be read; name another model") from error
        if told is None:
            reason = "does not say how to use it; name a model that ocr-train export wrote"
            raise ModelError(f"{path}: {reason}")
        return parse(told, path, size)
