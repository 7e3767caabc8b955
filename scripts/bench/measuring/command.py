"""A benchmark as a command: the options that several have, what it prints and writes."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from measuring.results import Result

SAMPLE_IMAGES = Path("data/sample/images/train")
SAMPLE_ANNOTATIONS = Path("data/sample/jsons/train.json")


def argument_parser(
    description: str | None, *, images: bool = True, samples: int | None = None
) -> argparse.ArgumentParser:
    """A parser with --out.

    images: with --images and --annotations. samples: with --samples and this default.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="file for the result")
    if images:
        parser.add_argument("--images", type=Path, default=SAMPLE_IMAGES, help="folder of images")
        parser.add_argument("--annotations", type=Path, default=SAMPLE_ANNOTATIONS)
    if samples is not None:
        parser.add_argument("--samples", type=int, default=samples, help=f"default: {samples}")
    return parser


def add_scratch(parser: argparse.ArgumentParser, name: str = "ocr-precompute-bench") -> None:
    """Give a parser --scratch, by default a folder of that name among the temporary ones."""
    parser.add_argument(
        "--scratch",
        type=lambda text: Path(text).resolve(),
        default=Path(tempfile.gettempdir()) / name,
        help="folder for what is made; kept for the next run",
    )


def pass_on(parser: argparse.ArgumentParser) -> None:
    """Have all that a parser does not know go to `ocr-train fit`, as `passed_on`."""
    parser.set_defaults(passed_on=[])


def parsed(
    parser: argparse.ArgumentParser, words: Sequence[str] | None = None
) -> argparse.Namespace:
    """Arguments of words, or of the command line; ends the program if they are wrong."""
    arguments, unknown = parser.parse_known_args(words)
    if unknown and "passed_on" not in arguments:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    arguments.passed_on = unknown
    return arguments


def run_script(
    parser: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace], Result],
    before: Callable[[], object] = lambda: None,
) -> None:
    """Measure what the command line asks for, print it, and write it where --out says.

    before: what the process has to be for that. Ends with 1 if the result says that something
    does not hold.
    """
    arguments = parsed(parser)
    before()
    result = measure(arguments)
    show(result)
    if arguments.out:
        arguments.out.write_bytes(result.as_json())
    sys.exit(0 if result.holds else 1)


def show(result: Result) -> None:
    """Markdown to standard output, drawn as tables if that is a screen."""
    text = "\n".join([f"# {result.question}", "", *result.markdown()])
    if sys.stdout.isatty():
        Console().print(Markdown(text))
    else:
        print(text)


def say(*words: object) -> None:
    """Tell how far it is, on standard error."""
    print(*words, file=sys.stderr)
