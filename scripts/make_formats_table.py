#!/usr/bin/env python3
"""Write the tables of formats into docs/formats.md and the README, from the formats that there are.

A table stands between the lines `<!-- formats: ... -->` and `<!-- end of formats -->`. Formats of
other packages are not in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ocr_precompute.annotations.formats import FORMATS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "docs/formats.md")
_TABLE = re.compile(r"(<!-- formats: (\w+),.*?-->\n).*?(?=<!-- end of formats -->)", re.DOTALL)


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


TABLES = {"short": short_table, "long": long_table}


def with_tables(text: str) -> str:
    """A document with its tables as they should be."""
    return _TABLE.sub(lambda m: m[1] + "".join(f"{line}\n" for line in TABLES[m[2]]()), text)


def main() -> None:
    """Write both documents."""
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(with_tables(path.read_text()))


if __name__ == "__main__":
    main()
