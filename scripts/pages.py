"""Pages of the site that are in no file of docs/, for MkDocs, which calls what begins with on_.

The README, CONTRIBUTING.md and the changelog become pages as they are. The reference is made from
the commands, the settings and the exported names themselves. A link to a file of the repository
leads to where the site shows it. At the end no page may load anything from a network.
"""

from __future__ import annotations

import inspect
import io
import os
import posixpath
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import fields, is_dataclass
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import typer
from docstring_parser import parse
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from typer.cli import get_docs_for_click

from ocr.command import MODULES
from ocr_precompute.cli import app
from ocr_precompute.settings import Packing, Rules, Settings, Source

ROOT = Path(__file__).resolve().parents[1]

COPIED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files outside of docs/ that are pages, and as which."""
CARRIED = {
    f"configs/monitoring/{name}": f"monitoring/{name}"
    for name in ("rules.yaml", "rules_test.yaml", "dashboard.json")
}
"""Files that the site holds as they are, and where."""
SHOWN = {
    "ocr_precompute/configs/precompute.yaml": "reference/settings.md#a-whole-configuration",
    "ocr/configs": "reference/training-settings.md#configurations",
}
"""Other files and folders that links name, and where the site shows them."""
PYTHON = (
    "ocr_precompute",
    "ocr_precompute.augmentation",
    "ocr.datasets",
    "ocr.datasets.transforms",
    "ocr.predict",
    "ocr.interop.doctr",
    "ocr.interop.huggingface",
    "ocr.interop.mmocr",
    "ocr.interop.paddleocr",
)
"""Modules whose public names the reference has."""

_FENCE = re.compile(r"(^```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}
_LOADED |= {"audio": "src", "video": "src", "embed": "src", "object": "data"}
_OF_STYLES = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that are in no file of docs/."""
    for name, place in {**COPIED, **CARRIED}.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    for place, lines in REFERENCE.items():
        files.append(File.generated(config, place, content="\n".join(lines()) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files of the repository to where the site shows them."""
    place = page.file.src_uri
    origin = next((name for name, where in COPIED.items() if where == place), f"docs/{place}")
    return with_links_of_the_site(markdown, origin, place)


def on_post_build(config: MkDocsConfig) -> None:
    """Raises PluginError if a page or a style of the site loads something from a network."""
    if found := sorted(remote_resources(Path(config.site_dir))):
        raise PluginError("the site loads from a network:\n" + "\n".join(found))


# --------------------------------------------------------------------------------------- links


def with_links_of_the_site(markdown: str, origin: str, place: str) -> str:
    """A page with its links changed.

    origin: the file of the repository that it comes from. place: the page of the site that it is.
    What the site does not show keeps its words and loses its link.
    """

    def led(match: re.Match[str]) -> str:
        picture, words, target, anchor = match.groups(default="")
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        named = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        where = place_in_site(named)
        if where is None:
            return words
        relative = posixpath.relpath(where.partition("#")[0], posixpath.dirname(place) or ".")
        anchor = anchor or "".join(where.partition("#")[1:])
        return f"{picture}[{words}]({relative}{anchor})"

    parts = _FENCE.split(markdown)  # every second one is a block of code
    return "".join(each if n % 2 else _LINK.sub(led, each) for n, each in enumerate(parts))


def place_in_site(name: str) -> str | None:
    """Where the site shows a file or folder of the repository; None if it does not."""
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return {**COPIED, **CARRIED, **SHOWN}.get(name)


# ---------------------------------------------------------------------------------- reference


def commands() -> Iterator[str]:
    """All commands, with their options."""
    yield """# Commands

As `--help` shows them. [The README](../index.md#commands) has an overview of them.
"""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="ocr-precompute")
    text = get_docs_for_click(obj=command, ctx=context, name="ocr-precompute", indent=1)
    yield re.sub(r"(?m)^\* ", "- ", text)
    yield from trainer_commands()


def trainer_commands() -> Iterator[str]:
    """The commands of `ocr-train`: those of its own, and where to find what Lightning brings."""
    yield "## `ocr-train`\n"
    yield """`fit`, `validate`, `test` and `predict` take the
[settings of trainings](training-settings.md), each of which is a flag too; their `--help` lists
all of them. The other commands have options of their own:
"""
    for name, module in MODULES.items():
        yield f"### `ocr-train {name}`\n"
        yield fenced(help_of(import_module(module).main), "text")


def help_of(command: Callable[[Sequence[str]], int]) -> str:
    """What a command says to --help, on a screen of 100 columns."""
    said = io.StringIO()
    with patch.dict(os.environ, COLUMNS="100"), redirect_stdout(said), suppress(SystemExit):
        command(["--help"])
    return said.getvalue()


def settings() -> Iterator[str]:
    """Settings of builds."""
    yield """# Settings of builds

What a configuration of `ocr-precompute` may say: `configs/precompute.yaml`, or another file with
`--config`. What a [command](commands.md) is given counts before it. From Python these are
[`Settings` and `Source`](python.md). Names in **bold** go into the key of every sample: a change
builds all of them anew.
"""
    yield from table(model_rows(Settings))
    yield "\n## `splits`\n"
    yield "Each split has a name, and is one of these, or a list of several:\n"
    yield from table(model_rows(Source))
    yield "\n## `rules` of a split\n"
    yield from table(model_rows(Rules))
    yield "\n## `compression`\n"
    yield from table(model_rows(Packing))
    yield "\n## A whole configuration\n"
    yield "As `ocr-precompute init` writes it:\n"
    yield fenced((ROOT / "ocr_precompute/configs/precompute.yaml").read_text(), "yaml")


def training_settings() -> Iterator[str]:
    """Settings of trainings, and the configurations that `ocr-train init` writes."""
    from ocr.datasets.data_module import DetectionData
    from ocr.lightning_modules import TextDetector
    from ocr.lightning_modules.callbacks import PredictionWriter
    from ocr.train import MONITORING

    yield """# Settings of trainings

What a configuration of `ocr-train` may say. Each setting is a flag too: `--data.batch_size 16`.
Besides these there are `trainer`, which is all of Lightning's `Trainer`, `optimizer` and
`lr_scheduler`, which take any class of torch, and `seed_everything`; `ocr-train fit --help` lists
every one.
"""
    yield "## At the top\n"
    yield from table(
        (f"`{name}`", kind(of), shown(value), text) for name, of, value, text in MONITORING
    )
    for title, made in (
        ("data", DetectionData),
        ("model", TextDetector),
        ("predictions", PredictionWriter),
    ):
        yield f"\n## `{title}`\n"
        rows, nested = signature_rows(title, made)
        yield from table(rows)
        for name, value in nested:
            yield f"\n### `{name}`\n"
            yield f"{inspect.getdoc(type(value))}\n"
            yield from table(value_rows(name, value), ("setting", "type", "default"))
    yield "\n## Configurations\n"
    yield "As `ocr-train init` writes them.\n"
    for path in sorted(
        (ROOT / "ocr/configs").rglob("*.yaml"), key=lambda p: (len(p.parts), p.name)
    ):
        yield f"### `{path.relative_to(ROOT / 'ocr/configs')}`\n"
        yield fenced(path.read_text(), "yaml")


def python_names() -> Iterator[str]:
    """Public names of both packages."""
    yield """# Python

What other programs may import. Names that are not here may change from one version to the next.
"""
    for name in PYTHON:
        module = import_module(name)
        yield f"## `{name}`\n"
        yield f"{inspect.getdoc(module)}\n"
        for each in exported(module):
            yield f"::: {name}.{each}\n"


def exported(module: types.ModuleType) -> list[str]:
    """What a module's `__all__` names, or what is defined in it and has no underscore."""
    named = getattr(module, "__all__", None)
    if named is None:
        members = vars(module).items()
        named = [n for n, m in members if getattr(m, "__module__", "") == module.__name__]
    return sorted(each for each in named if not each.startswith("_"))


REFERENCE = {
    "reference/commands.md": commands,
    "reference/settings.md": settings,
    "reference/training-settings.md": training_settings,
    "reference/python.md": python_names,
}
"""Pages that are made, and what gives their lines."""


# -------------------------------------------------------------------------------------- tables

Row = Sequence[str]


def table(
    rows: Iterable[Row], head: Row = ("setting", "type", "default", "meaning")
) -> Iterator[str]:
    """Lines of a table."""
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |"


def model_rows(model: type[BaseModel]) -> Iterator[Row]:
    """The fields of a pydantic model; those that go into keys in bold."""
    from ocr_precompute.parameters import Parameters, Recipe

    keyed = ({*Parameters.model_fields} | {*Recipe.model_fields}) if model is Settings else set()
    for name, field in model.model_fields.items():
        given = (
            "needed" if field.is_required() else shown(field.get_default(call_default_factory=True))
        )
        bounds = [
            f"{words} {getattr(each, bound)}"
            for each in field.metadata
            for bound, words in (("ge", "at least"), ("le", "at most"))
            if getattr(each, bound, None) is not None
        ]
        of = ", ".join([kind(field.annotation), *bounds])
        yield f"**`{name}`**" if name in keyed else f"`{name}`", of, given, field.description or ""


def signature_rows(title: str, made: type) -> tuple[list[Row], list[tuple[str, Any]]]:
    """Settings that a class takes when it is made; and those which are objects with settings."""
    initial = vars(made)["__init__"]
    documents = (made.__doc__, initial.__doc__)
    meanings = {p.arg_name: p.description for each in documents for p in parse(each or "").params}
    rows: list[Row] = []
    nested: list[tuple[str, Any]] = []
    hints = typing.get_type_hints(initial)
    for name, parameter in list(inspect.signature(initial).parameters.items())[1:]:
        value, default = parameter.default, shown(parameter.default)
        if is_dataclass(value):
            nested.append((f"{title}.{name}", value))
            default = "see below"
        rows.append((f"`{title}.{name}`", kind(hints[name]), default, meanings.get(name) or ""))
    return rows, nested


def value_rows(name: str, value: Any) -> Iterator[Row]:
    """The fields of a frozen value."""
    hints = typing.get_type_hints(type(value))
    for field in fields(value):
        yield f"`{name}.{field.name}`", kind(hints[field.name]), shown(getattr(value, field.name))


_KINDS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    types.NoneType: "none",
}


def kind(annotation: Any) -> str:
    """A type in words."""
    for of, words in _KINDS.items():
        if annotation is of or (
            of is float and isinstance(annotation, type) and issubclass(annotation, of)
        ):
            return words
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return kind(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(kind, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"list of {kind(arguments[0])}"
    if origin is tuple:
        return " and ".join(map(kind, arguments))
    if origin is dict:
        return f"names, each with {kind(arguments[1])}"
    if isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or is_dataclass(annotation)
    ):
        return "settings"
    return getattr(annotation, "__name__", str(annotation))


def shown(value: Any) -> str:
    """A default, as a configuration would have it."""
    if value is None or value is inspect.Parameter.empty:
        return ""
    if isinstance(value, BaseModel) or callable(value):
        return "see below" if isinstance(value, BaseModel) else "see the configurations"
    if isinstance(value, str | tuple | list | dict) and not value:
        return ""
    if isinstance(value, tuple):
        return f"`{'x'.join(map(str, value))}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def fenced(text: str, language: str) -> str:
    """A block of code."""
    return f"```{language}\n{text.strip()}\n```\n"


# ----------------------------------------------------------------------------------- resources


class Resources(HTMLParser):
    """Gathers what a page loads by itself, and not only when somebody follows a link."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element's address, and what its style names."""
        given = {name: value or "" for name, value in attrs}
        if tag in _LOADED:
            self.found.append(given.get(_LOADED[tag], ""))
            self.found += [
                each.split()[0] for each in given.get("srcset", "").split(",") if each.strip()
            ]
        self.found += _OF_STYLES.findall(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Take what a style within the page names."""
        if self.get_starttag_text() and (self.get_starttag_text() or "").startswith("<style"):
            self.found += _OF_STYLES.findall(data)


def remote_resources(site: Path) -> Iterator[str]:
    """What pages and styles below a folder load from elsewhere, a line each."""
    for path in sorted(site.rglob("*")):
        if path.suffix == ".html":
            page = Resources()
            page.feed(path.read_text("utf-8"))
            loaded = page.found
        elif path.suffix == ".css":
            loaded = _OF_STYLES.findall(path.read_text("utf-8"))
        else:
            continue
        for address in loaded:
            if re.match(r"(?:[a-z]+:)?//", address):
                yield f"{path.relative_to(site)}: {address}"
