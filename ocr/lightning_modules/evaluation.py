"""What follows the network in an evaluation: on threads beside it, so that it never waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import joblib
import numpy as np
import torch
from torch import Tensor

from ocr.inference.pages import Page, found_in
from ocr.inference.postprocess import Detections, PostProcess
from ocr.metrics.icdar import match_polygons
from ocr.metrics.outcomes import Judged, Outcomes
from ocr.tuning.maps import Annotated
from ocr_precompute.images.decoding import scaled_size
from ocr_precompute.runtime.stages import stage

Row = dict[str, Any]
_Made = TypeVar("_Made")
_FIELDS = ("name", "polygons", "ignore", "matrix", "original_size", "problem", "page")


class Beside:
    """Threads that work beside whoever gives them something to do."""

    def __init__(self, threads: int | None) -> None:
        """threads: how many; as many as there are cores by default, and with 0 work is done at
        once, by whoever asks for it. Raises ValueError for fewer.
        """
        if threads is not None and threads < 0:
            raise ValueError(f"evaluation_threads is {threads}; it must be at least 0")
        self._number = int(joblib.cpu_count()) if threads is None else threads
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, function: Callable[..., _Made], *arguments: Any) -> Future[_Made]:
        """Have a function called."""
        if not self._number:
            done: Future[_Made] = Future()
            done.set_result(function(*arguments))
            return done
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._number, thread_name_prefix="postprocess")
        return self._pool.submit(function, *arguments)

    def close(self) -> None:
        """Let the threads go, once they have done what they do now."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


@dataclass(frozen=True, eq=False)
class Maps:
    """Probability maps of a batch on their way from the device, which nobody waits for here.

    host: float32 (B, H, W), what arrives. arrived: when that is; None if they are there.
    """

    host: Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, maps: Tensor) -> Maps:
        """Send maps on their way."""
        if maps.device.type != "cuda":
            return cls(maps.cpu(), None)
        host = maps.to("cpu", non_blocking=True)  # into page-locked memory
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(maps.device))
        return cls(host, arrived)

    def wait(self) -> None:
        """Return once they have arrived."""
        if self.arrived is not None:
            self.arrived.synchronize()

    def __getitem__(self, number: int) -> np.ndarray:
        """One of them, float32 (H, W), once it has arrived."""
        self.wait()
        found: np.ndarray = self.host[number].numpy()
        return found


def rows(batch: Row) -> list[Row]:
    """The annotations of each image of a batch, which are on the host."""
    given = [field for field in _FIELDS if field in batch]
    columns = [
        batch[field].cpu().numpy() if isinstance(batch[field], Tensor) else batch[field]
        for field in given
    ]
    return [dict(zip(given, row, strict=True)) for row in zip(*columns, strict=True)]


def annotated(row: Row) -> Annotated:
    """What is annotated in an image."""
    ignored = np.asarray(row["ignore"], bool)
    return Annotated(row["name"], _content(row), row["polygons"], ignored)


def evaluated(
    postprocess: PostProcess,
    maps: Maps,
    number: int,
    row: Row,
    image: Tensor | None,
    outcomes: Outcomes | None,
) -> Judged:
    """What the map of that number in its batch says, beside an image's annotation.

    image: uint8 (H, W, 3), for outcomes that want a picture.
    """
    prob, size = maps[number], _content(row)
    with stage("postprocess"):
        found = postprocess(prob, size)
    with stage("match"):
        matching = match_polygons(found.polygons, row["polygons"], row["ignore"])
    judged = Judged(row.get("name", ""), size, found, row["polygons"], matching)
    if image is None or outcomes is None or not outcomes.wants(judged):
        return judged
    with stage("record"):
        return judged.pictured(image.cpu().numpy())


def predicted(postprocess: PostProcess, maps: Maps, number: int, row: Row) -> Detections:
    """What the map of that number in its batch says, in pixels of the original image."""
    prob = maps[number]
    with stage("postprocess"):
        return postprocess(prob, _content(row)).mapped(row["matrix"])


def predicted_page(postprocess: PostProcess, prob: np.ndarray, page: Page) -> Detections:
    """What the map of a page says that was looked at by itself, in pixels of the original image."""
    with stage("postprocess"):
        return found_in(page, prob, postprocess)


def _content(row: Row) -> tuple[int, int]:
    """Height and width of the canonical image without its padding."""
    return scaled_size(row["original_size"].tolist(), 1 / row["matrix"][0, 0])
