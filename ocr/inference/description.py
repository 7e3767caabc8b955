"""What a model's file says of the model, so that the file is all that its user needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ocr.errors import ModelError
from ocr.inference.postprocess import PostProcess
from ocr_precompute.errors import one_line

KEY = "ocr-precompute"
"""The name under which a file's metadata holds a description, as JSON."""
MULTIPLE = 32
"""Height and width of what a network is shown are multiples of this."""

Size = int | tuple[int, int] | None
"""A canonical size, N or (height, width); None for that of the training."""

_VERSION = 1
_SIDES = range(16, 8193)  # that a canonical size may have
_MOST_TEXT = 2**20  # characters of a description; a real one has under 10,000


@dataclass(frozen=True)
class Description:
    """How pictures are brought to the network, how its maps are read, and where it comes from.

    size: canonical (H, W) in pixels, as trained. decode: how JPEG files are decoded. network: the
    arguments of DBNet. data_hash: of the split that it was trained on, empty if untold. epoch,
    step: when it was saved, epochs counted from 0. metrics: of its validation, by name.
    """

    size: tuple[int, int]
    decode: Literal["exact", "reduced"] = "exact"
    postprocess: PostProcess = field(default_factory=PostProcess)
    network: Mapping[str, Any] = field(default_factory=dict)
    data_hash: str = ""
    epoch: int = 0
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def as_metadata(self) -> dict[str, str]:
        """As the metadata of a file, which `parse` reads again."""
        return {KEY: json.dumps({"version": _VERSION, **asdict(self)})}


def parse(text: str, path: Path, size: Size = None) -> Description:
    """A description from the metadata of a file, whoever wrote it.

    size: as of `described`. Raises ModelError.
    """
    try:
        told = json.loads(text) if len(text) <= _MOST_TEXT else None
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise ModelError(f"{path}: its metadata is no description; name a model exported here")
    if told.get("version") != _VERSION:
        version = one_line(told.get("version"), 20)
        raise ModelError(
            f"{path}: its description is of version {version}, and this release reads {_VERSION}; "
            "export it again"
        )
    return described(told, path, size)


def described(told: Mapping[str, Any], path: Path, size: Size = None) -> Description:
    """A description from plain data, whoever wrote it.

    size: what to say in place of the size of the training.
    Raises ModelError, naming what is wrong.
    """
    values = {name: told[name] for name in _FIELDS if name in told}
    if size is not None:
        values["size"] = (size, size) if isinstance(size, int) else size
    if "size" not in values:
        raise ModelError(f"{path}: does not say at what size it was trained; name another model")
    for name, value in values.items():
        if not _FIELDS[name](value):
            reason = f"says that its {name} is {one_line(repr(value), 80)}, which it cannot be"
            raise ModelError(f"{path}: {reason}; name another model")
    values["size"] = tuple(values["size"])
    try:
        values["postprocess"] = PostProcess(**values.get("postprocess", {}))
    except (TypeError, ValueError) as error:
        reason = f"describes a post-processing that there is not ({one_line(error)})"
        raise ModelError(f"{path}: {reason}; name another model") from error
    return Description(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_size(value: object) -> bool:
    pair = isinstance(value, list | tuple) and len(value) == 2
    return pair and all(_is_count(side) and side in _SIDES for side in value)  # type: ignore[attr-defined]


def is_postprocess(value: object) -> bool:
    """Whether all have the types of PostProcess's fields, whose bounds it looks at itself."""
    return isinstance(value, dict) and all(
        isinstance(each, str)
        if name in ("mode", "score")
        else _is_count(each)
        if name == "max_candidates"
        else _is_number(each) or (each is None and name == "unclip_ratio")
        for name, each in value.items()
    )


def _is_plain(value: object) -> bool:
    """Whether it is a dict of what JSON can hold."""
    try:
        return isinstance(value, dict) and bool(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return False


def _are_metrics(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and _is_number(each) for name, each in value.items()
    )


_FIELDS: Mapping[str, Callable[[object], bool]] = {
    "size": _is_size,
    "decode": lambda value: value in ("exact", "reduced"),
    "postprocess": is_postprocess,
    "network": _is_plain,
    "data_hash": lambda value: isinstance(value, str),
    "epoch": _is_count,
    "step": _is_count,
    "metrics": _are_metrics,
}
