"""Settings and parameters: read once, validated once, frozen.

`Settings` is what a configuration file and the command line say. `Parameters` is the part of it
that can change a byte of a stored sample, and so goes into every key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)

from ocr_precompute.errors import InputError, Problem, StoreError
from ocr_precompute.parameters import (
    QUICK_LEVEL,
    RECIPES,
    Codec,
    Compression,
    Decode,
    Frozen,
    Parameters,
    Recipe,
    RecipeName,
    Shuffle,
)
from ocr_precompute.remote_images import ImageUrl, RemoteImage

Backend = Literal["loky", "threading", "sequential", "dask", "ray"]
ON_CLUSTERS = "dask", "ray"  # those whose workers may run on other machines
Unannotated = Literal["skip", "empty", "error"]
SkipBad = Literal["no", "polygon", "image"]

DEFAULT_CONFIG = Path("configs/precompute.yaml")
SPLIT_NAME_RULE = "use letters, digits, '.', '_' and '-', a letter or digit first"
_NO_MAPPING = "must hold settings, one `key: value` a line"
_PLAINER = {"model_type": _NO_MAPPING, "dict_type": _NO_MAPPING, "path_type": "must be a path"}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
STORE_SCHEMES = ("s3", "gs", "az", "http", "https", "memory")
"""Kinds of URLs that stores have; those of `memory` are gone with the process."""
IMAGE_SCHEMES = ("s3", "gs", "az", "memory")
"""Kinds of URLs that images lie behind: what is there can be listed."""
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def looks_like_url(path: Path | str) -> bool:
    """Whether it begins as a URL does, also one that lost a slash when it became a Path."""
    return _URL.match(str(path)) is not None


def url_refusal(path: Path | str) -> str:
    """What to say of a path that looks like a URL."""
    url = str(path)
    if isinstance(path, Path):  # which has made one slash of several
        url = url.replace(":/", ":///" if url.startswith("file:") else "://", 1)
    return f"{url!r} looks like a URL; give a folder or file of this machine"


def store_place(place: str | Path) -> str | Path:
    """A store's place: a URL as text, or a folder.

    Raises StoreError for what looks like a URL and is of none of the kinds that stores have.
    """
    text = str(place)
    if not looks_like_url(place):
        return Path(place)
    scheme, _, rest = text.partition("://")
    if scheme.lower() == "file" and rest.startswith("/"):
        return Path(unquote(rest))
    if isinstance(place, Path) or scheme.lower() not in STORE_SCHEMES or not rest.strip("/"):
        known = ", ".join(f"{each}://" for each in STORE_SCHEMES)
        raise StoreError(f"{text!r} looks like a URL; stores lie in folders, or behind {known}")
    if "@" in rest.partition("/")[0]:
        shown = f"{scheme}://...@{rest.partition('@')[2]}"
        raise StoreError(
            f"{shown}: holds a name or password; URLs are written into logs and errors"
        )
    if "?" in rest or "#" in rest:
        shown = text.partition("?")[0].partition("#")[0]
        raise StoreError(f"{shown}: ends in a query or fragment; give the path alone")
    return f"{scheme.lower()}://{rest.rstrip('/')}"


def _image_place(place: Any) -> Any:
    """A folder of images, or the URL that they lie behind. Raises ValueError."""
    if isinstance(place, ImageUrl):
        return place
    if not isinstance(place, str | Path):
        raise ValueError(_PLAINER["path_type"])
    text = str(place)
    if isinstance(place, Path) or not looks_like_url(text):
        return _plain(Path(place))
    scheme, _, rest = text.partition("://")
    found = _store_place(text) if scheme.lower() in STORE_SCHEMES and rest.strip("/") else None
    if found is None or scheme.lower() not in IMAGE_SCHEMES:
        known = ", ".join(f"{each}://" for each in IMAGE_SCHEMES)
        raise ValueError(f"{url_refusal(text)}, or for images the URL of a bucket: {known}")
    return ImageUrl(found)


def _as_said(place: Path | ImageUrl) -> Path | str:
    return place if isinstance(place, Path) else place.url


def _store_place(place: Any) -> Any:
    if not isinstance(place, str | Path):
        raise ValueError("must be a path or a URL")
    if "\0" in str(place):
        raise ValueError("no path may hold a NUL character")
    try:
        return store_place(place)
    except StoreError as error:
        raise ValueError(str(error)) from error


def _plain(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("no path may hold a NUL character")
    if looks_like_url(path):
        raise ValueError(url_refusal(path))
    return path


_Path = Annotated[Path, AfterValidator(_plain)]
_Place = Annotated[str | Path, BeforeValidator(_store_place)]


_ImagePlace = Annotated[Path | ImageUrl, PlainValidator(_image_place), PlainSerializer(_as_said)]


def parse_skip_bad(value: Any) -> Any:
    """What YAML's and Python's true and false mean for `skip_bad`; all else stays as it is."""
    return {True: "polygon", False: "no"}[value] if isinstance(value, bool) else value


class Rules(Frozen):
    """How polygons that are not as they should be are read.

    They need not go into keys, since the polygons that come of them do.
    """

    repair: bool | None = Field(
        default=None,
        description="put the corners of self-crossing quads in order; by default unless recipe is "
        "seed",
    )
    skip_bad: Annotated[SkipBad, BeforeValidator(parse_skip_bad)] = Field(
        default="no",
        description="no: bad input is an error; polygon: what is left of a bad polygon is don't "
        "care; image: an image with a bad polygon is left out. A bad image is left out with both",
    )
    max_polygons: int = Field(default=20_000, ge=1, description="refuse images with more polygons")
    max_vertices: int = Field(
        default=10_000, ge=3, description="refuse polygons with more vertices"
    )


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


_Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Marks(Frozen):
    """What of an annotation counts, by what its author called it; and which image a name means."""

    ignore_labels: _Names = Field(
        default=(), description="words whose label, category or tag is one of these are don't care"
    )
    ignore_texts: _Names = Field(
        default=(), description="words that say exactly one of these are don't care"
    )
    keep_labels: _Names = Field(
        default=(),
        description="words of all other labels are left out",
    )
    strip_prefix: str = Field(
        default="", description="what names of images begin with that is not below the image folder"
    )


class Source(Marks):
    """Where a split comes from, and how it is read.

    A list of several is one split. Each then has a name, by default that of its folder of images,
    which the names of its samples begin with: `receipts/a.jpg` is the image a.jpg of `receipts`.
    """

    name: str = Field(
        default="", description="what names of samples begin with, of several sources"
    )
    images: _ImagePlace = Field(description="folder or URL that image names are relative to")
    annotations: _Path = Field(description="annotation file or folder")
    format: str = Field(default="auto", description="annotation format, or FORMAT:DIALECT")
    unannotated: Unannotated = Field(
        default="skip",
        description="images without annotation: left out, pages without text, or an error",
    )
    rules: Rules | None = Field(default=None, description="by default those of the settings")
    others: tuple[Source, ...] = Field(default=(), description="the rest of a list of sources")

    @model_validator(mode="before")
    @classmethod
    def _of_list(cls, value: Any) -> Any:
        """A list of sources as the first of them, which holds the others."""
        if not isinstance(value, list):
            return value
        if not value or not all(isinstance(each, dict) for each in value):
            raise ValueError(
                "must be one source, or a list of them, each with images and annotations"
            )
        return {**value[0], "others": value[1:]} if len(value) > 1 else value[0]

    @model_validator(mode="after")
    def _told_apart(self) -> Source:
        parts = self.parts
        names = [part.name for part in parts]
        if any(part.others for part in self.others):
            raise ValueError("a list of sources holds no other list")
        if bad := [name for name in names if name and not is_split_name(name)]:
            raise ValueError(f"source name {bad[0]!r}: {SPLIT_NAME_RULE}")
        if self.others and len({name.casefold() for name in names}) < len(names):
            twice = next(name for name in names if names.count(name) > 1 or not name)
            raise ValueError(f"two sources are called {twice!r}; give each a `name` of its own")
        return self

    @property
    def parts(self) -> tuple[Source, ...]:
        """All sources of the list, without others and each with its name; or this one alone."""
        if not self.others:
            return (self,)
        alone = (self.model_copy(update={"others": ()}), *self.others)
        return tuple(
            each.model_copy(update={"name": each.name or each.images.name}) for each in alone
        )

    def changed(self, change: Callable[[Source], Mapping[str, Any]]) -> Source:
        """The same with every source of the list changed: what change gives of each."""
        others = tuple(each.changed(change) for each in self.others)
        return self.model_copy(update={"others": others, **change(self)})

    def image_path(self, name: str) -> Path | RemoteImage:
        """The image file of a sample."""
        if not self.others:
            return self.images / name
        first, _, rest = name.partition("/")
        return next(part.images for part in self.parts if part.name == first) / rest

    def ruled(self, rules: Rules, recipe: Recipe) -> Source:
        """The source with nothing left open: its own rules, or else these, for that recipe."""

        def settled(source: Source) -> Mapping[str, Any]:
            own = source.rules or rules
            repair = recipe.repairs if own.repair is None else own.repair
            return {"rules": own.model_copy(update={"repair": repair})}

        return self.changed(settled)

    def skipping(self, skip_bad: SkipBad) -> Source:
        """The same source, read with another `skip_bad`."""
        update = {"skip_bad": skip_bad}
        return self.changed(lambda s: {"rules": (s.rules or Rules()).model_copy(update=update)})


def parse_size(value: Any) -> Any:
    """The (H, W) that N, "N" or "HxW" means; a pair stays as it is. Raises ValueError."""
    size = value
    if isinstance(value, str | int):
        match = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", str(value))
        size = match and (int(match[1]), int(match[2] or match[1]))
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError(f"size {value!r} is neither N nor HxW, as in 640 or 480x640")
    return size


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_bytes(value: int | str) -> int:
    """The bytes that a number, or one with a unit in powers of 1000, means. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?) *([a-zA-Z]{0,2})", str(value).strip())
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"{value!r} is no number of bytes, as in 500000000, 500 MB or 50 GB")
    return round(float(match[1]) * _UNITS[match[2].upper()])


