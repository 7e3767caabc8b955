"""The command `formats`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from ocr_precompute.cli.options import JsonOption, VerboseOption
from ocr_precompute.cli.reporting import print_json, reporting
from ocr_precompute.cli.screen import add_row, print_table, say
from ocr_precompute.errors import InputError, Problem


def formats(
    name: Annotated[
        str | None, typer.Argument(help="Only this format, by its name or an alias.")
    ] = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Show the formats of annotations that are read: what each is, its don't-care, an example."""
    with reporting(as_json, verbose):
        listed = _listed(name)
        if as_json:
            print_json({"formats": listed})
        else:
            _print_formats(listed)


def _listed(name: str | None) -> list[dict[str, Any]]:
    """What there is to say of each format. Raises InputError if none has that name."""
    from ocr_precompute.annotations.registry import format_names, known_formats, plug_ins

    found = [
        {
            "name": form.name,
            "aliases": list(form.aliases),
            "summary": form.summary,
            "dont_care": form.dont_care,
            "dialects": dict(form.dialects),
            "example": form.example,
            "package": plug_ins()[form.name][1] if form.name in plug_ins() else "ocr-precompute",
        }
        for _, form in sorted(known_formats().items())
        if name in (None, form.name, *form.aliases)
    ]
    if not found:
        reason = f"is unknown; one of {', '.join(format_names())}"
        raise InputError([Problem("config", "command line", f"format {name!r}", reason)])
    return found


def _print_formats(listed: list[dict[str, Any]]) -> None:
    table = Table("format", "what", "don't care", show_lines=True)
    for each in listed:
        names = "\n".join([each["name"], *(f"also {alias}" for alias in each["aliases"])])
        add_row(table, names, each["summary"], each["dont_care"])
    print_table(table)
    for each in listed:
        say("")
        package = each["package"]
        say(each["name"] + ("" if package == "ocr-precompute" else f" (of the package {package})"))
        for dialect, form in each["dialects"].items():
            say(f"  {each['name']}:{dialect}  {form}")
        for line in each["example"].splitlines():
            say(f"  {line}")
