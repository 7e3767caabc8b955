"""The card beside an exported model: what it is, where it comes from, how it is used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ocr.errors import ModelError
from ocr.export.formats import FORMATS
from ocr.inference.description import MULTIPLE, Description
from ocr.inference.onnx_network import INPUT, OUTPUT
from ocr.models import DBNet
from ocr_precompute.errors import printable

if TYPE_CHECKING:
    from ocr.export.exporting import Exported

_MARK = "<!-- card of {name}, written by ocr-train export -->"
_PACKAGES = (
    *("ocr-precompute", "torch", "transformers", "onnx", "onnxruntime", "onnxscript"),
    *("safetensors", "numpy", "opencv-python-headless", "pyclipper"),
)
_CARD = """\
{mark}
# {name}

A text detector: DBNet (Liao et al. 2020, arXiv 1911.08947), exported from `{checkpoint}`.

{facts}

## What it was trained with

{training}

## Input and output

| | name | dtype | shape |
|---|---|---|---|
| input | `{input}` | uint8 | (batch, height, width, 3): RGB, sides multiples of {multiple} |
| output | `{output}` | float32 | (batch, height, width): the probability of text, 0 to 1 |

Batch, height and width are free. Pixels are normalised within the model. A picture is turned
upright as its EXIF orientation says, scaled to fit into {height} x {width} pixels (height x width;
shrinking averages areas), and padded with black at the right and at the bottom.

## How to call it

{calls}

## How polygons are read

Regions above `threshold` that score at least `min_score` are dilated by area * unclip_ratio /
perimeter. A ratio of `null` is 1.5 for boxes and 2.0 for polygons.

{reading}

## Versions that made it

{versions}
"""
_API = """\
```python
from ocr.predict import load

detector = load("{name}")
polygons, scores = detector("page.jpg")  # xy in pixels of the picture
```
"""


def check_card(path: Path, name: str) -> None:
    """Raises ModelError if a card there would take the place of another file."""
    mark = _MARK.format(name=_plain(name))
    try:
        with path.open("rb") as file:
            if file.read(len(mark.encode())) == mark.encode():
                return
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        pass
    raise ModelError(f"{path}: is not the card of {name}; give another --out, or move it away")


def card_of(
    exported: Exported,
    form: str,
    data: bytes,
    network: DBNet,
    description: Description,
    checkpoint: str,
) -> str:
    """The card, as Markdown. data: the model's file. checkpoint: the name of its file."""
    name, chosen = _plain(exported.path.name), FORMATS[form]
    height, width = description.size
    sides = {"height": -(-height // MULTIPLE) * MULTIPLE, "width": -(-width // MULTIPLE) * MULTIPLE}
    own = _API.format(name=name) if form != "torchscript" else ""
    bare = f"```python\n{chosen.use.format(name=name, **sides)}```\n" if chosen.use else ""
    told = description.network
    kind = f"{told.get('backbone')}, {network.neck.lateral[0].out_channels} channels, "
    parameters = sum(tensor.numel() for tensor in network.parameters())
    facts = [
        ("format", chosen.title),
        ("file", f"{len(data):,} bytes, SHA-256 `{hashlib.sha256(data).hexdigest()}`"),
        ("network", f"{kind}{network.norm} norm; {parameters:,} parameters"),
        ("canonical size", f"{height} x {width} (height x width)"),
        ("decoding", description.decode),
        (
            "compared with the checkpoint",
            f"largest difference of a probability {exported.difference:.2g}, on "
            f"{exported.pictures} pictures",
        ),
    ]
    training: list[tuple[str, object]] = [
        ("data hash", description.data_hash or "not told"),
        ("saved in epoch", description.epoch),
        ("saved at step", description.step),
        *((metric, f"{value:.4f}") for metric, value in sorted(description.metrics.items())),
    ]
    reading = [
        (key, "null" if v is None else v) for key, v in asdict(description.postprocess).items()
    ]
    return _CARD.format(
        mark=_MARK.format(name=name),
        name=name,
        checkpoint=_plain(checkpoint),
        facts=_table(facts),
        training=_table(training),
        input=INPUT,
        output=OUTPUT,
        multiple=MULTIPLE,
        height=height,
        width=width,
        calls="\n".join(part for part in (own, bare) if part).rstrip(),
        reading=_table(reading),
        versions=_table((package, _version(package)) for package in _PACKAGES),
    )


def _table(rows: Iterable[tuple[str, object]]) -> str:
    lines = [f"| {_plain(name)} | {_plain(str(value))} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines])


def _plain(text: str) -> str:
    """Text of whoever wrote a checkpoint or named a file, so that it is text in Markdown."""
    short = printable(text)[:300]
    return short.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