def _parse_bytes(value: Any) -> Any:
    return parse_bytes(value) if isinstance(value, str) else value


class Packing(Frozen):
    """Compression as a configuration says it."""

    cname: Codec = Field(default=Compression().cname, description="Blosc's codec")
    clevel: int | None = Field(
        default=None,
        ge=1,
        le=9,
        description=f"level of the codec; by default {Compression().clevel}, or {QUICK_LEVEL} "
        "where images are decoded at reduced scale, so that a build is quick",
    )
    shuffle: Shuffle = Field(
        default=Compression().shuffle,
        description="how the bytes of the threshold map are put in order before they are packed",
    )
    block_rows: int = Field(
        default=Compression().block_rows,
        ge=0,
        le=8192,
        description="rows of an image that are unpacked together; 0: as Blosc chooses",
    )

    def resolved(self, decode: Decode) -> Compression:
        """The codec with nothing left open."""
        usual = Compression().clevel if decode == "exact" else QUICK_LEVEL
        level = usual if self.clevel is None else self.clevel
        return Compression.model_validate(self.model_dump() | {"clevel": level})


class Settings(Frozen):
    """A configuration file, with the command line's choices laid over it."""

    store: _Place = Field(default=Path("data/store"), description="folder or URL")
    storage: dict[str, str] = Field(
        default_factory=dict,
        description="options of the service behind a URL, such as endpoint and region; credentials "
        "belong into the environment",
    )
    cache: _Path | None = Field(
        default=None,
        description="folder in which galleries keep whole shards of a store behind a URL",
    )
    cache_size: Annotated[int, BeforeValidator(_parse_bytes)] = Field(
        default=50 * 10**9, description="most bytes that this folder takes, as in 500 MB or 50 GB"
    )
    splits: dict[str, Source] = Field(
        default_factory=dict, description="the images and annotations of each split, by its name"
    )
    size: tuple[int, int] = Field(
        default=(640, 640), description="canonical size in pixels: N, or HxW"
    )
    recipe: RecipeName = Field(default="dbnet", description="the trainer whose labels are drawn")
    shrink_ratio: float = Field(
        default=0.4, description="r of the paper: how much of a polygon the probability map keeps"
    )
    thresh_min: float = Field(default=0.3, description="smallest value of the threshold map")
    thresh_max: float = Field(default=0.7, description="largest value of the threshold map")
    decode: Decode = Field(
        default="exact",
        description="reduced: let the JPEG decoder shrink scans that are at least twice too large",
    )
    compression: Packing = Field(default=Packing(), description="how stored maps are packed")
    shard_length: int = Field(
        default=32, ge=2, le=4096, description="samples per shard, approximately"
    )
    max_pixels: int = Field(default=2**27, ge=1, description="refuse images of more pixels")
    max_polygons: int = Field(default=20_000, ge=1, description="refuse images with more polygons")
    max_vertices: int = Field(
        default=10_000, ge=3, description="refuse polygons with more vertices"
    )
    repair: bool | None = Field(
        default=None,
        description="put the corners of self-crossing quads in order; by default unless recipe is "
        "seed",
    )
    skip_bad: Annotated[SkipBad, BeforeValidator(parse_skip_bad)] = Field(
        default="no", description="what bad input is: see the rules of a split"
    )
    jobs: int | None = Field(
        default=None,
        ge=1,
        description="number of workers; by default one per core, fewer for little work",
    )
    backend: Backend = Field(
        default="loky",
        description="where workers run: loky starts processes on this machine, dask and ray use a "
        "cluster",
    )
    scheduler: str | None = Field(
        default=None,
        description="address of a cluster, for the backends dask and ray; ray without one takes "
        "the cluster that runs on this machine, or starts one",
    )
    monitor: bool = Field(default=True, description="look at what a build uses, and raise alerts")
    monitor_interval: float = Field(
        default=1.0, ge=0.01, le=3600, description="seconds between two looks"
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="port of this machine that shows metrics to Prometheus; 0: any free one",
    )
    metrics_file: _Path | None = Field(
        default=None,
        description="file to write metrics to, NAME.prom, for node-exporter's textfile collector",
    )
    fail_on_alert: bool = Field(
        default=False, description="exit status 1 if an alert was raised; the build is done anyway"
    )
    profile: _Path | None = Field(
        default=None, description="folder for a trace of builds and what bounds them"
    )

    @model_validator(mode="after")
    def _monitored_if_asked_for(self) -> Settings:
        asked: dict[str, object] = {"metrics_port": self.metrics_port}
        asked |= {"metrics_file": self.metrics_file, "profile": self.profile}
        names = [name for name, value in asked.items() if value is not None]
        names += ["fail_on_alert"] if self.fail_on_alert else []
        if names and not self.monitor:
            raise ValueError(f"monitor is off, which {' and '.join(names)} cannot do without")
        return self

    @model_validator(mode="after")
    def _scheduler_of_a_cluster(self) -> Settings:
        if self.backend == "dask" and not self.scheduler:
            raise ValueError("backend dask needs a scheduler: the address of `dask scheduler`")
        if self.scheduler and self.backend not in ON_CLUSTERS:
            raise ValueError("scheduler is for the backends dask and ray; choose one of them")
        if self.profile and self.backend in ON_CLUSTERS:
            raise ValueError(f"profile looks at one machine; backend {self.backend} has others")
        return self

    @field_validator("size", mode="before")
    @classmethod
    def _parse_size(cls, value: Any) -> Any:
        return parse_size(value)

    @field_validator("splits")
    @classmethod
    def _named_splits(cls, splits: dict[str, Source]) -> dict[str, Source]:
        for name in splits:
            if not is_split_name(name):
                raise ValueError(f"split name {name!r}: {SPLIT_NAME_RULE}")
        return splits

    @property
    def parameters(self) -> Parameters:
        """The part of the settings that goes into every key."""
        drawn = {
            "shrink_ratio": self.shrink_ratio,
            "thresh_min": self.thresh_min,
            "thresh_max": self.thresh_max,
        }
        return Parameters(
            size=self.size,
            recipe=Recipe.model_validate(RECIPES[self.recipe].model_dump() | drawn),
            decode=self.decode,
            compression=self.compression.resolved(self.decode),
        )

    @property
    def rules(self) -> Rules:
        """The part of the settings that decides how odd polygons are read."""
        return Rules(
            repair=self.repair,
            skip_bad=self.skip_bad,
            max_polygons=self.max_polygons,
            max_vertices=self.max_vertices,
        )

    @model_validator(mode="after")
    def _recipe_is_valid(self) -> Settings:
        _ = self.parameters
        return self

    def source(self, split: str) -> Source:
        """The split's source. Raises InputError, naming the splits there are."""
        if split not in self.splits:
            known = ", ".join(self.splits) or "none"
            raise InputError(
                [
                    Problem(
                        "config",
                        "",
                        f"split {split!r}",
                        f"unknown; configured splits: {known}. Add it to the configuration, "
                        "or give --images and --annotations",
                    )
                ]
            )
        return self.splits[split]


