"""What a network makes of a split, kept while settings are tried on it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocr_precompute.errors import PrecomputeError

MEMORY = 2**29
"""Bytes of maps that are kept in memory; more of them go into a temporary file."""
MOST = 2**35
"""Bytes that this file may take: 20,000 pages of 640 x 640 pixels."""


@dataclass(frozen=True, eq=False)
class Annotated:
    """What is annotated in an image.

    name: of the image. size: height and width of its canonical pixels, without padding. polygons:
    (V, 2) each, xy in these. ignored: bool (N,), which of them are don't-care.
    """

    name: str
    size: tuple[int, int]
    polygons: Sequence[np.ndarray]
    ignored: np.ndarray


class KeptMaps:
    """Probability maps of images, in the order in which they were added; a context manager.

    One thread adds; any may read.
    """

    def __init__(self, memory: int = MEMORY, most: int = MOST) -> None:
        """memory: bytes to keep in memory. most: bytes to keep at all."""
        self.pages: list[Annotated] = []
        self._starts = [0]
        self._most = most
        self._file = tempfile.SpooledTemporaryFile(max_size=memory)  # noqa: SIM115
        self._lock = threading.Lock()

    def __enter__(self) -> KeptMaps:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, prob: np.ndarray, page: Annotated) -> None:
        """Keep a map, float32 (H, W), of which the page's size at the top left counts.

        Raises PrecomputeError if there is no room for it.
        """
        height, width = page.size
        data = np.ascontiguousarray(prob[:height, :width], np.float32).tobytes()
        end = self._starts[-1] + len(data)
        remedy = "tune on fewer images, with --trainer.limit_val_batches or another --data.val"
        if end > self._most:
            most = f"{self._most / 1e9:.3g} GB"
            raise PrecomputeError(
                f"maps of more than {len(self.pages)} images take {most}; {remedy}"
            )
        try:
            self._file.seek(self._starts[-1])
            self._file.write(data)
        except OSError as error:
            reason = f"cannot keep {end / 1e9:.3g} GB of maps: {error.strerror or error}"
            raise PrecomputeError(f"{tempfile.gettempdir()}: {reason}; {remedy}") from error
        self._starts.append(end)
        self.pages.append(page)

    def read(self, number: int) -> np.ndarray:
        """The map of a page, float32 of its size; it must not be written to."""
        start, end = self._starts[number : number + 2]
        with self._lock:
            self._file.seek(start)
            data = self._file.read(end - start)
        return np.frombuffer(data, np.float32).reshape(self.pages[number].size)
