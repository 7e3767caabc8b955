"""Parameters: everything, besides the image and its polygons, that can change a stored byte.

They go into every key, so whatever is added here is in the keys.
"""

from __future__ import annotations

import itertools
import json
import operator
from importlib.metadata import version
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

RecipeName = Literal["seed", "dbnet", "paddleocr", "mmocr"]
Decode = Literal["exact", "reduced"]
Codec = Literal["zstd", "lz4", "lz4hc", "zlib"]
Shuffle = Literal["noshuffle", "shuffle", "bitshuffle"]


class Frozen(BaseModel):
    """Validated when made, never changed, no unknown field."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Recipe(Frozen):
    """How labels are drawn. `RECIPES` has those of the paper's release and of other trainers.

    Fields that came after the first recipes are left out where they are off, so that keys and
    manifests of recipes without them stay as they were.
    """

    name: str
    integer_vertices: bool = Field(description="cut vertices to whole pixels first")
    clip: bool = Field(description="move vertices that leave the image to its nearest pixel first")
    min_size: float = Field(description="ignore polygons with a box side below this, pixels")
    min_area: float = Field(description="ignore polygons of an area below this, square pixels")
    masks: bool = Field(description="mask out ignored and collapsed polygons")
    every_part: bool = Field(description="draw every part of a polygon that an offset splits")
    shrink_ratio: float = Field(default=0.4, gt=0, lt=1, description="r of the paper")
    thresh_min: float = Field(default=0.3, ge=0, le=1)
    thresh_max: float = Field(default=0.7, ge=0, le=1)
    early_thresh: bool = Field(
        default=False,
        description="draw thresholds first: of all but don't-care text, however small or thin, "
        "with its vertices where they are",
    )
    shrink_again: bool = Field(
        default=False,
        description="shrink what falls apart or vanishes again, at twice the ratio, until one "
        "part is left; if none does that, draw every part of the last",
    )
    whole_shrink: bool = Field(
        default=False, description="shrink polygons of whole vertices by a whole distance"
    )
    turned_box: bool = Field(
        default=False, description="min_size is of the smallest box, which may be turned"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Recipe:
        if self.thresh_min >= self.thresh_max:
            raise ValueError("thresh_min must be below thresh_max")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if name not in _LATER or value}

    @property
    def ratios(self) -> tuple[float, ...]:
        """The shrink ratios that are tried, one after the other."""
        if not self.shrink_again:
            return (self.shrink_ratio,)
        doubled = itertools.accumulate(itertools.repeat(2), operator.mul, initial=self.shrink_ratio)
        return tuple(itertools.takewhile(lambda ratio: ratio < 1, doubled))

    @property
    def repairs(self) -> bool:
        """Whether self-crossing quads are repaired for this recipe, where nobody says."""
        return self.name != "seed"


_LATER = frozenset({"early_thresh", "shrink_again", "whole_shrink", "turned_box"})

RECIPES: dict[str, Recipe] = {
    "seed": Recipe(
        name="seed",
        integer_vertices=True,
        clip=False,
        min_size=0,
        min_area=0,
        masks=False,
        every_part=True,
    ),
    "dbnet": Recipe(
        name="dbnet",
        integer_vertices=False,
        clip=True,
        min_size=8,
        min_area=1,
        masks=True,
        every_part=False,
    ),
    "paddleocr": Recipe(
        name="paddleocr",
        integer_vertices=False,
        clip=True,
        min_size=8,
        min_area=1,
        masks=True,
        every_part=False,
        early_thresh=True,
        shrink_again=True,
    ),
    "mmocr": Recipe(
        name="mmocr",
        integer_vertices=False,
        clip=False,
        min_size=8,
        min_area=1,
        masks=True,
        every_part=False,
        whole_shrink=True,
        turned_box=True,
    ),
}
QUICK_LEVEL = 2  # packs in a fifth of the time of the default level, is read a fifth slower


class Compression(Frozen):
    """The Blosc codec of every stored map. Changes bytes on disk, never pixels.

    The defaults are the measured best for training: see docs/performance.md.
    """

    cname: Codec = "lz4hc"
    clevel: int = Field(default=5, ge=1, le=9)
    shuffle: Shuffle = Field(
        default="noshuffle", description="how the bytes of float32 maps are ordered first"
    )
    block_rows: int = Field(
        default=64, ge=0, le=8192, description="rows of an image that are unpacked together"
    )


def _libraries() -> dict[str, str]:
    """Versions of the libraries that decide a pixel: another version, another key."""
    import cv2  # slow, and not needed to print the help of a command

    packages = {name: version(name) for name in ("pyclipper", "simplejpeg")}
    return {"opencv": cv2.__version__, **packages}


class Parameters(Frozen):
    """Everything, besides the image and its polygons, that can change a byte of a stored sample."""

    size: tuple[int, int] = Field(default=(640, 640), description="canonical (H, W) in pixels")
    recipe: Recipe = RECIPES["dbnet"]
    decode: Decode = "exact"
    compression: Compression = Compression()
    libraries: dict[str, str] = Field(default_factory=_libraries)

    @property
    def canonical(self) -> bytes:
        """The parameters as they go into keys: JSON with its names in order."""
        # Kept by hand: functools.cached_property takes a lock, which a fork could find held.
        kept: bytes | None = self.__dict__.get("_canonical")
        if kept is None:
            kept = json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
            self.__dict__["_canonical"] = kept
        return kept

    @field_validator("size")
    @classmethod
    def _bounded_size(cls, size: tuple[int, int]) -> tuple[int, int]:
        if not all(16 <= side <= 8192 for side in size):
            raise ValueError(f"size {size[0]}x{size[1]} is outside 16 to 8192 pixels a side")
        return size
