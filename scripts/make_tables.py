#!/usr/bin/env python3
"""Write the tables into the documents: of formats that there are, of results that benchmarks gave.

A table stands between the lines `<!-- formats: NAME, ... -->` and `<!-- end of formats -->`, or
between the same with `results`. Formats of other packages are not in them. A result is
docs/results/NAME.json, as a script of scripts/bench wrote it with --out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from ocr_precompute.annotations.formats import FORMATS

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "scripts" / "bench"))

from measuring.results import read_result  # noqa: E402

DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
RESULTS = ROOT / "docs" / "results"
_TABLE = re.compile(
    r"(<!-- (formats|results): ([\w-]+),.*?-->\n).*?(?=<!-- end of \2 -->)", re.DOTALL
)


def short_table() -> Iterable[str]:
    """The names of formats, and what each is."""
    yield "| format | what | don't care |"
    yield "|---|---|---|"
    for form in FORMATS:
        yield f"| `{form.name}` | {form.summary} | {form.dont_care} |"


def long_table() -> Iterable[str]:
    """The same, with other names and dialects, and an example of each."""
    yield "| format | also | what | don't care |"
    yield "|---|---|---|---|"
    for form in FORMATS:
        also = ", ".join(f"`{alias}`" for alias in form.aliases)
        yield f"| `{form.name}` | {also} | {form.summary} | {form.dont_care} |"
    for form in FORMATS:
        yield from ("", f"### `{form.name}`", "", "```", form.example, "```")
        if form.dialects:
            yield from ("", "| dialect | what it reads |", "|---|---|")
            yield from (
                f"| `{form.name}:{name}` | `{what}` |" for name, what in form.dialects.items()
            )


def lines_of(kind: str, name: str) -> Iterable[str]:
    """What stands between the lines of a kind of table and a name."""
    if kind == "results":
        return ("", *read_result(RESULTS / f"{name}.json").markdown(), "")
    return {"short": short_table, "long": long_table}[name]()


def with_tables(text: str) -> str:
    """A document with its tables as they should be."""
    return _TABLE.sub(lambda m: m[1] + "".join(f"{line}\n" for line in lines_of(m[2], m[3])), text)


def main() -> None:
    """Write all documents."""
    for path in DOCUMENTS:
        path.write_text(with_tables(path.read_text()))


if __name__ == "__main__":
    main()
