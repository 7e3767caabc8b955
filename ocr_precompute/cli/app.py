"""The command line as a whole: its commands, in the order in which its help shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from ocr_precompute import __version__
from ocr_precompute.cli.bench import bench
from ocr_precompute.cli.build import BuildCommand, build
from ocr_precompute.cli.convert import convert
from ocr_precompute.cli.copying import pull, push
from ocr_precompute.cli.formats import formats
from ocr_precompute.cli.gc import gc
from ocr_precompute.cli.init import init
from ocr_precompute.cli.inspect import inspect
from ocr_precompute.cli.preview import preview
from ocr_precompute.cli.remove import remove
from ocr_precompute.cli.verify import verify

app = typer.Typer(
    help="Compile a text-detection dataset once; train from it for ever.",
    epilog="Exit status: 0 done, 1 verify found a problem or an alert counts, 2 bad input.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of the console command."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ocr-precompute {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None: ...


app.command(cls=BuildCommand)(build)
COMMANDS = (verify, inspect, preview, bench, push, pull, remove, gc, formats, convert, init)
for command in COMMANDS:
    app.command()(command)
