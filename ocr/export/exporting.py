"""A checkpoint as one file of another format, compared with the checkpoint before it is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ocr.errors import ModelError
from ocr.export.card import card_of, check_card
from ocr.export.formats import FORMATS, written
from ocr.export.pictures import made_pictures, pictures_of
from ocr.inference.description import is_postprocess
from ocr.inference.postprocess import PostProcess
from ocr.inference.tiles import Network
from ocr.models.checkpoint import read_model
from ocr_precompute.errors import one_line
from ocr_precompute.files import replace_file, writing
from ocr_precompute.settings import read_yaml

TOLERANCE = 1e-4
"""By how much a probability may differ from the checkpoint's."""


@dataclass(frozen=True)
class Exported:
    """What was written: the model's file and the card beside it, and how it compares.

    difference: the largest of any probability from the checkpoint's, on so many pictures.
    """

    path: Path
    card: Path
    difference: float
    pictures: int


def export(
    checkpoint: Path,
    form: str,
    out: Path,
    images: Path | None = None,
    config: Path | None = None,
) -> Exported:
    """Write a checkpoint's network as `onnx`, `torchscript` or `safetensors`, and its card.

    images: a folder of images on which to compare it, besides those that are made for that. config:
    YAML whose `model.postprocess` the model is to say in place of the checkpoint's.
    Raises ModelError, with what was at `out` as it was, if the exported model's probabilities
    differ by more than TOLERANCE, or `out` is no place for a model and its card; CheckpointError if
    the checkpoint cannot be read, PrecomputeError if a package is missing, and StoreError if
    nothing can be written there, InputError if the configuration cannot be read.
    """
    if not out.name or out.suffix == ".md":
        raise ModelError(f"{out}: is no name of a model; give another --out, such as model.onnx")
    if out.exists() and checkpoint.exists() and out.samefile(checkpoint):
        raise ModelError(f"{out}: is the checkpoint itself; give another --out")
    card = out.with_suffix(".md")
    check_card(card, out.name)
    network, description = read_model(checkpoint)
    if config is not None:
        configured = _configured(config, description.postprocess)
        description = replace(description, postprocess=configured)
    data = written(form, network, description)
    batches = list(made_pictures(description.size))
    batches += pictures_of(images, description) if images is not None else []
    run = FORMATS[form].run(data, description)
    difference = max(_differences(batches, network.probabilities_of, run))
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{out}: probabilities differ by up to {difference:.2g} from the checkpoint's, more "
            f"than {TOLERANCE:g}; not written, choose another --format"
        )
    exported = Exported(out, card, difference, sum(map(len, batches)))
    text = card_of(exported, form, data, network, description, checkpoint.name)
    with writing(out, "give another --out"):
        replace_file(out, data)
        replace_file(card, text.encode())
    return exported


def _configured(path: Path, postprocess: PostProcess) -> PostProcess:
    """Post-processing as a configuration says, and where it says nothing, as it is."""
    settings = read_yaml(path)
    for name in ("model", "postprocess"):
        settings = settings.get(name) if isinstance(settings, dict) else None
    if not settings or not isinstance(settings, dict):
        reason = "says nothing of model.postprocess; name what `ocr-train tune --yaml` wrote"
        raise ModelError(f"{path}: {reason}")
    try:
        if not is_postprocess(settings):
            raise ValueError("these are no values of its settings")
        return PostProcess(**{**asdict(postprocess), **settings})
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: model.postprocess: {one_line(error)}; correct it") from error


def _differences(batches: Iterable[np.ndarray], before: Network, after: Network) -> Iterator[float]:
    """The largest difference in each batch; infinite where a map is not finite or another size."""
    for images in batches:
        expected, found = before(images), after(images)
        if found.shape != expected.shape or not np.isfinite(found).all():
            yield float("inf")
        else:
            yield float(np.abs(found - expected).max())
