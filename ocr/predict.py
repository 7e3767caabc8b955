"""Find text with a trained model, from Python: neither Lightning nor a store is needed.

    detector = load("model.onnx")
    polygons, scores = detector("page.jpg")

With an ONNX model this imports numpy, OpenCV, pyclipper and onnxruntime, and nothing else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ocr.errors import ModelError
from ocr.inference.description import Description
from ocr.inference.onnx_network import OnnxNetwork
from ocr.inference.pages import found_in, map_of, page_of, read_page
from ocr.inference.postprocess import Detections, PostProcess
from ocr.inference.tiles import Network, Tile, check_tile
from ocr.packages import imported

__all__ = ["Description", "Detections", "Detector", "PostProcess", "load"]

_HEADER = 8  # bytes before a safetensors file's first brace
_SAVED = (b"PK\x03\x04", b"\x80")  # how what torch saves begins: a ZIP, and a pickle long ago


@dataclass(frozen=True)
class Detector:
    """Finds text in pictures. To read its maps otherwise:
    `dataclasses.replace(detector, postprocess=PostProcess(mode="polygon"))`.
    """

    network: Network
    description: Description
    postprocess: PostProcess

    def __call__(
        self, image: str | os.PathLike[str] | np.ndarray, *, tile: Tile = "auto"
    ) -> Detections:
        """Polygons, float32 (V, 2) xy each, in pixels of the picture, and their scores (N,).

        image: a file, turned upright as its EXIF orientation says; or an array, uint8 (height,
        width, 3) in RGB (of OpenCV's BGR give `image[..., ::-1]`). tile: see docs/using.md.
        Raises InputError for a file that cannot be read, ImageError for too many pixels, and
        ValueError for an array of another form or a tile that there is not.
        """
        check_tile(tile)
        if isinstance(image, np.ndarray):
            page = page_of(image, self.description, tile)
        else:
            page = read_page(Path(image), self.description, tile)
        return found_in(page, map_of(page, self.network), self.postprocess)


def load(model: str | os.PathLike[str], *, size: int | tuple[int, int] | None = None) -> Detector:
    """The detector of a checkpoint of `ocr-train`, or of what `ocr-train export` wrote as ONNX or
    safetensors; told apart by content. No code in the file is run.

    size: canonical size that pictures are brought to, N or (height, width); that of the training by
    default. Checkpoints and safetensors need the extra `train`.
    Raises ModelError or CheckpointError if the file is not one of these, PrecomputeError if a
    package is missing.
    """
    path = Path(model)
    network: Network
    if _is_of_torch(path):
        models = imported("ocr.models.checkpoint", "'ocr-precompute[train]'")
        trained, description = models.read_model(path, size)
        network = trained.probabilities_of
    else:
        network = OnnxNetwork(path, str(path))
        description = network.description(path, size)
    return Detector(network, description, description.postprocess)


def _is_of_torch(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            beginning = file.read(_HEADER + 1)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}; name another model"
        raise ModelError(f"{path}: {reason}") from error
    return beginning.startswith(_SAVED) or beginning[_HEADER:] == b"{"