def is_split_name(name: str) -> bool:
    """Whether the name may name a split, and so a file."""
    return _SPLIT_NAME.fullmatch(name) is not None


def load_settings(path: Path | None, overrides: Mapping[str, Any]) -> Settings:
    """Settings from a YAML file, with overrides (those that are not None) laid over it.

    path: None reads DEFAULT_CONFIG if there is one, and goes with the defaults if not.
    Raises InputError with every problem: unreadable file, unknown key, bad value.
    """
    file = path or DEFAULT_CONFIG
    check_local(file, "--config")
    values: Any = {}
    if path is not None or file.exists():
        values = read_yaml(file)
        if not isinstance(values, dict):
            raise InputError([Problem("config", str(file), "", _NO_MAPPING)])
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return Settings.model_validate({**values, **given})
    except ValidationError as error:
        raise InputError([_config_problem(file, given, e) for e in error.errors()]) from error


def source_with(source: Source | None, given: Mapping[str, Any]) -> Source:
    """A source with what the command line gives (not None) laid over it.

    Raises InputError if that is not one.
    """
    changes = {key: value for key, value in given.items() if value is not None}
    try:
        return Source.model_validate({**(source.model_dump() if source else {}), **changes})
    except ValidationError as error:
        problems = [_config_problem(Path("command line"), changes, e) for e in error.errors()]
        raise InputError(problems) from error


def check_local(path: Path, entry: str) -> None:
    """Raises InputError, about that entry of the command line, if the path looks like a URL."""
    if looks_like_url(path):
        raise InputError([Problem("config", "command line", entry, url_refusal(path))])


def read_yaml(file: Path) -> Any:
    """What the file holds; an empty file holds no settings."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}; name another file with --config"
        raise InputError([Problem("config", str(file), "", reason)]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        reason = "is not valid YAML: it is not UTF-8 text; save it as UTF-8"
        raise InputError([Problem("config", str(file), f"line {line}", reason)]) from error
    try:
        return yaml.safe_load(text) or {}
    except Exception as error:  # values such as the date 2020-99-99 raise what they like
        entry = ""
        if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
            entry = f"line {mark.line + 1} column {mark.column + 1}"
        elif isinstance(error, yaml.reader.ReaderError):
            entry = f"line {text.count(chr(10), 0, error.position) + 1}"
        reason = next(
            (getattr(error, name) for name in ("problem", "reason") if getattr(error, name, None)),
            "nested too deeply" if isinstance(error, RecursionError) else str(error),
        )
        problem = Problem("config", str(file), entry, f"is not valid YAML: {reason}; correct it")
        raise InputError([problem]) from error


def _config_problem(file: Path, given: Mapping[str, Any], error: Any) -> Problem:
    entry = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        close = difflib.get_close_matches(key, _known_keys(error["loc"]), 1)
        message = f"unknown key; did you mean {close[0]!r}?" if close else "unknown key; remove it"
    elif error["type"] in _PLAINER:
        message = _PLAINER[error["type"]]
    else:
        message = error["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
    top = str(error["loc"][0]) if error["loc"] else ""
    where = "command line" if top in given else str(file)
    return Problem("config", where, entry, message)


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    if location[0] == "splits":
        return list((Rules if "rules" in location else Source).model_fields)
    if location[0] == "compression":
        return list(Packing.model_fields)
    return list(Settings.model_fields)
